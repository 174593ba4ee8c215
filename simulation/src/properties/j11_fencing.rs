//! J11: with two writers on one journal the stale one is refused: writer epochs never go back along the numbers, no epoch is given out
//! twice, and nothing of an older epoch is stored that was sent after a newer claim was answered.

use std::collections::BTreeMap;

use crate::evidence::{Evidence, Fate, by_stamp};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let wrong = |what: String| Err(format!("{persistence_id:?}: {what}"));
        let mut owners = BTreeMap::new();
        for claim in &journal.claims {
            if let Some(other) = owners.insert(claim.epoch, claim.operation) {
                return wrong(format!("operations {other} and {} both got epoch {}", claim.operation, claim.epoch));
            }
        }
        let attempts = by_stamp(journal);
        let mut newest: Option<(u64, u64)> = None;
        for (number, (_, event)) in &journal.known {
            let Some(epoch) = attempts.get(&event.stamp).and_then(|attempts| attempts[0].epoch) else { continue };
            if let Some((before, at)) = newest.filter(|(before, _)| *before > epoch) {
                return wrong(format!("event {number} is of epoch {epoch}, but event {at} before it is of epoch {before}"));
            }
            newest = Some((epoch, *number));
        }
        for attempt in &journal.attempts {
            let Some(epoch) = attempt.epoch else { continue };
            let newer = journal.claims.iter().find(|claim| claim.epoch > epoch && claim.ended < attempt.began);
            let is_stored = matches!(attempt.fate, Fate::Stored { .. })
                || attempt
                    .events
                    .iter()
                    .any(|(number, stamp)| journal.known.get(number).is_some_and(|(_, event)| event.stamp == *stamp));
            let is_alone = attempts[&attempt.events[0].1].len() == 1;
            if let Some(claim) = newer.filter(|_| is_stored && is_alone) {
                return wrong(format!(
                    "operation {} began with epoch {epoch} after operation {} had got epoch {}, and stored event {}",
                    attempt.operation,
                    claim.operation,
                    claim.epoch,
                    attempt.first()
                ));
            }
        }
    }
    Ok(())
}
