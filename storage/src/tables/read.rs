//! Reads: memory first, then the engine for what lies below it.
//!
//! No lock and no view is held while a reader thinks. Memory is looked at before the engine: what a flush moves down in between
//! is then seen in both and counted once, never missed.

mod events;
mod journals;
mod positions;
mod snapshots;

use cairn_machine::{Head, PersistenceId, Position, SequenceNumber, StoredEvent};

pub use events::{Replay, ReplayPage, Watermarks};
pub use journals::{JournalSummary, JournalsPage};
pub use positions::{PositionedEvent, PositionsPage, PositionsRead};
pub use snapshots::SnapshotsPage;

use super::applying::read_head;
use super::{Inner, Subscription, Tables, TablesError};
use crate::blocking::BlockingExt;

impl Tables {
    /// A journal's head; none if the persistence id was never seen.
    ///
    /// # Errors
    /// [`TablesError::Broken`] or [`TablesError::Damaged`].
    pub async fn head(&self, persistence_id: &PersistenceId) -> Result<Option<Head>, TablesError> {
        self.inner.head(persistence_id).await.map_err(|error| self.inner.note(error))
    }

    /// The newest position, and every change of it; 0 before the first event.
    #[must_use]
    pub fn newest_position(&self) -> tokio::sync::watch::Receiver<Position> {
        self.inner.observers.position()
    }

    /// Follows one journal's highest number.
    ///
    /// # Errors
    /// [`TablesError::TooMany`] at the bound of the settings, else as [`Self::head`].
    pub async fn subscribe(&self, persistence_id: &PersistenceId) -> Result<Subscription, TablesError> {
        // Registered first: what is applied from now on is seen, what was applied before is read.
        let subscription = self.inner.observers.subscribe(persistence_id)?;
        if let Some(head) = self.head(persistence_id).await? {
            let newest = *self.inner.observers.position().borrow();
            self.inner.observers.advance(newest, &[(persistence_id.clone(), head.highest)]);
        }
        Ok(subscription)
    }

    /// Tells followers of journals what another generation brought.
    pub(crate) async fn refresh_subscriptions(&self) -> Result<(), TablesError> {
        for persistence_id in self.inner.observers.subscribed() {
            if let Some(head) = self.head(&persistence_id).await? {
                let newest = *self.inner.observers.position().borrow();
                self.inner.observers.advance(newest, &[(persistence_id, head.highest)]);
            }
        }
        Ok(())
    }
}

impl Inner {
    pub(crate) async fn head(&self, persistence_id: &PersistenceId) -> Result<Option<Head>, TablesError> {
        let table = {
            let state = self.state();
            if let Some(head) = state.head(persistence_id) {
                return Ok(Some(head.clone()));
            }
            std::sync::Arc::clone(&state.table)
        };
        let persistence_id = persistence_id.clone();
        self.blocking.run(move || read_head(&*table, &persistence_id)).await
    }
}

/// Roughly what an event takes in memory and on the wire, in bytes.
fn weight(event: &StoredEvent) -> usize {
    let metadata = event.event.metadata.as_ref().map_or(0, |metadata| metadata.bytes.len() + metadata.manifest.len());
    let tags: usize = event.event.tags.iter().map(String::len).sum();
    let payload = &event.event.payload;
    64 + payload.bytes.len() + payload.manifest.len() + event.event.adapter_manifest.len() + metadata + tags
}

fn after(number: SequenceNumber) -> SequenceNumber {
    SequenceNumber(number.0 + 1)
}
