//! The Raft log: one for all shards of a node, in segments of its own.
//!
//! One loop, [`LogWriter`], takes what waits from all shards, writes it as one frame, syncs once, and completes in order. The
//! log knows nothing of consensus: entries are bytes with a term, a leader and an index.
//!
//! Start reading at [`Log::open`]; `frame`, `record` and `opening` are the format, `index` is a shard's log in memory, `writer`
//! and `preparer` are the two loops, `recovery` reads what a crash left, [`inspect`] looks into a segment without opening the log.
//!
//! Files: `0000000001.segment` and so on, preallocated; the newest may be a spare that was not begun. A segment is an opening
//! frame, then data frames, and a closing frame wherever the log was idle. `LAST` says how far the log surely came.
//!
//! Invariants
//! - The frame is the batch is the sync: a batch is written only after the one before it is synced.
//! - Batches are numbered without gaps over the whole log. A bad frame where batch n belongs is a torn tail if and only if no
//!   frame of a later batch exists; then it is cut, and the cut is synced, before anybody is answered. Anything else is damage:
//!   the log does not open.
//! - A write or sync that failed ends the log for good. It is never tried again.
//! - Callers hear of durability in the order of their calls, over all shards.
//! - A segment is given back when no live entry is in it, and that fact is durable; the oldest first.

mod copy;
mod entry;
mod error;
mod frame;
mod index;
pub mod inspect;
mod last;
mod opening;
mod preparer;
mod read;
mod rebuild;
mod record;
mod recovery;
mod settings;
mod shard;
mod shared;
mod thread;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_machine::ShardId;
use tokio::sync::watch;

pub use entry::{LogEntry, Pin, ShardLogState};
pub use error::LogError;
pub use recovery::{RecoveryReport, TornTail};
pub use settings::{LogObserver, LogSettings, NoObserver, VOTE_BYTES_MAX};
pub use shard::ShardLog;
pub use shared::OnDurable;
pub use thread::spawn_log_thread;
pub use writer::LogWriter;

use crate::fs::Fs;
use index::ShardIndex;
use shared::{ShardState, Shared};

/// The log of a node. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

impl Log {
    /// Makes a new, empty log in `dir`, durably; nothing if an empty one is there. It is a call of its own, so that a log that is
    /// gone is never taken for a new one: whoever makes it notes behind it, durably, that there must be one from then on.
    ///
    /// # Errors
    /// [`LogError::Io`] from the disk, and if a log that was written to is there; [`LogError::Damaged`].
    pub async fn create(fs: &dyn Fs, dir: &Path) -> Result<(), LogError> {
        recovery::create(fs, dir).await
    }

    /// Opens the log in `dir`. The caller holds the folder for itself, see [`Fs::lock_dir`]. Nothing is written before the writer
    /// runs; except that a torn tail is cut, and that the last batch is written again.
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::UnsupportedVersion`]: the files stay as they are. [`LogError::Io`] from the disk.
    pub async fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        settings: LogSettings,
    ) -> Result<(Self, LogWriter, RecoveryReport), LogError> {
        let recovered = recovery::recover(&fs, &dir, &settings).await?;
        let shared = Arc::new(Shared::new(fs, dir, settings, recovered.state));
        let writer = LogWriter::new(shared.clone(), recovered.position, recovered.written, recovered.last);
        Ok((Self { shared }, writer, recovered.report))
    }

    /// The log of one shard; made if it is new.
    ///
    /// # Panics
    /// If that would be more shards than [`LogSettings::shards_max`].
    pub fn shard(&self, shard: ShardId) -> ShardLog {
        let mut state = self.shared.lock();
        let count = state.shards.len();
        state.shards.entry(shard).or_insert_with(|| {
            assert!(count < usize::from(self.shared.settings.shards_max), "a log serves as many shards as its settings say");
            ShardState::new(ShardIndex::default(), None, None)
        });
        drop(state);
        ShardLog::new(self.shared.clone(), shard)
    }

    /// The shards that the log knows.
    pub fn shards(&self) -> Vec<ShardId> {
        self.shared.lock().shards.keys().copied().collect()
    }

    /// Resolves when the log broke, with the cause. A log that was shut down never resolves it.
    pub fn failed(&self) -> impl Future<Output = LogError> + Send + use<> {
        let mut failed = self.shared.failed.subscribe();
        async move {
            loop {
                match failed.borrow_and_update().clone() {
                    None | Some(LogError::Stopped) => {}
                    Some(error) => return error,
                }
                if failed.changed().await.is_err() {
                    // The last handle is gone: nobody can break it any more.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// What broke the log, as it changes.
    pub fn failure(&self) -> watch::Receiver<Option<LogError>> {
        self.shared.failed.subscribe()
    }

    /// Which shards keep which old segments on disk, the oldest first.
    pub fn pins(&self) -> Vec<Pin> {
        let state = self.shared.lock();
        let mut pins: Vec<_> = state
            .shards
            .iter()
            .filter_map(|(shard, shard_state)| {
                let oldest_segment = shard_state.index.oldest_segment()?;
                Some(Pin { shard: *shard, oldest_segment, segments_behind: state.current - oldest_segment })
            })
            .collect();
        pins.sort_by_key(|pin| (pin.oldest_segment, pin.shard));
        pins
    }

    /// How many segment files may hold live entries.
    pub fn segment_count(&self) -> usize {
        self.shared.lock().segments.len()
    }

    /// Writes the live entries of a shard that lie in older segments into the current one, so that the old ones can go. Says
    /// how many entries it wrote.
    ///
    /// # Errors
    /// As the log's.
    pub async fn copy_forward(&self, shard: ShardId) -> Result<u64, LogError> {
        copy::copy_forward(&self.shared, shard).await
    }

    /// Lets the writer finish what waits, close the last batch and end; later calls fail with [`LogError::Stopped`], and so do
    /// those that wait for room on a full disk.
    ///
    /// # Errors
    /// What broke the log, if it broke.
    pub async fn shutdown(&self) -> Result<(), LogError> {
        self.shared.lock().stopping = true;
        self.shared.work.notify_one();
        self.shared.spare_ready.notify_one();
        let mut failed = self.shared.failed.subscribe();
        let ended = failed.wait_for(Option::is_some).await;
        match ended.as_deref() {
            Ok(Some(LogError::Stopped)) | Err(_) => Ok(()),
            Ok(Some(error)) => Err(error.clone()),
            Ok(None) => unreachable!("waited for a value"),
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
