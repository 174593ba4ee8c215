//! How the client reaches an address: a part, so that the same client runs over TCP, over an embedded node's in-process pipe and
//! over a simulated network.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Anything that reads and writes.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection being made.
pub type Connecting = BoxFuture<'static, io::Result<Box<dyn Io>>>;

/// Connects to an address.
///
/// Every `Fn(String) -> impl Future<Output = io::Result<impl Io>>` is a connector.
pub trait Connector: Send + Sync + 'static {
    /// Connects to `host:port`.
    fn connect(&self, address: String) -> Connecting;
}

impl<Connect, Connected, Stream> Connector for Connect
where
    Connect: Fn(String) -> Connected + Send + Sync + 'static,
    Connected: Future<Output = io::Result<Stream>> + Send + 'static,
    Stream: Io,
{
    fn connect(&self, address: String) -> Connecting {
        let connecting = self(address);
        Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
    }
}

/// TCP without Nagle's delay: small requests leave at once.
pub async fn connect_tcp(address: String) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// No connection was made, so that nothing was sent: found again in the sources of an error to tell it from a lost answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect: {0}")]
pub(crate) struct NotConnected(#[source] io::Error);

/// Connects on behalf of a channel, within a time.
pub(crate) async fn connect(
    connector: Arc<dyn Connector>,
    address: String,
    timeout: Duration,
) -> Result<TokioIo<Box<dyn Io>>, NotConnected> {
    match tokio::time::timeout(timeout, connector.connect(address)).await {
        Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
        Ok(Err(error)) => Err(NotConnected(error)),
        Err(_) => Err(NotConnected(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))),
    }
}

/// Whether an error says that no connection was made.
pub(crate) fn is_not_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<NotConnected>())
}
