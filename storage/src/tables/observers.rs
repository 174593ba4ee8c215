//! Who waits for news: followers of the shard's newest position, and followers of single journals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use cairn_machine::{PersistenceId, Position, SequenceNumber};
use tokio::sync::watch;

use super::error::TablesError;

/// See the module.
pub(crate) struct Observers {
    position: watch::Sender<Position>,
    journals: Arc<Journals>,
    subscriptions_max: usize,
}

type Journals = Mutex<BTreeMap<PersistenceId, watch::Sender<SequenceNumber>>>;

/// Follows one journal's highest number; ends when it is dropped.
pub struct Subscription {
    persistence_id: PersistenceId,
    highest: watch::Receiver<SequenceNumber>,
    journals: Weak<Journals>,
}

impl Subscription {
    /// The highest number as far as it is known here.
    #[must_use]
    pub fn highest(&self) -> SequenceNumber {
        *self.highest.borrow()
    }

    /// Waits until the highest number is above `seen`. False: the tables are closed.
    pub async fn wait_above(&mut self, seen: SequenceNumber) -> bool {
        self.highest.wait_for(|highest| *highest > seen).await.is_ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(journals) = self.journals.upgrade() else { return };
        let mut journals = lock(&journals);
        // The receiver of this very subscription still counts.
        if journals.get(&self.persistence_id).is_some_and(|sender| sender.receiver_count() <= 1) {
            journals.remove(&self.persistence_id);
        }
    }
}

impl Observers {
    pub(crate) fn new(newest: Position, subscriptions_max: usize) -> Self {
        Self { position: watch::Sender::new(newest), journals: Arc::default(), subscriptions_max }
    }

    pub(crate) fn position(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    pub(crate) fn has_subscriptions(&self) -> bool {
        !lock(&self.journals).is_empty()
    }

    /// The journals that are followed.
    pub(crate) fn subscribed(&self) -> Vec<PersistenceId> {
        lock(&self.journals).keys().cloned().collect()
    }

    /// Follows a journal from now on.
    pub(crate) fn subscribe(&self, persistence_id: &PersistenceId) -> Result<Subscription, TablesError> {
        let mut journals = lock(&self.journals);
        if journals.len() >= self.subscriptions_max && !journals.contains_key(persistence_id) {
            return Err(TablesError::TooMany { what: "followed journals" });
        }
        let persistence_id = persistence_id.detached();
        let sender = journals.entry(persistence_id.clone()).or_insert_with(|| watch::Sender::new(SequenceNumber(0)));
        Ok(Subscription { persistence_id, highest: sender.subscribe(), journals: Arc::downgrade(&self.journals) })
    }

    /// Tells followers what an entry changed.
    pub(crate) fn advance(&self, newest: Position, changed: &[(PersistenceId, SequenceNumber)]) {
        if !changed.is_empty() {
            let journals = lock(&self.journals);
            for (persistence_id, highest) in changed {
                if let Some(sender) = journals.get(persistence_id) {
                    raise(sender, *highest);
                }
            }
        }
        self.position.send_if_modified(|position| {
            let is_newer = newest > *position;
            *position = newest.max(*position);
            is_newer
        });
    }
}

fn raise(sender: &watch::Sender<SequenceNumber>, highest: SequenceNumber) {
    sender.send_if_modified(|known| {
        let is_newer = highest > *known;
        *known = highest.max(*known);
        is_newer
    });
}

fn lock(journals: &Journals) -> MutexGuard<'_, BTreeMap<PersistenceId, watch::Sender<SequenceNumber>>> {
    journals.lock().expect("nobody panics while holding it")
}
