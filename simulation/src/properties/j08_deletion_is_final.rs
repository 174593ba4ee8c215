//! J8: delete-to is atomic and final: nothing at or below an acknowledged watermark comes back, and nothing above what was asked for
//! is ever deleted.
//!
//! Contract 1.8, rules 1, 2, 4 and 8. That the watermark itself never goes back is part of J5.

use crate::evidence::Evidence;
use crate::history::{Answer, Outcome};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (id, operation) in evidence.operations.iter().enumerate() {
        let (Outcome::Ok(Answer::Highest { highest, deleted_to, .. })
        | Outcome::Ok(Answer::Replayed { end: Some((highest, deleted_to)), .. })) = &operation.outcome
        else {
            continue;
        };
        if deleted_to > highest {
            let persistence_id = &operation.persistence_id;
            return Err(format!(
                "{persistence_id:?}: operation {id} was told the delete watermark {deleted_to}, beyond the highest number {highest}"
            ));
        }
    }
    for (persistence_id, journal) in &evidence.journals {
        let wrong = |what: String| Err(format!("{persistence_id:?}: {what}"));
        for replay in journal.replays.iter().filter(|replay| replay.is_strong) {
            let Some(first) = replay.events.iter().find(|event| !event.deleted) else { continue };
            let over = journal.deletions.iter().find(|deletion| {
                let is_before = deletion.ended.is_some_and(|ended| ended < replay.began);
                is_before && deletion.told.is_some_and(|told| told >= first.number)
            });
            if let Some(deletion) = over {
                return wrong(format!(
                    "replay {} shows event {} as not deleted after operation {} deleted up to {:?}",
                    replay.operation, first.number, deletion.operation, deletion.told
                ));
            }
        }
        for replay in journal.replays.iter().filter(|replay| replay.is_strong && replay.include_deleted) {
            let Some(first) = replay.events.first() else { continue };
            let over = journal.deletions.iter().find(|deletion| {
                let is_before = deletion.ended.is_some_and(|ended| ended < replay.began);
                // What it was told may be the watermark of another deletion; what it asked for is gone for certain.
                deletion.permanent && is_before && deletion.told.is_some_and(|told| told.min(deletion.to) >= first.number)
            });
            if let Some(deletion) = over {
                return wrong(format!(
                    "replay {} shows event {} after operation {} removed up to {:?}",
                    replay.operation, first.number, deletion.operation, deletion.told
                ));
            }
        }
        for seen in &journal.watermark_seen {
            // A number asked for beyond the highest one deletes no more than what is there at that time.
            let asked =
                journal.deletions.iter().filter(|deletion| deletion.began <= seen.ended).map(|deletion| deletion.to).max();
            if seen.at_least > asked.unwrap_or(0) {
                return wrong(format!(
                    "operation {} was told the delete watermark {}, but nobody asked for more than {asked:?}",
                    seen.operation, seen.at_least
                ));
            }
        }
    }
    Ok(())
}
