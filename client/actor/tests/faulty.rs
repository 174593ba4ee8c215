//! The store that goes wrong on request.

use std::time::Duration;

use cairn_actor::store::{JournalStore, RecoverRequest, SnapshotStore, Store};
use cairn_actor::tck::{self, Subject};
use cairn_actor::testing::faulty::{Call, Fault, FaultyStore};
use cairn_client::memory::MemoryCairn;
use cairn_client::{
    Cairn, Criteria, Error, Event, NewSnapshot, Payload, PersistenceId, SequenceNumber, Write, WriteOutcome, WriterId,
};
use cairn_machine::Refusal;
use futures::StreamExt;
use tokio::time::Instant;

fn store() -> FaultyStore<Cairn> {
    FaultyStore::new(MemoryCairn::new().client())
}

fn account() -> PersistenceId {
    PersistenceId::new("account-1").expect("a name")
}

fn write(number: u64) -> Write {
    let payload = Payload { bytes: "deposited".into(), ..Payload::default() };
    let event = Event { sequence_number: SequenceNumber(number), payload, ..Event::default() };
    let writer = WriterId::new("writer").expect("a name");
    Write { persistence_id: account(), writer, epoch: None, after: None, atomic_writes: vec![vec![event]] }
}

fn unavailable() -> Error {
    Error::Unavailable { message: "on purpose".to_owned() }
}

async fn highest(store: &impl JournalStore) -> u64 {
    store.highest(&account()).await.expect("is read").0
}

#[tokio::test]
async fn a_write_that_fails_is_not_stored() {
    let store = store();
    store.next(Call::Write, Fault::Fail(unavailable()));
    assert_eq!(store.write(&write(1)).await, Err(unavailable()));
    assert_eq!(highest(&store).await, 0);
    assert_eq!(store.calls(Call::Write), 1);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_stored_and_stored_once_when_it_is_tried_again() {
    let store = store();
    store.next(Call::Write, Fault::LoseAnswer);
    assert!(matches!(store.write(&write(1)).await, Err(Error::Unknown { .. })));
    assert_eq!(highest(&store).await, 1);
    assert_eq!(store.write(&write(1)).await.expect("is stored").highest, SequenceNumber(1));
}

#[tokio::test]
async fn faults_that_were_asked_for_come_in_order_before_the_rule_and_end_when_it_is_healed() {
    let store = store();
    store.inject(|call, _| if call == Call::Write { Fault::Fail(unavailable()) } else { Fault::None });
    store.next(Call::Write, Fault::None);
    store.next(Call::Write, Fault::LoseAnswer);
    assert!(store.write(&write(1)).await.is_ok());
    assert!(matches!(store.write(&write(2)).await, Err(Error::Unknown { .. })));
    assert_eq!(store.write(&write(3)).await, Err(unavailable()));
    assert_eq!(highest(&store).await, 2);
    store.heal();
    assert!(store.write(&write(3)).await.is_ok());
}

#[tokio::test]
async fn a_refused_write_answers_each_atomic_write_and_stores_none() {
    let store = store();
    let refusal = Refusal::Forgotten;
    store.next(Call::Write, Fault::Refuse(refusal.clone()));
    let reply = store.write(&write(1)).await.expect("is answered");
    assert_eq!((reply.highest.0, reply.outcomes), (0, vec![WriteOutcome::Refused(refusal)]));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_late_by_as_much_as_was_asked_for_and_silence_never_ends() {
    let store = store();
    for fault in [Fault::Delay(Duration::from_secs(7)), Fault::DelayAnswer(Duration::from_secs(7))] {
        store.next(Call::Highest, fault);
        let begun = Instant::now();
        highest(&store).await;
        assert!(begun.elapsed() >= Duration::from_secs(7), "{:?}", begun.elapsed());
    }
    store.next(Call::Highest, Fault::Silence);
    assert!(tokio::time::timeout(Duration::from_secs(3600), store.highest(&account())).await.is_err());
}

#[tokio::test]
async fn events_break_off_where_it_was_asked_for() {
    let store = store();
    for number in 1..=5 {
        store.write(&write(number)).await.expect("is stored");
    }
    store.next(Call::Replay, Fault::BreakEvents(2, unavailable()));
    store.next(Call::Follow, Fault::BreakEvents(2, unavailable()));
    store.next(Call::Recover, Fault::BreakEvents(2, unavailable()));
    let request = RecoverRequest {
        persistence_id: account(),
        writer: None,
        criteria: Some(Criteria::LATEST),
        to: SequenceNumber::MAX,
        max: u64::MAX,
    };
    let recovered = store.recover(request).await.expect("begins");
    for events in [store.replay(&account(), 1..=5, 5), store.follow(&account(), SequenceNumber(1)), recovered.events] {
        let events: Vec<_> = events.collect().await;
        let numbers: Vec<_> = events.into_iter().map(|stored| stored.map(|stored| stored.event.sequence_number.0)).collect();
        assert_eq!(numbers, [Ok(1), Ok(2), Err(unavailable())]);
    }
    store.next(Call::Replay, Fault::Fail(unavailable()));
    let events: Vec<_> = store.replay(&account(), 1..=5, 5).collect().await;
    assert_eq!(events.into_iter().map(|stored| stored.map(drop)).collect::<Vec<_>>(), [Err(unavailable())]);
}

#[tokio::test]
async fn snapshots_go_wrong_too() {
    let store = store();
    let snapshot = NewSnapshot { sequence_number: SequenceNumber(1), ..NewSnapshot::default() };
    store.next(Call::Save, Fault::LoseAnswer);
    assert!(matches!(store.save(&account(), snapshot, None).await, Err(Error::Unknown { .. })));
    store.next(Call::Load, Fault::Fail(unavailable()));
    assert_eq!(store.load(&account(), Criteria::LATEST).await, Err(unavailable()));
    assert!(store.load(&account(), Criteria::LATEST).await.expect("is loaded").is_some());
}

/// A store whose every fifth answer is lost, and every seventh call is not served.
struct Unreliable(FaultyStore<Cairn>);

impl Subject for Unreliable {
    fn store(&self) -> &dyn Store {
        &self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_loses_answers_and_fails_keeps_the_contract() {
    let store = store();
    let mut calls = 0;
    store.inject(move |call, _| {
        calls += 1;
        match calls {
            _ if matches!(call, Call::Replay | Call::Follow) => Fault::None,
            calls if calls % 5 == 0 => Fault::LoseAnswer,
            calls if calls % 7 == 0 => Fault::Fail(unavailable()),
            _ => Fault::None,
        }
    });
    let report = tck::run(&Unreliable(store), &tck::cases()).await;
    assert!(report.is_passed(), "{report}");
}
