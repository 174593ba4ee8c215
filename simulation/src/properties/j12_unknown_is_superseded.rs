//! J12: once another write is acknowledged at a number, a write with an unknown outcome never appears there.
//!
//! What is acknowledged at a number is what everybody reads there.

use crate::evidence::{Evidence, Fate};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        for attempt in &journal.attempts {
            let Fate::Stored { position, timestamp, .. } = attempt.fate else { continue };
            for (place, (number, stamp)) in attempt.events.iter().enumerate() {
                let Some((operation, event)) = journal.known.get(number) else { continue };
                let is_same = event.stamp == *stamp && event.position == position + place as u64 && event.timestamp == timestamp;
                if !is_same {
                    return Err(format!(
                        "{persistence_id:?}: {stamp} was acknowledged to operation {} at {number} as {:?}, but operation {operation} \
                         read {event:?} there",
                        attempt.operation, attempt.fate
                    ));
                }
            }
        }
    }
    Ok(())
}
