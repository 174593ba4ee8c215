//! A cluster in memory: the real rules and the real client without processes, ports or files, for the unit tests of users.
//!
//! Everything that a client can see is there, over in-process connections, so that the code under test is the code of
//! production. What is not there is durability and consensus: all nodes share one state. Failures can be injected.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cairn_client::Error> {
//! let cairn = cairn_client::memory::MemoryCairn::new().client();
//! let mut account = cairn.journal("account-1")?.claim().await?;
//! account.append("opened").await?;
//! assert_eq!(account.journal().highest().await?.highest.0, 1);
//! # Ok(()) }
//! ```

mod answers;
mod cluster_service;
mod journal_service;
mod network;
mod snapshot_service;
mod world;

use std::sync::Arc;

use cairn_machine::Command;

use crate::cairn::{Builder, Cairn};
use crate::connector::{Connecting, Connector};
pub use world::Fault;
use world::World;

/// Shards of a cluster in memory: more than one, so that code which relies on one is found out.
const SHARDS: u16 = 4;

/// A cluster in memory. Cheap to clone; it lives as long as a clone or a client of it.
#[derive(Clone)]
pub struct MemoryCairn {
    world: Arc<World>,
}

impl MemoryCairn {
    /// A cluster of one.
    #[must_use]
    pub fn new() -> Self {
        Self::with_nodes(1)
    }

    /// A cluster of several nodes, of which the first leads every shard.
    ///
    /// # Panics
    /// If there are no nodes.
    #[must_use]
    pub fn with_nodes(nodes: u16) -> Self {
        assert!(nodes > 0, "a cluster has nodes");
        Self { world: Arc::new(World::new(nodes, SHARDS)) }
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Cairn {
        self.builder().build().expect("the addresses in memory are addresses")
    }

    /// A client of it with settings of its own.
    #[must_use]
    pub fn builder(&self) -> Builder {
        Cairn::builder().endpoints(self.addresses()).connector(self.clone()).seed(0)
    }

    /// Where its nodes are reached through its connector.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.world.addresses()
    }

    /// Makes another node the leader of every shard.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn lead(&self, node: u16) {
        self.world.lead(Some(node));
    }

    /// Leaves the shards without a leader.
    pub fn depose(&self) {
        self.world.lead(None);
    }

    /// Takes a node off the network: its connections break, and new ones are refused.
    pub fn stop(&self, node: u16) {
        self.world.stop(node);
    }

    /// Brings a node back to the network.
    pub fn start(&self, node: u16) {
        self.world.start(node);
    }

    /// Breaks every connection; new ones can be made.
    pub fn break_connections(&self) {
        self.world.break_connections();
    }

    /// Asks `choose` for each command that reaches a leader what shall happen to it.
    pub fn inject(&self, choose: impl FnMut(&Command) -> Fault + Send + 'static) {
        self.world.inject(Box::new(choose));
    }

    /// Breaks every stream of events or of a snapshot after so many messages; none leaves them whole.
    pub fn break_streams_after(&self, messages: Option<usize>) {
        self.world.break_streams_after(messages);
    }
}

impl Default for MemoryCairn {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector for MemoryCairn {
    fn connect(&self, address: String) -> Connecting {
        network::connect(self.world.clone(), &address)
    }
}
