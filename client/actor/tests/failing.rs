//! Writes that are rejected, fail, or whose outcome is unknown, and actors that fail (contract 3.6).

mod common;

use std::time::Duration;

use cairn_actor::actor_ref::{ActorRef, AskError, ReplyTo, StopReason};
use cairn_actor::backoff::Backoff;
use cairn_actor::context::Context;
use cairn_actor::effect::Effect;
use cairn_actor::kind::{ActorKind, Supervision, WriteRetry};
use cairn_client::memory::MemoryCairn;
use cairn_client::{Criteria, Error, NewEvent, SequenceNumber};
use common::meddled::{Fate, Meddled, unavailable, unknown};
use common::{Notes, Scripted, Tell, known, make, persist, run, scripted, state, system};
use tokio::time::Instant;

const RETRY: WriteRetry = WriteRetry {
    backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(4), jitter: 0.0 },
    time: Duration::from_secs(60),
};

struct World {
    notes: Notes,
    store: Meddled,
    cluster: MemoryCairn,
}

impl World {
    fn new() -> Self {
        let cluster = MemoryCairn::new();
        Self { notes: Notes::default(), store: Meddled::new(cluster.client()), cluster }
    }

    /// Actors that stay stopped.
    fn kind(&self) -> ActorKind<Scripted> {
        scripted(&self.notes).supervision(Supervision::STOP).write_retry(RETRY)
    }

    fn spawn(&self, kind: &ActorKind<Scripted>) -> ActorRef<Tell> {
        system(self.store.clone(), 1).spawn(kind, "actor").unwrap()
    }

    async fn stored(&self) -> Vec<String> {
        let reader = system(self.cluster.client(), 99).spawn(&scripted(&Notes::default()), "actor").unwrap();
        state(&reader).await.unwrap()
    }
}

