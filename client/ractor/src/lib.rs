//! Persistent actors of Cairn as actors of ractor: they are spawned, linked, supervised and stopped like any other.
//!
//! [`Persistent`] stands for one incarnation of a [`Behavior`]; its messages are the behaviour's commands. How they are persisted and
//! recovered is `cairn-actor`'s. `examples/ractor_account.rs` is a whole program.
//!
//! Invariants
//! - Recovery begins in `post_start`: what fails in `pre_start` is not supervised by ractor.
//! - Both end together. A behaviour that fails ends its ractor actor as a failure, so that its supervisor decides what comes next; one
//!   that is done ends it normally.
//! - Nothing is restarted twice: the behaviour's own supervision is off.

use std::marker::PhantomData;

use cairn_actor::{ActorKind, ActorSystem, Behavior, ManualRecovery, Recovery, StopReason, Supervision, TellError};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// What a persistent actor is started with.
pub struct Setup<B: Behavior> {
    /// The store, and what all actors share.
    pub system: ActorSystem,
    /// What kind of actor it is.
    pub kind: ActorKind<B>,
    /// Whose events it has.
    pub persistence_id: String,
    /// What is recovered.
    pub recovery: Recovery,
}

impl<B: Behavior> Clone for Setup<B> {
    fn clone(&self) -> Self {
        let Self { system, kind, persistence_id, recovery } = self;
        Self { system: system.clone(), kind: kind.clone(), persistence_id: persistence_id.clone(), recovery: *recovery }
    }
}

/// A persistent actor as one of ractor's.
pub struct Persistent<B>(PhantomData<fn() -> B>);

impl<B> Persistent<B> {
    /// What ractor calls the handler.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B> Default for Persistent<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// What ractor keeps of a persistent actor.
pub struct Running<B: Behavior> {
    actor: cairn_actor::ActorRef<B::Command>,
    /// Until recovery has begun.
    waiting: Option<(ManualRecovery, Recovery)>,
}

impl<B: Behavior> Actor for Persistent<B>
where
    B::Command: ractor::Message,
{
    type Msg = B::Command;
    type State = Running<B>;
    type Arguments = Setup<B>;

    async fn pre_start(&self, _: ActorRef<B::Command>, setup: Setup<B>) -> Result<Running<B>, ActorProcessingErr> {
        let Setup { system, kind, persistence_id, recovery } = setup;
        let (actor, start) = system.spawn_waiting(&kind.supervision(Supervision::STOP), persistence_id)?;
        Ok(Running { actor, waiting: Some((start, recovery)) })
    }

    /// Recovery goes on meanwhile; what is sent waits for it.
    async fn post_start(&self, myself: ActorRef<B::Command>, running: &mut Running<B>) -> Result<(), ActorProcessingErr> {
        if let Some((start, recovery)) = running.waiting.take() {
            start.start(recovery);
        }
        let watched = running.actor.clone();
        tokio::spawn(async move {
            match watched.stopped().await {
                StopReason::Done => myself.stop(None),
                // It ends with its next message, or now: either way its supervisor hears why.
                failed => myself.stop(Some(format!("{failed:?}"))),
            }
        });
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<B::Command>,
        command: B::Command,
        running: &mut Running<B>,
    ) -> Result<(), ActorProcessingErr> {
        match running.actor.tell(command).await {
            Ok(()) => {}
            // Whoever asked is told so, as the command is dropped.
            Err(TellError::Full(_)) => tracing::warn!(persistence_id = %running.actor.persistence_id(), "no room for a command"),
            // `post_stop` says whether that is a failure.
            Err(TellError::Stopped(_)) => myself.stop(None),
        }
        Ok(())
    }

    /// The behaviour handles what it was sent before, then it stops too.
    async fn post_stop(&self, _: ActorRef<B::Command>, running: &mut Running<B>) -> Result<(), ActorProcessingErr> {
        running.actor.stop();
        match running.actor.stopped().await {
            StopReason::Done => Ok(()),
            failed => Err(format!("the behaviour has ended: {failed:?}").into()),
        }
    }
}
