//! The network: two methods, listen and connect, so that the same node runs over TCP, inside one process, and in a simulation.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

mod duplex;
mod guard;

pub use duplex::DuplexNetwork;
pub(crate) use guard::{Guard, GuardSettings};

/// How bytes travel between nodes and clients.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Listens at an address: host:port; port 0 = any.
    ///
    /// # Errors
    /// If the address is taken or is none of ours.
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>>;

    /// Connects to an address: host:port.
    ///
    /// # Errors
    /// If nobody listens there, or it cannot be reached.
    async fn connect(&self, address: &str) -> io::Result<Io>;
}

/// What listens at one address.
#[async_trait]
pub trait Listener: Send + 'static {
    /// Where it listens, with the port that was chosen.
    fn address(&self) -> String;

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// The failure of one connection, or a passing shortage (of file descriptors): the caller goes on accepting.
    async fn accept(&mut self) -> io::Result<Io>;
}

/// Anything that reads and writes.
pub trait ReadWrite: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> ReadWrite for T {}

/// One connection.
pub struct Io(Box<dyn ReadWrite>);

impl Io {
    /// Makes a connection of anything that reads and writes.
    pub fn new(inner: impl ReadWrite) -> Self {
        Self(Box::new(inner))
    }
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Io")
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

/// TCP, without waiting to fill packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNetwork;

#[async_trait]
impl Network for TcpNetwork {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?.to_string();
        Ok(Box::new(Tcp { listener, address }))
    }

    async fn connect(&self, address: &str) -> io::Result<Io> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Io::new(stream))
    }
}

struct Tcp {
    listener: TcpListener,
    address: String,
}

#[async_trait]
impl Listener for Tcp {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Io> {
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Io::new(stream))
    }
}
