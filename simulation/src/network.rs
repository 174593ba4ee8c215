//! turmoil's network as the node's network and the client's connector, with what goes wrong inside connections.
//!
//! Invariant: a connection that was tampered with is dead afterwards: no byte follows one that was lost.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use cairn_node::{Io, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use turmoil::net::{TcpListener, TcpStream};

/// The port of every node for clients.
pub const CLIENT_PORT: u16 = 7101;
/// The port of every node for its peers.
pub const PEER_PORT: u16 = 7201;

/// So long a connection is silent before it looks closed to who sends on it.
const SILENCE: Duration = Duration::from_millis(500);
/// So long a connection whose messages came late stays open, for them to be acted upon.
const LINGER: Duration = Duration::from_millis(300);

/// Listens and connects inside the world, as the host whose turn it is; clones share what goes wrong.
#[derive(Clone, Debug, Default)]
pub struct SimulatedNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    wires: Wires,
    /// How many connections there were.
    count: u64,
    /// Who waits to read from which accepted connection.
    readers: BTreeMap<u64, Waker>,
}

/// What goes wrong with the connections of a machine.
#[derive(Clone, Copy, Debug, Default)]
struct Wires {
    /// How often all connections were reset; one that was opened before breaks at its next write.
    resets: u64,
    /// How many bytes of that write still travel at most.
    bytes_sent_max: usize,
    /// Answers to clients do not travel.
    answers_lost: bool,
    /// How often what others sent was kept back; a connection that was accepted before is broken for its other end.
    keeps: u64,
    /// It is still kept back.
    is_kept: bool,
}

impl SimulatedNetwork {
    /// Every connection that is open breaks in the middle of what is written to it next, after so many bytes at most.
    pub fn reset_all(&self, bytes_sent_max: usize) {
        let wires = &mut self.lock().wires;
        wires.resets += 1;
        wires.bytes_sent_max = bytes_sent_max;
    }

    /// From now on what is answered to clients is lost, though the node believes that it was sent; or not any more: connections that
    /// lost something are dead then.
    pub fn lose_answers(&self, lost: bool) {
        self.lock().wires.answers_lost = lost;
    }

    /// Breaks every connection that was accepted for its other end, and keeps back what that has sent on it. Whoever sends it again on
    /// another connection, sends it twice.
    pub fn keep_back(&self) {
        let mut state = self.lock();
        state.wires.keeps += 1;
        state.wires.is_kept = true;
        state.wake_readers();
    }

    /// What was kept back arrives now, after all that was sent since.
    pub fn deliver(&self) {
        let mut state = self.lock();
        state.wires.is_kept = false;
        state.wake_readers();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wire(&self, stream: TcpStream, end: End) -> Wire {
        let mut state = self.lock();
        state.count += 1;
        let (number, before) = (state.count, state.wires);
        Wire {
            number,
            stream: Some(stream),
            network: self.clone(),
            before,
            end,
            is_mute: false,
            silence: None,
            is_shut: false,
            lingers: None,
        }
    }
}

impl State {
    fn wake_readers(&mut self) {
        std::mem::take(&mut self.readers).into_values().for_each(Waker::wake);
    }
}

#[async_trait]
impl Network for SimulatedNetwork {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: no port")))?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let end = if port == CLIENT_PORT { End::AcceptedFromClient } else { End::AcceptedFromPeer };
        Ok(Box::new(Bound { listener, address: address.to_owned(), network: self.clone(), end }))
    }

    async fn connect(&self, address: &str) -> io::Result<Io> {
        Ok(Io::new(self.wire(connect(address.to_owned()).await?, End::Opened)))
    }
}

struct Bound {
    listener: TcpListener,
    address: String,
    network: SimulatedNetwork,
    end: End,
}

#[async_trait]
impl Listener for Bound {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Io> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Io::new(self.network.wire(stream, self.end)))
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// That of who opened it.
    Opened,
    /// That of who was asked by a peer.
    AcceptedFromPeer,
    /// That of who was asked by a client: what is written here are answers.
    AcceptedFromClient,
}

