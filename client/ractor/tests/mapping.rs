//! What becomes of a persistent actor is what its supervisor in ractor hears.

#[path = "../../actor/tests/frameworks/counter.rs"]
mod counter;

use std::time::Duration;

use cairn_actor::kind::MailboxOverflow;
use cairn_actor::testing::faulty::{Call, Fault};
use cairn_actor::{Recovery, ReplyTo};
use cairn_client::{Error, SequenceNumber};
use cairn_ractor::{Persistent, Setup};
use counter::{Command, Counter, NAME, World};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::mpsc;

/// What a supervisor heard of an actor's end.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Done,
    /// It was asked to stop, so.
    Stopped(String),
    Failed(String),
}

/// Tells what it hears.
struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = mpsc::UnboundedSender<Heard>;
    type Arguments = mpsc::UnboundedSender<Heard>;

    async fn pre_start(&self, _: ActorRef<()>, heard: Self::Arguments) -> Result<Self::State, ActorProcessingErr> {
        Ok(heard)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        heard: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(_, _, None) => heard.send(Heard::Done)?,
            SupervisionEvent::ActorTerminated(_, _, Some(reason)) => heard.send(Heard::Stopped(reason))?,
            SupervisionEvent::ActorFailed(_, error) => heard.send(Heard::Failed(error.to_string()))?,
            _ => {}
        }
        Ok(())
    }
}

