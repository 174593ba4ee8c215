//! J2: all or none of an atomic write is visible, to any replay, on any node, after any restart.
//!
//! Contract 1.4, rule 1. A deletion may end within an atomic write, and so may the bounds of a replay; what is left is all there.

use crate::evidence::{Evidence, by_stamp};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let attempts = by_stamp(journal);
        for replay in &journal.replays {
            let Some(covers_to) = replay.covers_to() else { continue };
            let found = |number| replay.events.binary_search_by_key(&number, |event| event.number).is_ok();
            for event in replay.events {
                let Some(attempt) = attempts.get(&event.stamp).and_then(|attempts| attempts.first()) else {
                    return Err(format!("{persistence_id:?}: replay {} shows {event:?}, which nobody wrote", replay.operation));
                };
                if event.write_first != attempt.first() {
                    return Err(format!(
                        "{persistence_id:?}: replay {} says that event {} belongs to the atomic write at {}, but it was written at {}",
                        replay.operation,
                        event.number,
                        event.write_first,
                        attempt.first()
                    ));
                }
                // Deletions take prefixes: what follows an event that is there is there too.
                let missing =
                    attempt.events.iter().find(|(number, _)| *number > event.number && *number <= covers_to && !found(*number));
                if let Some((number, _)) = missing {
                    return Err(format!(
                        "{persistence_id:?}: replay {} shows event {} of an atomic write and not event {number} of it",
                        replay.operation, event.number
                    ));
                }
                // And what precedes it, unless a deletion may have taken it.
                let missing = attempt.events.iter().find(|(number, _)| {
                    let is_gone = journal.may_be_deleted(*number, replay.ended, replay.include_deleted);
                    *number < event.number && *number >= replay.from && !is_gone && !found(*number)
                });
                if let Some((number, _)) = missing {
                    return Err(format!(
                        "{persistence_id:?}: replay {} shows event {} of an atomic write and not event {number} before it",
                        replay.operation, event.number
                    ));
                }
            }
        }
    }
    Ok(())
}
