//! R7: purged <= flushed <= applied <= last, purged <= checkpoint, committed <= last.
//!
//! The list of invariants; what has left the log is in tables that survive. A node tells these at slightly different moments, each rising,
//! so the lesser of each pair is the one that may be told too late.

use cairn_node::GroupStatus;

use super::{Checked, broken};

pub(super) fn look(node: u64, status: &GroupStatus) -> Checked {
    let pairs = [
        ("purged", status.purged, "flushed", status.flushed),
        ("flushed", status.flushed, "applied", status.applied),
        ("purged", status.purged, "checkpoint", status.checkpoint),
        ("applied", status.applied, "last", status.last),
        ("committed", status.committed, "last", status.last),
    ];
    for (lesser, less, greater, great) in pairs {
        if less > great {
            return broken("R7", format!("node {node}, {}: {lesser} {less:?} is beyond {greater} {great:?}", status.shard));
        }
    }
    Ok(())
}
