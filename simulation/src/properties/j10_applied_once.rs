//! J10: the same write, sent any number of times, is applied once and gets the first answer.
//!
//! By stamps: none stands at two places, and all acknowledgements of one write say the same.

use std::collections::BTreeMap;

use crate::evidence::{Evidence, Fate, by_stamp};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let mut places = BTreeMap::new();
        for (number, (operation, event)) in &journal.known {
            if let Some((other, before)) = places.insert(event.stamp, (*number, *operation)) {
                return Err(format!(
                    "{persistence_id:?}: {} stands at {other} (read by operation {before}) and at {number} (read by {operation})",
                    event.stamp
                ));
            }
        }
        for (stamp, attempts) in by_stamp(journal) {
            let acknowledged = attempts.iter().filter(|attempt| matches!(attempt.fate, Fate::Stored { .. }));
            let mut told = acknowledged.map(|attempt| (attempt.fate, attempt.operation));
            let Some((first, operation)) = told.next() else { continue };
            if let Some((other, again)) = told.find(|(fate, _)| *fate != first) {
                return Err(format!(
                    "{persistence_id:?}: {stamp}: operation {operation} was told {first:?}, operation {again} {other:?}"
                ));
            }
        }
    }
    Ok(())
}
