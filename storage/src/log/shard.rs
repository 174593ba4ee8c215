//! One shard's handle to the log.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::ShardId;
use tokio::sync::oneshot::{self, Receiver};
use tokio::sync::watch;

use super::entry::{LogEntry, ShardLogState};
use super::error::LogError;
use super::index::Place;
use super::read;
use super::settings::VOTE_BYTES_MAX;
use super::shared::{OnDurable, Operation, Shared, State};
use crate::EntryId;

/// The log of one shard. Cheap to clone.
///
/// Every change takes effect in memory when the call is made and goes to disk in the order of the calls; the futures only wait
/// for that, so dropping one does not undo the change.
#[derive(Clone)]
pub struct ShardLog {
    shared: Arc<Shared>,
    shard: ShardId,
}

impl ShardLog {
    pub(super) fn new(shared: Arc<Shared>, shard: ShardId) -> Self {
        Self { shared, shard }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// What the log has come to, in memory.
    pub fn state(&self) -> ShardLogState {
        let mut state = self.shared.lock();
        let shard = state.shard(self.shard);
        ShardLogState {
            vote: shard.vote.clone(),
            committed: shard.committed,
            purged: shard.index.purged(),
            last: shard.index.last(),
        }
    }

    /// The first index that is in the log, or that would be.
    pub fn first_index(&self) -> u64 {
        self.shared.lock().shard(self.shard).index.first()
    }

    /// Puts entries at the end; they can be read at once. `on_durable` is called once they are synced, on the log's thread, in
    /// the order of all calls of all shards; or at once, with the reason, if they are refused.
    pub fn append(&self, entries: Vec<LogEntry>, on_durable: OnDurable) {
        let mut state = self.shared.lock();
        match self.check_append(&mut state, &entries) {
            Ok(()) => {
                let serial = state.next_serial();
                let index = &mut state.shard(self.shard).index;
                for entry in &entries {
                    index.push(entry.id, Place::pending(serial), Some(entry.payload.clone()));
                }
                state.submit(Operation::Append { shard: self.shard, serial, entries, done: on_durable });
                drop(state);
                self.shared.work.notify_one();
            }
            Err(error) => {
                drop(state);
                on_durable(Err(error));
            }
        }
    }

    fn check_append(&self, state: &mut State, entries: &[LogEntry]) -> Result<(), LogError> {
        state.check()?;
        let bytes_max = self.shared.settings.payload_bytes_max();
        let mut next = state.shard(self.shard).index.next();
        for entry in entries {
            let bytes = entry.payload.len();
            if bytes > bytes_max {
                return Err(LogError::EntryTooLarge { bytes, bytes_max });
            }
            if next.is_some_and(|next| next != entry.id.index) {
                return Err(self.misplaced(format!("entry {} does not follow: index {next:?} comes next", entry.id)));
            }
            next = Some(entry.id.index + 1);
        }
        Ok(())
    }

    /// Removes every entry behind index `last_kept`; `None` leaves none. Resolves when that is durable.
    ///
    /// # Errors
    /// [`LogError::Misplaced`] if that would remove purged or committed entries; as the log's otherwise.
    pub fn truncate_after(&self, last_kept: Option<u64>) -> impl Future<Output = Result<(), LogError>> + Send + use<> {
        let answer = self.submit(|this, state, done| {
            let shard = state.shard(this.shard);
            let Some(last) = shard.index.last() else { return Ok(Operation::Barrier { done }) };
            if last_kept.is_some_and(|kept| kept >= last.index) {
                return Ok(Operation::Barrier { done });
            }
            if let (Some(purged), Some(kept)) = (shard.index.purged(), last_kept)
                && kept < purged.index
            {
                return Err((done, this.misplaced(format!("truncate after {kept}: already purged up to {purged}"))));
            }
            let last_kept = last_kept.and_then(|kept| shard.index.id(kept));
            let lowest = last_kept.or(shard.index.purged());
            if let Some(committed) = shard.committed.filter(|committed| committed.index <= last.index)
                && lowest.is_none_or(|lowest| lowest.index < committed.index)
            {
                let text = format!("truncate after {last_kept:?}: committed up to {committed}");
                return Err((done, this.misplaced(text)));
            }
            shard.index.truncate(last_kept);
            let durable = lowest.map(|id| id.index);
            shard.durable.send_if_modified(|now| {
                let lower = *now > durable;
                *now = (*now).min(durable);
                lower
            });
            Ok(Operation::Truncate { shard: this.shard, last_kept, done })
        });
        durable(answer)
    }

    /// Removes every entry up to `up_to`, which may lie behind the end: then the log goes on after it. Resolves when that is
    /// durable; the segments are given back afterwards.
    ///
    /// # Errors
    /// As the log's.
    pub fn purge(&self, up_to: EntryId) -> impl Future<Output = Result<(), LogError>> + Send + use<> {
        let answer = self.submit(|this, state, done| {
            let shard = state.shard(this.shard);
            if shard.index.purged().is_some_and(|purged| purged.index >= up_to.index) {
                return Ok(Operation::Barrier { done });
            }
            shard.index.purge(up_to);
            Ok(Operation::Purge { shard: this.shard, up_to, done })
        });
        durable(answer)
    }

    /// Saves the vote; resolves when it is synced. At most [`VOTE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`LogError::Misplaced`] if it is longer; as the log's otherwise.
    pub fn save_vote(&self, vote: Bytes) -> impl Future<Output = Result<(), LogError>> + Send + use<> {
        let answer = self.submit(|this, state, done| {
            if vote.len() > VOTE_BYTES_MAX {
                return Err((done, this.misplaced(format!("a vote of {} bytes", vote.len()))));
            }
            state.shard(this.shard).vote = Some(vote.clone());
            Ok(Operation::Vote { shard: this.shard, vote, done })
        });
        durable(answer)
    }

    /// Notes the last committed entry. It goes to disk with the next batch, once the log holds that entry: a restart may see
    /// an earlier one, never a later one.
    pub fn save_committed(&self, committed: Option<EntryId>) {
        let mut state = self.shared.lock();
        let shard = state.shard(self.shard);
        if committed.is_some() && shard.committed != committed {
            shard.committed = committed;
            shard.committed_waits = true;
        }
    }

    /// Reads entries from `range.start` on, one after the other without a gap. Ends early only because of `bytes_max` payload
    /// bytes, and then after one entry at least.
    ///
    /// # Errors
    /// [`LogError::Absent`] if an index of the range is not in the log; [`LogError::Damaged`], which ends the log, if an entry
    /// on disk is not what was written; as the log's otherwise.
    pub async fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, LogError> {
        let plan = {
            let mut state = self.shared.lock();
            if let Some(error) = &state.broken {
                return Err(error.for_later_callers());
            }
            read::plan(&mut state, self.shard, range, bytes_max)?
        };
        read::fetch(&self.shared, self.shard, plan).await
    }

    /// Whether the log takes what it is given: an entry that is not in it may be one that it refused.
    ///
    /// # Errors
    /// As the log's, once it broke or stops.
    pub fn check(&self) -> Result<(), LogError> {
        self.shared.lock().check()
    }

    /// The id of the entry at an index: one in the log, or the last purged one.
    pub fn entry_id(&self, index: u64) -> Option<EntryId> {
        self.shared.lock().shard(self.shard).index.id(index)
    }

    /// The last index known to be synced. Everything up to it is on disk.
    pub fn durable_index(&self) -> Option<u64> {
        *self.shared.lock().shard(self.shard).durable.borrow()
    }

    /// Follows [`Self::durable_index`]. It goes back when unsynced or synced entries are truncated.
    pub fn durable(&self) -> watch::Receiver<Option<u64>> {
        self.shared.lock().shard(self.shard).durable.subscribe()
    }

    /// Says that nobody will soon read below `index`: synced payloads there leave the memory.
    pub fn set_cache_floor(&self, index: u64) {
        self.shared.lock().shard(self.shard).index.evict(usize::MAX, index);
    }

    fn submit(
        &self,
        prepare: impl FnOnce(&Self, &mut State, OnDurable) -> Result<Operation, (OnDurable, LogError)>,
    ) -> Receiver<Result<(), LogError>> {
        let (sender, receiver) = oneshot::channel();
        let done: OnDurable = Box::new(move |result| drop(sender.send(result)));
        let mut state = self.shared.lock();
        let answer = match state.check() {
            Err(error) => Some((done, Err(error))),
            Ok(()) => match prepare(self, &mut state, done) {
                Ok(operation) => {
                    state.submit(operation);
                    None
                }
                Err((done, error)) => Some((done, Err(error))),
            },
        };
        drop(state);
        match answer {
            Some((done, result)) => done(result),
            None => self.shared.work.notify_one(),
        }
        receiver
    }

    fn misplaced(&self, reason: String) -> LogError {
        LogError::Misplaced { shard: self.shard, reason }
    }
}

impl std::fmt::Debug for ShardLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardLog").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Waits for the writer's answer; a writer that is gone gives none.
async fn durable(answer: Receiver<Result<(), LogError>>) -> Result<(), LogError> {
    answer.await.unwrap_or(Err(LogError::Stopped))
}
