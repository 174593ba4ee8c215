//! S1: a load returns the snapshot with the greatest sequence number within all four bounds, else none.
//!
//! Contract 2.3, cases S1 to S6. Deleting events never deletes snapshots (S5): deletions of events excuse nothing here.

use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let snapshots = &journal.snapshots;
        for load in &snapshots.loads {
            if let Some(found) = load.found.filter(|found| !load.bounds.admit(found.number, found.timestamp)) {
                return Err(format!(
                    "{persistence_id:?}: load {} found {found:?} outside its bounds {:?}",
                    load.operation, load.bounds
                ));
            }
            let least = load.found.map_or(0, |found| found.number + 1);
            let missed = snapshots.saves.iter().find(|save| {
                let fits = save.told.is_some_and(|timestamp| load.bounds.admit(save.number, timestamp));
                save.number >= least && fits && save.is_done_by(load.began) && !snapshots.may_be_gone(save, load.ended)
            });
            if let Some(save) = missed {
                return Err(format!("{persistence_id:?}: load {} found {:?} and not {save:?}", load.operation, load.found));
            }
        }
    }
    Ok(())
}
