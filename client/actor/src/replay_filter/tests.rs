//! The vectors of contract section 3.1, the consequences named there, and an independent account of what a repair leaves.

use std::num::NonZeroUsize;

use cairn_client::{Error, Event, PersistenceId, Position, SequenceNumber, StoredEvent, Timestamp, WriterId};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{AnomalyKind, FilteredEvents, ReplayFilter, ReplayFilterMode, ReplayFilterSettings};
use crate::store::Events;

use AnomalyKind::{OldWriter, OutOfSequence, Overwritten};
use ReplayFilterMode::{Fail, Off, RepairByDiscardOld, Warn};

fn event(number: u64, writer: &str, position: usize) -> StoredEvent {
    StoredEvent {
        event: Event { sequence_number: SequenceNumber(number), ..Event::default() },
        position: Position(position as u64),
        timestamp: Timestamp(0),
        writer: WriterId::new(writer.to_owned()).unwrap(),
        write_first: SequenceNumber(number),
        deleted: false,
    }
}

/// `1A` is the event 1 of writer A, `2` one of nobody.
fn parse(events: &str) -> Vec<StoredEvent> {
    let digits = |text: &str| text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let parse = |(position, text): (usize, &str)| {
        let (number, writer) = text.split_at(digits(text));
        event(number.parse().unwrap(), writer, position)
    };
    events.split_whitespace().enumerate().map(parse).collect()
}

fn print(events: &[StoredEvent]) -> String {
    let texts: Vec<_> =
        events.iter().map(|event| format!("{}{}", event.event.sequence_number.0, event.writer.as_str())).collect();
    texts.join(" ")
}

fn settings(mode: ReplayFilterMode, window: usize, old_writers_max: usize) -> ReplayFilterSettings {
    let [window, old_writers_max] = [window, old_writers_max].map(|bound| NonZeroUsize::new(bound).unwrap());
    ReplayFilterSettings { mode, window, old_writers_max }
}

/// What a whole replay delivers, what it found, and whether it failed.
fn run(settings: ReplayFilterSettings, events: Vec<StoredEvent>) -> (Vec<StoredEvent>, Vec<AnomalyKind>, bool) {
    let mut filter = ReplayFilter::new(settings);
    let mut delivered = Vec::new();
    let mut found = Vec::new();
    for event in events {
        let step = filter.offer(event);
        delivered.extend(step.released);
        found.extend(step.anomalies.iter().map(|anomaly| anomaly.kind));
    }
    let failed = filter.has_failed();
    delivered.extend(filter.finish());
    (delivered, found, failed)
}

/// A vector: what a repair leaves, and the anomalies.
fn check_in(window: usize, old_writers_max: usize, input: &str, repaired: &str, anomalies: &[AnomalyKind]) {
    let all = parse(input);
    let run = |mode| run(settings(mode, window, old_writers_max), all.clone());

    let (delivered, found, failed) = run(RepairByDiscardOld);
    assert_eq!((print(&delivered).as_str(), found.as_slice(), failed), (repaired, anomalies, false), "repair {input}");
    let (delivered, found, failed) = run(Warn);
    assert_eq!((delivered, found.as_slice(), failed), (all.clone(), anomalies, false), "warn {input}");
    let (delivered, found, failed) = run(Fail);
    assert_eq!(found.first(), anomalies.first(), "fail {input}");
    assert_eq!(failed, !anomalies.is_empty(), "fail {input}");
    assert!(failed || delivered == all, "fail {input}");
    assert_eq!(run(Off), (all.clone(), vec![], false), "off {input}");
}

fn check(input: &str, repaired: &str, anomalies: &[AnomalyKind]) {
    check_in(100, 10, input, repaired, anomalies);
}

#[test]
fn one_writer_is_no_anomaly() {
    check_in(2, 10, "1A 2A 3A", "1A 2A 3A", &[]);
    check("1A 2A 3A", "1A 2A 3A", &[]);
    check("", "", &[]);
}

#[test]
fn events_of_nobody_come_before_those_of_a_writer() {
    check("1 2 3A", "1 2 3A", &[]);
}

#[test]
fn a_writer_that_goes_on_above_the_last_one_is_no_anomaly() {
    check("1A 2A 3B", "1A 2A 3B", &[]);
}

