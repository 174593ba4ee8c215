//! The window against the real rules: requests and answers are lost, held back and come late, deadlines end, and what the window
//! says about each write is compared with what is stored in the end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cairn_api::v1::{Failure, Reason};
use cairn_machine::{
    AtomicWrite, Batch, Claim, Command, Event, MemoryStore, Payload, PersistenceId, Reply, Timestamp, Write, WriteOutcome,
    WriterEpoch, WriterId,
};
use proptest::prelude::*;

use super::*;
use crate::write::appended;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Submit,
    /// The oldest request in flight is carried out and answered.
    Answer,
    /// It is carried out; the answer is lost.
    LoseAnswer,
    /// It is held up somewhere, and may be carried out much later.
    LoseRequest,
    /// The node says that it does not lead.
    NotLeader,
    /// The node says that it does not know the outcome, having carried it out or not.
    Unknown(bool),
    /// The connection breaks: some were carried out, nothing is answered any more.
    Break(usize),
    /// A request that was held up arrives.
    Late(usize),
    /// Time passes.
    Pass(u64),
    /// The disk is full for one request.
    ReadOnly,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => Just(Happening::Submit),
        8 => Just(Happening::Answer),
        2 => Just(Happening::LoseAnswer),
        2 => Just(Happening::LoseRequest),
        2 => Just(Happening::NotLeader),
        1 => any::<bool>().prop_map(Happening::Unknown),
        1 => (0usize..6).prop_map(Happening::Break),
        2 => (0usize..6).prop_map(Happening::Late),
        2 => (0u64..6).prop_map(Happening::Pass),
        1 => Just(Happening::ReadOnly),
    ]
}

/// One request as it travels.
#[derive(Clone, Debug)]
struct Travelling {
    ticket: u64,
    first: SequenceNumber,
    name: u64,
    epoch: u64,
}

/// The window, the wire, and the server behind it.
struct World {
    window: Window,
    store: MemoryStore,
    wire: VecDeque<Travelling>,
    held_up: Vec<Travelling>,
    by_ticket: BTreeMap<u64, Travelling>,
    outcomes: BTreeMap<u64, oneshot::Receiver<Result<Receipt, Error>>>,
    expired: BTreeMap<u64, Error>,
    deadlines: BTreeMap<u64, Instant>,
    now: Instant,
    next_name: u64,
    epoch: u64,
}

const DEADLINE: Duration = Duration::from_secs(12);

/// Every third write holds three events.
fn events_in(name: u64) -> u64 {
    if name.is_multiple_of(3) { 3 } else { 1 }
}

fn persistence_id() -> PersistenceId {
    PersistenceId::new("p").unwrap()
}

fn writer(epoch: u64) -> WriterId {
    WriterId::new(format!("w-{epoch}")).unwrap()
}

fn claim(store: &mut MemoryStore, epoch: u64) -> SequenceNumber {
    let claim = Claim { persistence_id: persistence_id(), writer: writer(epoch), epoch_read: WriterEpoch(epoch - 1) };
    let replies = store.apply(&Batch { moment: Timestamp(1), commands: vec![Command::Claim(claim)] });
    match &replies[0] {
        Reply::Claim(Ok(reply)) => reply.highest,
        other => panic!("{other:?}"),
    }
}

impl World {
    fn new() -> Self {
        let mut store = MemoryStore::new();
        claim(&mut store, 1);
        Self {
            window: Window::new(SequenceNumber(1), Knowledge::Certain),
            store,
            wire: VecDeque::new(),
            held_up: Vec::new(),
            by_ticket: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            expired: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            now: Instant::now(),
            next_name: 0,
            epoch: 1,
        }
    }

    fn submit(&mut self) {
        let Ok(first) = self.window.next() else { return self.resume() };
        let name = self.next_name;
        self.next_name += 1;
        let (sender, outcome) = oneshot::channel();
        let deadline = self.now + DEADLINE;
        let last = SequenceNumber(first.0 + events_in(name) - 1);
        let ticket = self.window.push(Entry::new(first, Lasts::One(last), Bytes::new(), deadline, sender));
        self.by_ticket.insert(ticket, Travelling { ticket, first, name, epoch: self.epoch });
        self.outcomes.insert(name, outcome);
        self.deadlines.insert(ticket, deadline);
        if !self.window.is_held() {
            self.send(ticket);
        }
    }

