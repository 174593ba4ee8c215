//! The tables of one shard: its journals and snapshots, in a memtable over the log's entries and in an engine below it.
//!
//! The log is the write-ahead log: entries are applied to memory, answered at once, and flushed later as one sorted ingestion,
//! with the entry up to which the table is complete. After a restart the log is applied again from there.
//!
//! Where to start reading: [`Tables::apply`] is the way in, `tables/applying.rs` what the rules see, `tables/flushing.rs` the way
//! down to the engine, [`crate::keys`] the layout there.
//!
//! Invariants
//! - Entries are applied in order, one at a time; what was applied is never taken back, whatever happens to its caller.
//! - Nothing is flushed that is not durable in the own log.
//! - No call of the engine runs on the caller's runtime: each goes through the [`Blocking`] part.

mod applied;
mod applying;
mod chunk_cache;
mod damage;
mod error;
mod flushing;
mod generations;
mod observers;
mod read;
mod reclaiming;
mod rules;
mod run;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::{Batch, Decision, Position, Reply, ShardId, ShardState, apply_batch_by};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::blocking::{Blocking, BlockingExt};
use crate::engine::{Engine, Table};
use crate::entry::EntryId;
use crate::keys::meta::{Membership, Meta};
use crate::memtable::Seeded;
use applying::{Loaded, plan};
use chunk_cache::ChunkCache;
use observers::Observers;
use state::State;

pub use applied::{AppliedEntry, AppliedObserver};
pub use applying::Applying;
pub(crate) use damage::Damages;
pub use error::TablesError;
pub use generations::Generation;
pub use observers::Subscription;
pub use read::{
    JournalSummary, JournalsPage, PositionedEvent, PositionsPage, PositionsRead, Replay, ReplayPage, SnapshotsPage, Watermarks,
};

pub use rules::{CairnRules, Rules};

pub(crate) use generations::{drop_others, make_current, read_meta};
pub(crate) use run::chunk_rows;

/// Frozen memtables that may wait for their flush; apply waits when one more would be needed.
const FROZEN_MAX: usize = 2;

/// How tables behave.
#[derive(Clone)]
pub struct TablesSettings {
    /// The memtable is flushed when it takes this many bytes; up to three are in memory.
    pub memtable_bytes_max: usize,
    /// Heads kept in memory after their flush, so that journals in use never touch the engine.
    pub cached_heads_max: usize,
    /// Memory for chunks that readers by position come back to, in bytes; used only while somebody reads what was flushed.
    pub chunk_cache_bytes_max: usize,
    /// Followers of single journals at one time.
    pub subscriptions_max: usize,
    /// Rows that one background step removes at most.
    pub reclaim_rows_max: usize,
    /// The engine gives space back when this many rows were removed since it last did, and they are a tenth of all rows.
    pub compact_after_rows_removed: u64,
    /// For how long nothing may have been written before the engine gives space back; it waits at most ten times as long.
    pub compact_idle: Duration,
    /// A memtable that gives space back below it, by a permanent deletion or a snapshot that went, is flushed after this time
    /// at the latest, however little is in it.
    pub flush_removals_after: Duration,
    /// Seeds the hash maps, so that nobody outside can choose what collides.
    pub hash_seed: u64,
    /// What decides commands. Replicas that do not have the same diverge.
    pub rules: Arc<dyn Rules>,
    /// Hears of every entry that was applied.
    pub applied: Option<Arc<dyn AppliedObserver>>,
}

impl Default for TablesSettings {
    fn default() -> Self {
        Self {
            memtable_bytes_max: 16 * 1024 * 1024,
            cached_heads_max: 32 * 1024,
            chunk_cache_bytes_max: 16 * 1024 * 1024,
            subscriptions_max: 100_000,
            reclaim_rows_max: 8 * 1024,
            compact_after_rows_removed: 256,
            compact_idle: Duration::from_secs(1),
            flush_removals_after: Duration::from_secs(2),
            hash_seed: 0,
            rules: Arc::new(CairnRules),
            applied: None,
        }
    }
}

impl fmt::Debug for TablesSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TablesSettings")
            .field("memtable_bytes_max", &self.memtable_bytes_max)
            .field("cached_heads_max", &self.cached_heads_max)
            .field("chunk_cache_bytes_max", &self.chunk_cache_bytes_max)
            .field("subscriptions_max", &self.subscriptions_max)
            .field("reclaim_rows_max", &self.reclaim_rows_max)
            .field("compact_after_rows_removed", &self.compact_after_rows_removed)
            .field("compact_idle", &self.compact_idle)
            .field("flush_removals_after", &self.flush_removals_after)
            .finish_non_exhaustive()
    }
}