/// A supervisor, and what it hears.
struct Supervised {
    supervisor: ActorRef<()>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Supervised {
    async fn new() -> Self {
        let (hears, heard) = mpsc::unbounded_channel();
        let (supervisor, _) = Actor::spawn(None, Supervisor, hears).await.expect("starts");
        Self { supervisor, heard }
    }

    async fn spawn(&self, setup: Setup<Counter>) -> Result<ActorRef<Command>, SpawnErr> {
        Ok(Actor::spawn_linked(None, Persistent::new(), setup, self.supervisor.get_cell()).await?.0)
    }

    async fn hears(&mut self) -> Heard {
        let heard = tokio::time::timeout(Duration::from_secs(30), self.heard.recv()).await;
        heard.expect("it ends in time").expect("the supervisor lives")
    }

    async fn hears_of_failure(&mut self, reason: &str) {
        let heard = self.hears().await;
        assert!(matches!(&heard, Heard::Failed(error) if error.contains(reason)), "{heard:?}, and not {reason}");
    }
}

fn setup(world: &World) -> Setup<Counter> {
    let recovery = Recovery::default();
    Setup { system: world.system(1), kind: world.kind(), persistence_id: NAME.to_owned(), recovery }
}

fn cast(actor: &ActorRef<Command>, command: Command) {
    actor.cast(command).expect("it runs");
}

async fn total(actor: &ActorRef<Command>) -> u64 {
    let (reply_to, answer) = ReplyTo::new();
    cast(actor, Command::Read(reply_to));
    answer.await.expect("is answered")
}

#[tokio::test]
async fn a_behaviour_that_fails_ends_its_actor_as_a_failure_and_is_not_restarted_by_itself() {
    for (command, reason) in [(Command::Fail, "it was told to"), (Command::Panic, "it was told to panic")] {
        let (world, mut supervised) = (World::new(), Supervised::new().await);
        let actor = supervised.spawn(setup(&world)).await.expect("starts");
        cast(&actor, Command::Add(1));
        cast(&actor, command);
        supervised.hears_of_failure(reason).await;
        assert_eq!((world.incarnations(), world.stored().await), (1, 1));
    }
}

#[tokio::test]
async fn a_supervisor_may_start_it_again_with_all_its_events() {
    let (world, mut supervised) = (World::new(), Supervised::new().await);
    for failures in 0..3 {
        let actor = supervised.spawn(setup(&world)).await.expect("starts");
        assert_eq!(total(&actor).await, failures);
        cast(&actor, Command::Add(1));
        cast(&actor, Command::Fail);
        supervised.hears_of_failure("it was told to").await;
    }
    assert_eq!(world.incarnations(), 3);
}

#[tokio::test]
async fn a_behaviour_that_is_done_ends_its_actor_normally_whatever_comes_after() {
    for behind in [0, 1, 20] {
        let (world, mut supervised) = (World::new(), Supervised::new().await);
        let actor = supervised.spawn(setup(&world)).await.expect("starts");
        cast(&actor, Command::Add(1));
        cast(&actor, Command::Close);
        for _ in 0..behind {
            cast(&actor, Command::Add(1));
        }
        assert_eq!(supervised.hears().await, Heard::Done, "{behind} commands came after");
        assert_eq!(world.stored().await, 1);
    }
}

#[tokio::test]
async fn a_superseded_behaviour_ends_its_actor_as_a_failure() {
    let (world, mut supervised) = (World::new(), Supervised::new().await);
    let actor = supervised.spawn(setup(&world)).await.expect("starts");
    cast(&actor, Command::Add(1));
    assert_eq!(total(&actor).await, 1);
    world.supersede().await;
    cast(&actor, Command::Add(1));
    supervised.hears_of_failure("Superseded").await;
    assert_eq!(world.stored().await, 1);
}

#[tokio::test]
async fn a_recovery_that_fails_is_supervised() {
    let (world, mut supervised) = (World::new(), Supervised::new().await);
    world.store.next(Call::Recover, Fault::Fail(Error::Damaged { message: "on purpose".to_owned() }));
    supervised.spawn(setup(&world)).await.expect("it is started before it recovers");
    supervised.hears_of_failure("on purpose").await;
    assert_eq!(world.store.calls(Call::Recover), 1);
}

#[tokio::test]
async fn a_recovery_is_the_one_that_was_asked_for() {
    let (world, supervised) = (World::new(), Supervised::new().await);
    let first = supervised.spawn(setup(&world)).await.expect("starts");
    for _ in 0..5 {
        cast(&first, Command::Add(1));
    }
    assert_eq!(total(&first).await, 5);
    first.drain_and_wait(None).await.expect("ends");
    let bounded = Setup { recovery: Recovery { to: SequenceNumber(3), ..Recovery::default() }, ..setup(&world) };
    assert_eq!(total(&supervised.spawn(bounded).await.expect("starts")).await, 3);
}

#[tokio::test]
async fn a_full_mailbox_ends_nothing_and_who_asks_is_told_that_no_answer_comes() {
    let (world, supervised) = (World::new(), Supervised::new().await);
    world.store.next(Call::Write, Fault::Delay(Duration::from_millis(500)));
    let kind = world.kind().mailbox_room(2).mailbox_overflow(MailboxOverflow::Refuse);
    let actor = supervised.spawn(Setup { kind, ..setup(&world) }).await.expect("starts");
    for _ in 0..20 {
        cast(&actor, Command::Add(1));
    }
    let (reply_to, answer) = ReplyTo::new();
    cast(&actor, Command::Read(reply_to));
    assert!(answer.await.is_err(), "it was dropped");
    actor.drain_and_wait(None).await.expect("ends");
    let stored = world.stored().await;
    assert!((1..20).contains(&stored), "what had room is stored, {stored} of 20");
}

#[tokio::test]
async fn a_name_that_is_none_does_not_start() {
    let (world, supervised) = (World::new(), Supervised::new().await);
    let started = supervised.spawn(Setup { persistence_id: " ".to_owned(), ..setup(&world) }).await;
    assert!(matches!(started, Err(SpawnErr::StartupFailed(_))), "{started:?}");
}

#[tokio::test]
async fn what_was_sent_before_it_drains_is_persisted_when_it_has_ended() {
    let (world, mut supervised) = (World::new(), Supervised::new().await);
    world.store.inject(|call, _| match call {
        Call::Write => Fault::Delay(Duration::from_millis(20)),
        _ => Fault::None,
    });
    let actor = supervised.spawn(setup(&world)).await.expect("starts");
    for _ in 0..10 {
        cast(&actor, Command::Add(1));
    }
    actor.drain_and_wait(None).await.expect("ends");
    assert_eq!(world.stored().await, 10);
    assert_eq!(supervised.hears().await, Heard::Stopped("Drained".to_owned()));
}
