//! S7: a snapshot at n and the events from n + 1 on come to the same state as all events.
//!
//! Contract 2.1 and 2.3: recovery. What the owner of a journal saves holds the fold of the events that it knows; a recovery gives such a
//! snapshot and the events after it.

use std::collections::BTreeMap;

use crate::evidence::{Evidence, Fate, Journal, Replayed};
use crate::fold::Fold;
use crate::stamp::Stamp;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let events = stored(journal);
        for replay in &journal.replays {
            let Some((recovered, highest)) = recovered(replay) else { continue };
            let mut whole = Fold::since(recovered.since);
            events.range(..=highest).for_each(|(number, stamp)| whole.take(*number, *stamp));
            if recovered != whole {
                return Err(format!(
                    "{persistence_id:?}: recovery {} of {:?} and the events after it comes to {recovered}, all events to {whole}",
                    replay.operation, replay.after
                ));
            }
        }
    }
    Ok(())
}

/// The state that a recovery led to and the highest number; none if it began at no state, did not come to its end, or if events after the
/// snapshot had been deleted.
fn recovered(replay: &Replayed<'_>) -> Option<(Fold, u64)> {
    let snapshot = replay.after?;
    let (highest, deleted_to) = replay.end?;
    let mut fold = snapshot.stamp.fold?;
    for event in replay.events {
        fold.take(event.number, event.stamp);
    }
    (deleted_to <= snapshot.number).then_some((fold, highest))
}

/// Every event that is certainly stored.
fn stored(journal: &Journal<'_>) -> BTreeMap<u64, Stamp> {
    let acknowledged = journal.attempts.iter().filter(|attempt| matches!(attempt.fate, Fate::Stored { .. }));
    let told = acknowledged.flat_map(|attempt| attempt.events.iter().copied());
    told.chain(journal.known.iter().map(|(number, (_, event))| (*number, event.stamp))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::{Answer, Call, Fresh, Operation, Outcome, ReadEvent, ReadSnapshot};

    fn stamp(operation: u32, fold: Option<Fold>) -> Stamp {
        Stamp { client: 1, operation, index: 0, padding: 0, fold }
    }

    fn replay(numbers: &[u64], after: Option<ReadSnapshot>) -> Operation {
        let event = |number: &u64| ReadEvent {
            number: *number,
            stamp: stamp(u32::try_from(*number).expect("is small"), None),
            position: *number,
            write_first: *number,
            writer: "writer".to_owned(),
            timestamp: 1,
            deleted: false,
        };
        let from = after.map_or(1, |snapshot| snapshot.number + 1);
        let (to, max, include_deleted, fresh, node) = (u64::MAX, u64::MAX, false, Fresh::Strong, None);
        Operation {
            client: 1,
            began: Duration::ZERO,
            ended: Some(Duration::from_secs(1)),
            persistence_id: "account-1".to_owned(),
            call: Call::Replay { from, to, max, include_deleted, fresh, node, after },
            outcome: Outcome::Ok(Answer::Replayed { events: numbers.iter().map(event).collect(), end: Some((4, 0)) }),
        }
    }

    #[test]
    fn a_recovery_that_lacks_an_event_or_begins_at_another_state_breaks_it() {
        let mut state = Fold::since(0);
        for number in 1..=2 {
            state.take(number, stamp(u32::try_from(number).expect("is small"), None));
        }
        let snapshot = |fold| Some(ReadSnapshot { number: 2, timestamp: 1, stamp: stamp(9, fold) });
        let checked = |recovery: Operation| check(&Evidence::new(&[replay(&[1, 2, 3, 4], None), recovery], 1));
        assert_eq!(checked(replay(&[3, 4], snapshot(Some(state)))), Ok(()));
        assert_eq!(checked(replay(&[4], snapshot(None))), Ok(()), "a snapshot that holds no state says nothing");
        assert!(checked(replay(&[4], snapshot(Some(state)))).is_err());
        assert!(checked(replay(&[3, 4], snapshot(Some(Fold::since(0))))).is_err());
    }
}
