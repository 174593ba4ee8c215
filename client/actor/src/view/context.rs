//! What a view knows of itself while it handles something, and what it asks for.

use cairn_client::{Criteria, PersistenceId, SequenceNumber};

use super::{Update, ViewRef};

/// Whom a view follows, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewIds {
    /// The journal that it follows.
    pub persistence_id: PersistenceId,
    /// The id of its snapshots.
    pub view_id: PersistenceId,
}

/// What a view knows of itself, and asks for: that is done when its handler has returned, in order.
///
/// Akka: the members of `PersistentView`
#[derive(Debug)]
pub struct ViewContext<M> {
    view: ViewRef<M>,
    pub(super) is_recovering: bool,
    pub(super) last_sequence_number: SequenceNumber,
    pub(super) snapshot_sequence_number: SequenceNumber,
    pub(super) steps: Vec<Step<M>>,
}

/// What a view asked for.
#[derive(Debug)]
pub(super) enum Step<M> {
    Stash(M),
    Unstash(usize),
    Update(Update),
    SaveSnapshot,
    LoadSnapshot(Criteria),
    DeleteSnapshot(SequenceNumber),
    DeleteSnapshots(Criteria),
    Stop,
}

impl<M> ViewContext<M> {
    pub(super) fn new(view: ViewRef<M>) -> Self {
        Self {
            view,
            is_recovering: true,
            last_sequence_number: SequenceNumber(0),
            snapshot_sequence_number: SequenceNumber(0),
            steps: Vec::new(),
        }
    }

    /// The journal that it follows.
    ///
    /// Akka: `PersistentView.persistenceId`, `PersistenceId`
    #[must_use]
    pub fn persistence_id(&self) -> &PersistenceId {
        &self.ids().persistence_id
    }

    /// The id of its snapshots.
    ///
    /// Akka: `PersistentView.viewId`, `ViewId`
    #[must_use]
    pub fn view_id(&self) -> &PersistenceId {
        &self.ids().view_id
    }

    pub(super) fn ids(&self) -> &ViewIds {
        self.view.ids()
    }

    /// A reference to this view.
    #[must_use]
    pub fn myself(&self) -> ViewRef<M> {
        self.view.clone()
    }

    /// Whether its first update is not over yet.
    ///
    /// Akka: `recoveryRunning`, `IsRecovering`
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.is_recovering
    }

    /// The number of the event that was applied last, or is being applied.
    ///
    /// Akka: `PersistentView.lastSequenceNr`, `LastSequenceNr`
    #[must_use]
    pub fn last_sequence_number(&self) -> SequenceNumber {
        self.last_sequence_number
    }

    /// The number of the snapshot that was taken at start or saved last; 0 if there is none.
    ///
    /// Akka: `PersistentView.snapshotSequenceNr`, `SnapshotSequenceNr`
    #[must_use]
    pub fn snapshot_sequence_number(&self) -> SequenceNumber {
        self.snapshot_sequence_number
    }

    /// Puts a message aside until it is unstashed.
    ///
    /// Akka: `Stash.stash`, `Stash.Stash`
    pub fn stash(&mut self, message: M) {
        self.steps.push(Step::Stash(message));
    }

    /// Brings back the message that was put aside first: it is handled before any other.
    ///
    /// Akka: `Stash.unstash`, `Stash.Unstash`
    pub fn unstash(&mut self) {
        self.steps.push(Step::Unstash(1));
    }

    /// Brings back all that were put aside, in their order.
    ///
    /// Akka: `Stash.unstashAll`, `Stash.UnstashAll`
    pub fn unstash_all(&mut self) {
        self.steps.push(Step::Unstash(usize::MAX));
    }

    /// Begins an update.
    ///
    /// Akka: `self ! Update`
    pub fn update(&mut self, update: Update) {
        self.steps.push(Step::Update(update));
    }

    /// Saves the state as it then is as a snapshot at [`last_sequence_number`](Self::last_sequence_number).
    ///
    /// Akka: `PersistentView.saveSnapshot`, `SaveSnapshot`
    pub fn save_snapshot(&mut self) {
        self.steps.push(Step::SaveSnapshot);
    }

    /// Loads a snapshot: [`Signal::SnapshotLoaded`](crate::signal::Signal::SnapshotLoaded) brings it.
    ///
    /// Akka: `PersistentView.loadSnapshot`, `LoadSnapshot`
    pub fn load_snapshot(&mut self, criteria: Criteria) {
        self.steps.push(Step::LoadSnapshot(criteria));
    }

    /// Deletes the snapshot at a number.
    ///
    /// Akka: `PersistentView.deleteSnapshot`, `DeleteSnapshot`
    pub fn delete_snapshot(&mut self, number: SequenceNumber) {
        self.steps.push(Step::DeleteSnapshot(number));
    }

    /// Deletes all its snapshots within the bounds.
    ///
    /// Akka: `PersistentView.deleteSnapshots`, `DeleteSnapshots`
    pub fn delete_snapshots(&mut self, criteria: Criteria) {
        self.steps.push(Step::DeleteSnapshots(criteria));
    }

    /// Stops the view.
    ///
    /// Akka: `context.stop(self)`, `Context.Stop`
    pub fn stop(&mut self) {
        self.steps.push(Step::Stop);
    }
}
