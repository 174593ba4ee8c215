//! What becomes of a persistent actor is what kameo, its links and its supervisors see.

#[path = "../../actor/tests/frameworks/counter.rs"]
mod counter;

use std::time::Duration;

use cairn_actor::kind::MailboxOverflow;
use cairn_actor::testing::faulty::{Call, Fault};
use cairn_actor::{AskError, StopReason};
use cairn_client::Error;
use cairn_kameo::{Ask, Persistent, PersistentError, Setup, Tell};
use counter::{Command, Counter, NAME, World};
use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::error::{ActorStopReason, HookError, Infallible, SendError};
use kameo::supervision::RestartPolicy;

type Actors = ActorRef<Persistent<Counter>>;

fn setup(world: &World) -> Setup<Counter> {
    Setup { system: world.system(1), kind: world.kind(), persistence_id: NAME.to_owned() }
}

async fn tell(actor: &Actors, command: Command) {
    actor.tell(Tell(command)).await.expect("is taken");
}

async fn total(actor: &Actors) -> u64 {
    actor.ask(Ask::new(Command::Read)).await.expect("is answered")
}

/// What ended an actor, as its behaviour has it; none if it ended normally.
async fn ending(actor: &Actors) -> Option<StopReason> {
    match actor.wait_for_shutdown_result().await {
        Ok(ActorStopReason::Normal) => None,
        Ok(ActorStopReason::Panicked(error)) => match error.downcast::<PersistentError>() {
            Some(PersistentError::Ended(reason)) => Some(reason),
            other => panic!("it failed otherwise: {other:?}, {error}"),
        },
        other => panic!("it ended otherwise: {other:?}"),
    }
}

fn failed(reason: &str) -> Option<StopReason> {
    Some(StopReason::Failed(reason.to_owned()))
}

#[tokio::test]
async fn a_behaviour_that_fails_ends_its_actor_as_a_panic_does_and_is_not_restarted_by_itself() {
    for (command, reason) in [(Command::Fail, "it was told to"), (Command::Panic, "it was told to panic")] {
        let world = World::new();
        let actor = Persistent::spawn(setup(&world));
        tell(&actor, Command::Add(1)).await;
        tell(&actor, command).await;
        assert_eq!(ending(&actor).await, failed(reason));
        assert_eq!((world.incarnations(), world.stored().await), (1, 1));
        let asked = actor.ask(Ask::new(Command::Read)).await;
        assert!(matches!(asked, Err(SendError::ActorNotRunning(_))), "it takes nothing more");
    }
}

#[tokio::test]
async fn a_behaviour_that_is_done_ends_its_actor_normally_whatever_comes_after() {
    for behind in [0, 1, 20] {
        let world = World::new();
        let actor = Persistent::spawn(setup(&world));
        tell(&actor, Command::Add(1)).await;
        tell(&actor, Command::Close).await;
        for _ in 0..behind {
            // Once it has ended nothing is taken, which is the sender's to know.
            if actor.tell(Tell(Command::Add(1))).await.is_err() {
                break;
            }
        }
        assert_eq!(ending(&actor).await, None, "{behind} commands came after");
        assert_eq!(world.stored().await, 1);
    }
}

#[tokio::test]
async fn a_superseded_behaviour_ends_its_actor_and_says_so() {
    let world = World::new();
    let actor = Persistent::spawn(setup(&world));
    tell(&actor, Command::Add(1)).await;
    assert_eq!(total(&actor).await, 1);
    world.supersede().await;
    tell(&actor, Command::Add(1)).await;
    assert_eq!(ending(&actor).await, Some(StopReason::Superseded));
    assert_eq!(world.stored().await, 1);
}