/// A change of membership, as consensus encodes it: opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipChange {
    /// The membership from this entry on.
    pub membership: Bytes,
    /// The ids of all nodes that were ever members.
    pub seen_nodes: Bytes,
}

/// How far tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry applied: in memory.
    pub applied: Option<EntryId>,
    /// The last entry flushed: durable. The log below it is not needed any more.
    pub flushed: Option<EntryId>,
}

/// What tables measure of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TablesStatistics {
    /// Estimated bytes of all memtables.
    pub memtable_bytes: usize,
    /// Memtables that wait for their flush.
    pub frozen_memtables: usize,
    /// Heads kept after their flush.
    pub cached_heads: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Runs that a read may have to look through.
    pub runs: usize,
    /// Flushes since the tables were opened.
    pub flushes: u64,
    /// Journals whose removed events are still on disk.
    pub journals_to_reclaim: usize,
    /// Damage found since the tables were opened.
    pub damages: u64,
    /// Look-ups of the engine that apply did not foresee; always 0 unless there is an error in the program.
    pub unplanned_reads: u64,
}

/// The tables of one shard; a handle that is cheap to clone. The last one dropped ends the background work.
#[derive(Clone)]
pub struct Tables {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shard: ShardId,
    pub(crate) settings: TablesSettings,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) blocking: Arc<dyn Blocking>,
    state: RwLock<State>,
    /// One apply, or one switch of generation, at a time.
    apply_turn: Arc<Semaphore>,
    /// One ingestion at a time.
    flush_turn: Arc<Semaphore>,
    /// One checkpoint is installed at a time.
    pub(crate) install_turn: Arc<Semaphore>,
    wake_flusher: Arc<Notify>,
    progress: watch::Sender<Progress>,
    failure: watch::Sender<Option<TablesError>>,
    durable: Option<watch::Receiver<Option<u64>>>,
    observers: Observers,
    pub(crate) chunk_cache: ChunkCache,
    reclaim: Mutex<reclaiming::Queue>,
    damages: Damages,
    flushes: AtomicU64,
    unplanned_reads: AtomicU64,
    is_compacting: AtomicBool,
    /// How often the compaction that is due was postponed.
    compactions_postponed: AtomicU32,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake_flusher.notify_one();
    }
}

impl Tables {
    /// Opens the tables of a shard in the engine, in the generation that is current there; creates them if they are not there.
    /// Generations left over from an installation that was not completed are dropped.
    ///
    /// Nothing is flushed beyond what `durable` says is durable in the own log; without it everything counts as durable.
    ///
    /// # Errors
    /// [`TablesError::Broken`] if the engine fails, [`TablesError::Damaged`] if a row cannot be read.
    pub async fn open(
        engine: Arc<dyn Engine>,
        shard: ShardId,
        blocking: Arc<dyn Blocking>,
        durable: Option<watch::Receiver<Option<u64>>>,
        settings: TablesSettings,
    ) -> Result<Self, TablesError> {
        let opened = {
            let engine = Arc::clone(&engine);
            blocking.run(move || generations::open_current(&*engine, shard)).await?
        };
        let progress = Progress { applied: opened.meta.applied, flushed: opened.meta.applied };
        let newest = newest_position(&opened.meta.shard);
        let seed = Seeded(settings.hash_seed);
        let state = State::new(opened.table, opened.generation, opened.meta, seed, settings.cached_heads_max);
        let inner = Arc::new(Inner {
            shard,
            engine,
            blocking,
            state: RwLock::new(state),
            apply_turn: Arc::new(Semaphore::new(1)),
            flush_turn: Arc::new(Semaphore::new(1)),
            install_turn: Arc::new(Semaphore::new(1)),
            wake_flusher: Arc::new(Notify::new()),
            progress: watch::Sender::new(progress),
            failure: watch::Sender::new(None),
            durable,
            observers: Observers::new(newest, settings.subscriptions_max),
            chunk_cache: ChunkCache::new(settings.chunk_cache_bytes_max),
            reclaim: Mutex::new(reclaiming::Queue::new(opened.removals)),
            damages: Damages::default(),
            flushes: AtomicU64::new(0),
            unplanned_reads: AtomicU64::new(0),
            is_compacting: AtomicBool::new(false),
            compactions_postponed: AtomicU32::new(0),
            settings,
        });
        flushing::start(&inner);
        Ok(Self { inner })
    }

