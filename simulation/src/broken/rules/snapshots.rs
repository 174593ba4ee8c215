//! Snapshots, decided wrongly.

use cairn_machine::{Change, Command, Criteria, Decision, DeleteSnapshots, SaveSnapshot, View};
use cairn_storage::tables::Applying;

use super::{Decided, without_changes};

pub(super) fn keep_first(view: &Applying<'_>, save: &SaveSnapshot, decided: Decision) -> Decided {
    let Some(head) = view.head(&save.persistence_id)? else { return Ok(decided) };
    match view.snapshot(head.journal, save.sequence_number)? {
        Some(_) => Ok(without_changes(decided)),
        None => Ok(decided),
    }
}

pub(super) fn at_any_time(delete: &DeleteSnapshots) -> Command {
    let criteria = Criteria { timestamp_min: i64::MIN, timestamp_max: i64::MAX, ..delete.criteria };
    Command::DeleteSnapshots(DeleteSnapshots { criteria, ..delete.clone() })
}

/// The head stays first, as the tables want it.
pub(super) fn reorder(node: u64, mut decided: Decision) -> Decision {
    let begin = decided.changes.iter().position(|change| !matches!(change, Change::Head { .. })).unwrap_or(0);
    if node.is_multiple_of(2) {
        decided.changes[begin..].reverse();
    }
    decided
}
