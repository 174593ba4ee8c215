//! The rules of contract section 3.7, as conversations with a store that does what it is told.

use std::collections::BTreeSet;

use cairn_client::{Criteria, SequenceNumber};
use proptest::prelude::*;

use super::{Retention, RetentionCycle, RetentionStep, SnapshotDue};

type Rules = Retention<u64, &'static str>;

fn due(rules: &Rules, numbers: std::ops::RangeInclusive<u64>) -> SnapshotDue {
    numbers.map(|number| rules.due(&0, &"event", SequenceNumber(number))).max().unwrap_or_default()
}

fn to(number: u64) -> Criteria {
    Criteria { sequence_number_max: SequenceNumber(number), ..Criteria::LATEST }
}

#[test]
fn by_default_no_snapshot_is_taken() {
    assert_eq!(due(&Rules::default(), 1..=1000), SnapshotDue::No);
    assert_eq!(Rules::default().due_after_recovery(u64::MAX), SnapshotDue::No);
}

#[test]
fn a_snapshot_is_due_at_every_multiple() {
    let rules = Rules::snapshot_every(3, 1);
    assert_eq!(due(&rules, 1..=2), SnapshotDue::No);
    assert_eq!(due(&rules, 3..=3), SnapshotDue::WithRetention);
    assert_eq!(due(&rules, 4..=5), SnapshotDue::No);
}

#[test]
fn an_atomic_write_over_a_multiple_makes_one_due() {
    let rules = Rules::snapshot_every(3, 1);
    assert_eq!(due(&rules, 2..=4), SnapshotDue::WithRetention);
    assert_eq!(due(&rules, 2..=10), SnapshotDue::WithRetention);
}

#[test]
fn a_predicate_makes_a_snapshot_due_that_deletes_nothing() {
    let rules =
        Rules::snapshot_every(10, 1).snapshot_when(|state, event, number| *state == 7 && *event == "closed" && number.0 > 1);
    assert_eq!(rules.due(&7, &"closed", SequenceNumber(2)), SnapshotDue::Alone);
    assert_eq!(rules.due(&6, &"closed", SequenceNumber(2)), SnapshotDue::No);
    assert_eq!(rules.due(&7, &"opened", SequenceNumber(2)), SnapshotDue::No);
    assert_eq!(rules.due(&7, &"closed", SequenceNumber(10)), SnapshotDue::WithRetention);
    let alone = Rules::disabled().snapshot_when(|_, _, number| number.0 == 5);
    assert_eq!((due(&alone, 1..=4), due(&alone, 1..=9)), (SnapshotDue::No, SnapshotDue::Alone));
}

#[test]
fn a_long_recovery_makes_a_snapshot_due_that_deletes_nothing() {
    let rules = Rules::snapshot_every(3, 1).deleting_events();
    assert_eq!(rules.due_after_recovery(2), SnapshotDue::No);
    assert_eq!(rules.due_after_recovery(3), SnapshotDue::Alone);
}

#[test]
fn snapshots_before_those_that_are_kept_are_deleted() {
    let rules = Rules::snapshot_every(3, 2);
    for (saved, step) in [
        (3, RetentionStep::Done),
        (6, RetentionStep::Done),
        (7, RetentionStep::DeleteSnapshots(to(1))),
        (9, RetentionStep::DeleteSnapshots(to(3))),
    ] {
        let mut cycle = RetentionCycle::default();
        assert!(cycle.begin(SnapshotDue::WithRetention));
        assert_eq!(cycle.snapshot_saved(&rules, SequenceNumber(saved)), step, "saved at {saved}");
        cycle.end();
        assert!(!cycle.is_running());
    }
}

