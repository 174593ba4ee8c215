//! Imports into the real rules in memory, with answers lost and writes of others in between.

use std::cell::{Cell, RefCell};

use cairn_machine::{AtomicWrite, Batch, Command, Event, MemoryStore, Payload, Reply, Timestamp, Write, WriterId};

use super::*;

const SAMPLE: &str = include_str!("../../data/sample.jsonl");

struct Rules {
    store: RefCell<MemoryStore>,
    in_flight: RefCell<Vec<PersistenceId>>,
    in_flight_most: Cell<usize>,
    /// Answers that are still given before one is lost.
    answers_left: Cell<usize>,
}

#[derive(Debug, thiserror::Error)]
#[error("the answer was lost")]
struct Lost;

impl Rules {
    fn new(answers_left: usize) -> Self {
        Self {
            store: RefCell::new(MemoryStore::new()),
            in_flight: RefCell::default(),
            in_flight_most: Cell::new(0),
            answers_left: Cell::new(answers_left),
        }
    }

    fn apply(&self, write: Write) -> WriteReply {
        let batch = Batch { moment: Timestamp(1), commands: vec![Command::Write(write)] };
        match self.store.borrow_mut().apply(&batch).pop() {
            Some(Reply::Write(reply)) => reply,
            other => panic!("a write is answered by a write's reply, not {other:?}"),
        }
    }

    /// Every journal's events as the lines they came from, by persistence id.
    fn exported(&self) -> String {
        let store = self.store.borrow();
        let mut out = Vec::new();
        for journal in store.journals("", None, usize::MAX) {
            let id = &journal.persistence_id;
            for stored in store.replay(id, SequenceNumber(1), SequenceNumber::MAX, usize::MAX).expect("stored by the rules") {
                crate::lines::Line::of(id, stored).render(&mut out);
            }
        }
        String::from_utf8(out).expect("lines are text")
    }
}

impl Target for Rules {
    type Error = Lost;

    async fn write(&self, after: Option<SequenceNumber>, groups: &[Group]) -> Result<WriteReply, Lost> {
        let id = groups[0].persistence_id.clone();
        let write = Write {
            persistence_id: id.clone(),
            writer: WriterId::new(IMPORT_WRITER).expect("short ASCII"),
            epoch: None,
            after,
            atomic_writes: groups.iter().map(|group| group.atomic_write.clone()).collect(),
        };
        assert!(!self.in_flight.borrow().contains(&id), "{id} has two requests in flight");
        self.in_flight.borrow_mut().push(id.clone());
        self.in_flight_most.set(self.in_flight_most.get().max(self.in_flight.borrow().len()));
        tokio::task::yield_now().await;
        let reply = self.apply(write);
        tokio::task::yield_now().await;
        self.in_flight.borrow_mut().retain(|other| *other != id);
        match self.answers_left.get().checked_sub(1) {
            Some(left) => {
                self.answers_left.set(left);
                Ok(reply)
            }
            None => Err(Lost),
        }
    }
}

struct Unwatched;

impl Observer for Unwatched {
    async fn ready(&self) {}
    fn sent(&self, _: &[Group]) {}
    fn acknowledged(&self, _: Vec<Group>, _: &WriteReply) {}
    fn failed(&self, _: &[Group]) {}
}

const PACE: Pace = Pace { requests_in_flight_max: 40, groups_per_request_max: 16, groups_ahead_max: 1_000 };

async fn run(rules: &Rules, text: &str) -> Result<Imported, ImportError<Lost>> {
    import(Groups::new(text.as_bytes()), rules, &Unwatched, PACE).await
}

/// The lines of a text in the order in which an export gives them.
fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| {
            let read = crate::lines::Line::parse(line).expect("a good line");
            (read.persistence_id, read.event.sequence_number, line)
        })
        .collect();
    lines.sort();
    lines.into_iter().flat_map(|(_, _, line)| [line, "\n"]).collect()
}

#[tokio::test]
async fn an_import_gives_the_same_lines_again_with_many_journals_in_flight() {
    let rules = Rules::new(usize::MAX);
    let imported = run(&rules, SAMPLE).await.expect("good lines into empty journals");
    assert_eq!(imported.events, SAMPLE.lines().count() as u64);
    assert!(rules.exported() == sorted(SAMPLE), "the export differs");
    assert_eq!(rules.in_flight_most.get(), PACE.requests_in_flight_max);
}

#[tokio::test]
async fn an_import_that_was_stopped_is_run_again_and_stores_each_event_once() {
    let rules = Rules::new(usize::MAX);
    for answers in [0, 1, 7, 100] {
        rules.answers_left.set(answers);
        run(&rules, SAMPLE).await.expect_err("an answer is lost");
    }
    rules.answers_left.set(usize::MAX);
    let imported = run(&rules, SAMPLE).await.expect("the same writes again");
    assert_eq!(imported.events, SAMPLE.lines().count() as u64);
    assert!(rules.exported() == sorted(SAMPLE), "the export differs");
}

#[tokio::test]
async fn an_event_of_somebody_else_in_the_way_is_named_and_not_overwritten() {
    let rules = Rules::new(usize::MAX);
    let text = sorted(SAMPLE);
    let first = crate::lines::Line::parse(text.lines().next().expect("there are lines")).expect("a good line");
    let foreign = Event {
        sequence_number: SequenceNumber(2),
        payload: Payload { serializer_id: 1, manifest: String::new(), bytes: b"foreign".as_slice().into() },
        ..Event::default()
    };
    rules.apply(Write {
        persistence_id: first.persistence_id.clone(),
        writer: WriterId::new("somebody").expect("short ASCII"),
        epoch: None,
        after: None,
        atomic_writes: vec![AtomicWrite::new(&[foreign]).expect("one small event")],
    });
    let error = run(&rules, &text).await.expect_err("number 1 is below the highest");
    assert!(matches!(&error, ImportError::Refused { line: 1, .. }), "{error}");
    let stored = rules.store.borrow().replay(&first.persistence_id, SequenceNumber(1), SequenceNumber::MAX, 9).expect("stored");
    assert_eq!(stored.len(), 1, "only the foreign event is there");
}

#[tokio::test]
async fn a_wrong_line_stops_the_import_after_what_came_before() {
    let rules = Rules::new(usize::MAX);
    let first = SAMPLE.lines().next().expect("there are lines");
    let error = run(&rules, &format!("{first}\n{first}x\n")).await.expect_err("line 2 is wrong");
    assert!(matches!(&error, ImportError::Input(InputError::Line { line: 2, .. })), "{error}");
}
