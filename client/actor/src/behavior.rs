//! What an actor is: its state, its commands, its events, and how they belong together.
//!
//! A command is judged by [`Behavior::handle`], which sees the state and says with an [`Effect`] what shall happen. What happened
//! is an event: it is stored, and only then [`Behavior::apply`] changes the state, and only then the handlers of the effect run and
//! answers go out. After a crash the same events give the same state.
//!
//! ```
//! use std::time::Duration;
//!
//! use cairn_actor::behavior::Behavior;
//! use cairn_actor::context::Context;
//! use cairn_actor::effect::Effect;
//! use cairn_actor::actor_ref::ReplyTo;
//! use cairn_actor::kind::ActorKind;
//! use cairn_actor::system::ActorSystem;
//! use cairn_client::memory::MemoryCairn;
//!
//! struct Counter;
//!
//! enum Command {
//!     Add(u64),
//!     Read(ReplyTo<u64>),
//! }
//!
//! impl Behavior for Counter {
//!     type State = u64;
//!     type Command = Command;
//!     type Event = u64;
//!
//!     fn empty_state(&self) -> u64 {
//!         0
//!     }
//!
//!     fn apply(total: &mut u64, added: &u64) {
//!         *total += added;
//!     }
//!
//!     fn handle(&mut self, total: &u64, command: Command, _: &mut Context<Self>) -> Effect<Self> {
//!         match command {
//!             Command::Add(number) => Effect::persist(number),
//!             Command::Read(reply_to) => Effect::reply(reply_to, *total),
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let system = ActorSystem::new(MemoryCairn::new().client());
//! let counters = system.entities(ActorKind::cbor(|_| Counter));
//! let counter = counters.get("counter-1")?;
//! counter.tell(Command::Add(20)).await.map_err(|_| "stopped")?;
//! counter.tell(Command::Add(22)).await.map_err(|_| "stopped")?;
//! assert_eq!(counter.ask(Duration::from_secs(5), Command::Read).await?, 42);
//! # Ok(()) }
//! ```

use cairn_client::{Error, PersistenceId, SequenceNumber};

use crate::context::Context;
use crate::effect::Effect;
use crate::format::{FormatError, Refusal};
use crate::outbox::Redelivery;
use crate::recovery::RecoveryFailure;
use crate::signal::Signal;

