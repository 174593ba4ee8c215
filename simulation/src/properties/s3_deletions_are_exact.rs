//! S3: what an acknowledged deletion of snapshots covers is never found again; timestamp 0 stands for any.
//!
//! Contract 2.3, cases S7 to S9. That nothing else is deleted is part of S1.

use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let snapshots = &journal.snapshots;
        for load in &snapshots.loads {
            let Some(found) = load.found else { continue };
            let Some(save) = snapshots.saves.iter().find(|save| save.stamp == found.stamp && save.told.is_some()) else {
                continue;
            };
            let over = snapshots.removals.iter().find(|removal| {
                let is_between = save.ended.is_some_and(|ended| ended < removal.began)
                    && removal.is_done
                    && removal.ended.is_some_and(|ended| ended < load.began);
                is_between && removal.bounds.admit(found.number, found.timestamp)
            });
            if let Some(removal) = over {
                return Err(format!(
                    "{persistence_id:?}: load {} found {save:?}, which operation {} deleted ({removal:?})",
                    load.operation, removal.operation
                ));
            }
        }
    }
    Ok(())
}
