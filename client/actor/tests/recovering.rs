//! How an actor comes back (contract 3.4), its snapshots (3.7) and its retention.

mod common;

use std::time::Duration;

use cairn_actor::actor_ref::{ActorRef, StopReason};
use cairn_actor::behavior::Behavior;
use cairn_actor::context::Context;
use cairn_actor::effect::Effect;
use cairn_actor::format::Refusal;
use cairn_actor::kind::{ActorKind, Supervision};
use cairn_actor::recovery::{Recovery, RecoveryFailure};
use cairn_actor::replay_filter::ReplayFilterSettings;
use cairn_actor::retention::Retention;
use cairn_actor::store::{JournalStore, SnapshotStore};
use cairn_actor::system::ActorSystem;
use cairn_client::memory::MemoryCairn;
use cairn_client::{Criteria, Deletion, NewEvent, NewSnapshot, Payload, PersistenceId, SequenceNumber, WriterId};
use common::meddled::{Fate, Meddled};
use common::{Notes, Scripted, Starting, Tell, known, make, persist, scripted, state, system};
use futures::{StreamExt, stream};
use tokio::time::Instant;

struct World {
    notes: Notes,
    store: Meddled,
    seed: std::cell::Cell<u64>,
}

impl World {
    /// A journal with these events.
    async fn with(events: &[&'static str]) -> Self {
        let cluster = MemoryCairn::new();
        let client = cluster.client();
        let mut writer = client.journal("actor").unwrap().claim().await.unwrap();
        for event in events {
            writer.append(NewEvent::from(*event)).await.unwrap();
        }
        Self { notes: Notes::default(), store: Meddled::new(client), seed: std::cell::Cell::new(1) }
    }

    async fn snapshot(&self, number: u64, state: &'static str, manifest: &str) {
        let payload = Payload { serializer_id: 7, manifest: manifest.to_owned(), bytes: state.into() };
        let snapshot = NewSnapshot { sequence_number: SequenceNumber(number), payload, ..NewSnapshot::default() };
        self.store.save(&id(), snapshot, None).await.unwrap();
    }

    async fn delete_to(&self, number: u64) {
        self.store.delete_to(&id(), SequenceNumber(number), Deletion::Permanent, None).await.unwrap();
    }

    fn kind(&self) -> ActorKind<Scripted> {
        scripted(&self.notes).supervision(Supervision::STOP)
    }

    fn spawn(&self, kind: &ActorKind<Scripted>) -> ActorRef<Tell> {
        self.seed.set(self.seed.get() + 1);
        system(self.store.clone(), self.seed.get()).spawn(kind, "actor").unwrap()
    }

    async fn failure(&self, kind: &ActorKind<Scripted>) -> String {
        let actor = self.spawn(kind);
        match tokio::time::timeout(Duration::from_secs(3600), actor.stopped()).await.expect("it is given up") {
            StopReason::Failed(reason) => {
                assert_eq!(self.notes.all(), [format!("recovery failed: {reason}")]);
                reason
            }
            reason => panic!("{reason:?}"),
        }
    }

    async fn snapshots(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut criteria = Criteria::LATEST;
        while let Some(snapshot) = self.store.load(&id(), criteria).await.unwrap() {
            let number = snapshot.info.sequence_number.0;
            numbers.push(number);
            criteria.sequence_number_max = SequenceNumber(number - 1);
        }
        numbers
    }

    async fn events(&self) -> Vec<u64> {
        let events = self.store.replay(&id(), 1..=SequenceNumber::MAX.0, u64::MAX >> 1);
        events.map(|event| event.unwrap().event.sequence_number.0).collect().await
    }
}

fn id() -> PersistenceId {
    PersistenceId::new("actor").unwrap()
}

fn numbers(context: &Context<Scripted>) -> (u64, u64, bool) {
    (context.last_sequence_number().0, context.snapshot_sequence_number().0, context.is_recovering())
}

#[tokio::test(start_paused = true)]
async fn newest_snapshot_is_the_state_and_only_later_events_are_replayed() {
    let world = World::with(&["garbage", "garbage", "c"]).await;
    world.snapshot(1, "old", "text").await;
    world.snapshot(2, "saved", "text").await;
    let actor = world.spawn(&world.kind());
    assert_eq!(state(&actor).await.unwrap(), ["saved", "c"]);
    assert_eq!(known(&actor, numbers).await.unwrap(), (3, 2, false));
}

#[tokio::test(start_paused = true)]
async fn snapshot_that_does_not_read_or_is_not_accepted_is_replaced_by_all_events() {
    for (saved, manifest) in [("saved", "another"), ("odd", "text")] {
        let world = World::with(&["a", "b", "c"]).await;
        world.snapshot(2, saved, manifest).await;
        let actor = world.spawn(&world.kind());
        assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c"]);
        assert_eq!(known(&actor, numbers).await.unwrap(), (3, 0, false));
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_that_does_not_read_fails_the_recovery_if_its_events_are_gone() {
    for deleted in [1, 3] {
        let world = World::with(&["a", "b", "c"]).await;
        world.snapshot(2, "saved", "another").await;
        world.delete_to(deleted).await;
        assert!(world.failure(&world.kind()).await.starts_with("the snapshot at 2 cannot be used"));
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_that_does_not_read_gives_way_to_an_older_one_and_the_events_after_that() {
    let world = World::with(&["a", "b", "c", "d"]).await;
    world.snapshot(1, "saved", "text").await;
    world.snapshot(2, "odd", "text").await;
    world.snapshot(3, "saved", "another").await;
    world.delete_to(1).await;
    let actor = world.spawn(&world.kind());
    assert_eq!(state(&actor).await.unwrap(), ["saved", "b", "c", "d"]);
    assert_eq!(known(&actor, numbers).await.unwrap(), (4, 1, false));
}

#[tokio::test(start_paused = true)]
async fn three_snapshots_are_tried_and_then_all_events_are_replayed() {
    let world = World::with(&["a", "b", "c", "d"]).await;
    world.snapshot(1, "saved", "text").await;
    for number in 2..=4 {
        world.snapshot(number, "saved", "another").await;
    }
    let actor = world.spawn(&world.kind());
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(known(&actor, numbers).await.unwrap(), (4, 0, false));
}

#[tokio::test(start_paused = true)]
async fn older_snapshot_does_not_make_up_for_events_that_are_gone() {
    for deleted in [2, 4] {
        let world = World::with(&["a", "b", "c", "d"]).await;
        world.snapshot(1, "saved", "text").await;
        world.snapshot(3, "saved", "another").await;
        world.delete_to(deleted).await;
        assert!(world.failure(&world.kind()).await.starts_with("the snapshot at 3 cannot be used"));
    }
}

#[tokio::test(start_paused = true)]
async fn bounds_give_an_old_state_and_new_events_the_numbers_after_the_highest() {
    let to = |to| Recovery { to: SequenceNumber(to), ..Recovery::default() };
    let cases = [
        (to(2), "saved b"),
        (to(0), ""),
        (Recovery { max: 1, ..Recovery::default() }, "saved b"),
        (Recovery { max: 0, ..Recovery::default() }, "saved"),
        (Recovery { max: 2, ..Recovery::without_snapshot() }, "a b"),
        (Recovery::without_snapshot(), "a b c d"),
        (Recovery::none(), ""),
    ];
    for (recovery, expected) in cases {
        let world = World::with(&["a", "b", "c", "d"]).await;
        world.snapshot(1, "saved", "text").await;
        let actor = world.spawn(&world.kind().recovery(recovery));
        assert_eq!(state(&actor).await.unwrap().join(" "), expected, "{recovery:?}");
        assert_eq!(known(&actor, numbers).await.unwrap().0, 4, "{recovery:?}");
        persist(&actor, "e").await.unwrap();
        assert_eq!(world.store.writes(), [vec![vec![5]]]);
    }
}

#[tokio::test(start_paused = true)]
async fn criteria_choose_the_snapshot() {
    let world = World::with(&["a", "b", "c"]).await;
    world.snapshot(1, "first", "text").await;
    world.snapshot(3, "third", "text").await;
    let criteria = Criteria { sequence_number_max: SequenceNumber(2), ..Criteria::LATEST };
    let actor = world.spawn(&world.kind().recovery(Recovery { criteria: Some(criteria), ..Recovery::default() }));
    assert_eq!(state(&actor).await.unwrap(), ["first", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn snapshot_above_the_journal_is_where_numbers_go_on() {
    let world = World::with(&["a"]).await;
    world.snapshot(7, "saved", "text").await;
    let actor = world.spawn(&world.kind());
    assert_eq!(known(&actor, numbers).await.unwrap(), (7, 7, false));
    persist(&actor, "b").await.unwrap();
    persist(&actor, "c").await.unwrap();
    assert_eq!(world.store.writes(), [vec![vec![8]], vec![vec![9]]]);
}

#[tokio::test(start_paused = true)]
async fn highest_number_survives_the_deletion_of_all_events() {
    let world = World::with(&["a", "b"]).await;
    world.delete_to(2).await;
    let actor = world.spawn(&world.kind());
    assert_eq!(state(&actor).await.unwrap(), [""; 0]);
    persist(&actor, "c").await.unwrap();
    assert_eq!(world.store.writes(), [vec![vec![3]]]);
}

#[tokio::test(start_paused = true)]
async fn event_that_does_not_read_or_that_the_state_cannot_take_fails_the_recovery() {
    let world = World::with(&["a", "garbage"]).await;
    assert_eq!(world.failure(&world.kind()).await, "event 2: not from the journal (serializer 0, manifest \"\")");
    let world = World::with(&["poison"]).await;
    assert!(world.failure(&world.kind()).await.starts_with("panicked: "));
}

#[tokio::test(start_paused = true)]
async fn event_that_the_claim_does_not_know_of_fails_the_recovery() {
    let world = World::with(&["a", "b"]).await;
    world.store.pretend_highest(1);
    assert_eq!(world.failure(&world.kind()).await, "event 2 after 1, where the highest is 1");
}

#[tokio::test(start_paused = true)]
async fn recovery_that_is_silent_for_too_long_fails() {
    let world = World::with(&["a"]).await;
    world.store.on_recover(|_| Fate::Hang);
    let started = Instant::now();
    assert_eq!(world.failure(&world.kind().recovery_idle(Duration::from_secs(7))).await, "nothing came for 7s");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn replay_that_falls_silent_for_too_long_fails_the_recovery() {
    let world = World::with(&["a", "b", "c"]).await;
    world.store.on_events(|events| events.take(2).chain(stream::pending()).boxed());
    let started = Instant::now();
    assert_eq!(world.failure(&world.kind().recovery_idle(Duration::from_secs(7))).await, "nothing came for 7s");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn replay_may_take_long_as_long_as_something_comes() {
    let world = World::with(&["a", "b", "c"]).await;
    world.store.on_events(|events| events.then(pause).boxed());
    let started = Instant::now();
    let actor = world.spawn(&world.kind().recovery_idle(Duration::from_secs(7)));
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c"]);
    assert!(started.elapsed() > Duration::from_secs(15));
}

/// What comes after 5 s.
async fn pause<T>(what: T) -> T {
    tokio::time::sleep(Duration::from_secs(5)).await;
    what
}

#[tokio::test(start_paused = true)]
async fn recovery_completed_is_told_once_and_before_all_commands_in_their_order() {
    let world = World::with(&[]).await;
    let actor = world.spawn(&world.kind());
    for text in ["1", "2", "3"] {
        let notes = world.notes.clone();
        make(&actor, move |_, _| Effect::none().then_run(move |_| notes.add(text))).await;
    }
    state(&actor).await.unwrap();
    assert_eq!(world.notes.all(), ["recovered  at 0", "1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn so_many_recover_at_once_and_the_others_in_the_order_in_which_they_came() {
    let world = World::with(&[]).await;
    let system = ActorSystem::builder(world.store.clone()).seed(1).recoveries_max(3).build();
    // One of them fails, and gives its permit back.
    world.store.on_recover(|request| match request.persistence_id.as_str() {
        "actor-1" => Fate::Fail(common::meddled::unavailable()),
        _ => Fate::Pass,
    });
    let names: Vec<_> = (0..10).map(|number| format!("actor-{number}")).collect();
    let actors: Vec<_> = names.iter().map(|name| system.spawn(&world.kind(), name.as_str()).unwrap()).collect();
    for (number, actor) in actors.iter().enumerate() {
        assert_eq!(state(actor).await.is_ok(), number != 1);
    }
    assert_eq!(world.store.recovering().most, 3);
    assert_eq!(world.store.recovering().order, names);
}

#[tokio::test(start_paused = true)]
async fn by_default_fifty_recover_at_once() {
    let world = World::with(&[]).await;
    let system = system(world.store.clone(), 1);
    let actors: Vec<_> = (0..120).map(|number| system.spawn(&world.kind(), format!("actor-{number}")).unwrap()).collect();
    for actor in &actors {
        state(actor).await.unwrap();
    }
    assert_eq!(world.store.recovering().most, 50);
}

#[tokio::test(start_paused = true)]
async fn manual_recovery_begins_when_its_owner_says_so() {
    let world = World::with(&["a", "b"]).await;
    let system = system(world.store.clone(), 1);
    let (actor, recovery) = system.spawn_waiting(&world.kind(), "actor").unwrap();
    let asked = actor.clone();
    let answer = tokio::spawn(async move { state(&asked).await });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.notes.all(), [""; 0]);
    recovery.start(Recovery { to: SequenceNumber(1), ..Recovery::default() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.notes.all(), ["recovered a at 2"]);
    assert!(answer.is_finished());
    let (actor, recovery) = system.spawn_waiting(&world.kind(), "another").unwrap();
    drop(recovery);
    assert_eq!(actor.stopped().await, StopReason::Done);
}

#[tokio::test(start_paused = true)]
async fn write_of_an_old_incarnation_that_is_late_is_refused() {
    let world = World::with(&["a"]).await;
    let old = world.spawn(&world.kind());
    state(&old).await.unwrap();
    world.store.hold();
    make(&old, |_, _| Effect::persist("late".to_owned())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let new = world.spawn(&world.kind());
    assert_eq!(state(&new).await.unwrap(), ["a"]);
    world.store.let_go(9);
    assert_eq!(old.stopped().await, StopReason::Superseded);
    persist(&new, "b").await.unwrap();
    assert_eq!(world.events().await, [1, 2]);
    assert_eq!(state(&new).await.unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn effects_save_load_and_delete_snapshots_and_events() {
    let world = World::with(&["a", "b"]).await;
    let actor = world.spawn(&world.kind());
    make(&actor, |_, _| Effect::save_snapshot().and(Effect::load_snapshot(Criteria::LATEST))).await;
    make(&actor, |_, _| Effect::delete_events(SequenceNumber(1)).and(Effect::delete_snapshot(SequenceNumber(2)))).await;
    make(&actor, |_, _| Effect::delete_snapshots(Criteria::LATEST).and(Effect::load_snapshot(Criteria::LATEST))).await;
    make(&actor, |_, _| Effect::stop()).await;
    actor.stopped().await;
    let noted = world.notes.all();
    let starts: Vec<_> = noted[1..].iter().map(|note| note.split(['{', ' ']).next().unwrap_or_default()).collect();
    assert_eq!(
        starts,
        ["SnapshotSaved", "SnapshotLoaded", "EventsDeleted", "SnapshotDeleted", "SnapshotsDeleted", "SnapshotLoaded"]
    );
    assert!(noted[2].contains(r#"Some((SequenceNumber(2), ["a", "b"]))"#), "{}", noted[2]);
    assert!(noted[6].contains("None"), "{}", noted[6]);
    assert_eq!(world.events().await, [2]);
}

#[tokio::test(start_paused = true)]
async fn retention_keeps_so_many_snapshots_and_the_events_after_them() {
    let world = World::with(&[]).await;
    let kind = world.kind().retention(Retention::snapshot_every(2, 2).deleting_events());
    let actor = world.spawn(&kind);
    for number in 1..=9 {
        persist(&actor, &number.to_string()).await.unwrap();
        // Each cycle ends before the next begins.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(known(&actor, numbers).await.unwrap(), (9, 8, false));
    assert_eq!(world.snapshots().await, [8, 6, 4]);
    assert_eq!(world.events().await, [5, 6, 7, 8, 9]);
    actor.stop();
    actor.stopped().await;
    let again = world.spawn(&kind);
    assert_eq!(state(&again).await.unwrap().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn one_snapshot_for_all_events_of_an_atomic_write() {
    let world = World::with(&[]).await;
    let actor = world.spawn(&world.kind().retention(Retention::snapshot_every(2, 9)));
    make(&actor, |_, _| Effect::persist_all((0..5).map(|number| number.to_string()))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.snapshots().await, [5]);
}

#[tokio::test(start_paused = true)]
async fn recovery_of_many_events_leaves_a_snapshot() {
    let world = World::with(&["a", "b", "c"]).await;
    let actor = world.spawn(&world.kind().retention(Retention::snapshot_every(3, 1)));
    state(&actor).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.snapshots().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn persisting_is_allowed_when_recovery_is_completed() {
    let world = World::with(&["a"]).await;
    let kind = Starting::kind(|| Effect::persist("b".to_owned()).then(|_, _| Effect::persist("c".to_owned())));
    let actor = system(world.store.clone(), 1).spawn(&kind, "actor").unwrap();
    let answer = actor.ask(common::PATIENCE, |reply_to| reply_to).await;
    assert_eq!(answer.unwrap(), ["a", "b", "c"]);
}

/// Notes each event with what the actor knows of itself then.
struct Watching(Notes);

impl Behavior for Watching {
    type State = ();
    type Command = &'static str;
    type Event = String;

    fn empty_state(&self) {}

    fn apply((): &mut (), _: &String) {}

    fn handle(&mut self, (): &(), command: &'static str, context: &mut Context<Self>) -> Effect<Self> {
        if command == "later" {
            context.pipe_to_self(async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                "piped"
            });
            return Effect::none();
        }
        Effect::persist(command.to_owned())
    }

    fn applied(&mut self, (): &(), event: &String, context: &mut Context<Self>) -> Result<(), Refusal> {
        let when = if context.is_recovering() { "replayed" } else { "fresh" };
        self.0.add(format!("{when} {event} at {}", context.last_sequence_number()));
        if event == "refused" { Err("not this one".into()) } else { Ok(()) }
    }

    fn recovery_failed(&mut self, failure: &RecoveryFailure, _: &PersistenceId) {
        self.0.add(failure.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn each_event_is_told_of_after_it_was_applied_and_whether_it_is_replayed() {
    let world = World::with(&["a", "b"]).await;
    let notes = world.notes.clone();
    let kind = ActorKind::new(move |_| Watching(notes.clone()), common::Text).supervision(Supervision::STOP);
    let actor = system(world.store.clone(), 1).spawn(&kind, "actor").unwrap();
    actor.tell("c").await.unwrap();
    actor.tell("later").await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.notes.all(), ["replayed a at 1", "replayed b at 2", "fresh c at 3", "fresh piped at 4"]);
}

#[tokio::test(start_paused = true)]
async fn event_that_the_actor_refuses_fails_it_live_and_at_recovery() {
    let world = World::with(&[]).await;
    let notes = world.notes.clone();
    let kind = ActorKind::new(move |_| Watching(notes.clone()), common::Text).supervision(Supervision::STOP);
    let actor = system(world.store.clone(), 1).spawn(&kind, "actor").unwrap();
    actor.tell("refused").await.unwrap();
    assert_eq!(actor.stopped().await, StopReason::Failed("not this one".to_owned()));
    let again = system(world.store.clone(), 2).spawn(&kind, "actor").unwrap();
    assert_eq!(again.stopped().await, StopReason::Failed("event 1: not this one".to_owned()));
}

/// What two writers left that did not know of each other.
async fn overlapping(world: &World) {
    let events = world.store.replay(&id(), 1..=SequenceNumber::MAX.0, u64::MAX >> 1);
    let mut events: Vec<_> = events.map(Result::unwrap).collect().await;
    for (event, number) in events.iter_mut().zip([1, 2, 2, 3]) {
        event.event.sequence_number = SequenceNumber(number);
    }
    for event in &mut events[2..] {
        event.writer = WriterId::new("newer").unwrap();
    }
    world.store.pretend_events(events);
}

#[tokio::test(start_paused = true)]
async fn filter_leaves_out_what_a_newer_writer_wrote_over() {
    let world = World::with(&["a", "overwritten", "b", "c"]).await;
    overlapping(&world).await;
    let seen = Notes::default();
    let watch = seen.clone();
    let kind = world.kind().replay_filter(ReplayFilterSettings::default());
    let kind = kind.watch_anomalies(move |id, anomaly| watch.add(format!("{id}: {:?} {}", anomaly.kind, anomaly.number)));
    let actor = world.spawn(&kind);
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(seen.all(), ["actor: Overwritten 2"]);
    persist(&actor, "d").await.unwrap();
    assert_eq!(world.store.writes(), [vec![vec![5]]]);
}

#[tokio::test(start_paused = true)]
async fn overlapping_writers_fail_a_recovery_without_a_filter() {
    let world = World::with(&["a", "overwritten", "b", "c"]).await;
    overlapping(&world).await;
    assert_eq!(world.failure(&world.kind()).await, "event 2 after 2, where the highest is 4");
}
