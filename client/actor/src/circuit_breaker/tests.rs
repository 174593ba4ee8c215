//! The state machine of contract section 3.2 with time and chance by hand; the guarded store over a cluster in memory that goes away.

use std::time::Duration;

use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{
    Cairn, Criteria, Deletion, Error, Event, NewSnapshot, PersistenceId, SequenceNumber, Write, WriteOutcome, WriterId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::guard::Effect;
use super::{CallOutcome, CircuitBreaker, CircuitBreakerSettings, CircuitOpen, CircuitState, Guard, GuardedStore, Permit};
use crate::store::{JournalStore, RecoverRequest, SnapshotStore};
use crate::testing::faulty::{self, Call, FaultyStore};

use CallOutcome::{Abandoned, NotReached, Reached};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings() -> CircuitBreakerSettings {
    CircuitBreakerSettings {
        failures_max: 3,
        call_timeout: seconds(1),
        reset_timeout: seconds(10),
        backoff_factor: 2.0,
        random_factor: 0.0,
        reset_timeout_max: seconds(50),
    }
}

/// A breaker with a clock, and chances that are all the same.
struct Hand {
    breaker: CircuitBreaker,
    now: Instant,
    chance: f64,
}

impl Hand {
    fn new(settings: CircuitBreakerSettings) -> Self {
        Self { breaker: CircuitBreaker::new(settings), now: Instant::now(), chance: 0.0 }
    }

    fn begin(&mut self) -> Permit {
        self.breaker.begin(self.now).expect("it is not open")
    }

    fn settle(&mut self, permit: Permit, outcome: CallOutcome) {
        let chance = self.chance;
        self.breaker.settle(permit, outcome, self.now, || chance);
    }

    fn call(&mut self, outcome: CallOutcome) {
        let permit = self.begin();
        self.settle(permit, outcome);
    }

    fn refused(&mut self) -> Duration {
        let CircuitOpen { remaining } = self.breaker.begin(self.now).expect_err("it is open");
        remaining
    }

    fn opened(settings: CircuitBreakerSettings) -> Self {
        let mut hand = Self::new(settings);
        (0..settings.failures_max).for_each(|_| hand.call(NotReached));
        hand
    }

    fn state(&self) -> CircuitState {
        self.breaker.state(self.now)
    }
}

#[test]
fn it_opens_at_exactly_so_many_failures_in_a_row() {
    let mut hand = Hand::new(settings());
    for _ in 0..5 {
        hand.call(NotReached);
        hand.call(NotReached);
        assert_eq!((hand.state(), hand.breaker.failures()), (CircuitState::Closed, 2));
        hand.call(Reached);
        assert_eq!(hand.breaker.failures(), 0);
    }
    (0..3).for_each(|_| hand.call(NotReached));
    assert_eq!((hand.state(), hand.breaker.failures()), (CircuitState::Open, 0));
}

#[test]
fn while_open_calls_are_refused_with_the_time_that_remains() {
    let mut hand = Hand::opened(settings());
    assert_eq!(hand.refused(), seconds(10));
    hand.now += seconds(9);
    assert_eq!(hand.refused(), seconds(1));
    assert_eq!(hand.state(), CircuitState::Open);
    hand.now += seconds(1);
    assert_eq!(hand.state(), CircuitState::HalfOpen);
}

#[test]
fn half_open_lets_exactly_one_call_through() {
    let mut hand = Hand::opened(settings());
    hand.now += seconds(10);
    let probe = hand.begin();
    assert_eq!(hand.refused(), Duration::ZERO);
    assert_eq!(hand.refused(), Duration::ZERO);
    hand.settle(probe, Reached);
    assert_eq!(hand.state(), CircuitState::Closed);
    hand.call(NotReached);
    assert_eq!(hand.breaker.failures(), 1, "counted from 0");
}

#[test]
fn a_probe_that_fails_opens_it_again_and_for_longer() {
    let mut hand = Hand::opened(settings());
    for open_for in [10, 20, 40, 40, 40] {
        assert_eq!(hand.refused(), seconds(open_for), "it stops growing below the maximum of 50, and is not clamped to it");
        hand.now += seconds(open_for);
        hand.call(NotReached);
    }
}

#[test]
fn after_a_success_it_opens_for_the_first_time_again() {
    let mut hand = Hand::opened(settings());
    hand.now += seconds(10);
    hand.call(NotReached);
    hand.now += seconds(20);
    hand.call(Reached);
    (0..3).for_each(|_| hand.call(NotReached));
    assert_eq!(hand.refused(), seconds(10));
}

#[test]
fn chance_lengthens_the_next_time_by_a_part_of_it() {
    let mut hand = Hand::new(CircuitBreakerSettings { random_factor: 0.5, ..settings() });
    hand.chance = 0.5;
    (0..3).for_each(|_| hand.call(NotReached));
    assert_eq!(hand.refused(), seconds(10), "the first time is what was asked for");
    hand.now += seconds(10);
    hand.call(NotReached);
    assert_eq!(hand.refused(), seconds(25), "10 * 2 * (1 + 0.5 * 0.5)");
    hand.now += seconds(25);
    hand.call(NotReached);
    assert_eq!(hand.refused(), seconds(25), "62.5 is not below 50");
}

#[test]
fn without_backoff_it_is_open_for_the_same_time_each_time() {
    let mut hand = Hand::opened(CircuitBreakerSettings::journal().without_backoff());
    hand.chance = 0.9;
    for _ in 0..4 {
        assert_eq!(hand.refused(), seconds(30));
        hand.now += seconds(30);
        hand.call(NotReached);
    }
}

#[test]
fn a_time_that_would_overflow_stays_what_it_is() {
    let settings = CircuitBreakerSettings { backoff_factor: f64::MAX, reset_timeout_max: Duration::MAX, ..settings() };
    let mut hand = Hand::opened(settings);
    hand.now += seconds(10);
    hand.call(NotReached);
    assert_eq!(hand.refused(), seconds(10));
}

#[test]
fn what_became_of_a_call_of_an_earlier_period_does_not_count() {
    let mut hand = Hand::new(settings());
    let mut early = || (hand.begin(), hand.begin());
    let (failed_late, succeeded_late) = early();
    let (failed_later, succeeded_later) = early();
    let last = hand.begin();
    (0..3).for_each(|_| hand.call(NotReached));
    hand.settle(failed_late, NotReached);
    hand.settle(succeeded_late, Reached);
    assert_eq!((hand.state(), hand.refused()), (CircuitState::Open, seconds(10)));
    hand.now += seconds(10);
    let probe = hand.begin();
    hand.settle(failed_later, NotReached);
    hand.settle(succeeded_later, Reached);
    assert_eq!((hand.state(), hand.refused()), (CircuitState::HalfOpen, Duration::ZERO));
    hand.settle(probe, Reached);
    hand.settle(last, NotReached);
    assert_eq!((hand.state(), hand.breaker.failures()), (CircuitState::Closed, 0));
}

#[test]
fn a_probe_that_nobody_waits_for_makes_room_for_another() {
    let mut hand = Hand::opened(settings());
    hand.now += seconds(10);
    hand.call(Abandoned);
    assert_eq!(hand.state(), CircuitState::HalfOpen);
    hand.call(Reached);
    assert_eq!(hand.state(), CircuitState::Closed);
    hand.call(NotReached);
    hand.call(Abandoned);
    assert_eq!(hand.breaker.failures(), 1, "it says nothing either way");
}

#[test]
fn the_settings_are_those_of_the_contract() {
    let [journal, snapshots] = [CircuitBreakerSettings::journal(), CircuitBreakerSettings::snapshots()];
    assert_eq!((journal.failures_max, journal.call_timeout, journal.reset_timeout), (10, seconds(10), seconds(30)));
    assert_eq!((snapshots.failures_max, snapshots.call_timeout, snapshots.reset_timeout), (5, seconds(20), seconds(60)));
}

proptest! {
    /// Many calls at once that end in any order and way.
    #[test]
    fn it_is_open_only_after_failures_and_lets_one_probe_through(steps in vec((0_u8..5, any::<prop::sample::Index>()), 0..300)) {
        let mut hand = Hand::new(settings());
        let mut begun = Vec::new();
        let mut probes = 0;
        let mut not_reached = 0_u32;
        for (step, which) in steps {
            match step {
                0 | 1 => {
                    let before = hand.state();
                    if let Ok(permit) = hand.breaker.begin(hand.now) {
                        prop_assert_ne!(before, CircuitState::Open);
                        let is_probe = before == CircuitState::HalfOpen;
                        probes += usize::from(is_probe);
                        begun.push((permit, is_probe));
                    }
                }
                2 | 3 if !begun.is_empty() => {
                    let (permit, is_probe) = begun.swap_remove(which.index(begun.len()));
                    probes -= usize::from(is_probe);
                    let outcome = [Reached, NotReached, Abandoned][which.index(3)];
                    not_reached += u32::from(outcome == NotReached);
                    let before = hand.state();
                    hand.settle(permit, outcome);
                    if before != CircuitState::Open && hand.state() == CircuitState::Open {
                        prop_assert_eq!(outcome, NotReached);
                        prop_assert!(is_probe || not_reached >= 3);
                    }
                }
                _ => hand.now += seconds(which.index(12) as u64),
            }
            prop_assert!(probes <= 1, "one probe at a time");
        }
    }
}

fn persistence_id() -> PersistenceId {
    PersistenceId::new("account-1").unwrap()
}

fn write(number: u64) -> Write {
    Write {
        persistence_id: persistence_id(),
        writer: WriterId::new("writer").unwrap(),
        epoch: None,
        after: None,
        atomic_writes: vec![vec![Event { sequence_number: SequenceNumber(number), ..Event::default() }]],
    }
}

fn guarded(memory: &MemoryCairn) -> GuardedStore<Cairn> {
    // Shorter than the breaker allows a call to take.
    let client = memory.builder().deadline(Duration::from_millis(500)).build().unwrap();
    GuardedStore::with_settings(client, settings(), settings(), 1)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_again_when_the_time_is_over() {
    let memory = MemoryCairn::new();
    let store = guarded(&memory);
    let mut states = store.journals()[0].watch();
    assert_eq!(store.write(&write(1)).await.unwrap().outcomes.len(), 1);

    memory.stop(0);
    for failures in 1..=3 {
        assert!(matches!(store.highest(&persistence_id()).await, Err(Error::Unavailable { .. })));
        assert_eq!(store.journals()[0].failures(), failures % 3);
    }
    assert_eq!(store.journals()[0].state(), CircuitState::Open);
    assert_eq!(*states.borrow_and_update(), CircuitState::Open);

    memory.start(0);
    let refused = store.write(&write(2)).await.unwrap_err();
    assert_eq!(refused, Error::Unavailable { message: "journals: the circuit breaker is open for another 10s".to_owned() });
    assert!(refused.is_definite(), "a call that was not begun took no effect");
    assert_eq!(store.store().highest(&persistence_id()).await, Ok(SequenceNumber(1)), "past the breaker");

    tokio::time::advance(seconds(10)).await;
    assert_eq!(store.journals()[0].state(), CircuitState::HalfOpen);
    assert!(store.write(&write(2)).await.is_ok());
    assert_eq!(*states.borrow_and_update(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn journals_and_snapshots_have_a_breaker_each() {
    let memory = MemoryCairn::new();
    let store = guarded(&memory);
    memory.stop(0);
    for _ in 0..3 {
        assert!(store.load(&persistence_id(), Criteria::LATEST).await.is_err());
    }
    let states = |store: &GuardedStore<Cairn>| (store.journals()[0].state(), store.snapshots()[0].state());
    assert_eq!(states(&store), (CircuitState::Closed, CircuitState::Open));
    for _ in 0..3 {
        assert!(store.delete_to(&persistence_id(), SequenceNumber::MAX, Deletion::Logical, None).await.is_err());
    }
    assert_eq!(states(&store), (CircuitState::Open, CircuitState::Open));

    memory.start(0);
    assert!(store.save(&persistence_id(), NewSnapshot::default(), None).await.is_err());
    assert!(store.delete(&persistence_id(), SequenceNumber(1), None, None).await.is_err());
    assert!(store.delete_matching(&persistence_id(), Criteria::LATEST, None).await.is_err());
    let request =
        RecoverRequest { persistence_id: persistence_id(), writer: None, criteria: None, to: SequenceNumber::MAX, max: u64::MAX };
    assert!(store.recover(request.clone()).await.is_err());
    tokio::time::advance(seconds(10)).await;
    assert!(store.recover(request).await.is_ok());
    assert!(store.load(&persistence_id(), Criteria::LATEST).await.unwrap().is_none());
    assert_eq!(states(&store), (CircuitState::Closed, CircuitState::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_no_failure_whatever_it_says() {
    let memory = MemoryCairn::new();
    let store = guarded(&memory);
    assert_eq!(store.write(&write(1)).await.unwrap().outcomes.len(), 1);
    for _ in 0..5 {
        let conflict = Write { after: Some(SequenceNumber(7)), ..write(8) };
        let answer = store.write(&conflict).await;
        let is_stored = matches!(&answer, Ok(reply) if matches!(reply.outcomes[..], [WriteOutcome::Stored { .. }]));
        assert!(!is_stored, "{answer:?}");
        let invalid = Write { atomic_writes: vec![vec![Event::default()]], ..write(1) };
        assert!(matches!(store.write(&invalid).await, Err(Error::Invalid { .. })));
    }
    assert_eq!((store.journals()[0].state(), store.journals()[0].failures()), (CircuitState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_counts_and_stays_unknown() {
    let memory = MemoryCairn::new();
    let store = guarded(&memory);
    memory.inject(|_| Fault::Silence);
    for failures in 1..=3 {
        assert!(matches!(store.write(&write(1)).await, Err(Error::Unknown { .. })));
        assert_eq!(store.journals()[0].failures(), failures % 3);
    }
    assert_eq!(store.journals()[0].state(), CircuitState::Open);
}

/// A call that never ends, through a breaker that allows it a second.
async fn timed_out(effect: Effect) -> (Error, Duration, u32) {
    let guard = Guard::new("test", settings(), 0);
    let start = Instant::now();
    let error = guard.call(effect, std::future::pending::<Result<(), Error>>()).await.unwrap_err();
    (error, start.elapsed(), guard.failures())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_unknown_unless_it_only_reads() {
    let message = "no answer within 1s".to_owned();
    assert_eq!(timed_out(Effect::Perhaps).await, (Error::Unknown { message: message.clone() }, seconds(1), 1));
    assert_eq!(timed_out(Effect::None).await, (Error::Unavailable { message }, seconds(1), 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_time_limit_a_call_takes_as_long_as_it_likes() {
    let guard = Guard::new("test", CircuitBreakerSettings { call_timeout: Duration::ZERO, ..settings() }, 0);
    let slow = async {
        tokio::time::sleep(seconds(3600)).await;
        Ok(7)
    };
    assert_eq!(guard.call(Effect::Perhaps, slow).await, Ok(7));
}

/// How a recovery with or without a snapshot ends that takes so many seconds, through breakers that allow a journal 10 s and a snapshot 20 s;
/// and how many failures that was.
async fn slow_recovery(criteria: Option<Criteria>, snapshots: CircuitBreakerSettings, slowness: u64) -> (bool, u32) {
    let faulty = FaultyStore::new(MemoryCairn::new().client());
    faulty.next(Call::Recover, faulty::Fault::DelayAnswer(seconds(slowness)));
    let store = GuardedStore::with_settings(faulty, CircuitBreakerSettings::journal(), snapshots, 1);
    let writer = Some(WriterId::new("writer").unwrap());
    let request =
        RecoverRequest { persistence_id: persistence_id(), writer, criteria, to: SequenceNumber::MAX, max: u64::MAX >> 1 };
    let recovered = store.recover(request).await;
    if let Err(error) = &recovered {
        assert!(matches!(error, Error::Unknown { .. }), "a claim may have been made: {error}");
    }
    (recovered.is_ok(), store.journals()[0].failures())
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_comes_slowly_with_a_recovery_is_no_outage_of_the_journal() {
    let (usual, any) = (CircuitBreakerSettings::snapshots(), Some(Criteria::LATEST));
    assert_eq!(slow_recovery(any, usual, 29).await, (true, 0));
    assert_eq!(slow_recovery(any, usual, 31).await, (false, 1));
    assert_eq!(slow_recovery(None, usual, 9).await, (true, 0));
    assert_eq!(slow_recovery(None, usual, 11).await, (false, 1));
    let unlimited = CircuitBreakerSettings { call_timeout: Duration::ZERO, ..usual };
    assert_eq!(slow_recovery(any, unlimited, 3600).await, (true, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_makes_room_for_another() {
    let guard = Guard::new("test", settings(), 0);
    let fail = || std::future::ready(Err::<(), _>(Error::Unavailable { message: String::new() }));
    for _ in 0..3 {
        assert!(guard.call(Effect::None, fail()).await.is_err());
    }
    tokio::time::advance(seconds(10)).await;
    let probe = guard.call(Effect::None, std::future::pending::<Result<(), Error>>());
    assert!(tokio::time::timeout(Duration::from_millis(1), probe).await.is_err());
    assert_eq!(guard.call(Effect::None, std::future::ready(Ok(7))).await, Ok(7));
    assert_eq!(guard.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_times_by_chance_are_those_of_the_seed() {
    let open_for = async |seed| {
        let settings = CircuitBreakerSettings { failures_max: 1, random_factor: 0.5, ..settings() };
        let guard = Guard::new("test", settings, seed);
        let fail = || std::future::ready(Err::<(), _>(Error::Unavailable { message: "away".to_owned() }));
        assert!(guard.call(Effect::None, fail()).await.is_err());
        tokio::time::advance(seconds(10)).await;
        assert!(guard.call(Effect::None, fail()).await.is_err());
        guard.call(Effect::None, fail()).await.unwrap_err()
    };
    assert_eq!(open_for(1).await, open_for(1).await);
    assert_ne!(open_for(1).await, open_for(2).await);
}
