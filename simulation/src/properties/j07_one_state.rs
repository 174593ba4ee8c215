//! J7: a replay equals the state at one moment not older than the last write acknowledged before it began.
//!
//! Numbers rise, so what is stored up to a highest number never changes: a replay that says how far the journal went and how much of it
//! was deleted must show exactly what is stored in between.

use crate::evidence::{Evidence, Journal, Replayed};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let stored = journal.stored();
        for replay in &journal.replays {
            one_state(journal, &stored, replay)
                .map_err(|what| format!("{persistence_id:?}: replay {} {what}", replay.operation))?;
        }
    }
    Ok(())
}

fn one_state(journal: &Journal<'_>, stored: &std::collections::BTreeSet<u64>, replay: &Replayed<'_>) -> Result<(), String> {
    let Some((highest, deleted_to)) = replay.end else { return Ok(()) };
    let outside = |number: u64| number > highest || !replay.include_deleted && number <= deleted_to;
    if let Some(event) = replay.events.iter().find(|event| outside(event.number)) {
        return Err(format!("shows event {}, but ends at {highest}, deleted to {deleted_to}", event.number));
    }
    let Some(covers_to) = replay.covers_to() else { return Ok(()) };
    let from = if replay.include_deleted { replay.from.max(1) } else { replay.from.max(deleted_to + 1) };
    let to = covers_to.min(highest);
    if from > to {
        return Ok(());
    }
    for number in stored.range(from..=to) {
        let is_there = replay.events.binary_search_by_key(number, |event| event.number).is_ok();
        let may_be_gone = replay.include_deleted && journal.may_be_deleted(*number, replay.ended, true);
        if !is_there && !may_be_gone {
            return Err(format!("ends at {highest}, deleted to {deleted_to}, and does not show event {number}, which is stored"));
        }
    }
    Ok(())
}
