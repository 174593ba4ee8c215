//! Consensus for Cairn: openraft over Cairn's log, tables and rules. openraft is imported here alone, and none of its types leaves
//! this crate.
//!
//! Where to start reading: [`Group`] is one shard's Raft group, the handle that the node holds; `group/start.rs` puts it together
//! from the log store, the state machine and the network. [`Groups`] are the shards that are open on a node, [`PeerService`] what
//! its peers may ask of them, [`Peers`] the way to them. [`form`] is the birth of a cluster.
//!
//! Invariants
//! - An entry is encoded once; the same bytes go to the log, its cache, the followers and the tables.
//! - Acknowledged means synced on a quorum.
//! - What may have happened is told as unknown, never as failed.

mod acknowledged;
mod balance;
mod beats;
mod birth;
mod checkpoint;
mod commit_news;
mod entry;
mod error;
mod group;
mod groups;
mod identity;
pub mod limits;
mod log_pins;
mod log_store;
mod network;
mod pace;
mod peers;
mod runtime;
mod send_times;
mod service;
mod settings;
mod state_machine;
mod status;
mod type_config;
mod wire;

#[cfg(test)]
mod tests;

pub use balance::{BalanceSettings, balance_leaders, preferred_leader};
pub use birth::{Birth, BirthError, Founders, form};
pub use error::{Fatal, MembersError, ProposeError, ReadError, StartError};
pub use group::{Group, GroupParts};
pub use groups::{Groups, NodeCard};
pub use identity::{Identity, NodeInfo};
pub use log_pins::release_log_pins;
pub use pace::Pace;
pub use peers::{Hello, PeerConnector, Peers};
pub use service::PeerService;
pub use settings::{GroupSettings, Timing};
pub use status::{GroupMembers, GroupStatus, Leadership, Replication, Role, Voted};

#[allow(missing_docs, clippy::all, unused_qualifications, reason = "generated; its comments are in the protocol's file")]
pub(crate) mod proto {
    tonic::include_proto!("cairn.peer.v1");
}