#[test]
fn the_newer_writer_of_a_number_is_right() {
    check("1A 2A 3A 3B", "1A 2A 3B", &[Overwritten]);
}

#[test]
fn an_old_writer_that_goes_on_is_wrong() {
    check("1A 2A 3B 3A 4A", "1A 2A 3B", &[OldWriter, OldWriter]);
}

#[test]
fn three_writers_over_each_other_leave_the_newest_of_each_number() {
    check("1A 2B 3C 2A 3A 3B 4C", "1A 2B 3C 4C", &[OldWriter, OldWriter, OldWriter]);
}

#[test]
fn a_newer_writer_discards_all_that_is_held_back_from_its_number_on() {
    check("1A 2A 3A 4A 2B 3B", "1A 2B 3B", &[Overwritten, Overwritten, Overwritten]);
}

#[test]
fn a_writer_out_of_sequence_with_itself_is_wrong() {
    check("1A 3A 2A 4A", "1A 3A 4A", &[OutOfSequence]);
}

#[test]
fn the_same_number_twice_is_one_event_that_was_adapted_into_two() {
    check("1A 1A 2A 2A", "1A 1A 2A 2A", &[]);
}

#[test]
fn gaps_are_no_anomaly() {
    check("1A 5A 9B", "1A 5A 9B", &[]);
}

#[test]
fn what_has_left_the_window_cannot_be_repaired() {
    check_in(2, 10, "1A 2A 3A 1B", "1A 2A 1B", &[Overwritten]);
    check_in(3, 10, "1A 2A 3A 1B", "1A 1B", &[Overwritten, Overwritten]);
    check_in(4, 10, "1A 2A 3A 1B", "1B", &[Overwritten, Overwritten, Overwritten]);
}

#[test]
fn a_writer_of_whom_too_many_came_after_is_forgotten_and_new_again() {
    check_in(100, 2, "1A 2B 3C 4A", "1A 2B 3C", &[OldWriter]);
    check_in(100, 1, "1A 2B 3C 4A", "1A 2B 3C 4A", &[]);
}

#[test]
fn nobody_after_a_writer_is_a_new_writer() {
    check("1 2A 3 4A", "1 2A 3", &[OldWriter]);
    check("1 2A 2", "1 2", &[Overwritten]);
}

#[test]
fn the_first_event_is_delivered_when_one_more_than_a_window_is_there() {
    let mut filter = ReplayFilter::new(settings(RepairByDiscardOld, 2, 10));
    let released: Vec<_> = parse("1A 2A 3A 4A").into_iter().map(|event| filter.offer(event).released).collect();
    let numbers: Vec<_> = released.into_iter().map(|event| event.map(|event| event.event.sequence_number.0)).collect();
    assert_eq!(numbers, [None, None, Some(1), Some(2)]);
}

#[test]
fn a_failed_replay_swallows_all_that_follows() {
    let (delivered, found, failed) = run(settings(Fail, 1, 10), parse("1A 2A 1A 3A 4B 1A"));
    assert_eq!((print(&delivered).as_str(), found.as_slice(), failed), ("1A 2A", &[OutOfSequence][..], true));
}

