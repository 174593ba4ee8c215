//! R1: only the node that a ballot names leads in it, and a quorum has durably voted for it, or for a greater ballot since.
//!
//! Raft, section 5.2, "election safety"; a vote is durable before anybody hears of it: section 5.1, persistent state.

use cairn_node::GroupStatus;

use super::{Checked, Known, ballot_of, broken, is_leader};

pub(super) fn look(known: &Known, node: u64, status: &GroupStatus) -> Checked {
    if !is_leader(node, status) || known.leaders.contains(&(status.shard, ballot_of(status))) {
        return Ok(());
    }
    let ballot = ballot_of(status);
    match known.holders(status.shard, |durable| durable.ballot() >= ballot) {
        Some(voted) if !voted.are_a_quorum() => {
            broken("R1", format!("node {node} leads {} by {ballot:?}, but only {voted} have durably voted so", status.shard))
        }
        _ => Ok(()),
    }
}
