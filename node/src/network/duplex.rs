//! A network inside one process: no port is opened. For embedded nodes and for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Io, Listener, Network};

/// Bytes in flight in one direction of one connection.
const PIPE_BYTES: usize = 256 * 1024;
/// Connections that wait to be accepted at one address.
const BACKLOG: usize = 128;

type Listeners = Arc<Mutex<BTreeMap<String, mpsc::Sender<Io>>>>;

/// Addresses are names in a table of this process; clones share the table.
#[derive(Clone, Debug, Default)]
pub struct DuplexNetwork {
    listeners: Listeners,
}

impl DuplexNetwork {
    /// An empty network.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

fn locked(listeners: &Listeners) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Io>>> {
    listeners.lock().expect("nothing panics while it holds this lock")
}

#[async_trait]
impl Network for DuplexNetwork {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let mut listeners = locked(&self.listeners);
        if listeners.get(address).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{address} is taken")));
        }
        let (sender, accepted) = mpsc::channel(BACKLOG);
        listeners.insert(address.to_owned(), sender);
        Ok(Box::new(DuplexListener { address: address.to_owned(), accepted }))
    }

    async fn connect(&self, address: &str) -> io::Result<Io> {
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens at {address}"));
        let listener = locked(&self.listeners).get(address).cloned().ok_or_else(refused)?;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        listener.send(Io::new(far)).await.map_err(|_| refused())?;
        Ok(Io::new(near))
    }
}

struct DuplexListener {
    address: String,
    accepted: mpsc::Receiver<Io>,
}

#[async_trait]
impl Listener for DuplexListener {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Io> {
        match self.accepted.recv().await {
            Some(io) => Ok(io),
            // A later listener at the same address has replaced this one; there is nothing more to come.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_at_one_end_is_read_at_the_other() {
        let network = DuplexNetwork::new();
        let mut listener = network.listen("a:1").await.expect("listens");
        let mut near = network.connect("a:1").await.expect("connects");
        let mut far = listener.accept().await.expect("accepts");
        near.write_all(b"hello").await.expect("writes");
        let mut read = [0; 5];
        far.read_exact(&mut read).await.expect("reads");
        assert_eq!(&read, b"hello");
    }

    #[tokio::test]
    async fn an_address_is_taken_until_its_listener_is_gone() {
        let network = DuplexNetwork::new();
        let listener = network.listen("a:1").await.expect("listens");
        let taken = network.listen("a:1").await.err().expect("is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let refused = network.connect("a:1").await.expect_err("nobody is there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        network.listen("a:1").await.expect("listens again");
    }
}
