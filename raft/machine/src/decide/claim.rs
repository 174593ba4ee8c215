//! Claims: making a writer the journal's, at a new epoch.

use super::fencing::{epoch_moved, fenced, is_former, supersede};
use super::{head_or_new, unchanged};
use crate::change::{Change, Decision, Head};
use crate::command::Claim;
use crate::ids::{WriterEpoch, WriterId};
use crate::limits::FORMER_WRITERS_MAX;
use crate::reply::{ClaimReply, Refusal, Reply};
use crate::view::View;

/// Grants a claim whose sender read the journal's present epoch, or that was granted before and still stands.
pub(super) fn decide<V: View>(view: &V, claim: &Claim) -> Result<Decision, V::Error> {
    let mut head = head_or_new(view, &claim.persistence_id)?;
    if let Some(answer) = earlier_answer(&head, claim) {
        return Ok(unchanged(Reply::Claim(answer)));
    }
    if head.epoch != claim.epoch_read {
        return Ok(unchanged(Reply::Claim(Err(epoch_moved(&head)))));
    }
    supersede(&mut head, &claim.writer);
    Ok(Decision {
        reply: Reply::Claim(Ok(granted(&head))),
        changes: vec![Change::Head { persistence_id: claim.persistence_id.clone(), head }],
    })
}

impl Head {
    /// The epoch that a claim by `writer` names as read, for those who make it in the writer's name and may make it again: one that
    /// still stands is named as it was, so that it is answered as it was.
    ///
    /// # Errors
    /// [`Refusal::Fenced`] if the writer had the journal before and has lost it. A writer is one incarnation: it never comes back,
    /// and a claim of it that comes late must not fence whoever followed.
    pub fn epoch_to_claim(&self, writer: &WriterId) -> Result<WriterEpoch, Refusal> {
        if self.writer == *writer && self.epoch > WriterEpoch(0) {
            return Ok(WriterEpoch(self.epoch.0 - 1));
        }
        if is_former(self, writer) { Err(fenced(self)) } else { Ok(self.epoch) }
    }
}

/// The answer to a claim that was granted before, or that may have been.
fn earlier_answer(head: &Head, claim: &Claim) -> Option<Result<ClaimReply, Refusal>> {
    let epoch = claim.epoch_read.0.checked_add(1)?;
    if head.writer == claim.writer && head.epoch.0 == epoch {
        return Some(Ok(granted(head)));
    }
    if head.former_writers.iter().any(|former| former.writer == claim.writer && former.epoch.0 == epoch) {
        return Some(Err(fenced(head)));
    }
    // A list that is not full holds every writer that there ever was.
    let is_full = head.former_writers.len() >= FORMER_WRITERS_MAX;
    let is_forgotten = is_full && head.former_writers.first().is_some_and(|oldest| epoch < oldest.epoch.0);
    is_forgotten.then_some(Err(Refusal::Forgotten))
}

fn granted(head: &Head) -> ClaimReply {
    ClaimReply { epoch: head.epoch, highest: head.highest }
}
