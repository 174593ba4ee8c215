//! S2: of two saves at the same number the later one is found.
//!
//! Contract 2.3, case S10.

use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let saves = &journal.snapshots.saves;
        for load in &journal.snapshots.loads {
            let Some(found) = load.found else { continue };
            let Some(save) = saves.iter().find(|save| save.stamp == found.stamp) else { continue };
            let later = saves.iter().find(|other| {
                let is_later = save.ended.is_some_and(|ended| ended < other.began) && save.told.is_some();
                other.number == save.number && is_later && other.is_done_by(load.began)
            });
            if let Some(later) = later {
                return Err(format!("{persistence_id:?}: load {} found {save:?}, which {later:?} replaced", load.operation));
            }
        }
    }
    Ok(())
}