    /// The shard whose tables these are.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.shard
    }

    /// The last entry applied, in memory. None: the tables are empty, which with a log that was purged means that they are lost.
    #[must_use]
    pub fn applied(&self) -> Option<EntryId> {
        self.inner.state().meta.applied
    }

    /// The last entry flushed: durable.
    #[must_use]
    pub fn flushed(&self) -> Option<EntryId> {
        self.inner.state().flushed
    }

    /// How far the tables are, and every change of it.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.inner.progress.subscribe()
    }

    /// Becomes an error when the tables cannot go on: the node stops.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<TablesError>> {
        self.inner.failure.subscribe()
    }

    /// The membership in force at the last entry applied.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.inner.state().membership().cloned()
    }

    /// The ids of all nodes that were ever members, as consensus encoded them; empty at the beginning.
    #[must_use]
    pub fn seen_nodes(&self) -> Bytes {
        self.inner.state().meta.seen_nodes.clone()
    }

    /// The last entry applied, and the hash over every decision up to it: equal on all replicas.
    #[must_use]
    pub fn state_hash(&self) -> (Option<EntryId>, u128) {
        let state = self.inner.state();
        (state.meta.applied, state.shard().chain)
    }

    /// What the tables measure of themselves.
    pub async fn statistics(&self) -> TablesStatistics {
        let table = self.inner.table();
        let (disk_bytes, runs) = self.inner.blocking.run(move || (table.disk_bytes(), table.runs())).await;
        let journals_to_reclaim = self.inner.reclaim().journals();
        let state = self.inner.state();
        TablesStatistics {
            memtable_bytes: state.bytes(),
            frozen_memtables: state.frozen.len(),
            cached_heads: state.cached_heads(),
            disk_bytes,
            runs,
            flushes: self.inner.flushes.load(Ordering::Relaxed),
            journals_to_reclaim,
            damages: self.inner.damages.count(),
            unplanned_reads: self.inner.unplanned_reads.load(Ordering::Relaxed),
        }
    }

    /// Applies an entry: decides its batch, or takes over its membership, or just counts it (both none). Entries come in order;
    /// waits when too much waits for its flush.
    ///
    /// # Errors
    /// [`TablesError::Broken`]: the node stops.
    pub async fn apply(
        &self,
        entry: EntryId,
        batch: Option<&Batch>,
        membership: Option<MembershipChange>,
    ) -> Result<Vec<Reply>, TablesError> {
        let inner = &*self.inner;
        let _turn = inner.apply_turn.acquire().await.expect("it is never closed");
        inner.check()?;
        let outcome = async {
            inner.make_room().await?;
            inner.apply(entry, batch, membership).await
        };
        // Whatever stops an entry from being applied stops all that follow.
        outcome.await.map_err(|error| inner.fail(error))
    }
}

