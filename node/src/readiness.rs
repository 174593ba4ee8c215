//! Whether a node is ready to serve, and if not, why: the same reasons for `/readyz`, gRPC health and the cluster's status.

use std::fmt;

use cairn_machine::ShardId;

/// One reason why a node is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It opens its log and tables, and is so many percent done with applying its log again.
    Recovering(u8),
    /// It is no member of a cluster yet: founders form it, or an operator adds this node.
    WaitingForCluster,
    /// A shard has no leader that this node knows.
    NoLeader(ShardId),
    /// A shard on this node is far behind its leader.
    Lagging(ShardId, u64),
    /// It takes no writes: its disk is nearly full, or too many of a shard's that it leads.
    ReadOnly,
    /// It is stopping.
    Stopping,
    /// Something broke; the process is about to end.
    Failed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovering(percent) => write!(f, "recovering {percent}%"),
            Self::WaitingForCluster => f.write_str("waiting_for_cluster"),
            Self::NoLeader(shard) => write!(f, "no_leader (shard {shard})"),
            Self::Lagging(shard, entries) => write!(f, "lagging (shard {shard}, {entries} entries)"),
            Self::ReadOnly => f.write_str("read_only"),
            Self::Stopping => f.write_str("stopping"),
            Self::Failed => f.write_str("failed"),
        }
    }
}
