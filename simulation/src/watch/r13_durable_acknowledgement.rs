//! R13: what a leader counts as held by a node is durable there, and what is durable stays.
//!
//! The persistence contract: acknowledged means synced on a quorum. It is the check that matters most: an acknowledgement before the sync
//! is invisible until a power cut meets it.

use cairn_machine::ShardId;
use cairn_node::GroupStatus;

use super::{Checked, Known, ballot_of, broken, is_leader};

pub(super) fn look(known: &Known, node: u64, status: &GroupStatus) -> Checked {
    if !is_leader(node, status) {
        return Ok(());
    }
    let (shard, ballot) = (status.shard, ballot_of(status));
    for (other, replication) in &status.replication {
        let Some(matched) = replication.matched else { continue };
        if known.forgotten.contains(&other.0) {
            continue;
        }
        let durable = known.durable.get(&(other.0, shard));
        // Who follows a greater ballot may have cut off since what only the smaller one knows.
        let has_moved_on = durable.is_some_and(|durable| durable.ballot() > ballot);
        // An installed checkpoint is in the tables before the log lets go of what it covers.
        let in_tables = known.last.get(&(other.0, shard)).is_some_and(|(_, last)| last.flushed >= Some(matched));
        if !has_moved_on && !in_tables && !durable.is_some_and(|durable| durable.has(matched)) {
            let what = format!("node {node} counts {matched} of {shard} on node {other}, where it is not durable");
            return broken("R13", what);
        }
    }
    Ok(())
}

/// A segment was given back: no live entry may have been in it.
pub(super) fn given_back(known: &Known, node: u64, segment: u32) -> Checked {
    for ((_, shard), durable) in known.durable.range((node, ShardId(0))..=(node, ShardId(u16::MAX))) {
        if let Some(entry) = durable.entries.values().find(|entry| entry.segment == segment) {
            let index = entry.id.index;
            return broken("R13", format!("node {node} gave segment {segment} back, where entry {index} of {shard} is"));
        }
    }
    Ok(())
}
