//! An actor that does what a test tells it, and notes what happens to it.
#![allow(dead_code, reason = "no test file uses all of it")]

pub mod meddled;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_actor::actor_ref::{ActorRef, AskError, ReplyTo};
use cairn_actor::behavior::{Behavior, PersistFailure, PersistRejected};
use cairn_actor::context::Context;
use cairn_actor::effect::Effect;
use cairn_actor::format::{Codec, EventFormat, FormatError};
use cairn_actor::kind::ActorKind;
use cairn_actor::recovery::RecoveryFailure;
use cairn_actor::signal::Signal;
use cairn_actor::system::ActorSystem;
use cairn_client::{NewEvent, Payload, PersistenceId, SequenceNumber, StoredEvent};

/// Longer than anything here takes, on a clock that runs by itself.
pub const PATIENCE: Duration = Duration::from_secs(600);

type Told = Box<dyn FnOnce(&Vec<String>, &mut Context<Scripted>) -> Effect<Scripted> + Send>;

/// What a test tells the actor to do.
pub struct Tell(Told);

/// What happened to all actors of a test, in order.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The state is the list of the events.
pub struct Scripted {
    pub notes: Notes,
}

impl Behavior for Scripted {
    type State = Vec<String>;
    type Command = Tell;
    type Event = String;

    fn empty_state(&self) -> Vec<String> {
        Vec::new()
    }

    fn apply(state: &mut Vec<String>, event: &String) {
        assert_ne!(event, "poison", "an event that no state can take");
        state.push(event.clone());
    }

    fn handle(&mut self, state: &Vec<String>, command: Tell, context: &mut Context<Self>) -> Effect<Self> {
        (command.0)(state, context)
    }

    fn accepts_snapshot(&self, snapshot: &Vec<String>, _: SequenceNumber) -> bool {
        !snapshot.iter().any(|event| event == "odd")
    }

    fn recovery_completed(&mut self, state: &Vec<String>, context: &mut Context<Self>) -> Effect<Self> {
        self.notes.add(format!("recovered {} at {}", state.join(" "), context.last_sequence_number()));
        Effect::none()
    }

    fn recovery_failed(&mut self, failure: &RecoveryFailure, _: &PersistenceId) {
        self.notes.add(format!("recovery failed: {failure}"));
    }

    fn on_persist_rejected(
        &mut self,
        rejected: &PersistRejected<String>,
        _: &Vec<String>,
        _: &mut Context<Self>,
    ) -> Effect<Self> {
        self.notes.add(format!("rejected {}", rejected.events.join(" ")));
        Effect::none()
    }

    fn on_persist_failure(&mut self, failure: &PersistFailure<'_, String>, _: &mut Context<Self>) {
        let events: Vec<_> = failure.events.iter().map(|event| event.as_str()).collect();
        self.notes.add(format!("{:?} {} from {}", failure.outcome, events.join(" "), failure.first));
    }

    fn on_signal(&mut self, signal: Signal<Vec<String>>, _: &Vec<String>, _: &mut Context<Self>) -> Effect<Self> {
        self.notes.add(format!("{signal:?}"));
        Effect::none()
    }
}

/// Events as text. One that begins with `!` does not become bytes, `-` is not stored, `a+b` is stored as two.
pub struct Text;

fn error(message: &str) -> FormatError {
    FormatError { message: message.to_owned(), serializer_id: 0, manifest: String::new() }
}

impl EventFormat<String> for Text {
    fn to_journal(&self, event: &String) -> Result<Vec<NewEvent>, FormatError> {
        match event.chars().next() {
            Some('!') => Err(error("not for the journal")),
            Some('-') => Ok(Vec::new()),
            _ => Ok(event.split('+').map(|part| part.to_owned().into()).collect()),
        }
    }

    fn from_journal(&self, stored: &StoredEvent) -> Result<Vec<String>, FormatError> {
        match String::from_utf8(stored.event.payload.bytes.to_vec()) {
            Ok(text) if text != "garbage" => Ok(vec![text]),
            _ => Err(error("not from the journal")),
        }
    }
}

