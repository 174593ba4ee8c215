//! turmoil's network as the node's network and the client's connector, with what goes wrong inside connections.
//!
//! Invariant: a connection that was tampered with is dead afterwards: no byte follows one that was lost.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use cairn_node::{Io, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// The port of every node for clients.
pub const CLIENT_PORT: u16 = 7101;
/// The port of every node for its peers.
pub const PEER_PORT: u16 = 7201;

/// Listens and connects inside the world, as the host whose turn it is; clones share what goes wrong.
#[derive(Clone, Debug, Default)]
pub struct SimulatedNetwork {
    wires: Arc<Mutex<Wires>>,
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
}

impl SimulatedNetwork {
    /// Every connection that is open breaks in the middle of what is written to it next, after so many bytes at most.
    pub fn reset_all(&self, bytes_sent_max: usize) {
        let mut wires = self.lock();
        wires.resets += 1;
        wires.bytes_sent_max = bytes_sent_max;
    }

    /// From now on what is answered to clients is lost, though the node believes that it was sent; or not any more: connections that
    /// lost something are dead then.
    pub fn lose_answers(&self, lost: bool) {
        self.lock().answers_lost = lost;
    }

    fn lock(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wire(&self, stream: TcpStream, answers: bool) -> Wire {
        Wire { stream: Some(stream), network: self.clone(), resets_before: self.lock().resets, answers, is_mute: false }
    }
}

#[async_trait]
impl Network for SimulatedNetwork {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: no port")))?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        Ok(Box::new(Bound { listener, address: address.to_owned(), network: self.clone(), is_for_clients: port == CLIENT_PORT }))
    }

    async fn connect(&self, address: &str) -> io::Result<Io> {
        Ok(Io::new(self.wire(connect(address.to_owned()).await?, false)))
    }
}

struct Bound {
    listener: TcpListener,
    address: String,
    network: SimulatedNetwork,
    is_for_clients: bool,
}

#[async_trait]
impl Listener for Bound {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Io> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Io::new(self.network.wire(stream, self.is_for_clients)))
    }
}

/// One end of a connection.
struct Wire {
    /// None: it was reset.
    stream: Option<TcpStream>,
    network: SimulatedNetwork,
    resets_before: u64,
    /// What is written here are answers to clients.
    answers: bool,
    /// Something that was written did not travel.
    is_mute: bool,
}

impl Wire {
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let wires = *self.network.lock();
        if self.is_mute && !wires.answers_lost {
            self.stream = None;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wires = *self.network.lock();
        if self.answers && wires.answers_lost {
            self.is_mute = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        if wires.resets == self.resets_before {
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
