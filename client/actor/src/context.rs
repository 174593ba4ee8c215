//! What an actor knows of itself while it handles something.

use std::future::Future;
use std::sync::Arc;

use cairn_client::{PersistenceId, SequenceNumber};

use crate::actor_ref::ActorRef;
use crate::behavior::Behavior;
use crate::mailbox::Mailbox;

/// What an actor knows of itself.
///
/// Akka: `ActorContext`, and the members of `Eventsourced`
pub struct Context<B: Behavior> {
    mailbox: Arc<Mailbox<B::Command>>,
    pub(crate) is_recovering: bool,
    pub(crate) last_sequence_number: SequenceNumber,
    pub(crate) snapshot_sequence_number: SequenceNumber,
}

impl<B: Behavior> Context<B> {
    pub(crate) fn new(mailbox: Arc<Mailbox<B::Command>>) -> Self {
        Self {
            mailbox,
            is_recovering: true,
            last_sequence_number: SequenceNumber(0),
            snapshot_sequence_number: SequenceNumber(0),
        }
    }

    /// Whose events these are.
    ///
    /// Akka: `persistenceId`, `PersistenceId`
    #[must_use]
    pub fn persistence_id(&self) -> &PersistenceId {
        self.mailbox.persistence_id()
    }

    /// A reference to this actor.
    ///
    /// Akka: `self`, `Self`
    #[must_use]
    pub fn myself(&self) -> ActorRef<B::Command> {
        ActorRef::new(self.mailbox.clone())
    }

    /// Whether events are being replayed.
    ///
    /// Akka: `recoveryRunning`, `IsRecovering`
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.is_recovering
    }

    /// The number of the event that was applied last; after recovery the highest of the journal, whatever was replayed.
    ///
    /// Akka: `lastSequenceNr`, `LastSequenceNr`
    #[must_use]
    pub fn last_sequence_number(&self) -> SequenceNumber {
        self.last_sequence_number
    }

    /// The number of the snapshot that was recovered or saved last; 0 if there is none.
    ///
    /// Akka: `snapshotSequenceNr`, `SnapshotSequenceNr`
    #[must_use]
    pub fn snapshot_sequence_number(&self) -> SequenceNumber {
        self.snapshot_sequence_number
    }

    /// Whether the actor could be woken again.
    pub(crate) fn can_rest(&self) -> bool {
        self.mailbox.can_rest()
    }

    /// Runs a future beside the actor, and sends the actor what it ends with; nothing if the actor has stopped by then.
    ///
    /// Akka: `pipeToSelf`, `PipeTo`
    pub fn pipe_to_self(&self, future: impl Future<Output = B::Command> + Send + 'static) {
        let myself = self.myself();
        tokio::spawn(async move {
            // An actor that has stopped has no use for it.
            drop(myself.tell(future.await).await);
        });
    }
}
