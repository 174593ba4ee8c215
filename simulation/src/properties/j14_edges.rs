//! J14: the edges: a replay shows nothing outside its bounds and no more than its maximum, and tells the true highest number whatever
//! its bounds.
//!
//! Contract 1.5, rules 1 and 4. That the number is true is part of J5 and J6.

use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        for replay in &journal.replays {
            let outside = replay.events.iter().find(|event| event.number < replay.from || event.number > replay.to);
            if let Some(event) = outside {
                return Err(format!(
                    "{persistence_id:?}: replay {} shows event {} outside its bounds",
                    replay.operation, event.number
                ));
            }
            if replay.events.len() as u64 > replay.max {
                return Err(format!(
                    "{persistence_id:?}: replay {} shows {} events, and {} were asked for",
                    replay.operation,
                    replay.events.len(),
                    replay.max
                ));
            }
            if !replay.include_deleted && replay.events.iter().any(|event| event.deleted) {
                return Err(format!(
                    "{persistence_id:?}: replay {} shows deleted events that nobody asked for",
                    replay.operation
                ));
            }
        }
    }
    Ok(())
}
