//! turmoil's network as the node's network and the client's connector.

use std::io;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use cairn_node::{Io, Listener, Network};
use turmoil::net::{TcpListener, TcpStream};

/// Listens and connects inside the world, as the host whose turn it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedNetwork;

#[async_trait]
impl Network for SimulatedNetwork {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: no port")))?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        Ok(Box::new(Bound { listener, address: address.to_owned() }))
    }

    async fn connect(&self, address: &str) -> io::Result<Io> {
        connect(address.to_owned()).await.map(Io::new)
    }
}

struct Bound {
    listener: TcpListener,
    address: String,
}

#[async_trait]
impl Listener for Bound {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Io> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Io::new(stream))
    }
}

/// Connects to `host:port` in the world: the connector of a client there.
///
/// # Errors
/// If nobody listens there, or the world keeps the two apart.
pub async fn connect(address: String) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}
