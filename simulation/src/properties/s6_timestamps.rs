//! S6: a snapshot's timestamp is assigned once: the caller's if it gave one, the same to whoever asks and on every replica.

use std::collections::BTreeMap;

use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let mut known = BTreeMap::new();
        for save in &journal.snapshots.saves {
            if let Some(told) = save.told {
                if save.given.is_some_and(|given| given != told) {
                    return Err(format!("{persistence_id:?}: {save:?} was told another timestamp than it gave"));
                }
                known.insert(save.stamp, (told, save.operation));
            } else if let Some(given) = save.given {
                known.insert(save.stamp, (given, save.operation));
            }
        }
        for load in &journal.snapshots.loads {
            let Some(found) = load.found else { continue };
            let (timestamp, operation) = *known.entry(found.stamp).or_insert((found.timestamp, load.operation));
            if timestamp != found.timestamp {
                return Err(format!(
                    "{persistence_id:?}: load {} found {found:?}, but operation {operation} knows timestamp {timestamp}",
                    load.operation
                ));
            }
        }
    }
    Ok(())
}
