//! A Cairn node: settings, parts, and the one assembly of them.
//!
//! Where to start reading: [`Node::start`] builds a node from [`Settings`], which are plain data, and [`Parts`], which do work:
//! production, an embedded node, tests and a simulated world differ in the parts alone. `proposer` is the way of a command to its
//! shard, `service` the public API, `failure` the table of what callers are told.
//!
//! Invariants
//! - A node that cannot go on says so through [`Node::failed`] and is never patched in place.
//! - Every queue, stream, wait and retry has a bound; every limit is checked before a command is proposed.

mod admission;
mod begun;
mod clock;
mod condemned;
mod connector;
mod core;
mod disk;
mod embedded;
mod failed;
mod failure;
mod http;
mod identity;
mod known_peers;
mod metrics;
mod monitor;
mod network;
mod node;
mod open;
mod parts;
mod process;
mod proposer;
mod readiness;
mod recovery;
mod sealed_text;
mod server;
mod service;
mod settings;

pub use cairn_raft::{GroupMembers, GroupStatus, NodeInfo, Pace, Replication, Role, Voted};
pub use cairn_storage::EntryId;
pub use cairn_storage::tables::{AppliedEntry, AppliedObserver, Applying, CairnRules, Rules};
pub use clock::{Clock, SystemClock};
pub use embedded::EmbeddedError;
pub use failed::{DigestError, Failed, StartError};
pub use identity::IdentityError;
pub use network::{DuplexNetwork, Io, Listener, Network, ReadWrite, TcpNetwork};
pub use node::{Addresses, Node, ShardDigest};
pub use parts::{EngineFactory, FjallFactory, LogRunner, OnRuntime, OnThread, Parts};
pub use process::{OwnProcess, Process, Usage};
pub use settings::{
    AdvertiseSettings, ClusterSettings, DiskSettings, FounderSettings, LimitSettings, ListenSettings, LogFormat, NodeSettings,
    Problem, RaftSettings, Settings, StorageSettings, TelemetrySettings,
};
