//! At-least-once delivery from actor to actor (contract 3.3), through crashes and losses.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cairn_actor::actor_ref::{ActorRef, ReplyTo};
use cairn_actor::behavior::Behavior;
use cairn_actor::codec::Cbor;
use cairn_actor::context::Context;
use cairn_actor::delivery::{DeliveryId, DeliverySettings, DeliverySnapshot, UnconfirmedDelivery};
use cairn_actor::effect::Effect;
use cairn_actor::format::Refusal;
use cairn_actor::kind::ActorKind;
use cairn_actor::outbox::{Outbox, Redelivery};
use cairn_client::memory::MemoryCairn;
use common::{Notes, PATIENCE};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Sends texts to a place that may be deaf.
struct Sender {
    outbox: Outbox<Command, (), String>,
    notes: Notes,
}

enum Command {
    Send(String, ReplyTo<()>),
    Confirm(u64),
    Unconfirmed(ReplyTo<usize>),
    Warned(usize),
    Save,
    Crash,
    Rest,
}

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Sent(String),
    Confirmed(u64),
}

#[derive(Serialize, Deserialize, Default)]
struct State {
    deliveries: Option<DeliverySnapshot<(), String>>,
}

impl Behavior for Sender {
    type State = State;
    type Command = Command;
    type Event = Event;

    fn empty_state(&self) -> State {
        State::default()
    }

    fn apply(_: &mut State, _: &Event) {}

    fn handle(&mut self, _: &State, command: Command, context: &mut Context<Self>) -> Effect<Self> {
        match command {
            Command::Send(text, reply_to) if self.outbox.has_room(1) => {
                Effect::persist(Event::Sent(text)).then_reply(reply_to, |_| ())
            }
            Command::Send(..) => Effect::none(),
            Command::Confirm(id) => Effect::persist(Event::Confirmed(id)),
            Command::Unconfirmed(reply_to) => Effect::reply(reply_to, self.outbox.unconfirmed_count()),
            Command::Warned(count) => {
                self.notes.add(format!("{count} not confirmed"));
                Effect::none()
            }
            Command::Save => Effect::save_snapshot().and(Effect::delete_events(context.last_sequence_number())),
            Command::Crash => Effect::fail("crash"),
            Command::Rest => Effect::stop(),
        }
    }

    fn applied(&mut self, _: &State, event: &Event, _: &mut Context<Self>) -> Result<(), Refusal> {
        match event {
            Event::Sent(text) => self.outbox.deliver((), |id| format!("{text} {id}"))?,
            Event::Confirmed(id) => drop(self.outbox.confirm(DeliveryId(*id))),
        }
        Ok(())
    }

    fn outbox(&mut self) -> Option<&mut dyn Redelivery<Command>> {
        Some(&mut self.outbox)
    }

    fn before_snapshot(&self, state: &mut State) {
        state.deliveries = Some(self.outbox.snapshot());
    }

    fn after_snapshot(&mut self, state: &mut State) {
        if let Some(deliveries) = state.deliveries.take() {
            self.outbox.restore(deliveries);
        }
    }
}

struct World {
    notes: Notes,
    cluster: MemoryCairn,
    /// Whether what is sent arrives, and is confirmed.
    is_deaf: Arc<AtomicBool>,
    started: Instant,
}

impl World {
    fn new() -> Self {
        let is_deaf = Arc::new(AtomicBool::new(false));
        Self { notes: Notes::default(), cluster: MemoryCairn::new(), is_deaf, started: Instant::now() }
    }

    fn spawn(&self, seed: u64, settings: DeliverySettings) -> ActorRef<Command> {
        let (notes, is_deaf, started) = (self.notes.clone(), self.is_deaf.clone(), self.started);
        let myself: Arc<std::sync::OnceLock<ActorRef<Command>>> = Arc::default();
        let confirm_to = myself.clone();
        let kind = ActorKind::new(
            move |persistence_id| {
                let (is_deaf, confirm_to, sent) = (is_deaf.clone(), confirm_to.clone(), notes.clone());
                let send = move |delivery: UnconfirmedDelivery<(), String>| {
                    sent.add(format!("{} after {} s", delivery.message, started.elapsed().as_secs_f32()));
                    if !is_deaf.load(Ordering::Relaxed)
                        && let Some(myself) = confirm_to.get()
                    {
                        // One that has no room is told again.
                        drop(myself.try_tell(Command::Confirm(delivery.id.0)));
                    }
                };
                let outbox = Outbox::new(persistence_id.clone(), settings, send);
                Sender { outbox: outbox.on_warning(|late| Command::Warned(late.len())), notes: notes.clone() }
            },
            cairn_actor::adapter::Format::new(Cbor),
        );
        let kind = kind.snapshots(Cbor);
        let actor = common::system(self.cluster.client(), seed).entities(kind).get("sender").unwrap();
        assert!(myself.set(actor.clone()).is_ok());
        actor
    }
}

async fn send(actor: &ActorRef<Command>, text: &str) {
    let text = text.to_owned();
    actor.ask(PATIENCE, |reply_to| Command::Send(text, reply_to)).await.unwrap();
}

