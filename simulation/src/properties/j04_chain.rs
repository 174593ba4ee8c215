//! J4: an acknowledged atomic write is told the highest number before it, so that loss between two acknowledgements shows.
//!
//! No event lies between what it was told and its first one, and what it was told is what its request expected, if it did.

use crate::evidence::{Evidence, Fate};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let stored = journal.stored();
        for attempt in &journal.attempts {
            let Fate::Stored { previous, .. } = attempt.fate else { continue };
            if let Some(after) = attempt.after.filter(|after| *after != previous) {
                return Err(format!(
                    "{persistence_id:?}: operation {} expected the highest number {after}, and event {} was stored after {previous}",
                    attempt.operation,
                    attempt.first()
                ));
            }
            if previous >= attempt.first() {
                return Err(format!(
                    "{persistence_id:?}: operation {} stored event {} when the highest number was {previous}",
                    attempt.operation,
                    attempt.first()
                ));
            }
            if let Some(between) = stored.range(previous + 1..attempt.first()).next() {
                return Err(format!(
                    "{persistence_id:?}: operation {} was told that event {} follows {previous}, but event {between} is there",
                    attempt.operation,
                    attempt.first()
                ));
            }
        }
    }
    Ok(())
}
