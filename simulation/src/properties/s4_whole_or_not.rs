//! S4: what is loaded is what one save that had begun brought, whole; refused saves are never found.
//!
//! That it is the same byte for byte is checked when it is read. S5: deletions of snapshots never touch events, which J1 holds.

use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        for load in &journal.snapshots.loads {
            let Some(found) = load.found else { continue };
            let save = journal
                .snapshots
                .saves
                .iter()
                .find(|save| save.stamp == found.stamp && save.number == found.number && save.began <= load.ended);
            if save.is_none() {
                return Err(format!("{persistence_id:?}: load {} found {found:?}, which no save brought", load.operation));
            }
        }
    }
    Ok(())
}
