//! What stands between a port and the server behind it: a bound on connections, a deadline for the first bytes, and an accept
//! loop that survives errors.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::{Io, Listener};

/// Pause after a failed accept: file descriptors may have run out, and spinning would not bring them back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Length of the words with which every HTTP/2 connection begins.
const PREFACE_BYTES: usize = 24;

/// How a port is guarded.
#[derive(Clone, Debug)]
pub(crate) struct GuardSettings {
    /// Connections at the same time; more are closed as soon as they are accepted.
    pub connections_max: usize,
    /// How long a connection may take to bring its first bytes.
    pub handshake_deadline: Duration,
    /// Cuts every connection, whatever is still going on in it: the last step of a stop.
    pub cut: CancellationToken,
}

/// A guarded port.
pub(crate) struct Guard {
    listener: Box<dyn Listener>,
    settings: GuardSettings,
    places: Arc<Semaphore>,
}

impl Guard {
    pub(crate) fn new(listener: Box<dyn Listener>, settings: GuardSettings) -> Self {
        let places = Arc::new(Semaphore::new(settings.connections_max));
        Self { listener, settings, places }
    }

    /// The next connection that has a place.
    pub(crate) async fn accept(&mut self) -> Guarded {
        loop {
            match self.listener.accept().await {
                Ok(io) => match Arc::clone(&self.places).try_acquire_owned() {
                    Ok(place) => return Guarded::new(io, place, &self.settings),
                    Err(_) => {
                        tracing::warn!(limit = self.settings.connections_max, "close a connection: there are too many");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// All connections, for a gRPC server.
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Guarded>> {
        futures::stream::unfold(self, |mut guard| async move {
            let io = guard.accept().await;
            Some((Ok(io), guard))
        })
    }

    pub(crate) fn address(&self) -> String {
        self.listener.address()
    }
}

/// A connection that has a place, and must say something soon.
pub(crate) struct Guarded {
    io: Io,
    _place: OwnedSemaphorePermit,
    handshake: Option<Handshake>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

struct Handshake {
    bytes_missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Guarded {
    fn new(io: Io, place: OwnedSemaphorePermit, settings: &GuardSettings) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(Instant::now() + settings.handshake_deadline));
        let handshake = Some(Handshake { bytes_missing: PREFACE_BYTES, deadline });
        Self { io, _place: place, handshake, cut: Box::pin(settings.cut.clone().cancelled_owned()) }
    }

    /// Why a connection that has nothing to read is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "the node has stopped"));
        }
        let Some(handshake) = &mut self.handshake else { return Poll::Pending };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the connection said nothing in time");
        handshake.deadline.as_mut().poll(cx).map(|()| late())
    }
}

impl Connected for Guarded {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_pending() {
            return this.poll_over(cx).map(Err);
        }
        if let Some(handshake) = &mut this.handshake {
            let bytes = buf.filled().len() - before;
            handshake.bytes_missing = handshake.bytes_missing.saturating_sub(bytes);
            if handshake.bytes_missing == 0 {
                this.handshake = None;
            }
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::network::{DuplexNetwork, Network};

    async fn guarded(connections_max: usize, deadline_ms: u64) -> (DuplexNetwork, Guard) {
        let network = DuplexNetwork::new();
        let listener = network.listen("a:1").await.expect("listens");
        let handshake_deadline = Duration::from_millis(deadline_ms);
        let settings = GuardSettings { connections_max, handshake_deadline, cut: CancellationToken::new() };
        (network, Guard::new(listener, settings))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_closed() {
        let (network, mut guard) = guarded(1, 100).await;
        let _near = network.connect("a:1").await.expect("connects");
        let mut far = guard.accept().await;
        let error = far.read_u8().await.expect_err("times out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_first_words_a_connection_may_be_silent() {
        let (network, mut guard) = guarded(1, 100).await;
        let mut near = network.connect("a:1").await.expect("connects");
        let mut far = guard.accept().await;
        near.write_all(&[7; PREFACE_BYTES]).await.expect("writes");
        far.read_exact(&mut [0; PREFACE_BYTES]).await.expect("reads");
        let silence = tokio::time::timeout(Duration::from_secs(60), far.read_u8()).await;
        assert!(silence.is_err(), "it is still open");
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection_that_waits() {
        let (network, mut guard) = guarded(1, 10_000).await;
        let _near = network.connect("a:1").await.expect("connects");
        let mut far = guard.accept().await;
        let cut = guard.settings.cut.clone();
        let (read, ()) = tokio::join!(far.read_u8(), async { cut.cancel() });
        assert_eq!(read.expect_err("is cut").kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_a_place_is_given_again() {
        let (network, mut guard) = guarded(1, 10_000).await;
        let first = network.connect("a:1").await.expect("connects");
        let held = guard.accept().await;
        let mut second = network.connect("a:1").await.expect("connects");
        let mut byte = [0; 1];
        tokio::select! {
            _ = guard.accept() => panic!("there is no place"),
            read = second.read(&mut byte) => assert_eq!(read.expect("is closed"), 0),
        }
        drop((first, held));
        let _third = network.connect("a:1").await.expect("connects");
        guard.accept().await;
    }
}
