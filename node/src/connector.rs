//! gRPC channels over the network part.

use std::sync::Arc;
use std::time::Duration;

use cairn_raft::limits::PEER_FRAME_BYTES;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::network::Network;

/// A connection to another node is made within this time.
const CONNECT_MAX: Duration = Duration::from_millis(1_000);
/// Bytes that may be on their way in one stream, and in one connection.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// A silent connection is asked whether it is still there after this time, and must answer in this time.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A channel that connects at its first call, and again after a failure.
///
/// # Errors
/// A text if the address is malformed.
pub(crate) fn channel(network: &Arc<dyn Network>, address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| format!("{address:?}: {error}"))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(PEER_FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let (network, address) = (Arc::clone(network), address.to_owned());
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let (network, address) = (Arc::clone(&network), address.clone());
        async move { network.connect(&address).await.map(TokioIo::new) }
    })))
}

/// The peers' connector over the node's network.
pub(crate) struct NetworkConnector(pub Arc<dyn Network>);

impl cairn_raft::PeerConnector for NetworkConnector {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        channel(&self.0, address)
    }
}
