//! How messages reach a view.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cairn_client::SequenceNumber;

use super::{Update, UpdateFailure, ViewIds};
use crate::actor_ref::{ActorRef, AskError, ReplyTo, StopReason, TellError};
use crate::mailbox::{Mailbox, MailboxBound};

/// What comes to a view from others.
#[derive(Debug)]
pub(super) enum Letter<M> {
    Message(M),
    Update(Update, ReplyTo<Result<SequenceNumber, UpdateFailure>>),
}

/// A reference to a view: cheap to clone, and valid while the view restarts or updates itself.
///
/// Akka: `ActorRef` of a `PersistentView`
pub struct ViewRef<M> {
    ids: Arc<ViewIds>,
    mailbox: Arc<Mailbox<Letter<M>>>,
}

impl<M> Clone for ViewRef<M> {
    fn clone(&self) -> Self {
        Self { ids: self.ids.clone(), mailbox: self.mailbox.clone() }
    }
}

impl<M> fmt::Debug for ViewRef<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ViewRef").field(&self.ids.view_id).finish()
    }
}

/// Why it is not known how far a view is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// It did not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It was not updated.
    #[error(transparent)]
    Failed(#[from] UpdateFailure),
}

impl<M> ViewRef<M> {
    pub(super) fn new(ids: ViewIds, room: usize) -> Self {
        let mailbox = Arc::new(Mailbox::active(ids.view_id.clone(), MailboxBound::waiting(room)));
        Self { ids: Arc::new(ids), mailbox }
    }

    /// Whom it follows, and who it is.
    #[must_use]
    pub fn ids(&self) -> &ViewIds {
        &self.ids
    }

    /// Sends a message, as soon as the mailbox has room.
    ///
    /// Akka: `tell`, `!`
    ///
    /// # Errors
    /// [`TellError::Stopped`] if the view has stopped for good.
    pub async fn tell(&self, message: M) -> Result<(), TellError<M>> {
        self.actor().tell(Letter::Message(message)).await.map_err(unsent)
    }

    /// Sends a message, if the mailbox has room.
    ///
    /// # Errors
    /// [`TellError::Full`] if it has none, [`TellError::Stopped`] if the view has stopped for good.
    pub fn try_tell(&self, message: M) -> Result<(), TellError<M>> {
        self.actor().try_tell(Letter::Message(message)).map_err(unsent)
    }

    /// Sends a message that carries where to answer, and waits for the answer; for room in the mailbox, too.
    ///
    /// Akka: `ask`, `?`
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask<R>(&self, deadline: Duration, message: impl FnOnce(ReplyTo<R>) -> M) -> Result<R, AskError> {
        self.actor().ask(deadline, |reply_to| Letter::Message(message(reply_to))).await
    }

    /// Updates the view, and gives the number of the event that was applied last. With the default, all events are applied that were
    /// stored before, and what is sent after it sees them.
    ///
    /// Akka: `Update` as a message
    ///
    /// # Errors
    /// See [`UpdateError`]. An update that nobody waits for any more is done all the same.
    pub async fn update(&self, deadline: Duration, update: Update) -> Result<SequenceNumber, UpdateError> {
        Ok(self.actor().ask(deadline, |reply_to| Letter::Update(update, reply_to)).await??)
    }

    /// Asks the view to stop when it has handled what it was sent before; it takes nothing more.
    ///
    /// Akka: `PoisonPill`
    pub fn stop(&self) {
        self.actor().stop();
    }

    /// Waits until the view has stopped for good, and says why.
    ///
    /// Akka: `watch`, `Terminated`
    pub async fn stopped(&self) -> StopReason {
        self.actor().stopped().await
    }

    fn actor(&self) -> ActorRef<Letter<M>> {
        ActorRef::new(self.mailbox.clone())
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox<Letter<M>>> {
        &self.mailbox
    }
}

/// Only messages are sent where this is asked.
fn unsent<M>(error: TellError<Letter<M>>) -> TellError<M> {
    let is_full = matches!(error, TellError::Full(_));
    match error.into_command() {
        Letter::Message(message) if is_full => TellError::Full(message),
        Letter::Message(message) => TellError::Stopped(message),
        Letter::Update(..) => unreachable!("a message was sent"),
    }
}
