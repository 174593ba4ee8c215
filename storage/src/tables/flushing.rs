//! The flusher: one task for each shard's tables, which carries frozen memtables to the engine and gives space back behind them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::TablesError;
use super::reclaiming;
use super::run::Run;
use super::state::Frozen;
use super::{FROZEN_MAX, Inner, Tables};
use crate::blocking::BlockingExt;
use crate::engine::Compaction;
use crate::entry::EntryId;

/// Above this many runs the next flush waits for the engine to merge some.
const RUNS_MAX: usize = 16;
/// How often it looks whether the engine has merged.
const RUNS_PAUSE: Duration = Duration::from_millis(20);
/// How often it looks at most before it goes on all the same.
const RUNS_PAUSES_MAX: usize = 500;
/// Journals that one step of reclaiming takes at most.
const RECLAIM_JOURNALS_MAX: usize = 1024;
/// A compaction waits at most this many times the idle time for an idle engine.
const COMPACT_WAITS_MAX: u32 = 10;
/// After a compaction the next one waits this many times as long as it took.
const COMPACT_REST: u32 = 10;
/// One that was postponed is tried again after the idle time, doubled each time, so often at most.
const COMPACT_DOUBLINGS_MAX: u32 = 10;
/// A compaction writes every key anew, so it waits until one row of so many is removed: however large a table is, what it writes
/// for each removed row stays bounded. Rows and not bytes are compared, as an engine learns only in a merge how large the values
/// were that a removal left without a key.
const COMPACT_ROWS_FOR_EACH_REMOVED_MAX: u64 = 10;

impl Tables {
    /// Flushes everything that is applied now, and returns the last entry that is durable then; none if nothing was ever applied.
    ///
    /// # Errors
    /// [`TablesError::Broken`]: the node stops.
    pub async fn flush(&self) -> Result<Option<EntryId>, TablesError> {
        let inner = &*self.inner;
        let mut progress = inner.progress.subscribe();
        let target = loop {
            progress.mark_unchanged();
            inner.check()?;
            {
                let mut state = inner.state_mut();
                let applied = state.meta.applied;
                let frozen = state.frozen.back().map_or(state.flushed, |frozen| frozen.meta.applied);
                if applied == frozen {
                    break applied;
                }
                if state.frozen.len() < FROZEN_MAX {
                    state.freeze();
                    inner.wake_flusher.notify_one();
                    break applied;
                }
            }
            inner.progressed(&mut progress).await?;
        };
        loop {
            progress.mark_unchanged();
            let flushed = inner.state().flushed;
            if flushed.map(|entry| entry.index) >= target.map(|entry| entry.index) {
                return Ok(flushed);
            }
            // What broke the tables may have come after the flush.
            inner.check()?;
            let _ = inner.progressed(&mut progress).await;
        }
    }
}

/// Starts the flusher; it ends with the tables.
pub(crate) fn start(inner: &Arc<Inner>) {
    let (weak, wake) = (Arc::downgrade(inner), Arc::clone(&inner.wake_flusher));
    wake.notify_one();
    tokio::spawn(async move {
        let _guard = FailOnPanic(Weak::clone(&weak));
        loop {
            match removals_due(&weak) {
                Some(due) => drop(timeout_at(due, wake.notified()).await),
                None => wake.notified().await,
            }
            freeze_removals(&weak);
            while work(&weak).await {}
            if weak.strong_count() == 0 {
                return;
            }
        }
    });
}

/// When the active memtable is to be flushed for what it gives back: permanent deletions must not wait until somebody has
/// written enough to fill it.
fn removals_due(weak: &Weak<Inner>) -> Option<Instant> {
    let inner = weak.upgrade()?;
    inner.check().ok()?;
    let state = inner.state();
    // While others wait for their flush it waits too; the flusher looks again after each.
    let since = state.removals_since().filter(|_| state.frozen.len() < FROZEN_MAX)?;
    Some(since + inner.settings.flush_removals_after)
}

/// Freezes the active memtable if that is due.
fn freeze_removals(weak: &Weak<Inner>) {
    if removals_due(weak).is_none_or(|due| Instant::now() < due) {
        return;
    }
    let Some(inner) = weak.upgrade() else { return };
    let mut state = inner.state_mut();
    if state.frozen.len() < FROZEN_MAX {
        state.freeze();
    }
}

/// A flusher that is gone must not be waited for.
struct FailOnPanic(Weak<Inner>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(inner) = self.0.upgrade()
        {
            inner.fail(TablesError::broken("the flusher panicked"));
        }
    }
}

/// Does the next piece of work; false if there is none, or no tables any more.
async fn work(weak: &Weak<Inner>) -> bool {
    let Some(inner) = weak.upgrade() else { return false };
    if inner.check().is_err() {
        return false;
    }
    let frozen = inner.state().frozen.front().cloned();
    match frozen {
        Some(frozen) => {
            let index = frozen.meta.applied.map(|entry| entry.index);
            drop(frozen);
            // Nobody but the flusher may keep the tables alive while the log takes its time.
            let durable = inner.durable.clone();
            drop(inner);
            if !wait_durable(durable, index).await {
                return false;
            }
            let Some(inner) = weak.upgrade() else { return false };
            pause_for_merges(&inner).await;
            inner.flush_oldest(index).await
        }
        None => inner.reclaim_step().await,
    }
}

