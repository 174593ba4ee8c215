//! Deletions of events: two watermarks, moved in one step.
//!
//! The bound is clamped to the highest number at the deletion's place in the log, so that a deletion of everything never
//! swallows what is written later (contract 1.8). A retry of the same bound finds it done; a client therefore turns "everything"
//! into a number before it sends.

use super::fencing::fence_upkeep;
use super::unchanged;
use crate::change::{Change, Decision, Head};
use crate::command::DeleteTo;
use crate::ids::SequenceNumber;
use crate::reply::{DeleteReply, Reply};
use crate::view::View;

/// Raises the delete watermark, and with a permanent deletion the other one too.
pub(super) fn decide<V: View>(view: &V, delete: &DeleteTo) -> Result<Decision, V::Error> {
    let Some(mut head) = view.head(&delete.persistence_id)? else {
        let nothing = DeleteReply { deleted_to: SequenceNumber(0), highest: SequenceNumber(0) };
        return Ok(unchanged(Reply::DeleteTo(Ok(nothing))));
    };
    let bound = delete.to.min(head.highest);
    if head.deleted_to >= bound && (!delete.permanent || head.removed_to >= bound) {
        return Ok(unchanged(done(&head)));
    }
    if let Err(refusal) = fence_upkeep(&head, &delete.writer, delete.epoch) {
        return Ok(unchanged(Reply::DeleteTo(Err(refusal))));
    }
    head.deleted_to = head.deleted_to.max(bound);
    if delete.permanent {
        head.removed_to = head.removed_to.max(bound);
    }
    Ok(Decision { reply: done(&head), changes: vec![Change::Head { persistence_id: delete.persistence_id.clone(), head }] })
}

fn done(head: &Head) -> Reply {
    Reply::DeleteTo(Ok(DeleteReply { deleted_to: head.deleted_to, highest: head.highest }))
}
