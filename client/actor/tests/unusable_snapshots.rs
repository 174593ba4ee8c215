//! What an actor does about a snapshot that cannot be used: one that becomes no state, one that is damaged, one whose store is away.

mod common;

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;
use std::time::Duration;

use cairn_actor::actor_ref::{ActorRef, StopReason};
use cairn_actor::kind::{ActorKind, Supervision};
use cairn_actor::store::{JournalStore, SnapshotStore};
use cairn_actor::testing::faulty::{Call, Fault, FaultyStore};
use cairn_client::memory::MemoryCairn;
use cairn_client::{Cairn, Deletion, Error, NewEvent, NewSnapshot, Payload, PersistenceId, SequenceNumber};
use common::meddled::unavailable;
use common::{Notes, Scripted, Tell, persist, scripted, state, system};

thread_local! {
    /// What was logged on this thread.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is logged on this thread from the level of warnings on. One subscriber serves all threads: with one of its own for each, a place
/// that logs is taken for one that nobody listens to if a thread without any comes there first.
struct Warnings;

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Warnings {
    fn capture() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::WARN)
                .with_ansi(false)
                .without_time()
                .with_writer(|| Sink)
                .init();
        });
        LOGGED.take();
        Self
    }

    fn lines(&self) -> Vec<String> {
        let logged = LOGGED.with_borrow(Clone::clone);
        String::from_utf8(logged).unwrap().lines().map(str::to_owned).collect()
    }
}

/// A journal of four events, and an actor's store of it that goes wrong on request.
struct World {
    notes: Notes,
    store: FaultyStore<Cairn>,
}

impl World {
    async fn new() -> Self {
        let cairn = MemoryCairn::new().client();
        let mut writer = cairn.journal("actor").unwrap().claim().await.unwrap();
        for event in ["a", "b", "c", "d"] {
            writer.append(NewEvent::from(event)).await.unwrap();
        }
        Self { notes: Notes::default(), store: FaultyStore::new(cairn) }
    }

    /// A snapshot of these events as one, which is read if its manifest is `text`.
    async fn save(&self, number: u64, manifest: &str) {
        let payload = Payload { serializer_id: 7, manifest: manifest.to_owned(), bytes: format!("to-{number}").into() };
        let snapshot = NewSnapshot { sequence_number: SequenceNumber(number), payload, ..NewSnapshot::default() };
        self.store.save(&id(), snapshot, None).await.unwrap();
    }

    async fn delete_to(&self, number: u64) {
        self.store.delete_to(&id(), SequenceNumber(number), Deletion::Permanent, None).await.unwrap();
    }

    fn kind(&self) -> ActorKind<Scripted> {
        scripted(&self.notes)
    }

    fn spawn(&self, kind: &ActorKind<Scripted>) -> ActorRef<Tell> {
        system(self.store.clone(), 1).spawn(kind, "actor").unwrap()
    }
}

fn id() -> PersistenceId {
    PersistenceId::new("actor").unwrap()
}

fn damaged() -> Error {
    Error::Damaged { message: "a chunk is missing".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn snapshot_that_does_not_read_is_warned_of_once_and_all_events_are_replayed() {
    let warnings = Warnings::capture();
    let world = World::new().await;
    world.save(2, "another").await;
    assert_eq!(state(&world.spawn(&world.kind())).await.unwrap(), ["a", "b", "c", "d"]);
    let lines = warnings.lines();
    assert!(
        matches!(&lines[..], [line] if line.contains("WARN") && line.contains("a snapshot cannot be used: more events are replayed")
            && line.contains("persistence_id=actor") && line.contains("number=2") && line.contains("not a state")),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_that_reads_is_not_warned_of() {
    let warnings = Warnings::capture();
    let world = World::new().await;
    world.save(2, "text").await;
    assert_eq!(state(&world.spawn(&world.kind())).await.unwrap(), ["to-2", "c", "d"]);
    assert_eq!(warnings.lines(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn snapshot_that_is_damaged_is_warned_of_and_all_events_are_replayed() {
    let warnings = Warnings::capture();
    let world = World::new().await;
    world.save(2, "text").await;
    world.store.next(Call::Recover, Fault::Fail(damaged()));
    let actor = world.spawn(&world.kind().supervision(Supervision::STOP));
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c", "d"]);
    persist(&actor, "e").await.unwrap();
    assert_eq!(world.notes.all(), ["recovered a b c d at 4"]);
    let lines = warnings.lines();
    assert!(
        matches!(&lines[..], [line] if line.contains("a snapshot is damaged: all events are replayed")
            && line.contains("persistence_id=actor") && line.contains("a chunk is missing")),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn older_snapshot_that_is_damaged_gives_way_to_all_events() {
    let world = World::new().await;
    world.save(2, "text").await;
    world.save(3, "another").await;
    world.store.next(Call::Load, Fault::Fail(damaged()));
    let actor = world.spawn(&world.kind().supervision(Supervision::STOP));
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn damaged_snapshot_whose_events_are_gone_fails_the_recovery_until_it_reads() {
    for deleted in [1, 4] {
        let world = World::new().await;
        world.save(4, "text").await;
        world.delete_to(deleted).await;
        world.store.next(Call::Recover, Fault::Fail(damaged()));
        let actor = world.spawn(&world.kind());
        assert_eq!(state(&actor).await.unwrap(), ["to-4"]);
        assert_eq!(world.notes.all(), [format!("recovery failed: {}", damaged()), "recovered to-4 at 4".to_owned()]);
    }
}

#[tokio::test(start_paused = true)]
async fn journal_that_is_damaged_fails_the_recovery_with_and_without_a_snapshot() {
    let world = World::new().await;
    world.store.inject(|call, _| if call == Call::Recover { Fault::Fail(damaged()) } else { Fault::None });
    let actor = world.spawn(&world.kind().supervision(Supervision::STOP));
    assert_eq!(actor.stopped().await, StopReason::Failed(damaged().to_string()));
    assert_eq!(world.store.calls(Call::Recover), 2);
}

#[tokio::test(start_paused = true)]
async fn store_that_is_away_or_silent_is_worth_another_try_for_its_snapshot() {
    let silent = "nothing came for 7s".to_owned();
    for (fault, told) in [(Fault::Fail(unavailable()), unavailable().to_string()), (Fault::Silence, silent)] {
        let world = World::new().await;
        world.save(2, "text").await;
        world.save(3, "another").await;
        world.store.next(Call::Load, fault);
        let actor = world.spawn(&world.kind().recovery_idle(Duration::from_secs(7)));
        assert_eq!(state(&actor).await.unwrap(), ["to-2", "c", "d"]);
        assert_eq!(world.notes.all(), [format!("recovery failed: {told}"), "recovered to-2 c d at 4".to_owned()]);
    }
}

#[tokio::test(start_paused = true)]
async fn replay_in_the_place_of_a_snapshot_that_is_silent_fails_the_recovery() {
    let world = World::new().await;
    world.save(2, "another").await;
    world.store.next(Call::Replay, Fault::Silence);
    let actor = world.spawn(&world.kind().recovery_idle(Duration::from_secs(7)));
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(world.notes.all(), ["recovery failed: nothing came for 7s", "recovered a b c d at 4"]);
}