/// A kind of persistent actor.
///
/// Akka: `EventSourcedBehavior`, `EventSourcedBehaviorWithEnforcedReplies`, `PersistentActor`, `AbstractPersistentActor`,
/// `ReceivePersistentActor`
pub trait Behavior: Sized + Send + 'static {
    /// What the events add up to.
    type State: Send + 'static;
    /// What it is asked for.
    type Command: Send + 'static;
    /// What happened.
    type Event: Send + 'static;

    /// The state before the first event.
    ///
    /// Akka: `emptyState`
    fn empty_state(&self) -> Self::State;

    /// Changes the state by an event, for a fresh one after it was stored and for each one at recovery: nothing but that. It must
    /// not panic: a state that cannot take its events cannot be recovered.
    ///
    /// Akka: `eventHandler`, `receiveRecover`, `ReceiveRecover`, `Recover`, `UpdateState`
    fn apply(state: &mut Self::State, event: &Self::Event);

    /// Judges a command.
    ///
    /// Akka: `commandHandler`, `receiveCommand`, `ReceiveCommand`, `Receive`, `Command`
    fn handle(&mut self, state: &Self::State, command: Self::Command, context: &mut Context<Self>) -> Effect<Self>;

    /// Told of each event after it was applied, at recovery ([`Context::is_recovering`]) and live: where messages are
    /// [delivered](crate::outbox::Outbox::deliver) and confirmed. Does nothing unless it is overridden.
    ///
    /// Akka: `updateState` of an `AtLeastOnceDelivery`
    ///
    /// # Errors
    /// Fails the recovery, or the actor.
    fn applied(&mut self, state: &Self::State, event: &Self::Event, context: &mut Context<Self>) -> Result<(), Refusal> {
        let _ = (state, event, context);
        Ok(())
    }

    /// The actor's deliveries: what is overdue is sent again in their name. None unless it is overridden.
    ///
    /// Akka: `AtLeastOnceDelivery`, `AbstractPersistentActorWithAtLeastOnceDelivery`, `GuaranteedDeliveryActor`
    fn outbox(&mut self) -> Option<&mut dyn Redelivery<Self::Command>> {
        None
    }

    /// Puts into the state what a snapshot of it shall hold, too: deliveries, say. Does nothing unless it is overridden.
    ///
    /// Akka: `getDeliverySnapshot`
    fn before_snapshot(&self, state: &mut Self::State) {
        let _ = state;
    }

    /// Takes from a recovered snapshot what [`before_snapshot`](Self::before_snapshot) put there. Does nothing unless it is
    /// overridden.
    ///
    /// Akka: `setDeliverySnapshot`
    fn after_snapshot(&mut self, state: &mut Self::State) {
        let _ = state;
    }

    /// Whether a snapshot that was read shall be the state; if not, an older one is, or all events are replayed. Yes unless it is overridden.
    ///
    /// Akka: `SnapshotOffer`, `RecoverSnapshot`
    fn accepts_snapshot(&self, snapshot: &Self::State, number: SequenceNumber) -> bool {
        let _ = (snapshot, number);
        true
    }

    /// Told once that recovery is over, before the first command. May persist. Does nothing unless it is overridden.
    ///
    /// Akka: `RecoveryCompleted`, `OnReplaySuccess`, `onRecoveryCompleted`
    fn recovery_completed(&mut self, state: &Self::State, context: &mut Context<Self>) -> Effect<Self> {
        let _ = (state, context);
        Effect::none()
    }

    /// Told that recovery failed; the incarnation ends then. Logs unless it is overridden.
    ///
    /// Akka: `onRecoveryFailure`, `RecoveryFailed`, `RecoveryFailure`, `OnRecoveryFailure`, `OnReplayFailure`,
    /// `ReplayMessagesFailure`
    fn recovery_failed(&mut self, failure: &RecoveryFailure, persistence_id: &PersistenceId) {
        tracing::error!(%persistence_id, %failure, "recovery failed");
    }

    /// Told, in its place among the handlers, that an atomic write was rejected: it is not stored, took no number, was not
    /// applied, and its handlers are skipped. The actor goes on. Logs unless it is overridden.
    ///
    /// Akka: `onPersistRejected`, `JournalPersistRejected`, `OnPersistRejected`, `EventRejectedException`
    fn on_persist_rejected(
        &mut self,
        rejected: &PersistRejected<Self::Event>,
        state: &Self::State,
        context: &mut Context<Self>,
    ) -> Effect<Self> {
        let _ = state;
        tracing::error!(persistence_id = %context.persistence_id(), error = %rejected.error, "events were rejected");
        Effect::none()
    }

    /// Told that a write ended without success; the incarnation ends then. Logs unless it is overridden.
    ///
    /// Akka: `onPersistFailure`, `JournalPersistFailed`, `OnPersistFailure`, `JournalFailureException`, `WriteMessageFailure`
    fn on_persist_failure(&mut self, failure: &PersistFailure<'_, Self::Event>, context: &mut Context<Self>) {
        tracing::error!(
            persistence_id = %context.persistence_id(),
            outcome = ?failure.outcome,
            error = %failure.error,
            "events were not persisted"
        );
    }

    /// Told how a snapshot's save, load or deletion ended, or a deletion of events. Logs failures unless it is overridden.
    ///
    /// Akka: `receiveSignal`, `SaveSnapshotSuccess`, `SaveSnapshotFailure`, and the others that [`Signal`] names
    fn on_signal(&mut self, signal: Signal<Self::State>, state: &Self::State, context: &mut Context<Self>) -> Effect<Self> {
        let _ = state;
        signal.warn_of_failure(context.persistence_id());
        Effect::none()
    }
}

/// Events that were not stored, and never will be.
#[derive(Debug)]
pub struct PersistRejected<E> {
    /// The events of the atomic write.
    pub events: Vec<E>,
    /// Why.
    pub error: RejectedError,
}

/// Why events were rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectedError {
    /// An event did not become bytes.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A tag is empty.
    #[error("a tag is empty")]
    EmptyTag,
    /// No journal would take them.
    #[error("{what} {found} is more than {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// How large it may be.
        limit: usize,
    },
}

/// A write that ended without success.
#[derive(Debug)]
pub struct PersistFailure<'a, E> {
    /// What is known of the events.
    pub outcome: PersistOutcome,
    /// The last error.
    pub error: &'a Error,
    /// The events of the write, and those that were to be written after them.
    pub events: Vec<&'a E>,
    /// The number that the first of them would have.
    pub first: SequenceNumber,
}

/// What is known of events whose write ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistOutcome {
    /// They are not stored, and never will be.
    NotStored,
    /// They are not stored, and never will be: another incarnation has taken the journal.
    Superseded,
    /// The first of them may be stored, or may be later; those that were to be written after it are not.
    Unknown,
}
