//! R4, R14, R17: what is applied at an index is the same entry on all nodes, with the same replies and the same hash over all decisions,
//! and the same again when a node applies it a second time.
//!
//! Raft, section 5.4, "state machine safety"; that rules are pure is Cairn's own (architecture, "how a write travels").

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use cairn_machine::ShardId;
use cairn_node::{AppliedEntry, EntryId, GroupStatus};
use xxhash_rust::xxh3::Xxh3;

use super::{Checked, Known, broken, named};

/// What was applied, by index.
pub(super) type AppliedEntries = BTreeMap<(ShardId, u64), Applied>;

/// What came of an entry where it was applied first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub entry: EntryId,
    state_hash: u128,
    replies_hash: u64,
    node: u64,
}

pub(super) fn applied(known: &mut Known, node: u64, entry: &AppliedEntry<'_>) -> Checked {
    let mut replies = Hashing(Xxh3::new());
    for decision in entry.decisions {
        let _ = write!(replies, "{:?};", decision.reply);
    }
    let (shard, id) = (entry.shard, entry.entry);
    let now = Applied { entry: id, state_hash: entry.state_hash, replies_hash: replies.0.digest(), node };
    let first = *known.applied.entry((shard, id.index)).or_insert(now);
    let reached = known.applied_to.entry(shard).or_default();
    *reached = (*reached).max(id.index);
    if first.entry != id {
        let (one, other) = (named(first.entry), named(id));
        return broken("R4", format!("{shard}: node {} applied entry {one}, node {node} entry {other}", first.node));
    }
    if first.replies_hash != now.replies_hash {
        return broken("R17", format!("{shard}: nodes {} and {node} answer differently at entry {}", first.node, named(id)));
    }
    if first.state_hash != now.state_hash {
        return broken("R14", format!("{shard}: nodes {} and {node} decided differently up to entry {}", first.node, named(id)));
    }
    Ok(())
}

/// The same for nodes that an installed checkpoint brought there: what they say their state's hash is.
pub(super) fn look(known: &Known, node: u64, status: &GroupStatus) -> Checked {
    let Some((index, state_hash)) = status.state_hash else { return Ok(()) };
    match known.applied.get(&(status.shard, index)) {
        Some(applied) if applied.state_hash != state_hash => {
            let (first, shard) = (applied.node, status.shard);
            broken("R14", format!("{shard}: nodes {first} and {node} have decided differently up to entry {index}"))
        }
        _ => Ok(()),
    }
}

/// Hashes what is formatted into it.
struct Hashing(Xxh3);

impl fmt::Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
