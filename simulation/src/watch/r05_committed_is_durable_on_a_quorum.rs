//! R5, R13: what any node takes for committed, and all the more what it applies, is durable on a quorum at that moment.
//!
//! Raft, section 5.3, and the persistence contract: acknowledged means synced on a quorum. Clients are answered only from what was
//! applied, so this holds for every acknowledgement.

use cairn_machine::ShardId;
use cairn_node::{EntryId, GroupStatus};

use super::{Checked, Known, broken, named};

/// Applied entries that were looked for on disks.
pub(super) const MARK: &str = "applied entry sought on disks";

pub(super) fn applied(known: &mut Known, node: u64, shard: ShardId, id: EntryId) -> Checked {
    match known.holders(shard, |durable| durable.has_entry(id)) {
        Some(holders) if !holders.are_a_quorum() => {
            broken("R13", format!("node {node} applied entry {} of {shard}, which is durable on {holders} only", named(id)))
        }
        Some(_) => {
            known.mark(MARK);
            Ok(())
        }
        None => Ok(()),
    }
}

pub(super) fn look(known: &Known, node: u64, before: Option<&GroupStatus>, status: &GroupStatus) -> Checked {
    let Some(committed) = status.committed.filter(|_| before.is_none_or(|before| before.committed != status.committed)) else {
        return Ok(());
    };
    match known.holders(status.shard, |durable| durable.has(committed)) {
        Some(holders) if !holders.are_a_quorum() => broken(
            "R5",
            format!("node {node} takes {} for committed to {committed}, which is durable on {holders} only", status.shard),
        ),
        _ => Ok(()),
    }
}
