//! J1: an acknowledged atomic write is returned by every later replay that covers it, unless a deletion covers it.
//!
//! Contract 1.4, rule 3: success only after the events are durable and will be seen by any later replay. That what is returned equals
//! what was written byte for byte is checked when it is read.

use crate::evidence::{Evidence, Fate};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        for replay in journal.replays.iter().filter(|replay| replay.is_strong) {
            let Some(covers_to) = replay.covers_to() else { continue };
            let found = |number| replay.events.binary_search_by_key(&number, |event| event.number).is_ok();
            for attempt in &journal.attempts {
                let Fate::Stored { .. } = attempt.fate else { continue };
                if attempt.ended.is_none_or(|ended| ended >= replay.began) {
                    continue;
                }
                for (number, stamp) in attempt.events {
                    let is_covered = (replay.from..=covers_to).contains(number);
                    let may_be_gone = journal.may_be_deleted(*number, replay.ended, replay.include_deleted);
                    if is_covered && !may_be_gone && !found(*number) {
                        return Err(format!(
                            "{persistence_id:?}: event {number} ({stamp}) was acknowledged to operation {} and is missing in replay {}",
                            attempt.operation, replay.operation
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}