fn failed(reason: &str) -> StopReason {
    StopReason::Failed(reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn rejected_event_leaves_no_gap_and_the_actor_goes_on() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    persist(&actor, "a").await.unwrap();
    assert_eq!(persist(&actor, "!").await, Err(AskError::NoAnswer));
    persist(&actor, "b").await.unwrap();
    assert_eq!(known(&actor, Context::last_sequence_number).await.unwrap(), SequenceNumber(2));
    assert_eq!(world.notes.all()[1..], ["rejected !"]);
    assert_eq!(world.store.writes().concat().concat(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn atomic_write_with_one_bad_event_is_rejected_whole_and_in_its_place() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    let (first, last) = (world.notes.clone(), world.notes.clone());
    make(&actor, |_, _| {
        Effect::persist_async("a".to_owned())
            .then_run(move |_| first.add("first"))
            .and(Effect::persist_all_async(["b".to_owned(), "!".to_owned()]).then_run(|_| panic!("it was rejected")))
            .and(Effect::persist_async("c".to_owned()).then_run(move |_| last.add("last")))
    })
    .await;
    assert_eq!(state(&actor).await.unwrap(), ["a", "c"]);
    assert_eq!(world.notes.all()[1..], ["first", "rejected b !", "last"]);
}

#[tokio::test(start_paused = true)]
async fn event_that_no_journal_takes_is_rejected_before_it_has_a_number() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    assert_eq!(persist(&actor, &"x".repeat(4 * 1024 * 1024)).await, Err(AskError::NoAnswer));
    persist(&actor, "a").await.unwrap();
    persist(&actor, &"x".repeat(4 * 1024 * 1024 - 200)).await.unwrap();
    assert_eq!(world.store.writes().concat().concat(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn write_with_an_unknown_outcome_is_handed_in_again_until_it_is_known() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    world.store.fail_writes([Fate::FailAfter(unknown()), Fate::Fail(unavailable()), Fate::Fail(unknown())]);
    let started = Instant::now();
    persist(&actor, "a").await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 1 + 2 + 4);
    let writes = world.store.raw_writes();
    assert_eq!(writes.len(), 4);
    assert!(writes.iter().all(|write| *write == writes[0]));
    persist(&actor, "b").await.unwrap();
    assert_eq!(world.stored().await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn outcome_is_called_unknown_only_when_the_time_is_over_and_the_actor_stops() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    world.store.on_write(|_| Fate::FailAfter(unknown()));
    let started = Instant::now();
    assert_eq!(persist(&actor, "a").await, Err(AskError::NoAnswer));
    assert!(started.elapsed() > RETRY.time - RETRY.backoff.longest && started.elapsed() <= RETRY.time);
    assert_eq!(actor.stopped().await, failed("outcome unknown: lost"));
    assert_eq!(world.notes.all()[1..], ["Unknown a from 1"]);
    assert_eq!(world.stored().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn store_that_never_answers_is_an_unknown_outcome() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    world.store.on_write(|_| Fate::Hang);
    assert_eq!(persist(&actor, "a").await, Err(AskError::NoAnswer));
    actor.stopped().await;
    assert_eq!(world.notes.all()[1..], ["Unknown a from 1"]);
}

#[tokio::test(start_paused = true)]
async fn write_that_was_never_carried_out_is_called_not_stored() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    world.store.on_write(|_| Fate::Fail(unavailable()));
    assert_eq!(persist(&actor, "a").await, Err(AskError::NoAnswer));
    actor.stopped().await;
    assert_eq!(world.notes.all()[1..], ["NotStored a from 1"]);
    assert_eq!(world.stored().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn later_refusal_makes_an_unknown_outcome_no_more_certain() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    let invalid = Error::Invalid { message: "no".to_owned() };
    world.store.fail_writes([Fate::FailAfter(unknown()), Fate::Fail(invalid)]);
    assert_eq!(persist(&actor, "a").await, Err(AskError::NoAnswer));
    actor.stopped().await;
    assert_eq!(world.notes.all()[1..], ["Unknown a from 1"]);
}

#[tokio::test(start_paused = true)]
async fn forgotten_outcome_is_unknown_at_once() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    world.store.fail_writes([Fate::Fail(Error::Forgotten)]);
    assert_eq!(persist(&actor, "a").await, Err(AskError::NoAnswer));
    actor.stopped().await;
    assert_eq!(world.notes.all()[1..], ["Unknown a from 1"]);
    assert_eq!(world.store.writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_handler_runs_behind_a_write_that_failed() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    world.store.on_write(|_| Fate::Fail(Error::Forgotten));
    world.store.hold();
    make(&actor, |_, _| Effect::persist_async("a".to_owned())).await;
    make(&actor, |_, _| Effect::persist_async("b".to_owned()).then_run(|_| panic!("it is not stored"))).await;
    make(&actor, |_, _| Effect::defer_async(|_, _| panic!("what was before it failed"))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.store.let_go(9);
    assert_eq!(actor.stopped().await, failed(&Error::Forgotten.to_string()));
    assert_eq!(world.notes.all()[1..], ["Unknown a b from 1"]);
}

#[tokio::test(start_paused = true)]
async fn loser_of_two_incarnations_is_told_and_stops_and_nothing_interleaves() {
    let world = World::new();
    let old = world.spawn(&scripted(&world.notes));
    persist(&old, "a").await.unwrap();
    let newer = system(world.cluster.client(), 2).spawn(&world.kind(), "actor").unwrap();
    persist(&newer, "b").await.unwrap();
    assert_eq!(persist(&old, "c").await, Err(AskError::NoAnswer));
    assert_eq!(old.stopped().await, StopReason::Superseded);
    assert_eq!(world.notes.all()[2..], ["Superseded c from 2"]);
    persist(&newer, "d").await.unwrap();
    assert_eq!(world.stored().await, ["a", "b", "d"]);
}

#[tokio::test(start_paused = true)]
async fn loser_whose_save_or_deletion_is_fenced_is_told_and_stops() {
    type Ask = fn() -> Effect<Scripted>;
    let asked: [(&str, Ask); 4] = [
        ("SnapshotNotSaved", Effect::save_snapshot),
        ("EventsNotDeleted", || Effect::delete_events(SequenceNumber(1))),
        ("SnapshotNotDeleted", || Effect::delete_snapshot(SequenceNumber(1))),
        ("SnapshotsNotDeleted", || Effect::delete_snapshots(Criteria::LATEST)),
    ];
    for (told, effect) in asked {
        let world = World::new();
        let old = world.spawn(&scripted(&world.notes));
        persist(&old, "a").await.unwrap();
        make(&old, |_, _| Effect::save_snapshot()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let newer = system(world.cluster.client(), 2).spawn(&world.kind(), "actor").unwrap();
        persist(&newer, "b").await.unwrap();
        make(&old, move |_, _| effect()).await;
        let stopped = tokio::time::timeout(Duration::from_secs(600), old.stopped()).await;
        assert_eq!(stopped, Ok(StopReason::Superseded), "{:?}", world.notes.all());
        let noted = &world.notes.all()[3..];
        assert!(matches!(noted, [note] if note.starts_with(told) && note.contains("Fenced")), "{noted:?}");
        persist(&newer, "c").await.unwrap();
        assert_eq!(world.stored().await, ["a", "b", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn loser_whose_save_is_fenced_still_hears_what_became_of_its_writes() {
    let world = World::new();
    let old = world.spawn(&scripted(&world.notes).write_retry(RETRY));
    state(&old).await.unwrap();
    // The first is stored, and known to be only a second later; the other one waits for it.
    world.store.fail_writes([Fate::FailAfter(unknown())]);
    let (reply_to, answer) = ReplyTo::new();
    make(&old, |_, _| Effect::persist_async("a".to_owned()).then_reply(reply_to, |_| ())).await;
    make(&old, |_, _| Effect::persist_async("b".to_owned()).then_run(|_| panic!("it is not stored"))).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let newer = system(world.cluster.client(), 2).spawn(&world.kind(), "actor").unwrap();
    assert_eq!(state(&newer).await.unwrap(), ["a"]);
    make(&old, |_, _| Effect::save_snapshot()).await;
    assert_eq!(old.stopped().await, StopReason::Superseded);
    assert_eq!(answer.await, Ok(()));
    let noted = world.notes.all();
    assert!(noted[2].starts_with("SnapshotNotSaved") && noted[2].contains("Fenced"), "{noted:?}");
    assert_eq!(noted[3..], ["Superseded b from 2"]);
    assert_eq!(world.stored().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn actor_whose_number_another_writer_took_is_told_and_stops() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    state(&actor).await.unwrap();
    let client = world.cluster.client();
    let mut other = client.journal("actor").unwrap().claim().await.unwrap();
    other.append(NewEvent::from("x")).await.unwrap();
    assert_eq!(persist(&actor, "a").await, Err(AskError::NoAnswer));
    assert_eq!(actor.stopped().await, StopReason::Superseded);
    assert_eq!(world.notes.all()[1..], ["Superseded a from 1"]);
}

#[tokio::test(start_paused = true)]
async fn actor_that_failed_comes_back_with_all_that_was_stored() {
    let world = World::new();
    let actor = world.spawn(&scripted(&world.notes).write_retry(RETRY));
    persist(&actor, "a").await.unwrap();
    world.store.fail_writes([Fate::FailAfter(Error::Forgotten)]);
    assert_eq!(persist(&actor, "b").await, Err(AskError::NoAnswer));
    assert_eq!(state(&actor).await.unwrap(), ["a", "b"]);
    assert_eq!(world.notes.all(), ["recovered  at 0", "Unknown b from 2", "recovered a b at 2"]);
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_or_are_stashed_outlive_a_failure_in_their_order() {
    let world = World::new();
    let actor = world.spawn(&scripted(&world.notes));
    let note = |text: &'static str| {
        let notes = world.notes.clone();
        run(move |_, _| Effect::none().then_run(move |_| notes.add(text)))
    };
    let stashed = note("stashed");
    let waiting = note("waits");
    make(&actor, |_, _| Effect::stash(stashed)).await;
    make(&actor, |_, _| panic!("a bug of the user")).await;
    actor.tell(waiting).await.unwrap_or_else(|_| panic!("it is started again"));
    state(&actor).await.unwrap();
    assert_eq!(world.notes.all()[1..], ["recovered  at 0", "stashed", "waits"]);
}

#[tokio::test(start_paused = true)]
async fn effect_that_fails_the_actor_is_as_a_panic() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    make(&actor, |_, _| Effect::persist("a".to_owned()).then(|_, _| Effect::fail("enough"))).await;
    assert_eq!(actor.stopped().await, failed("enough"));
    let actor = world.spawn(&world.kind());
    make(&actor, |_, _| panic!("too much")).await;
    assert_eq!(actor.stopped().await, failed("too much"));
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_longer_each_time_and_end_at_their_bound() {
    let world = World::new();
    let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(4), jitter: 0.0 };
    let supervision = Supervision { backoff, restarts_max: 4, stable_after: Duration::from_secs(100) };
    world.store.on_recover(|_| Fate::Fail(unavailable()));
    let started = Instant::now();
    let actor = world.spawn(&scripted(&world.notes).supervision(supervision));
    let asked = state(&actor).await;
    assert_eq!(asked, Err(AskError::NoAnswer), "commands that wait are let go");
    assert_eq!(actor.stopped().await, failed("unavailable, not applied: away"));
    assert_eq!(started.elapsed().as_secs(), 1 + 2 + 4 + 4);
    assert_eq!(world.notes.all(), vec!["recovery failed: unavailable, not applied: away"; 5]);
}

#[tokio::test(start_paused = true)]
async fn failures_of_an_actor_that_was_stable_are_forgotten() {
    let world = World::new();
    let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(64), jitter: 0.0 };
    let supervision = Supervision { backoff, restarts_max: 1, stable_after: Duration::from_secs(10) };
    let actor = world.spawn(&scripted(&world.notes).supervision(supervision));
    for _ in 0..5 {
        state(&actor).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        make(&actor, |_, _| panic!("now and then")).await;
    }
    state(&actor).await.unwrap();
    make(&actor, |_, _| panic!("and again")).await;
    make(&actor, |_, _| panic!("and again")).await;
    actor.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn recovery_that_takes_long_and_fails_is_not_taken_for_a_stable_actor() {
    let world = World::new();
    let supervision = Supervision { restarts_max: 3, stable_after: Duration::from_secs(10), ..Supervision::default() };
    world.store.on_recover(|_| Fate::Hang);
    let kind = scripted(&world.notes).supervision(supervision).recovery_idle(Duration::from_secs(30));
    let actor = world.spawn(&kind);
    let stopped = tokio::time::timeout(Duration::from_secs(3_600), actor.stopped()).await;
    assert_eq!(stopped.expect("it is given up"), failed("nothing came for 30s"));
    assert_eq!(world.notes.all(), vec!["recovery failed: nothing came for 30s"; 4]);
}

#[tokio::test(start_paused = true)]
async fn snapshots_and_deletions_that_fail_do_not_stop_the_actor() {
    let world = World::new();
    let actor = world.spawn(&world.kind());
    persist(&actor, "?").await.unwrap();
    make(&actor, |_, _| Effect::save_snapshot()).await;
    make(&actor, |_, _| Effect::delete_events(SequenceNumber(2))).await;
    persist(&actor, "a").await.unwrap();
    let noted = world.notes.all();
    assert!(noted.iter().any(|note| note.starts_with("SnapshotNotSaved")), "{noted:?}");
    assert!(noted.iter().any(|note| note.starts_with("EventsNotDeleted") && note.contains("Beyond")), "{noted:?}");
    assert_eq!(state(&actor).await.unwrap(), ["?", "a"]);
}