#[test]
fn an_anomaly_says_who_contradicts_whom() {
    let mut filter = ReplayFilter::new(ReplayFilterSettings::default());
    let anomalies: Vec<_> = parse("7A 7B").into_iter().flat_map(|event| filter.offer(event).anomalies).collect();
    let text = anomalies[0].to_string();
    for part in ["event 7", "\"A\"", "\"B\"", "a newer writer wrote"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn modes_are_named_as_in_configurations_whatever_the_case() {
    for mode in [RepairByDiscardOld, Fail, Warn, Off] {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(mode.to_string().to_uppercase().parse(), Ok(mode));
    }
    assert!("repair".parse::<ReplayFilterMode>().is_err());
    assert_eq!(ReplayFilterMode::default(), RepairByDiscardOld);
}

fn events(items: Vec<Result<StoredEvent, Error>>) -> Events {
    stream::iter(items).boxed()
}

fn filtered(mode: ReplayFilterMode, items: Vec<Result<StoredEvent, Error>>) -> (String, Option<Error>, u64) {
    let mut filtered = FilteredEvents::new(PersistenceId::new("id").unwrap(), events(items), settings(mode, 2, 10));
    let mut delivered = Vec::new();
    let mut ended = None;
    while let Some(next) = filtered.next().now_or_never().expect("everything is there") {
        match next {
            Ok(event) => delivered.push(event),
            Err(error) => assert!(ended.replace(error).is_none(), "a stream ends after its first error"),
        }
    }
    (print(&delivered), ended, filtered.anomalies())
}

#[test]
fn a_stream_delivers_what_is_held_back_before_its_end() {
    let items = || parse("1A 2A 3A 4A 4B").into_iter().map(Ok).collect::<Vec<_>>();
    assert_eq!(filtered(RepairByDiscardOld, items()), ("1A 2A 3A 4B".to_owned(), None, 1));
    assert_eq!(filtered(Off, items()), ("1A 2A 3A 4A 4B".to_owned(), None, 0));
    let gone = Error::Gone { message: "meanwhile".to_owned() };
    let broken = items().into_iter().chain([Err(gone.clone())]).collect();
    assert_eq!(filtered(Warn, broken), ("1A 2A 3A 4A 4B".to_owned(), Some(gone), 1));
}

#[test]
fn a_stream_in_mode_fail_ends_with_damage() {
    let items = parse("1A 2A 3A 4A 4B 5B").into_iter().map(Ok).collect();
    let (delivered, ended, anomalies) = filtered(Fail, items);
    assert_eq!((delivered.as_str(), anomalies), ("1A 2A 3A", 1));
    assert!(matches!(ended, Some(Error::Damaged { message }) if message.contains("replay of id: event 4")));
}

#[test]
fn a_filtered_stream_can_be_collected() {
    let filtered = FilteredEvents::new(
        PersistenceId::new("id").unwrap(),
        events(parse("1A 2A").into_iter().map(Ok).collect()),
        ReplayFilterSettings::default(),
    );
    let delivered: Vec<_> = filtered.try_collect().now_or_never().unwrap().unwrap();
    assert_eq!(print(&delivered), "1A 2A");
}

proptest! {
    /// With a window and a memory that hold everything.
    #[test]
    fn a_repair_leaves_a_journal_that_one_writer_after_another_could_have_written(
        input in vec((1_u64..8, 0_usize..4), 0..40),
    ) {
        let all: Vec<_> = input.iter().enumerate().map(|(at, (number, writer))| event(*number, ["A", "B", "C", "D"][*writer], at)).collect();
        let (delivered, found, _) = run(settings(RepairByDiscardOld, 1000, 1000), all.clone());

        let is_part = |part: &[StoredEvent], whole: &[StoredEvent]| {
            let mut whole = whole.iter();
            part.iter().all(|event| whole.any(|other| other == event))
        };
        prop_assert!(is_part(&delivered, &all), "the filter only leaves out");
        prop_assert_eq!(delivered.len() + found.len(), all.len(), "each anomaly is one event that was left out");
        for pair in delivered.windows(2) {
            let numbers = (pair[0].event.sequence_number, pair[1].event.sequence_number);
            let rises = if pair[0].writer == pair[1].writer { numbers.0 <= numbers.1 } else { numbers.0 < numbers.1 };
            prop_assert!(rises, "{}", print(&delivered));
        }
        let mut writers: Vec<_> = delivered.iter().map(|event| event.writer.clone()).collect();
        writers.dedup();
        let count = writers.len();
        writers.sort();
        writers.dedup();
        prop_assert_eq!(writers.len(), count, "no writer comes back");
        let (again, found, _) = run(settings(RepairByDiscardOld, 1000, 1000), delivered.clone());
        prop_assert_eq!((again, found), (delivered, vec![]), "what is repaired has no anomaly");
    }

    #[test]
    fn no_mode_but_repair_and_fail_leaves_anything_out(input in vec((1_u64..8, 0_usize..4), 0..40), window in 1_usize..5) {
        let all: Vec<_> = input.iter().enumerate().map(|(at, (number, writer))| event(*number, ["", "B", "C", "D"][*writer], at)).collect();
        prop_assert_eq!(&run(settings(Warn, window, 2), all.clone()).0, &all);
        let (delivered, _, failed) = run(settings(Fail, window, 2), all.clone());
        let as_expected = if failed { all.starts_with(&delivered) } else { delivered == all };
        prop_assert!(as_expected);
    }
}
