//! What an actor persists is there for its next incarnation, and handlers run in order (contract 3.5).

mod common;

use std::time::Duration;

use cairn_actor::actor_ref::{AskError, StopReason, TellError};
use cairn_actor::context::Context;
use cairn_actor::effect::Effect;
use cairn_actor::kind::{MailboxOverflow, StashOverflow, Supervision};
use cairn_client::SequenceNumber;
use cairn_client::memory::MemoryCairn;
use common::meddled::Meddled;
use common::{Notes, PATIENCE, Scripted, known, make, persist, run, scripted, state, system};

fn event(text: &str) -> String {
    text.to_owned()
}

/// A handler that notes that it ran, and on which state.
fn note(notes: &Notes, text: &str) -> impl FnOnce(&Vec<String>, &mut Context<Scripted>) -> Effect<Scripted> + Send + use<> {
    let (notes, text) = (notes.clone(), text.to_owned());
    move |state, _| {
        notes.add(format!("{text} on [{}]", state.join(" ")));
        Effect::none()
    }
}

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

    fn spawn(&self) -> cairn_actor::actor_ref::ActorRef<common::Tell> {
        system(self.store.clone(), 1).spawn(&scripted(&self.notes), "actor").unwrap()
    }

    /// What was noted after the recovery.
    fn noted(&self) -> Vec<String> {
        self.notes.all().into_iter().filter(|note| !note.starts_with("recovered")).collect()
    }
}

/// Lets everything run that can run without time.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn next_incarnation_has_the_state_of_the_last() {
    let world = World::new();
    let first = world.spawn();
    persist(&first, "a").await.unwrap();
    persist(&first, "b").await.unwrap();
    first.stop();
    assert_eq!(first.stopped().await, StopReason::Done);
    let second = system(world.cluster.client(), 2).spawn(&scripted(&world.notes), "actor").unwrap();
    assert_eq!(state(&second).await.unwrap(), ["a", "b"]);
    assert_eq!(world.notes.all(), ["recovered  at 0", "recovered a b at 2"]);
}