impl Inner {
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("nobody panics while holding it")
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("nobody panics while holding it")
    }

    pub(crate) fn table(&self) -> Arc<dyn Table> {
        Arc::clone(&self.state().table)
    }

    fn reclaim(&self) -> std::sync::MutexGuard<'_, reclaiming::Queue> {
        self.reclaim.lock().expect("nobody panics while holding it")
    }

    /// The failure that stopped the tables, if any.
    fn check(&self) -> Result<(), TablesError> {
        match &*self.failure.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Stops the tables for good.
    pub(crate) fn fail(&self, error: TablesError) -> TablesError {
        let broken = match error {
            TablesError::Broken { .. } => error,
            other => TablesError::broken(other.to_string()),
        };
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert_with(|| broken.clone());
            is_first
        });
        broken
    }

    /// Nothing is applied and nothing is flushed while these are held.
    pub(crate) async fn both_turns(&self) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
        let apply_turn = Arc::clone(&self.apply_turn).acquire_owned().await.expect("it is never closed");
        let flush_turn = Arc::clone(&self.flush_turn).acquire_owned().await.expect("it is never closed");
        (apply_turn, flush_turn)
    }

    /// Replaces the whole state by that of another generation. Blocks; both turns are held.
    pub(crate) fn replace(&self, table: Arc<dyn Table>, generation: u64, meta: Meta) -> Result<(), TablesError> {
        let removals = generations::read_removals(&*table)?;
        let progress = Progress { applied: meta.applied, flushed: meta.applied };
        let newest = newest_position(&meta.shard);
        let seed = Seeded(self.settings.hash_seed);
        let new = State::new(table, generation, meta, seed, self.settings.cached_heads_max);
        let old = std::mem::replace(&mut *self.state_mut(), new);
        *self.reclaim() = reclaiming::Queue::new(removals);
        self.chunk_cache.clear();
        self.progress.send_replace(progress);
        self.observers.advance(newest, &[]);
        drop(old);
        self.wake_flusher.notify_one();
        Ok(())
    }

    /// Takes note of what went wrong in a read: damage is counted, a failure of the engine stops the tables.
    pub(crate) fn note(&self, error: TablesError) -> TablesError {
        match error {
            TablesError::Broken { .. } => self.fail(error),
            error => self.damages.note(error),
        }
    }

    /// Waits until the active memtable has room.
    async fn make_room(&self) -> Result<(), TablesError> {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            {
                let mut state = self.state_mut();
                if state.active.bytes < self.settings.memtable_bytes_max {
                    return Ok(());
                }
                if state.frozen.len() < FROZEN_MAX {
                    state.freeze();
                    self.wake_flusher.notify_one();
                    return Ok(());
                }
            }
            self.progressed(&mut progress).await?;
        }
    }

    /// Waits until a flush is done.
    async fn progressed(&self, progress: &mut watch::Receiver<Progress>) -> Result<(), TablesError> {
        let mut failure = self.failure.subscribe();
        tokio::select! {
            biased;
            _ = failure.wait_for(Option::is_some) => self.check(),
            _ = progress.changed() => Ok(()),
        }
    }

    async fn apply(
        &self,
        entry: EntryId,
        batch: Option<&Batch>,
        membership: Option<MembershipChange>,
    ) -> Result<Vec<Reply>, TablesError> {
        let mut loaded = Loaded::default();
        let outcome = loop {
            let (plan, table) = {
                let mut state = self.state_mut();
                check_order(state.meta.applied, entry)?;
                let plan = batch.map(|batch| plan(&state, &loaded, batch)).unwrap_or_default();
                if plan.is_ready() {
                    break self.apply_planned(&mut state, entry, batch, membership, &loaded, &plan)?;
                }
                (plan, Arc::clone(&state.table))
            };
            loaded = self.blocking.run(move || loaded.load(&*table, plan)).await?;
        };
        // The state is free again: an observer may look at it.
        if let Some(observer) = &self.settings.applied {
            let Outcome { decisions, state_hash, .. } = &outcome;
            observer.applied(&AppliedEntry { shard: self.shard, entry, batch, decisions, state_hash: *state_hash });
        }
        Ok(outcome.replies)
    }

    fn apply_planned(
        &self,
        state: &mut State,
        entry: EntryId,
        batch: Option<&Batch>,
        membership: Option<MembershipChange>,
        loaded: &Loaded,
        plan: &applying::Plan,
    ) -> Result<Outcome, TablesError> {
        let (mut replies, mut decisions) = (Vec::new(), Vec::new());
        let mut changed = Vec::new();
        if let Some(batch) = batch {
            let mut applying = Applying::new(state, loaded, plan, self.observers.has_subscriptions());
            let (rules, is_observed) = (&*self.settings.rules, self.settings.applied.is_some());
            replies = apply_batch_by(&mut applying, batch, |view, command| {
                let decision = rules.decide(view, command, batch.moment)?;
                if is_observed {
                    decisions.push(decision.clone());
                }
                Ok(decision)
            })?;
            self.unplanned_reads.fetch_add(applying.unplanned(), Ordering::Relaxed);
            changed = applying.into_highest();
        }
        if let Some(change) = membership {
            state.meta.membership = Some(Membership { entry: Some(entry), bytes: change.membership });
            state.meta.seen_nodes = change.seen_nodes;
        }
        state.meta.applied = Some(entry);
        for (persistence_id, head) in loaded.heads() {
            state.active.keep_head(persistence_id, head);
        }
        if state.note_removals() {
            self.wake_flusher.notify_one();
        }
        self.progress.send_modify(|progress| progress.applied = Some(entry));
        self.observers.advance(newest_position(state.shard()), &changed);
        Ok(Outcome { replies, decisions, state_hash: state.shard().chain })
    }
}

/// What an entry came to.
struct Outcome {
    replies: Vec<Reply>,
    /// Kept only if somebody looks on.
    decisions: Vec<Decision>,
    state_hash: u128,
}

/// The position of the newest event; 0 before the first.
fn newest_position(shard: &ShardState) -> Position {
    Position(shard.next_position.0.saturating_sub(1))
}

fn check_order(applied: Option<EntryId>, entry: EntryId) -> Result<(), TablesError> {
    match applied {
        Some(applied) if entry.index <= applied.index => {
            Err(TablesError::broken(format!("entry {entry} came after entry {applied}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
