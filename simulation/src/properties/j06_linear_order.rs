//! J6: a journal is linearizable: every reading of its highest number fits one order of all writes that agrees with real time.
//!
//! The writes of a journal have an order already, their numbers. So it suffices, in linear time, that no reading is older than what was
//! acknowledged before it began (that is J5), that none is of a write that had not begun when it ended, and that of two writes the one
//! acknowledged before the other began has the lower numbers.

use crate::evidence::{Evidence, Fate};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let wrong = |what: String| Err(format!("{persistence_id:?}: {what}"));
        for seen in journal.highest_seen.iter().filter(|seen| seen.at_least > 0) {
            let source = journal
                .attempts
                .iter()
                .find(|attempt| attempt.began <= seen.ended && attempt.may_be_stored() && attempt.last() == seen.at_least);
            if source.is_none() {
                return wrong(format!(
                    "operation {} was told the highest number {}, which no write reaches",
                    seen.operation, seen.at_least
                ));
            }
        }
        let mut acknowledged: Vec<_> =
            journal.attempts.iter().filter(|attempt| matches!(attempt.fate, Fate::Stored { .. })).collect();
        acknowledged.sort_by_key(|attempt| attempt.first());
        // Among writes with higher numbers, the one that was acknowledged first must not have ended before this one began.
        let mut earliest: Option<(std::time::Duration, usize, u64)> = None;
        for attempt in acknowledged.iter().rev() {
            if let Some((ended, operation, first)) = earliest
                && ended < attempt.began
                && !has_twin(journal, attempt.operation, attempt.events[0].1)
            {
                return wrong(format!(
                    "operation {operation} stored event {first} before operation {} began, which stored event {}",
                    attempt.operation,
                    attempt.first()
                ));
            }
            if let Some(ended) = attempt.ended
                && earliest.is_none_or(|(least, ..)| ended < least)
            {
                earliest = Some((ended, attempt.operation, attempt.first()));
            }
        }
    }
    Ok(())
}

/// Whether the same write was sent by another operation too: then it may have been stored before this one began.
fn has_twin(journal: &crate::evidence::Journal<'_>, operation: usize, stamp: crate::stamp::Stamp) -> bool {
    journal.attempts.iter().any(|other| other.operation != operation && other.events[0].1 == stamp)
}