async fn unconfirmed(actor: &ActorRef<Command>) -> usize {
    actor.ask(PATIENCE, Command::Unconfirmed).await.unwrap()
}

async fn seconds(seconds: f32) {
    tokio::time::sleep(Duration::from_secs_f32(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn message_that_is_confirmed_is_sent_once() {
    let world = World::new();
    let actor = world.spawn(1, DeliverySettings::default());
    send(&actor, "a").await;
    send(&actor, "b").await;
    seconds(60.0).await;
    assert_eq!(unconfirmed(&actor).await, 0);
    assert_eq!(world.notes.all().len(), 2, "{:?}", world.notes.all());
}

#[tokio::test(start_paused = true)]
async fn message_is_sent_again_each_interval_until_it_is_confirmed() {
    let world = World::new();
    let actor = world.spawn(1, DeliverySettings::default());
    world.is_deaf.store(true, Ordering::Relaxed);
    send(&actor, "a").await;
    seconds(12.0).await;
    world.is_deaf.store(false, Ordering::Relaxed);
    seconds(60.0).await;
    assert_eq!(unconfirmed(&actor).await, 0);
    assert_eq!(world.notes.all(), ["a 1 after 0 s", "a 1 after 5 s", "a 1 after 10 s", "a 1 after 15 s"]);
}

#[tokio::test(start_paused = true)]
async fn replayed_messages_go_out_when_recovery_is_over_and_before_new_ones() {
    let world = World::new();
    let actor = world.spawn(1, DeliverySettings::default());
    send(&actor, "confirmed").await;
    seconds(1.0).await;
    world.is_deaf.store(true, Ordering::Relaxed);
    send(&actor, "a").await;
    send(&actor, "b").await;
    actor.tell(Command::Crash).await.unwrap_or_else(|_| panic!("it runs"));
    world.is_deaf.store(false, Ordering::Relaxed);
    send(&actor, "c").await;
    let messages: Vec<_> = world.notes.all().iter().map(|note| note.split(" after").next().unwrap().to_owned()).collect();
    assert_eq!(messages, ["confirmed 1", "a 2", "b 3", "a 2", "b 3", "c 4"]);
    seconds(1.0).await;
    assert_eq!(unconfirmed(&actor).await, 0);
}

#[tokio::test(start_paused = true)]
async fn deliveries_outlive_the_events_in_a_snapshot() {
    let world = World::new();
    let actor = world.spawn(1, DeliverySettings::default());
    world.is_deaf.store(true, Ordering::Relaxed);
    send(&actor, "a").await;
    send(&actor, "b").await;
    actor.tell(Command::Confirm(1)).await.unwrap_or_else(|_| panic!("it runs"));
    actor.tell(Command::Save).await.unwrap_or_else(|_| panic!("it runs"));
    actor.tell(Command::Crash).await.unwrap_or_else(|_| panic!("it runs"));
    assert_eq!(unconfirmed(&actor).await, 1);
    send(&actor, "c").await;
    let messages: Vec<_> = world.notes.all().iter().map(|note| note.split(" after").next().unwrap().to_owned()).collect();
    assert_eq!(messages, ["a 1", "b 2", "b 2", "c 3"]);
}

#[tokio::test(start_paused = true)]
async fn actor_is_warned_once_of_messages_that_are_not_confirmed() {
    let world = World::new();
    let actor = world.spawn(1, DeliverySettings { warn_after_attempts: 3, ..DeliverySettings::default() });
    world.is_deaf.store(true, Ordering::Relaxed);
    send(&actor, "a").await;
    send(&actor, "b").await;
    seconds(300.0).await;
    let warned: Vec<_> = world.notes.all().into_iter().filter(|note| note.ends_with("not confirmed")).collect();
    assert_eq!(warned, ["2 not confirmed"]);
    assert!(actor.try_tell(Command::Save).is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_deliveries_than_may_wait_fail_the_recovery() {
    let world = World::new();
    world.is_deaf.store(true, Ordering::Relaxed);
    let actor = world.spawn(1, DeliverySettings::default());
    for text in ["a", "b", "c"] {
        send(&actor, text).await;
    }
    let failed = world.spawn(2, DeliverySettings { unconfirmed_max: 2, ..DeliverySettings::default() });
    assert!(failed.ask(Duration::from_secs(600), Command::Unconfirmed).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn entity_with_messages_that_are_not_confirmed_goes_on_sending() {
    let world = World::new();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let notes = world.notes.clone();
    let kind = ActorKind::new(
        move |persistence_id| {
            let counted = counted.clone();
            let outbox = Outbox::new(persistence_id.clone(), DeliverySettings::default(), move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            Sender { outbox, notes: notes.clone() }
        },
        cairn_actor::adapter::Format::new(Cbor),
    );
    let entities = common::system(world.cluster.client(), 1).entities(kind.passivate_after(Duration::from_secs(3)));
    let actor = entities.get("sender").unwrap();
    send(&actor, "a").await;
    seconds(60.0).await;
    assert!(sent.load(Ordering::Relaxed) > 8);
    actor.tell(Command::Rest).await.unwrap_or_else(|_| panic!("it runs"));
}
