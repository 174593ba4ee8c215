//! How commands reach an actor, and answers come back.
//!
//! Invariants
//! - Commands of one sender, each awaited, are handled in the order in which they were sent.
//! - Who asks is answered, or told that there will be no answer, or that the time is over: never left waiting.

use std::sync::Arc;
use std::time::Duration;

use cairn_client::PersistenceId;
use tokio::sync::oneshot;

use crate::mailbox::{Asked, Mailbox};

/// A reference to an actor: cheap to clone, and valid while the actor rests, restarts or recovers.
///
/// Akka: `ActorRef[Command]`, and for an actor of [`Entities`](crate::registry::Entities) `EntityRef[Command]`.
pub struct ActorRef<C> {
    mailbox: Arc<Mailbox<C>>,
}

impl<C> Clone for ActorRef<C> {
    fn clone(&self) -> Self {
        Self { mailbox: self.mailbox.clone() }
    }
}

impl<C> std::fmt::Debug for ActorRef<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ActorRef").field(self.persistence_id()).finish()
    }
}

/// Why a command was not sent. It is given back.
#[derive(PartialEq, Eq, thiserror::Error)]
pub enum TellError<C> {
    /// The mailbox has no room.
    #[error("the mailbox of the actor is full")]
    Full(C),
    /// The actor has stopped for good.
    #[error("the actor has stopped")]
    Stopped(C),
}

impl<C> std::fmt::Debug for TellError<C> {
    /// Without the command, which need not be printable.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Stopped(_) => "Stopped",
        })
    }
}

impl<C> TellError<C> {
    /// The command that was not sent.
    pub fn into_command(self) -> C {
        match self {
            Self::Full(command) | Self::Stopped(command) => command,
        }
    }
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The time is over. What was asked for may still happen, or have happened.
    #[error("no answer came in time")]
    TimedOut,
    /// The actor let go of the question: it failed, its write was rejected or its outcome is unknown, or it does not answer this.
    /// What was asked for may have happened.
    #[error("the actor gave no answer")]
    NoAnswer,
    /// The mailbox has no room, and the actor's kind refuses then: nothing was asked.
    #[error("the mailbox of the actor is full")]
    Full,
    /// The actor has stopped for good: nothing was asked.
    #[error("the actor has stopped")]
    Stopped,
}

/// Why an actor stopped for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was to: by an effect, or by its owner.
    Done,
    /// It failed, and its supervision does not restart it, or not any more.
    Failed(String),
    /// Another incarnation has taken the journal, perhaps in another process.
    Superseded,
}

impl<C> ActorRef<C> {
    pub(crate) fn new(mailbox: Arc<Mailbox<C>>) -> Self {
        Self { mailbox }
    }

    /// Whose commands these are.
    #[must_use]
    pub fn persistence_id(&self) -> &PersistenceId {
        self.mailbox.persistence_id()
    }

    /// Sends a command, as soon as the mailbox has room. That it was sent does not say that it was handled.
    ///
    /// Akka: `tell`, `!`
    ///
    /// # Errors
    /// [`TellError::Stopped`] if the actor has stopped for good; [`TellError::Full`] if there is no room, and its kind
    /// [refuses](crate::kind::MailboxOverflow) then.
    pub async fn tell(&self, command: C) -> Result<(), TellError<C>> {
        self.mailbox.push(command).await
    }

    /// Sends a command, if the mailbox has room.
    ///
    /// # Errors
    /// [`TellError::Full`] if it has none, [`TellError::Stopped`] if the actor has stopped for good.
    pub fn try_tell(&self, command: C) -> Result<(), TellError<C>> {
        self.mailbox.try_push(command)
    }

    /// Sends a command that carries where to answer, and waits for the answer; for room in the mailbox, too.
    ///
    /// Akka: `ask`, `?`
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask<R>(&self, deadline: Duration, command: impl FnOnce(ReplyTo<R>) -> C) -> Result<R, AskError> {
        let (reply_to, answer) = ReplyTo::new();
        let asked = async {
            self.tell(command(reply_to)).await.map_err(|error| match error {
                TellError::Full(_) => AskError::Full,
                TellError::Stopped(_) => AskError::Stopped,
            })?;
            answer.await.map_err(|_| AskError::NoAnswer)
        };
        tokio::time::timeout(deadline, asked).await.unwrap_or(Err(AskError::TimedOut))
    }

    /// Asks the actor to stop when it has handled what it was sent before; it takes nothing more. One that can be woken again
    /// is stopped for good, too.
    ///
    /// Akka: `PoisonPill`, `context.stop`
    pub fn stop(&self) {
        self.mailbox.ask(Asked::Stop);
    }

    /// Waits until the actor has stopped for good, and says why.
    ///
    /// Akka: `watch`, `Terminated`
    pub async fn stopped(&self) -> StopReason {
        self.mailbox.stopped().await
    }
}

/// Where to answer a question: once.
///
/// Akka: `ActorRef[Reply]` as `replyTo` in a command, `sender()`
#[derive(Debug)]
pub struct ReplyTo<R> {
    sender: oneshot::Sender<R>,
}

impl<R> ReplyTo<R> {
    /// A place for an answer, and what waits for it.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<R>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender }, receiver)
    }

    /// Answers. Nobody hears it if whoever asked has given up.
    pub fn send(self, answer: R) {
        drop(self.sender.send(answer));
    }

    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.sender.is_closed()
    }
}
