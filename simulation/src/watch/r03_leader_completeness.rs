//! R3: a new leader's log has every entry that was committed under smaller ballots.
//!
//! Raft, section 5.4, "leader completeness". An entry that was applied anywhere was committed.

use cairn_node::GroupStatus;

use super::{Ballot, Checked, Known, ballot_of, broken, is_leader, named};

pub(super) fn look(known: &Known, node: u64, status: &GroupStatus) -> Checked {
    let (shard, ballot) = (status.shard, ballot_of(status));
    if !is_leader(node, status) || known.leaders.contains(&(shard, ballot)) || known.forgotten.contains(&node) {
        return Ok(());
    }
    let Some(durable) = known.durable.get(&(node, shard)) else { return Ok(()) };
    // From the newest on; what is before it matches by R2.
    let committed = known.applied.range((shard, 0)..=(shard, u64::MAX)).rev().map(|(_, applied)| applied.entry);
    let before = committed.into_iter().find(|id| Ballot { term: id.term, node: id.leader } < ballot);
    match before {
        Some(id) if !durable.has_entry(id) => {
            broken("R3", format!("node {node} leads {shard} by {ballot:?} without entry {}, which was applied", named(id)))
        }
        _ => Ok(()),
    }
}
