//! A cluster of one inside a program: the same code, no port. The client cannot tell the difference.

use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use crate::failed::StartError;
use crate::node::Node;
use crate::parts::Parts;
use crate::settings::{FounderSettings, Settings};

/// The cluster id of every embedded node: nobody else can reach it, so that it need not differ.
const EMBEDDED_CLUSTER: Uuid = Uuid::from_u128(0x6361_6972_6e00_4000_8000_656d_6265_6464);
/// Where an embedded node listens in its own network.
const CLIENT_ADDRESS: &str = "embedded:1";
const PEER_ADDRESS: &str = "embedded:2";

/// Why an embedded node did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The system gives no randomness or no threads.
    #[error("gather the parts of a node: {0}")]
    Parts(#[from] io::Error),
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Settings {
    /// Settings of a cluster of one inside a program. With a directory it keeps its data there, without one in memory.
    #[must_use]
    pub fn embedded(data_dir: Option<PathBuf>) -> Self {
        let mut settings = Self { data_dir, ..Self::default() };
        settings.cluster.id = EMBEDDED_CLUSTER;
        settings.cluster.shards = 1;
        settings.cluster.founders = vec![FounderSettings {
            node_id: settings.node.id,
            peer_address: PEER_ADDRESS.to_owned(),
            client_address: CLIENT_ADDRESS.to_owned(),
        }];
        settings.listen.client = CLIENT_ADDRESS.to_owned();
        settings.listen.peer = PEER_ADDRESS.to_owned();
        settings.listen.http = String::new();
        // The network is inside the process.
        settings.insecure = true;
        settings
    }
}

impl Node {
    /// Starts a cluster of one inside this program and waits until it can serve. Clients connect through [`Node::network`] to
    /// [`crate::Addresses::client`].
    ///
    /// # Errors
    /// See [`EmbeddedError`].
    pub async fn embedded(data_dir: Option<PathBuf>) -> Result<Self, EmbeddedError> {
        let parts = if data_dir.is_some() { Parts::files()? } else { Parts::memory()? };
        let node = Self::start(Settings::embedded(data_dir), parts).await?;
        node.ready().await;
        Ok(node)
    }
}
