//! What a system must be able to do to be measured.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use bytes::Bytes;

use crate::plan::Point;

/// Of others nobody says when exactly a node serves again.
pub(crate) const NOT_RESTARTED: &str = "not measured";

/// Why a system takes no part: for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped(pub String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A system that can be started: one after the other, by one task.
#[async_trait(?Send)]
pub trait Contender: Send + Sync {
    /// How it is called on the command line and in the report.
    fn name(&self) -> &'static str;

    /// How it is called in tables.
    fn title(&self) -> &'static str;

    /// Whether it is itself a system for users; else it is a floor, which only says what the machine can do.
    fn is_system(&self) -> bool {
        true
    }

    /// The version that is installed.
    ///
    /// # Errors
    /// Why it cannot run here.
    fn version(&self) -> Result<String, Skipped>;

    /// Why it does not do this work; none if it does.
    fn lacks(&self, point: Point) -> Option<&'static str> {
        (point == Point::Restart).then_some(NOT_RESTARTED)
    }

    /// Starts a cluster with its data in an empty folder, and waits until it serves.
    ///
    /// # Errors
    /// If it does not come up.
    async fn start(&self, dir: &Path) -> Result<Arc<dyn System>>;
}

/// A running cluster, with its clients.
#[async_trait]
pub trait System: Send + Sync {
    /// The processes at the roots of the servers; none if the servers are within this process.
    fn servers(&self) -> Vec<u32>;

    /// Where each node keeps its data.
    fn data_dirs(&self) -> Vec<PathBuf>;

    /// The only writer of a new journal.
    ///
    /// `patience` is how long one try may go unanswered before it is looked into; a client that does so by itself need not heed it.
    async fn writer(&self, journal: &str, patience: Duration) -> Result<Box<dyn Writer>>;

    /// Reads a whole journal; how many events it has.
    async fn replay(&self, journal: &str) -> Result<u64>;

    /// A journal's highest sequence number, linearizable.
    async fn highest(&self, journal: &str) -> Result<u64>;

    /// Asks every node to give back what it need not keep. What it does by itself is waited for by the caller.
    async fn settle(&self) -> Result<()>;

    /// Kills the leader with SIGKILL: of several, the node that leads most.
    async fn kill_leader(&self) -> Result<()>;

    /// Kills a node with SIGKILL, starts it again, and waits until it serves; how long that took from its start on.
    async fn restart_node(&self) -> Result<Duration> {
        bail!(NOT_RESTARTED)
    }

    /// Stops every process and waits for it.
    async fn stop(&self);
}

/// The writer of one journal.
#[async_trait]
pub trait Writer: Send {
    /// Stores so many events of this payload behind the last one, and returns when they are stored as safely as the system stores
    /// anything. Refused if anybody else has written to the journal.
    ///
    /// # Errors
    /// If it is not known to be stored: see [`Writer::resume`].
    async fn append(&mut self, payload: &Bytes, events: usize) -> Result<()>;

    /// Finds out what became of the last append, and goes on behind what is stored. Returns the highest number.
    ///
    /// # Errors
    /// If nobody answers yet.
    async fn resume(&mut self) -> Result<u64>;
}
