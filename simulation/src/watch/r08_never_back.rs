//! R8 to R12: a node's ballot, its committed and its applied index never go back: in a life, and after a restart not below what was durable.
//!
//! Raft, section 5.1, persistent state; and the list of invariants: after a restart a log ends where it did (R13), what was flushed is
//! flushed, and so applied, and what was purged is applied. A ballot that was not durable has not left the node, and may be forgotten.

use std::collections::BTreeMap;

use cairn_machine::ShardId;
use cairn_node::GroupStatus;
use cairn_storage::log::inspect::Content;

use super::durable::DurableShard;
use super::{Ballot, Checked, Known, ballot_of, broken};

/// What a shard's log had durably come to when a life of its node began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtStart {
    ballot: Ballot,
    last: Option<u64>,
    purged: Option<u64>,
    committed: Option<u64>,
}

pub(super) fn begin_life(known: &mut Known, node: u64) {
    let of_node = known.durable.range((node, ShardId(0))..=(node, ShardId(u16::MAX)));
    let at_start: BTreeMap<_, _> = of_node
        .map(|(key, durable)| {
            let purged = durable.purged.map(|purged| purged.index);
            (*key, AtStart { ballot: durable.ballot(), last: durable.last(), purged, committed: durable.committed })
        })
        .collect();
    known.at_start.extend(at_start);
}

pub(super) fn look(known: &Known, node: u64, before: Option<&GroupStatus>, status: &GroupStatus) -> Checked {
    let shard = status.shard;
    let back = |property, what: &str, from: String, to: String| {
        broken(property, format!("node {node}, {shard}: {what} went back from {from} to {to}"))
    };
    let (ballot, elected) = (ballot_of(status), status.vote.is_elected);
    if let Some(before) = before {
        let (ballot_before, elected_before) = (ballot_of(before), before.vote.is_elected);
        if (ballot_before, elected_before) > (ballot, elected) {
            return back("R8", "the vote", format!("{ballot_before:?}"), format!("{ballot:?}"));
        }
        for (property, what, from, to) in [
            ("R10", "committed", before.committed, status.committed),
            ("R11", "applied", before.applied, status.applied),
            ("R11", "flushed", before.flushed, status.flushed),
            ("R12", "purged", before.purged, status.purged),
        ] {
            if from > to {
                return back(property, what, format!("{from:?}"), format!("{to:?}"));
            }
        }
        return Ok(());
    }
    if let Some((_, last)) = known.last.get(&(node, shard))
        && last.flushed > status.flushed
    {
        return back("R12", "flushed, after a restart,", format!("{:?}", last.flushed), format!("{:?}", status.flushed));
    }
    let at_start = known.at_start.get(&(node, shard)).copied().unwrap_or_default();
    if at_start.ballot > ballot {
        return back("R9", "the vote, after a restart,", format!("{:?}", at_start.ballot), format!("{ballot:?}"));
    }
    // What it was made to cut off since is not missed.
    let held = known.durable.get(&(node, shard)).and_then(DurableShard::last).min(at_start.last);
    if held > status.last {
        return back("R13", "the log, after a restart,", format!("{held:?}"), format!("{:?}", status.last));
    }
    if at_start.purged > status.applied {
        return back(
            "R12",
            "applied, after a restart,",
            format!("purged {:?}", at_start.purged),
            format!("{:?}", status.applied),
        );
    }
    if at_start.committed > status.committed {
        return back(
            "R10",
            "committed, after a restart,",
            format!("{:?}", at_start.committed),
            format!("{:?}", status.committed),
        );
    }
    Ok(())
}

pub(super) fn durable(known: &Known, node: u64, shard: ShardId, content: &Content, vote: Option<(Ballot, bool)>) -> Checked {
    let Some(durable) = known.durable.get(&(node, shard)) else { return Ok(()) };
    match content {
        Content::Vote { .. } if durable.vote > vote => {
            broken("R9", format!("node {node}, {shard}: the vote on disk went back from {:?} to {vote:?}", durable.vote))
        }
        Content::Committed { id } if durable.committed > Some(id.index) => broken(
            "R10",
            format!("node {node}, {shard}: committed on disk went back from {:?} to {}", durable.committed, id.index),
        ),
        _ => Ok(()),
    }
}
