//! Deletions of events, decided wrongly.

use cairn_machine::{Change, Decision, DeleteReply, DeleteTo, Head, Reply, SequenceNumber, View};
use cairn_storage::tables::Applying;

use super::Decided;
use super::writes::heads;

/// So many numbers beyond the highest are deleted before they are written.
const SWALLOWED: u64 = 5;

pub(super) fn swallow_later(view: &Applying<'_>, delete: &DeleteTo, mut decided: Decision) -> Decided {
    let Some(head) = view.head(&delete.persistence_id)?.filter(|head| delete.to >= head.highest) else { return Ok(decided) };
    if decided.changes.is_empty() && matches!(decided.reply, Reply::DeleteTo(Ok(_))) {
        decided.changes.push(Change::Head { persistence_id: delete.persistence_id.clone(), head });
    }
    for head in heads(&mut decided) {
        head.deleted_to = SequenceNumber(head.highest.0 + SWALLOWED);
    }
    Ok(decided)
}

pub(super) fn take_one_more(mut decided: Decision) -> Decision {
    for head in heads(&mut decided) {
        head.deleted_to = SequenceNumber(head.deleted_to.0 + 1).min(head.highest);
    }
    decided
}

pub(super) fn go_back(view: &Applying<'_>, delete: &DeleteTo, mut decided: Decision) -> Decided {
    let Some(head) = view.head(&delete.persistence_id)? else { return Ok(decided) };
    // What is removed is gone, and a head that denies it is damaged.
    let lower = delete.to.max(head.removed_to);
    if lower < head.deleted_to && matches!(decided.reply, Reply::DeleteTo(Ok(_))) {
        let head = Head { deleted_to: lower, ..head };
        decided.reply = Reply::DeleteTo(Ok(DeleteReply { deleted_to: head.deleted_to, highest: head.highest }));
        decided.changes = vec![Change::Head { persistence_id: delete.persistence_id.clone(), head }];
    }
    Ok(decided)
}

pub(super) fn take_snapshots(view: &Applying<'_>, delete: &DeleteTo, mut decided: Decision) -> Decided {
    let Some(bound) = heads(&mut decided).next().map(|head| (head.journal, head.deleted_to)) else { return Ok(decided) };
    let doomed = view.snapshots(bound.0, SequenceNumber(0), bound.1.min(delete.to))?;
    for head in heads(&mut decided) {
        head.snapshots = head.snapshots.saturating_sub(u32::try_from(doomed.len()).unwrap_or(u32::MAX));
    }
    let dropped = |snapshot: &cairn_machine::SnapshotRecord| Change::DropSnapshot {
        journal: snapshot.journal,
        sequence_number: snapshot.sequence_number,
    };
    decided.changes.extend(doomed.iter().map(dropped));
    Ok(decided)
}