#[tokio::test]
async fn a_recovery_that_fails_ends_the_actor_that_had_started_before_it() {
    let world = World::new();
    world.store.next(Call::Recover, Fault::Fail(Error::Damaged { message: "on purpose".to_owned() }));
    let actor = Persistent::spawn(setup(&world));
    assert!(actor.wait_for_startup_result().await.is_ok(), "it is started at once, and recovers meanwhile");
    let Some(StopReason::Failed(reason)) = ending(&actor).await else { panic!("it did not fail") };
    assert!(reason.contains("on purpose"), "{reason}");
}

#[tokio::test]
async fn a_name_that_is_none_does_not_start() {
    let actor = Persistent::spawn(Setup { persistence_id: " ".to_owned(), ..setup(&World::new()) });
    let started = actor.wait_for_startup_result().await;
    assert!(matches!(started, Err(HookError::Error(PersistentError::NotStarted(_)))), "{started:?}");
}

#[tokio::test]
async fn what_a_stopping_actor_was_sent_is_persisted_before_its_result_is_there() {
    let world = World::new();
    world.store.inject(|call, _| match call {
        Call::Write => Fault::Delay(Duration::from_millis(20)),
        _ => Fault::None,
    });
    let actor = Persistent::spawn(setup(&world));
    for _ in 0..10 {
        tell(&actor, Command::Add(1)).await;
    }
    actor.stop_gracefully().await.expect("it runs");
    assert_eq!(ending(&actor).await, None);
    assert_eq!(world.stored().await, 10);
}

#[tokio::test]
async fn who_asks_an_actor_that_fails_is_told_that_no_answer_comes() {
    let world = World::new();
    let actor = Persistent::spawn(setup(&world));
    let asked = actor.ask(Ask::<Command, u64>::new(|_| Command::Fail)).await;
    assert!(matches!(asked, Err(SendError::HandlerError(AskError::NoAnswer))), "{asked:?}");
    assert_eq!(ending(&actor).await, failed("it was told to"));
}

#[tokio::test]
async fn a_full_mailbox_is_told_to_who_asks_and_ends_nothing() {
    let world = World::new();
    world.store.next(Call::Write, Fault::Silence);
    let kind = world.kind().mailbox_room(2).mailbox_overflow(MailboxOverflow::Refuse);
    let actor = Persistent::spawn(Setup { kind, ..setup(&world) });
    for _ in 0..20 {
        tell(&actor, Command::Add(1)).await;
    }
    let refused = actor.ask(Tell(Command::Add(1))).await;
    assert!(matches!(refused, Err(SendError::HandlerError(PersistentError::Full))), "{refused:?}");
    let asked = actor.ask(Ask::new(Command::Read)).await;
    assert!(matches!(asked, Err(SendError::HandlerError(AskError::Full))), "{asked:?}");
    assert!(actor.is_alive());
}

/// Supervises as kameo does by itself.
struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

#[tokio::test]
async fn a_supervisor_restarts_who_failed_with_all_its_events_and_leaves_who_is_done() {
    let world = World::new();
    let supervisor = Supervisor::spawn(());
    let child = Persistent::supervise(&supervisor, setup(&world)).restart_policy(RestartPolicy::Transient);
    let child = child.restart_limit(5, Duration::from_secs(60)).spawn().await;
    for failures in 1..=3 {
        tell(&child, Command::Add(1)).await;
        tell(&child, Command::Fail).await;
        // A question that the end overtook is asked again: of the next incarnation.
        let counted = async {
            loop {
                match child.ask(Ask::new(Command::Read)).await {
                    Ok(total) if world.incarnations() == failures + 1 => return total,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let counted = tokio::time::timeout(Duration::from_secs(30), counted).await.expect("it comes back");
        assert_eq!((counted, world.incarnations()), (failures as u64, failures + 1));
    }
    tell(&child, Command::Close).await;
    let gone = async {
        while !matches!(child.ask(Ask::new(Command::Read)).await, Err(SendError::ActorNotRunning(_))) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it ends");
    assert_eq!(world.incarnations(), 4, "one for each start by the supervisor, and none besides");
}
