//! J9: what was refused, or told to be not applied, never appears.
//!
//! Contract 1.4, rules 4 and 6: a rejection is a promise that the event is not and will never be stored.

use crate::evidence::{Evidence, by_stamp};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let attempts = by_stamp(journal);
        for (number, (operation, event)) in &journal.known {
            let Some(attempts) = attempts.get(&event.stamp) else { continue };
            // The same write sent by another operation is another matter.
            if attempts.iter().any(|attempt| attempt.may_be_stored()) {
                continue;
            }
            let told: Vec<_> = attempts.iter().map(|attempt| (attempt.operation, attempt.fate)).collect();
            return Err(format!("{persistence_id:?}: operation {operation} read event {number} ({}), but {told:?}", event.stamp));
        }
    }
    Ok(())
}
