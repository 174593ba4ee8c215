//! The identity of a log entry: what the log, the tables and consensus agree upon.

use std::fmt;

/// Names one entry of a shard's log: the leader of a term put it at an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term in which it was proposed.
    pub term: u64,
    /// The node that led that term.
    pub leader: u64,
    /// Its place in the shard's log; dense.
    pub index: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.term, self.leader, self.index)
    }
}