/// Waits until the own log has an entry on disk; false if the log has stopped.
async fn wait_durable(durable: Option<tokio::sync::watch::Receiver<Option<u64>>>, index: Option<u64>) -> bool {
    match durable {
        Some(mut durable) => durable.wait_for(|durable| *durable >= index).await.is_ok(),
        None => true,
    }
}

async fn pause_for_merges(inner: &Inner) {
    for _ in 0..RUNS_PAUSES_MAX {
        let table = inner.table();
        if inner.blocking.run(move || table.runs()).await <= RUNS_MAX {
            return;
        }
        sleep(RUNS_PAUSE).await;
    }
}

impl Inner {
    /// Flushes the oldest frozen memtable, if it is still the one that ends at this index; false if the tables are broken.
    async fn flush_oldest(self: Arc<Self>, index: Option<u64>) -> bool {
        let _turn = self.flush_turn.acquire().await.expect("it is never closed");
        let (frozen, table) = {
            let state = self.state();
            let Some(frozen) = state.frozen.front() else { return true };
            if frozen.meta.applied.map(|entry| entry.index) != index {
                return true;
            }
            (Arc::clone(frozen), Arc::clone(&state.table))
        };
        let outcome = self.blocking.run(move || write(&frozen, &*table)).await;
        match outcome {
            Ok(written) => {
                let rest = self.state_mut().thaw();
                self.blocking.run(move || drop(rest)).await;
                self.flushes.fetch_add(1, Ordering::Relaxed);
                {
                    let mut queue = self.reclaim();
                    queue.add(written.removals);
                    queue.rows_removed += written.rows_removed;
                }
                let flushed = self.state().flushed;
                self.progress.send_modify(|progress| progress.flushed = flushed);
                true
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// Removes some of what permanent deletions left; false if there is nothing left, or the tables are broken.
    async fn reclaim_step(self: Arc<Self>) -> bool {
        let _turn = self.flush_turn.acquire().await.expect("it is never closed");
        let journals = self.reclaim().next(RECLAIM_JOURNALS_MAX);
        if journals.is_empty() {
            compact_if_worth_it(&self).await;
            return false;
        }
        let (table, rows_max) = (self.table(), self.settings.reclaim_rows_max);
        match self.blocking.run(move || reclaiming::step(&*table, journals, rows_max)).await {
            Ok(step) => {
                self.reclaim().done(&step);
                true
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }
}

struct Written {
    removals: Vec<(cairn_machine::JournalId, cairn_machine::SequenceNumber)>,
    rows_removed: u64,
}

fn write(frozen: &Frozen, table: &dyn crate::engine::Table) -> Result<Written, TablesError> {
    let run = Run::new(frozen, table)?;
    table.ingest(&mut run.rows())?;
    Ok(Written { removals: run.removals(), rows_removed: run.rows_removed() })
}

/// Lets the engine give space back if enough rows were removed, once it is idle.
async fn compact_if_worth_it(inner: &Arc<Inner>) {
    let removed = inner.reclaim().rows_removed;
    if removed < inner.settings.compact_after_rows_removed || inner.is_compacting.load(Ordering::Acquire) {
        return;
    }
    let table = inner.table();
    let rows = inner.blocking.run(move || table.rows_estimate()).await;
    if removed.saturating_mul(COMPACT_ROWS_FOR_EACH_REMOVED_MAX) < rows || inner.is_compacting.swap(true, Ordering::AcqRel) {
        return;
    }
    let weak = Arc::downgrade(inner);
    let (idle, mut progress) = (inner.settings.compact_idle, inner.progress.subscribe());
    tokio::spawn(async move {
        for _ in 0..COMPACT_WAITS_MAX {
            progress.mark_unchanged();
            // A passed time-out is an idle engine; otherwise the tables moved on, or are gone.
            if timeout(idle, progress.changed()).await.is_err() {
                break;
            }
            sleep(idle).await;
        }
        let Some(inner) = weak.upgrade() else { return };
        let Some(rest) = compact(&inner).await else { return };
        drop(inner);
        sleep(rest).await;
        let Some(inner) = weak.upgrade() else { return };
        inner.is_compacting.store(false, Ordering::Release);
        inner.wake_flusher.notify_one();
    });
}

/// Compacts, and says for how long the next one is to wait; none if it failed.
async fn compact(inner: &Inner) -> Option<Duration> {
    let table = inner.table();
    let removed = std::mem::take(&mut inner.reclaim().rows_removed);
    let began = Instant::now();
    let outcome = inner.blocking.run(move || table.compact()).await;
    let took = began.elapsed();
    match outcome {
        Ok(Compaction::Done) => {
            tracing::debug!(shard = inner.shard.0, removed, ?took, "gave back the space of removed rows");
            inner.compactions_postponed.store(0, Ordering::Relaxed);
            // However much is removed, this stays a small part of the work.
            Some(took * COMPACT_REST)
        }
        Ok(Compaction::Postponed { reason }) => {
            inner.reclaim().rows_removed += removed;
            let before = inner.compactions_postponed.fetch_add(1, Ordering::Relaxed);
            let rest = inner.settings.compact_idle * 2_u32.pow(before.min(COMPACT_DOUBLINGS_MAX));
            tracing::warn!(shard = inner.shard.0, removed, reason, ?rest, "the space of removed rows is given back later");
            Some(rest)
        }
        Err(error) => {
            inner.fail(error.into());
            None
        }
    }
}