/// One end of a connection.
struct Wire {
    number: u64,
    /// None: it was reset.
    stream: Option<TcpStream>,
    network: SimulatedNetwork,
    /// What had gone wrong before there was this connection.
    before: Wires,
    end: End,
    /// Something that was written did not travel.
    is_mute: bool,
    /// Until when the other end is not told that nothing comes any more: what it sends meanwhile is kept back as well.
    silence: Option<Pin<Box<Sleep>>>,
    /// It was told.
    is_shut: bool,
    /// Until when it stays open though the other end has closed it.
    lingers: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    fn wires(&self) -> Wires {
        self.network.lock().wires
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.is_mute && !self.wires().answers_lost {
            self.stream = None;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    /// Whether what the other end has sent comes late, and what is written here not at all.
    fn is_late(&self) -> bool {
        self.end != End::Opened && self.wires().keeps > self.before.keeps
    }

    /// Reads what was kept back, when it is there; then waits a while, as whoever reads the end gives up what it has read.
    fn poll_read_late(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_kept = self.wires().is_kept;
        if !self.is_shut {
            let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
            if silence.as_mut().poll(context).is_ready() || !is_kept {
                self.is_shut = true;
                // The other end may have closed it meanwhile.
                let _ = self.stream()?.poll_shutdown(context);
            }
        }
        if is_kept {
            return Poll::Pending;
        }
        if let Some(lingers) = &mut self.lingers {
            return lingers.as_mut().poll(context).map(Ok);
        }
        let before = buffer.filled().len();
        ready!(self.stream()?.poll_read(context, buffer))?;
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            tracing::debug!(target: "world", bytes, end = ?self.end, "what was kept back arrives");
            return Poll::Ready(Ok(()));
        }
        self.lingers.insert(Box::pin(tokio::time::sleep(LINGER))).as_mut().poll(context).map(Ok)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.network.lock().readers.remove(&self.number);
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end != End::Opened {
            self.network.lock().readers.insert(self.number, context.waker().clone());
        }
        if self.is_late() { self.poll_read_late(context, buffer) } else { self.stream()?.poll_read(context, buffer) }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wires = self.wires();
        if self.is_late() {
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.end == End::AcceptedFromClient && wires.answers_lost {
            self.is_mute = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        if wires.resets == self.before.resets {
            return self.stream()?.poll_write(context, bytes);
        }
        // Never all of it: the message must break in its middle.
        let sent = wires.bytes_sent_max.min(bytes.len() / 2);
        let written = if sent == 0 { 0 } else { ready!(self.stream()?.poll_write(context, &bytes[..sent]))? };
        tracing::debug!(target: "world", written, of = bytes.len(), "a connection is reset in the middle of a message");
        self.stream = None;
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_shut {
            return Poll::Ready(Ok(()));
        }
        self.stream()?.poll_shutdown(context)
    }
}

/// Connects to `host:port` in the world: the connector of a client there.
///
/// # Errors
/// If nobody listens there, or the world keeps the two apart.
pub async fn connect(address: String) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Reads `here`'s connections to their ends, and writes down what came in which order.
    async fn serve(here: SimulatedNetwork, came: Rc<RefCell<Vec<String>>>) -> turmoil::Result {
        let mut listener = here.listen("server:7201").await?;
        loop {
            let mut connection = listener.accept().await?;
            let came = came.clone();
            tokio::task::spawn_local(async move {
                let mut bytes = [0; 100];
                while let Ok(count @ 1..) = connection.read(&mut bytes).await {
                    came.borrow_mut().push(String::from_utf8_lossy(&bytes[..count]).into_owned());
                }
            });
        }
    }

    #[test]
    fn what_is_kept_back_comes_after_what_was_sent_on_another_connection_since() {
        let (here, came) = (SimulatedNetwork::default(), Rc::new(RefCell::new(Vec::new())));
        let mut sim = turmoil::Builder::new().rng_seed(1).build();
        let (serving, seen) = (here.clone(), came.clone());
        sim.host("server", move || serve(serving.clone(), seen.clone()));
        sim.client("client", async move {
            let mut first = connect("server:7201".to_owned()).await?;
            first.write_all(b"at once").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            first.write_all(b"late").await?;
            here.keep_back();
            assert_eq!(first.read(&mut [0; 100]).await?, 0, "it looks closed from here");
            let mut second = connect("server:7201".to_owned()).await?;
            second.write_all(b"again").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            here.deliver();
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        });
        sim.run().expect("the client is done");
        assert_eq!(*came.borrow(), ["at once", "again", "late"]);
    }
}
