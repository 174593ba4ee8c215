//! In-process connections: a server for each, and a task between the two ends that can be cut.

use std::io;
use std::sync::Arc;

use cairn_api::MESSAGE_BYTES_MAX;
use cairn_api::v1::cluster_server::ClusterServer;
use cairn_api::v1::journal_server::JournalServer;
use cairn_api::v1::snapshots_server::SnapshotsServer;
use tokio::io::DuplexStream;
use tonic::transport::Server;

use super::cluster_service::ClusterService;
use super::journal_service::JournalService;
use super::snapshot_service::SnapshotService;
use super::world::World;
use crate::connector::{Connecting, Io};

/// Bytes that a connection holds on their way.
const PIPE_BYTES: usize = 256 * 1024;

pub(super) fn connect(world: Arc<World>, address: &str) -> Connecting {
    let node = world.node_at(address).filter(|node| !world.is_stopped(*node));
    Box::pin(async move {
        let Some(node) = node else {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "there is no node at this address"));
        };
        let (client, client_side) = tokio::io::duplex(PIPE_BYTES);
        let (server_side, server) = tokio::io::duplex(PIPE_BYTES);
        let wire = tokio::spawn(carry(client_side, server_side));
        world.connected(node, wire.abort_handle());
        tokio::spawn(serve(world, node, server));
        Ok(Box::new(client) as Box<dyn Io>)
    })
}

/// The wire: aborting it is cutting it.
async fn carry(mut client: DuplexStream, mut server: DuplexStream) {
    // However it ends, both sides see it.
    drop(tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, PIPE_BYTES, PIPE_BYTES).await);
}

async fn serve(world: Arc<World>, node: u16, connection: DuplexStream) {
    let journal = JournalService { world: world.clone(), node };
    let snapshots = SnapshotService { world: world.clone(), node };
    let cluster = ClusterService { world, node };
    let one = futures::stream::iter([Ok::<_, io::Error>(connection)]);
    let served = Server::builder()
        .add_service(JournalServer::new(journal).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(SnapshotsServer::new(snapshots).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(ClusterServer::new(cluster))
        .serve_with_incoming(one)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection in memory ended");
    }
}
