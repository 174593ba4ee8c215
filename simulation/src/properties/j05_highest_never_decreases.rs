//! J5: the highest sequence number never decreases: across leaders, deletions, restarts, checkpoints and purges.
//!
//! Contract 1.2, rule 3. The same holds for the delete watermark.

use std::time::Duration;

use crate::evidence::{Evidence, Seen};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        never_decreases(&journal.highest_seen).map_err(|what| format!("{persistence_id:?}: the highest number: {what}"))?;
        never_decreases(&journal.watermark_seen).map_err(|what| format!("{persistence_id:?}: the delete watermark: {what}"))?;
    }
    Ok(())
}

/// Every exact reading is at least what anybody knew before it began.
fn never_decreases(seen: &[Seen]) -> Result<(), String> {
    let mut ended: Vec<&Seen> = seen.iter().collect();
    ended.sort_by_key(|seen| seen.ended);
    let mut exact: Vec<&Seen> = seen.iter().filter(|seen| seen.is_exact).collect();
    exact.sort_by_key(|seen| seen.began);
    let mut known: Option<&Seen> = None;
    let mut next = 0;
    for reading in exact {
        while let Some(before) = ended.get(next).filter(|before| before.ended < reading.began) {
            if known.is_none_or(|known| known.at_least < before.at_least) {
                known = Some(before);
            }
            next += 1;
        }
        if let Some(known) = known.filter(|known| known.at_least > reading.at_least) {
            return Err(format!(
                "operation {} was told {} at {:?}, then operation {} {} (from {:?})",
                known.operation,
                known.at_least,
                millis(known.ended),
                reading.operation,
                reading.at_least,
                millis(reading.began)
            ));
        }
    }
    Ok(())
}

fn millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