#[test]
fn events_go_before_the_snapshots_and_the_one_at_the_edge_stays() {
    let rules = Rules::snapshot_every(3, 2).deleting_events();
    let mut cycle = RetentionCycle::default();
    assert!(cycle.begin(SnapshotDue::WithRetention));
    assert_eq!(cycle.snapshot_saved(&rules, SequenceNumber(9)), RetentionStep::DeleteEvents { to: SequenceNumber(3) });
    assert_eq!(cycle.events_deleted(SequenceNumber(3)), RetentionStep::DeleteSnapshots(to(2)));
    assert!(cycle.is_running());
    assert_eq!(cycle.end(), RetentionStep::Done);
    assert!(!cycle.is_running());
}

#[test]
fn where_no_snapshot_can_precede_none_is_deleted() {
    let rules = Rules::snapshot_every(3, 1).deleting_events();
    let mut cycle = RetentionCycle::default();
    assert!(cycle.begin(SnapshotDue::WithRetention));
    assert_eq!(cycle.snapshot_saved(&rules, SequenceNumber(4)), RetentionStep::DeleteEvents { to: SequenceNumber(1) });
    assert_eq!(cycle.events_deleted(SequenceNumber(1)), RetentionStep::Done);
    assert!(!cycle.is_running());
}

#[test]
fn a_cycle_that_falls_into_another_is_left_out_with_its_snapshot() {
    let mut cycle = RetentionCycle::default();
    assert!(!cycle.begin(SnapshotDue::No));
    assert!(cycle.begin(SnapshotDue::WithRetention));
    assert!(!cycle.begin(SnapshotDue::WithRetention));
    assert!(cycle.begin(SnapshotDue::Alone), "one that stands alone is no cycle");
    cycle.end();
    assert!(cycle.begin(SnapshotDue::WithRetention));
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let rules = Rules::snapshot_every(u64::MAX, u64::MAX);
    let mut cycle = RetentionCycle::default();
    assert!(cycle.begin(SnapshotDue::WithRetention));
    assert_eq!(cycle.snapshot_saved(&rules, SequenceNumber::MAX), RetentionStep::Done);
}

#[test]
#[should_panic(expected = "events are deleted behind snapshots")]
fn deleting_events_without_regular_snapshots_is_refused() {
    let _ = Rules::disabled().deleting_events();
}

proptest! {
    /// An actor persists, a store does what it is told, some steps fail: the state can always be recovered.
    #[test]
    fn what_is_left_is_always_recoverable(
        every in 1_u64..5,
        keep in 1_u64..4,
        deletes_events: bool,
        writes in proptest::collection::vec((1_u64..4, 0_u8..4), 1..60),
    ) {
        let rules = Rules::snapshot_every(every, keep);
        let rules = if deletes_events { rules.deleting_events() } else { rules };
        let mut cycle = RetentionCycle::default();
        let mut highest = 0;
        let mut snapshots = BTreeSet::new();
        let mut deleted_to = 0;
        for (events, fails_at) in writes {
            let due = due(&rules, highest + 1..=highest + events);
            highest += events;
            if !cycle.begin(due) {
                continue;
            }
            if fails_at == 1 {
                cycle.end();
                continue;
            }
            snapshots.insert(highest);
            let mut step = cycle.snapshot_saved(&rules, SequenceNumber(highest));
            loop {
                step = match step {
                    RetentionStep::DeleteEvents { .. } if fails_at == 2 => cycle.end(),
                    RetentionStep::DeleteEvents { to } => {
                        deleted_to = to.0.max(deleted_to);
                        cycle.events_deleted(to)
                    }
                    RetentionStep::DeleteSnapshots(_) if fails_at == 3 => cycle.end(),
                    RetentionStep::DeleteSnapshots(criteria) => {
                        snapshots.retain(|number| !criteria.matches(SequenceNumber(*number), 0));
                        cycle.end()
                    }
                    RetentionStep::Done => break,
                };
                // Also with the newest snapshots unreadable: from each that is left, the events after it are there.
                prop_assert!(deleted_to == 0 || snapshots.iter().any(|number| *number >= deleted_to));
                prop_assert!(deletes_events || deleted_to == 0);
            }
            prop_assert!(snapshots.contains(&highest), "the newest is kept");
        }
        prop_assert!(!cycle.is_running());
    }
}
