//! R6: an entry that was applied anywhere is never cut off a log, and no other is written in its place.
//!
//! Raft, section 5.3: a leader never removes committed entries, and followers only what conflicts with a leader's log.

use cairn_storage::log::inspect::{Content, Record};

use super::durable::first_gone;
use super::{Checked, Known, broken, named};

pub(super) fn durable(known: &Known, node: u64, record: &Record) -> Checked {
    let shard = record.shard;
    match &record.content {
        Content::Truncated { last_kept } => {
            let Some(durable) = known.durable.get(&(node, shard)) else { return Ok(()) };
            for entry in durable.entries.range(first_gone(*last_kept)..).map(|(_, entry)| entry.id) {
                if known.applied.get(&(shard, entry.index)).is_some_and(|applied| applied.entry == entry) {
                    let what = format!("node {node} cut entry {} off the log of {shard}, which was applied", named(entry));
                    return broken("R6", what);
                }
            }
            Ok(())
        }
        Content::Purged { up_to } if known.applied_to.get(&shard).is_none_or(|reached| *reached < up_to.index) => {
            broken("R7", format!("node {node} purged the log of {shard} to {}, which nobody has applied", named(*up_to)))
        }
        _ => Ok(()),
    }
}
