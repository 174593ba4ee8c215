//! R2, R16: logs match: entries with the same id hold the same on all nodes, and follow the same entry.
//!
//! Raft, section 5.3, "log matching". By induction all that is before them is the same too, which is what a rolling hash would say.

use std::collections::BTreeMap;

use cairn_machine::ShardId;
use cairn_node::EntryId;
use cairn_storage::log::inspect::{Content, Record};
use xxhash_rust::xxh3::xxh3_64;

use super::{Checked, Known, broken, named};

/// Entries that were ever durable: what they hold, as a hash, and what they follow.
pub(super) type Entries = BTreeMap<(ShardId, EntryId), (u64, Option<EntryId>)>;

pub(super) fn durable(known: &mut Known, node: u64, record: &Record) -> Checked {
    let (Content::Entry { id, payload } | Content::Copied { id, payload }) = &record.content else { return Ok(()) };
    let shard = record.shard;
    let before = id.index.checked_sub(1).and_then(|before| known.durable.get(&(node, shard))?.id_at(before));
    let hash = xxh3_64(payload);
    let (seen_hash, seen_before) = known.entries.entry((shard, *id)).or_insert((hash, before));
    if *seen_hash != hash {
        return broken("R2", format!("entry {} of {shard} is another on node {node} than elsewhere", named(*id)));
    }
    match (*seen_before, before) {
        (Some(seen), Some(before)) if seen != before => broken(
            "R2",
            format!("entry {} of {shard} follows {} on node {node}, elsewhere {}", named(*id), named(before), named(seen)),
        ),
        (None, Some(before)) => {
            *seen_before = Some(before);
            Ok(())
        }
        _ => Ok(()),
    }
}
