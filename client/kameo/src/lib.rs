//! Persistent actors of Cairn as actors of kameo: they are spawned, linked, supervised and stopped like any other.
//!
//! [`Persistent`] stands for one incarnation of a [`Behavior`]. What it is sent it hands to the behaviour in order; how that is
//! persisted and recovered is `cairn-actor`'s. `examples/kameo_account.rs` is a whole program.
//!
//! Invariants
//! - Both end together. A behaviour that fails ends its kameo actor as a panic does, so that kameo's supervision decides what comes next;
//!   one that is done ends it normally, whatever it is told after that. What a stopping actor was sent is persisted before
//!   `wait_for_shutdown_result` returns; `wait_for_shutdown` returns earlier, when the mailbox is closed.
//! - Nothing is restarted twice: the behaviour's own supervision is off.

use cairn_actor::{ActorKind, ActorRef, ActorSystem, AskError, Behavior, ReplyTo, StopReason, Supervision, TellError};
use kameo::Actor;
use kameo::actor::WeakActorRef;
use kameo::error::ActorStopReason;
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{BoxMessage, Context, Message};
use kameo::reply::{BoxReplySender, DelegatedReply, Reply, ReplyError};

/// What a persistent actor is started with.
pub struct Setup<B: Behavior> {
    /// The store, and what all actors share.
    pub system: ActorSystem,
    /// What kind of actor it is.
    pub kind: ActorKind<B>,
    /// Whose events it has.
    pub persistence_id: String,
}

impl<B: Behavior> Clone for Setup<B> {
    fn clone(&self) -> Self {
        Self { system: self.system.clone(), kind: self.kind.clone(), persistence_id: self.persistence_id.clone() }
    }
}

/// A persistent actor as one of kameo's.
///
/// It takes [`Tell`] and [`Ask`]. It is started at once and recovers meanwhile; what it is sent waits.
pub struct Persistent<B: Behavior> {
    actor: ActorRef<B::Command>,
}

/// A command, handed to the behaviour.
#[derive(Debug)]
pub struct Tell<C>(pub C);

/// A question: a command that carries where to answer. Others are served while the behaviour looks for the answer.
pub struct Ask<C, R> {
    command: Box<dyn FnOnce(ReplyTo<R>) -> C + Send>,
}

impl<C, R> Ask<C, R> {
    /// A question, from how its command is made.
    pub fn new(command: impl FnOnce(ReplyTo<R>) -> C + Send + 'static) -> Self {
        Self { command: Box::new(command) }
    }
}

/// Why a persistent actor does not start, or take a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersistentError {
    /// It has no lawful persistence id.
    NotStarted(String),
    /// The behaviour's mailbox has no room, and its kind refuses then. Whoever tells, and does not ask, hears nothing of it.
    Full,
    /// The behaviour has ended.
    Ended(StopReason),
}

impl<B: Behavior> Actor for Persistent<B> {
    type Args = Setup<B>;
    type Error = PersistentError;

    async fn on_start(setup: Setup<B>, _: kameo::actor::ActorRef<Self>) -> Result<Self, PersistentError> {
        let Setup { system, kind, persistence_id } = setup;
        let actor = system.spawn(&kind.supervision(Supervision::STOP), persistence_id);
        let actor = actor.map_err(|error| PersistentError::NotStarted(error.to_string()))?;
        Ok(Self { actor })
    }

    /// A message, or that the behaviour has ended. Not told by a message: nothing that outlives a restart by a supervisor could send one,
    /// as the next incarnation is known by another reference.
    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, PersistentError> {
        tokio::select! {
            biased;
            signal = mailbox.recv() => Ok(signal),
            reason = self.actor.stopped() => match reason {
                StopReason::Done => Ok(None),
                // To kameo an error here is a panic.
                failed => Err(PersistentError::Ended(failed)),
            },
        }
    }

    /// That a command was not taken is an error, which to kameo is a panic where nobody asked. It need not be a failure: of a full
    /// mailbox the actor recovers, and a behaviour that is done ends normally.
    async fn on_message(
        &mut self,
        message: BoxMessage<Self>,
        myself: kameo::actor::ActorRef<Self>,
        reply: Option<BoxReplySender>,
        stop: &mut bool,
    ) -> Result<(), Box<dyn ReplyError>> {
        let Err(error) = message.handle_dyn(self, myself, reply, stop).await else { return Ok(()) };
        match error.downcast_ref() {
            Some(PersistentError::Full) => Ok(()),
            Some(PersistentError::Ended(StopReason::Done)) => {
                *stop = true;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// The behaviour handles what it was sent before, then it stops too.
    async fn on_stop(&mut self, _: WeakActorRef<Self>, _: ActorStopReason) -> Result<(), PersistentError> {
        self.actor.stop();
        self.actor.stopped().await;
        Ok(())
    }
}

impl<B: Behavior> Message<Tell<B::Command>> for Persistent<B> {
    type Reply = Result<(), PersistentError>;

    async fn handle(&mut self, Tell(command): Tell<B::Command>, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        match self.actor.tell(command).await {
            Ok(()) => Ok(()),
            Err(TellError::Full(_)) => Err(PersistentError::Full),
            Err(TellError::Stopped(_)) => Err(PersistentError::Ended(self.actor.stopped().await)),
        }
    }
}

impl<B, R> Message<Ask<B::Command, R>> for Persistent<B>
where
    B: Behavior,
    R: Reply<Value = R>,
{
    type Reply = DelegatedReply<Result<R, AskError>>;

    async fn handle(&mut self, ask: Ask<B::Command, R>, context: &mut Context<Self, Self::Reply>) -> Self::Reply {
        let (reply_to, answer) = ReplyTo::new();
        let sent = self.actor.tell((ask.command)(reply_to)).await;
        context.spawn(async move {
            match sent {
                Ok(()) => answer.await.map_err(|_| AskError::NoAnswer),
                Err(TellError::Full(_)) => Err(AskError::Full),
                Err(TellError::Stopped(_)) => Err(AskError::Stopped),
            }
        })
    }
}