    /// What a user does after an error that ended the writer.
    fn resume(&mut self) {
        let mut outcomes = Vec::new();
        self.window.abandon(&mut outcomes);
        self.hand_out(outcomes);
        // What is in flight goes on its way without anybody who listens.
        self.held_up.extend(self.wire.drain(..));
        self.deadlines.clear();
        self.epoch += 1;
        let highest = claim(&mut self.store, self.epoch);
        self.window = Window::new(SequenceNumber(highest.0 + 1), Knowledge::Certain);
        self.by_ticket.clear();
    }

    fn send(&mut self, ticket: u64) {
        self.window.sent(ticket);
        self.wire.push_back(self.by_ticket[&ticket].clone());
    }

    fn apply(&mut self, request: &Travelling) -> WriteOutcome {
        let events: Vec<Event> = (0..events_in(request.name))
            .map(|ordinal| Event {
                sequence_number: SequenceNumber(request.first.0 + ordinal),
                payload: Payload { bytes: request.name.to_string().into(), ..Payload::default() },
                ..Event::default()
            })
            .collect();
        let write = Write {
            persistence_id: persistence_id(),
            writer: writer(request.epoch),
            epoch: Some(WriterEpoch(request.epoch)),
            after: Some(SequenceNumber(request.first.0 - 1)),
            atomic_writes: vec![AtomicWrite::new(&events).unwrap()],
        };
        let replies = self.store.apply(&Batch { moment: Timestamp(2), commands: vec![Command::Write(write)] });
        match replies.into_iter().next() {
            Some(Reply::Write(reply)) => reply.outcomes.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, request: &Travelling, outcome: WriteOutcome) {
        let last = SequenceNumber(request.first.0 + events_in(request.name) - 1);
        match appended(outcome, request.first, last) {
            Ok(first) => {
                let outcomes = self.window.stored(request.ticket, Receipt { first, rest: Vec::new() });
                self.hand_out(outcomes);
            }
            Err(error) => self.window.failed(request.ticket, Problem::Refused(error)),
        }
    }

    fn fail(&mut self, request: &Travelling, failed: Failed) {
        self.window.failed(request.ticket, failed.into());
    }

    fn hand_out(&mut self, outcomes: Outcomes) {
        for (waiter, outcome) in outcomes {
            drop(waiter.send(outcome));
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Submit => self.submit(),
            Happening::Late(index) => {
                if !self.held_up.is_empty() {
                    let request = self.held_up.remove(index % self.held_up.len());
                    self.apply(&request);
                }
            }
            Happening::Pass(seconds) => self.pass(Duration::from_secs(seconds)),
            Happening::Break(carried_out) => {
                let requests: Vec<Travelling> = self.wire.drain(..).collect();
                for (index, request) in requests.into_iter().enumerate() {
                    if index < carried_out {
                        self.apply(&request);
                    }
                    self.fail(&request, Failed::Lost("broken".to_owned()));
                }
            }
            _ => {
                let Some(request) = self.wire.pop_front() else { return self.recover() };
                self.lands(&request, happening);
            }
        }
        self.recover();
    }

    fn lands(&mut self, request: &Travelling, happening: Happening) {
        let answered = |reason| Failed::Answered(Box::new(Failure::new(reason, "test")));
        match happening {
            Happening::Answer => {
                let outcome = self.apply(request);
                self.answer(request, outcome);
            }
            Happening::LoseAnswer => {
                self.apply(request);
                self.fail(request, Failed::Lost("lost".to_owned()));
            }
            Happening::LoseRequest => {
                self.held_up.push(request.clone());
                self.fail(request, Failed::Lost("lost".to_owned()));
            }
            Happening::NotLeader => self.fail(request, answered(Reason::NotLeader)),
            Happening::ReadOnly => self.fail(request, answered(Reason::ReadOnly)),
            Happening::Unknown(is_carried_out) => {
                if is_carried_out {
                    self.apply(request);
                } else {
                    self.held_up.push(request.clone());
                }
                self.fail(request, answered(Reason::Unknown));
            }
            _ => unreachable!("not about one request"),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let due: Vec<u64> = self.deadlines.iter().filter(|(_, at)| **at <= self.now).map(|(ticket, _)| *ticket).collect();
        for ticket in due {
            self.deadlines.remove(&ticket);
            let mut outcomes = Vec::new();
            if let Some(error) = self.window.expire(ticket, &mut outcomes) {
                self.expired.insert(self.by_ticket[&ticket].name, error);
            }
            self.hand_out(outcomes);
        }
    }

    fn recover(&mut self) {
        if !self.window.is_stalled() {
            return;
        }
        let mut outcomes = Vec::new();
        let step = self.window.step(self.now, &mut outcomes);
        self.hand_out(outcomes);
        if matches!(step, Step::Resend(_)) {
            for (ticket, _) in self.window.resend() {
                self.send(ticket);
            }
        }
    }

    /// Lets everything arrive, then compares what was said with what is stored.
    fn judge(mut self) -> Result<(), TestCaseError> {
        while !self.wire.is_empty() {
            self.happens(Happening::Answer);
        }
        while !self.held_up.is_empty() {
            self.happens(Happening::Late(0));
        }
        let stored = self.store.replay(&persistence_id(), SequenceNumber(1), SequenceNumber::MAX, usize::MAX).unwrap();
        let mut places: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for event in &stored {
            let name = std::str::from_utf8(&event.event.payload.bytes).unwrap().parse().unwrap();
            places.entry(name).or_default().push(event.event.sequence_number.0);
        }
        let in_order: Vec<u64> = places.values().flatten().copied().collect();
        prop_assert!(in_order.is_sorted(), "stored in the order of submission: {places:?}");
        for (name, mut outcome) in self.outcomes {
            let outcome = match self.expired.remove(&name) {
                Some(error) => Err(error),
                None => outcome.try_recv().map_err(|_| TestCaseError::fail(format!("write {name} has no outcome")))?,
            };
            let place = places.get(&name);
            match outcome {
                Ok(receipt) => {
                    let numbers: Vec<u64> = (receipt.first.first.0..=receipt.first.last.0).collect();
                    prop_assert_eq!(place, Some(&numbers), "write {} is stored once, whole, where it was said", name);
                }
                Err(error) if error.is_definite() => {
                    prop_assert_eq!(place, None, "write {} was said not to be stored: {:?}", name, error);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_window_says_is_what_is_stored(happenings in proptest::collection::vec(happening(), 0..80)) {
        let mut world = World::new();
        for happening in happenings {
            world.happens(happening);
        }
        world.judge()?;
    }
}

#[test]
fn nothing_but_the_first_refusal_counts() {
    let mut world = World::new();
    for _ in 0..5 {
        world.happens(Happening::Submit);
    }
    // The first is lost, those behind it are refused, as it is missing.
    world.happens(Happening::LoseRequest);
    for _ in 0..4 {
        world.happens(Happening::Answer);
    }
    assert_eq!(world.wire.len(), 5, "all five go out again");
    for _ in 0..5 {
        world.happens(Happening::Answer);
    }
    for outcome in world.outcomes.values_mut() {
        assert!(outcome.try_recv().unwrap().is_ok());
    }
}

#[test]
fn a_refusal_of_an_earlier_round_counts_no_more() {
    use Happening::{Answer, NotLeader, Submit};
    let mut world = World::new();
    world.happens(Submit);
    world.happens(Submit);
    world.happens(NotLeader);
    let refused = world.wire.pop_front().unwrap();
    let outcome = world.apply(&refused);
    world.answer(&refused, outcome);
    // The connection ends when the first one has gone out again: the second one, refused before, stays behind.
    let mut outcomes = Vec::new();
    assert!(matches!(world.window.step(world.now, &mut outcomes), Step::Resend(_)));
    let first = world.window.resend()[0].0;
    world.send(first);
    world.window.hold();
    world.happens(Answer);
    assert_eq!(world.wire.len(), 1, "the second one goes out again");
    world.happens(Answer);
    for outcome in world.outcomes.values_mut() {
        assert!(outcome.try_recv().unwrap().is_ok());
    }
}

#[test]
fn new_writes_wait_behind_those_that_go_out_again() {
    let mut world = World::new();
    world.happens(Happening::Submit);
    world.happens(Happening::Submit);
    world.happens(Happening::NotLeader);
    assert!(world.window.is_held());
    world.happens(Happening::Submit);
    assert_eq!(world.wire.len(), 1, "the third waits for the answer to the second");
    world.happens(Happening::NotLeader);
    let order: Vec<u64> = world.wire.iter().map(|request| request.name).collect();
    assert_eq!(order, [0, 1, 2]);
}

/// Once found by the property above: a full disk refuses one write while the next one is held up on its way; had the writer gone on
/// under the same epoch, the one held up could have been stored behind a later one.
#[test]
fn a_write_that_is_held_up_is_never_stored_behind_a_later_one() {
    use Happening::{Answer, LoseRequest, ReadOnly, Submit};
    let mut world = World::new();
    for happening in [Submit, Submit, Submit, Answer, Submit, ReadOnly, LoseRequest, Answer, Submit, Submit, Answer, Answer] {
        world.happens(happening);
    }
    assert!(world.epoch > 1, "the writer had to claim anew");
    world.judge().unwrap();
}