/// States as text; one with an event `?` does not become bytes.
impl Codec<Vec<String>> for Text {
    fn encode(&self, state: &Vec<String>) -> Result<Payload, FormatError> {
        if state.iter().any(|event| event == "?") {
            return Err(error("not for a snapshot"));
        }
        Ok(Payload { serializer_id: 7, manifest: "text".to_owned(), bytes: state.join(" ").into() })
    }

    fn decode(&self, payload: &Payload) -> Result<Vec<String>, FormatError> {
        if (payload.serializer_id, payload.manifest.as_str()) != (7, "text") {
            return Err(error("not a state"));
        }
        let text = String::from_utf8(payload.bytes.to_vec()).map_err(|_| error("not text"))?;
        Ok(text.split(' ').filter(|event| !event.is_empty()).map(str::to_owned).collect())
    }
}

/// The kind of such actors, all of which note in the same place.
pub fn scripted(notes: &Notes) -> ActorKind<Scripted> {
    let notes = notes.clone();
    ActorKind::new(move |_| Scripted { notes: notes.clone() }, Text).snapshots(Text)
}

/// A system with a seed.
pub fn system(store: impl cairn_actor::store::Store, seed: u64) -> ActorSystem {
    ActorSystem::builder(store).seed(seed).build()
}

/// A command that does this.
pub fn run(told: impl FnOnce(&Vec<String>, &mut Context<Scripted>) -> Effect<Scripted> + Send + 'static) -> Tell {
    Tell(Box::new(told))
}

/// Makes an actor do something.
pub async fn make(
    actor: &ActorRef<Tell>,
    told: impl FnOnce(&Vec<String>, &mut Context<Scripted>) -> Effect<Scripted> + Send + 'static,
) {
    actor.tell(run(told)).await.unwrap_or_else(|_| panic!("the actor has stopped"));
}

/// Persists an event, and waits until it is applied.
pub async fn persist(actor: &ActorRef<Tell>, event: &str) -> Result<(), AskError> {
    let event = event.to_owned();
    let persist = |reply_to: ReplyTo<()>| run(|_, _| Effect::persist(event).then_reply(reply_to, |_| ()));
    actor.ask(PATIENCE, persist).await
}

/// The actor's state, when all that it was told before is done.
pub async fn state(actor: &ActorRef<Tell>) -> Result<Vec<String>, AskError> {
    let read =
        |reply_to: ReplyTo<Vec<String>>| run(|_, _| Effect::defer(|_, _| Effect::none()).then_reply(reply_to, Clone::clone));
    actor.ask(PATIENCE, read).await
}

/// What an actor knows of itself.
pub async fn known<R: Send + 'static>(
    actor: &ActorRef<Tell>,
    look: impl FnOnce(&Context<Scripted>) -> R + Send + 'static,
) -> Result<R, AskError> {
    actor.ask(PATIENCE, |reply_to| run(|_, context| Effect::reply(reply_to, look(context)))).await
}

/// An actor that does something when it has recovered, and answers with its state.
pub struct Starting {
    start: Arc<dyn Fn() -> Effect<Starting> + Send + Sync>,
}

impl Starting {
    pub fn kind(start: impl Fn() -> Effect<Self> + Send + Sync + 'static) -> ActorKind<Self> {
        let start: Arc<dyn Fn() -> Effect<Self> + Send + Sync> = Arc::new(start);
        ActorKind::new(move |_| Self { start: start.clone() }, Text).snapshots(Text)
    }
}

impl Behavior for Starting {
    type State = Vec<String>;
    type Command = ReplyTo<Vec<String>>;
    type Event = String;

    fn empty_state(&self) -> Vec<String> {
        Vec::new()
    }

    fn apply(state: &mut Vec<String>, event: &String) {
        state.push(event.clone());
    }

    fn handle(&mut self, state: &Vec<String>, command: ReplyTo<Vec<String>>, _: &mut Context<Self>) -> Effect<Self> {
        Effect::reply(command, state.clone())
    }

    fn recovery_completed(&mut self, _: &Vec<String>, _: &mut Context<Self>) -> Effect<Self> {
        (self.start)()
    }
}
