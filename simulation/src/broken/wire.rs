//! A way between clients and nodes that changes a bit now and then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

/// One of so many large pieces is damaged.
const DAMAGES_ONE_OF: u32 = 8;
/// Which pieces are large: most of their bytes are the padding of events.
const LARGE_BYTES: usize = 600;

/// As [`crate::network::connect`], over a bad wire.
pub(crate) async fn connect(address: String) -> io::Result<BadWire> {
    Ok(BadWire { stream: crate::network::connect(address).await?, large: 0 })
}

/// A connection that damages what is read.
pub(crate) struct BadWire {
    stream: TcpStream,
    /// How many large pieces came.
    large: u32,
}

impl AsyncRead for BadWire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let piece = &mut buffer.filled_mut()[before..];
        if piece.len() >= LARGE_BYTES {
            self.large += 1;
            if self.large.is_multiple_of(DAMAGES_ONE_OF) {
                let middle = piece.len() / 2;
                piece[middle] ^= 1;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BadWire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