#[tokio::test(start_paused = true)]
async fn handler_sees_the_state_with_its_event_and_the_command_does_not() {
    let world = World::new();
    let actor = world.spawn();
    let seen = actor.ask(PATIENCE, |reply_to| {
        run(|before, _| {
            assert!(before.is_empty());
            Effect::persist(event("a")).then_reply(reply_to, Clone::clone)
        })
    });
    assert_eq!(seen.await.unwrap(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn handlers_run_in_the_order_of_registration_over_all_kinds() {
    let world = World::new();
    let actor = world.spawn();
    let n = |text| note(&world.notes, text);
    let nested = n("nested");
    let effect = Effect::defer(n("defer with nothing pending"))
        .and(Effect::persist_async(event("a")).then(n("persist_async")))
        .and(Effect::defer_async(n("defer_async")))
        .and(Effect::persist(event("b")).then(n("persist")).then(|_, _| Effect::persist(event("e")).then(nested)))
        .and(Effect::defer(n("defer")))
        .and(Effect::persist_all([event("c"), event("d")]).then(n("persist_all")))
        .and(Effect::none().then(n("at once")));
    make(&actor, |_, _| effect).await;
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c", "d", "e"]);
    let expected = [
        "defer with nothing pending on []",
        // What runs at once runs before anything is stored.
        "at once on []",
        "persist_async on [a]",
        "defer_async on [a]",
        "persist on [a b]",
        "defer on [a b]",
        "persist_all on [a b c d]",
        "nested on [a b c d e]",
    ];
    assert_eq!(world.noted(), expected);
}

#[tokio::test(start_paused = true)]
async fn no_command_is_handled_between_persist_and_its_handler() {
    let world = World::new();
    let actor = world.spawn();
    world.store.hold();
    let (persisted, next) = (note(&world.notes, "handler"), note(&world.notes, "next command"));
    make(&actor, |_, _| Effect::persist(event("a")).then(persisted)).await;
    make(&actor, next).await;
    settle().await;
    assert_eq!(world.noted(), [""; 0]);
    world.store.let_go(1);
    settle().await;
    assert_eq!(world.noted(), ["handler on [a]", "next command on [a]"]);
}

#[tokio::test(start_paused = true)]
async fn commands_flow_while_events_are_persisted_async() {
    let world = World::new();
    let actor = world.spawn();
    world.store.hold();
    let (persisted, deferred, next) =
        (note(&world.notes, "handler"), note(&world.notes, "deferred"), note(&world.notes, "next command"));
    make(&actor, |_, _| Effect::persist_async(event("a")).then(persisted)).await;
    make(&actor, |_, _| Effect::defer_async(deferred)).await;
    make(&actor, next).await;
    settle().await;
    assert_eq!(world.noted(), ["next command on []"]);
    world.store.let_go(1);
    settle().await;
    assert_eq!(world.noted()[1..], ["handler on [a]", "deferred on [a]"]);
}

#[tokio::test(start_paused = true)]
async fn defer_keeps_commands_back_until_it_has_run() {
    let world = World::new();
    let actor = world.spawn();
    world.store.hold();
    let (deferred, next) = (note(&world.notes, "deferred"), note(&world.notes, "next command"));
    make(&actor, |_, _| Effect::persist_async(event("a")).and(Effect::defer(deferred))).await;
    make(&actor, next).await;
    settle().await;
    assert_eq!(world.noted(), [""; 0]);
    world.store.let_go(1);
    settle().await;
    assert_eq!(world.noted(), ["deferred on [a]", "next command on [a]"]);
}

#[tokio::test(start_paused = true)]
async fn all_that_is_registered_during_a_write_goes_in_the_next_one() {
    let world = World::new();
    let actor = world.spawn();
    world.store.hold();
    make(&actor, |_, _| Effect::persist_async(event("1"))).await;
    make(&actor, |_, _| Effect::persist_all_async([event("2"), event("3")])).await;
    make(&actor, |_, _| Effect::persist_async(event("4")).and(Effect::persist(event("5")))).await;
    settle().await;
    world.store.let_go(2);
    assert_eq!(state(&actor).await.unwrap(), ["1", "2", "3", "4", "5"]);
    assert_eq!(world.store.writes(), [vec![vec![1]], vec![vec![2, 3], vec![4], vec![5]]]);
    let writes = world.store.raw_writes();
    let after: Vec<_> = writes.iter().map(|write| write.after.map(|after| after.0)).collect();
    assert_eq!(after, [Some(0), Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn write_holds_no_more_than_a_journal_takes() {
    let world = World::new();
    let actor = world.spawn();
    world.store.hold();
    for number in 0..1_500 {
        make(&actor, move |_, _| Effect::persist_async(number.to_string())).await;
    }
    settle().await;
    world.store.let_go(3);
    assert_eq!(state(&actor).await.unwrap().len(), 1_500);
    let counts: Vec<_> = world.store.writes().iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 1_000, 499]);
}

#[tokio::test(start_paused = true)]
async fn each_event_of_persist_all_has_its_handler_on_the_state_so_far() {
    let world = World::new();
    let actor = world.spawn();
    let notes = world.notes.clone();
    let each = move |event: &String, state: &Vec<String>, context: &mut Context<Scripted>| {
        notes.add(format!("{event} on [{}] at {}", state.join(" "), context.last_sequence_number()));
        Effect::none()
    };
    let all = note(&world.notes, "all");
    make(&actor, |_, _| Effect::persist_all([event("a"), event("b")]).for_each(each).then(all)).await;
    state(&actor).await.unwrap();
    assert_eq!(world.noted(), ["a on [a] at 1", "b on [a b] at 2", "all on [a b]"]);
    assert_eq!(world.store.writes(), [vec![vec![1, 2]]]);
}

#[tokio::test(start_paused = true)]
async fn persist_all_of_nothing_stores_nothing_and_calls_no_handler_of_an_event() {
    let world = World::new();
    let actor = world.spawn();
    let after = note(&world.notes, "after");
    let each = |_: &String, _: &Vec<String>, _: &mut Context<Scripted>| -> Effect<Scripted> { panic!("there is no event") };
    make(&actor, move |_, _| Effect::persist_all([]).for_each(each).then(after)).await;
    assert_eq!(state(&actor).await.unwrap(), [""; 0]);
    assert_eq!(world.noted(), ["after on []"]);
    assert!(world.store.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn event_that_the_format_leaves_out_takes_no_number_and_runs_its_handler_in_its_place() {
    let world = World::new();
    let actor = world.spawn();
    let (first, dropped, last) = (note(&world.notes, "a"), note(&world.notes, "-"), note(&world.notes, "b"));
    make(&actor, |_, _| {
        let first = Effect::persist_async(event("a")).then(first);
        let dropped = Effect::persist_async(event("-")).then(dropped);
        first.and(dropped).and(Effect::persist_async(event("b")).then(last))
    })
    .await;
    state(&actor).await.unwrap();
    assert_eq!(world.noted(), ["a on [a]", "- on [a -]", "b on [a - b]"]);
    assert_eq!(known(&actor, Context::last_sequence_number).await.unwrap(), SequenceNumber(2));
    let alone = note(&world.notes, "alone");
    make(&actor, |_, _| Effect::persist(event("-")).then(alone)).await;
    state(&actor).await.unwrap();
    assert_eq!(world.noted()[3..], ["alone on [a - b -]"]);
    assert_eq!(world.store.writes().concat().concat(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn event_that_the_format_multiplies_takes_numbers_in_a_row_in_one_atomic_write() {
    let world = World::new();
    let actor = world.spawn();
    persist(&actor, "a+b").await.unwrap();
    persist(&actor, "c").await.unwrap();
    assert_eq!(known(&actor, Context::last_sequence_number).await.unwrap(), SequenceNumber(3));
    assert_eq!(world.store.writes(), [vec![vec![1, 2]], vec![vec![3]]]);
}

#[tokio::test(start_paused = true)]
async fn what_recovery_completed_persists_comes_before_the_first_command() {
    let world = World::new();
    let started = common::Starting::kind(|| Effect::persist(event("started")));
    let actor = system(world.store.clone(), 1).spawn(&started, "actor").unwrap();
    assert_eq!(actor.ask(PATIENCE, |reply_to| reply_to).await.unwrap(), ["started"]);
}

#[tokio::test(start_paused = true)]
async fn stashed_commands_come_back_in_order_before_those_that_wait() {
    let world = World::new();
    let actor = world.spawn();
    let n = |text| run(note(&world.notes, text));
    for text in ["s1", "s2", "s3"] {
        let command = n(text);
        make(&actor, move |_, _| Effect::stash(command)).await;
    }
    make(&actor, |_, _| Effect::unstash()).await;
    let (last, waits) = (note(&world.notes, "persisted"), note(&world.notes, "waits"));
    world.store.hold();
    make(&actor, |_, _| Effect::persist(event("a")).then(last).then(|_, _| Effect::unstash_all())).await;
    make(&actor, waits).await;
    settle().await;
    world.store.let_go(1);
    state(&actor).await.unwrap();
    assert_eq!(world.noted(), ["s1 on []", "persisted on [a]", "s2 on [a]", "s3 on [a]", "waits on [a]"]);
}

#[tokio::test(start_paused = true)]
async fn full_stash_drops_the_command_or_fails_the_actor_as_it_is_told() {
    let world = World::new();
    for (overflow, expected) in
        [(StashOverflow::Drop, None), (StashOverflow::Fail, Some(StopReason::Failed("the stash is full".to_owned())))]
    {
        let kind = scripted(&world.notes).stash_room(1, overflow).supervision(Supervision::STOP);
        let actor = system(world.store.clone(), 1).spawn(&kind, format!("{overflow:?}")).unwrap();
        make(&actor, |_, _| Effect::stash(run(|_, _| Effect::none()))).await;
        let asked = actor.ask(PATIENCE, |reply_to| {
            let question = run(|_, _| Effect::reply(reply_to, ()));
            run(|_, _| Effect::stash(question))
        });
        assert_eq!(asked.await, Err(AskError::NoAnswer));
        match expected {
            None => assert_eq!(state(&actor).await.unwrap(), [""; 0]),
            Some(reason) => assert_eq!(actor.stopped().await, reason),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn mailbox_takes_so_many_commands_and_lets_senders_wait() {
    let world = World::new();
    let actor = system(world.store.clone(), 1).spawn(&scripted(&world.notes).mailbox_room(2), "actor").unwrap();
    world.store.hold();
    make(&actor, |_, _| Effect::persist(event("a"))).await;
    settle().await;
    for text in ["1", "2"] {
        assert!(actor.try_tell(run(note(&world.notes, text))).is_ok());
    }
    assert!(matches!(actor.try_tell(run(note(&world.notes, "too many"))), Err(TellError::Full(_))));
    let (waiting, third) = (actor.clone(), note(&world.notes, "3"));
    let sender = tokio::spawn(async move { waiting.tell(run(third)).await.is_ok() });
    settle().await;
    assert!(!sender.is_finished());
    world.store.let_go(1);
    assert!(sender.await.unwrap());
    state(&actor).await.unwrap();
    assert_eq!(world.noted(), ["1 on [a]", "2 on [a]", "3 on [a]"]);
}

#[tokio::test(start_paused = true)]
async fn mailbox_that_is_full_refuses_a_command_if_its_kind_says_so() {
    let world = World::new();
    let kind = scripted(&world.notes).mailbox_room(1).mailbox_overflow(MailboxOverflow::Refuse);
    let actor = system(world.store.clone(), 1).spawn(&kind, "actor").unwrap();
    settle().await;
    world.store.hold();
    make(&actor, |_, _| Effect::persist(event("a"))).await;
    settle().await;
    make(&actor, |_, _| Effect::none()).await;
    assert!(matches!(actor.tell(run(|_, _| Effect::none())).await, Err(TellError::Full(_))));
    assert_eq!(state(&actor).await, Err(AskError::Full));
    world.store.let_go(1);
    settle().await;
    assert_eq!(state(&actor).await.unwrap(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn stop_comes_after_what_was_registered_before_it() {
    let world = World::new();
    let actor = world.spawn();
    let (before, after) = (note(&world.notes, "before"), note(&world.notes, "after"));
    make(&actor, |_, _| {
        let before = Effect::persist(event("a")).then(before);
        before.and(Effect::save_snapshot()).and(Effect::stop()).and(Effect::persist(event("b")).then(after))
    })
    .await;
    assert_eq!(actor.stopped().await, StopReason::Done);
    let noted = world.noted();
    assert_eq!(noted.len(), 2, "{noted:?}");
    assert!(noted.contains(&event("before on [a]")) && noted.iter().any(|note| note.starts_with("SnapshotSaved")), "{noted:?}");
    assert_eq!(world.store.writes(), [vec![vec![1]]]);
    assert!(matches!(actor.tell(run(|_, _| Effect::none())).await, Err(TellError::Stopped(_))));
}

#[tokio::test(start_paused = true)]
async fn owner_stops_an_actor_after_what_it_was_sent() {
    let world = World::new();
    let actor = world.spawn();
    for text in ["a", "b"] {
        let event = event(text);
        make(&actor, |_, _| Effect::persist(event)).await;
    }
    actor.stop();
    assert!(matches!(actor.tell(run(|_, _| Effect::none())).await, Err(TellError::Stopped(_))));
    assert_eq!(actor.stopped().await, StopReason::Done);
    assert_eq!(world.store.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_when_the_time_is_over_or_nobody_will_answer() {
    let world = World::new();
    let actor = world.spawn();
    let kept = actor.ask(Duration::from_secs(1), |reply_to: cairn_actor::actor_ref::ReplyTo<()>| {
        run(|_, _| Effect::stash(run(|_, _| Effect::reply(reply_to, ()))))
    });
    assert_eq!(kept.await, Err(AskError::TimedOut));
    let dropped = actor.ask(PATIENCE, |reply_to: cairn_actor::actor_ref::ReplyTo<()>| {
        run(|_, _| {
            drop(reply_to);
            Effect::none()
        })
    });
    assert_eq!(dropped.await, Err(AskError::NoAnswer));
    actor.stop();
    actor.stopped().await;
    assert_eq!(state(&actor).await, Err(AskError::Stopped));
}
