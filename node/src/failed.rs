//! Why a node did not start, and why a running one cannot go on.

use std::io;
use std::path::PathBuf;

use cairn_machine::ShardId;
use cairn_raft::{BirthError, Fatal};
use cairn_storage::log::LogError;
use cairn_storage::{EngineError, TablesError};

use crate::identity::IdentityError;
use crate::settings::Problem;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings cannot be started with.
    #[error("settings: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings {
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// The data directory cannot be used: it is held by another process, or cannot be made.
    #[error("data directory {}: {error}", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The data directory is another node's, or damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data directory has lost what its node had acknowledged. It must be wiped, and the node replaced under a new id.
    #[error("the data directory must not be used again, as {} says: {reason}", path.display())]
    Condemned {
        /// The file that says so.
        path: PathBuf,
        /// What was lost.
        reason: String,
    },
    /// An address cannot be listened at.
    #[error("listen at {address}: {error}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The log cannot be opened.
    #[error("open the log: {0}")]
    Log(#[from] LogError),
    /// The system gives no thread for the log.
    #[error("start the log's writer: {0}")]
    LogWriter(io::Error),
    /// The engine cannot be opened.
    #[error("open the tables: {0}")]
    Engine(#[from] EngineError),
    /// The tables of a shard cannot be opened.
    #[error("open the tables: {0}")]
    Tables(#[from] TablesError),
    /// A shard cannot be opened.
    #[error(transparent)]
    Shard(#[from] cairn_raft::StartError),
}

/// Why there is no digest of a shard. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The cluster has no such shard.
    #[error("shard {0} is not one of the cluster's")]
    NoSuchShard(ShardId),
    /// Its tables cannot be read.
    #[error("read the tables: {0}")]
    Tables(#[from] TablesError),
}

/// Why a running node cannot go on: the process must end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// The log broke: a write or a sync failed.
    #[error("the log broke: {0}")]
    Log(LogError),
    /// A shard's core stopped, or its tables broke.
    #[error(transparent)]
    Shard(Fatal),
    /// The cluster cannot be formed with this node.
    #[error(transparent)]
    Birth(BirthError),
    /// A port is not served any more.
    #[error("the {port} port is not served any more: {reason}")]
    Port {
        /// Which.
        port: &'static str,
        /// Why.
        reason: String,
    },
}
