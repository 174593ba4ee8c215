//! What a user may set of the log, and the bounds that relate.

use std::sync::Arc;
use std::time::Duration;

use super::frame::{FRAME_ALIGNMENT, HEADER_BYTES};
use super::last::LAST_SHARDS_MAX;
use super::opening::opening_bytes_max;
use super::record::RECORD_HEADER_BYTES;
use crate::fs::Fs;

/// The longest vote.
pub const VOTE_BYTES_MAX: usize = 128;

/// Sizes and times of a log, and who watches it.
#[derive(Clone)]
pub struct LogSettings {
    /// The size of a segment file. Larger ones are given back later, smaller ones cost more files.
    pub segment_bytes: u32,
    /// The longest body of one batch: what one write and one sync carry.
    pub batch_bytes_max: u32,
    /// The longest payload of one entry.
    pub entry_bytes_max: u32,
    /// How many bytes of synced payloads stay in memory, over all shards. What is not yet synced comes on top.
    pub cache_bytes_max: usize,
    /// How long nothing must wait before the last batch is closed by a marker.
    pub idle_close_after: Duration,
    /// How many shards one log serves.
    pub shards_max: u16,
    /// Mixed into the log's first generation number, so that nobody can write a payload that looks like a frame of this log.
    /// Used when a log is made, not when it is opened again.
    pub salt: u64,
    /// Hears of every sync.
    pub observer: Arc<dyn LogObserver>,
    /// Files for readers on other threads than the writer's; `None`: the writer's own.
    pub read_fs: Option<Arc<dyn Fs>>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            batch_bytes_max: 8 << 20,
            entry_bytes_max: 6 << 20,
            cache_bytes_max: 32 << 20,
            idle_close_after: Duration::from_millis(50),
            shards_max: 65,
            salt: 0,
            observer: Arc::new(NoObserver),
            read_fs: None,
        }
    }
}

impl LogSettings {
    /// The longest body of a batch that any fresh segment has room for.
    pub(super) fn body_bytes_max(&self) -> usize {
        let opening = opening_bytes_max(self.shards_max);
        let committed = usize::from(self.shards_max) * RECORD_HEADER_BYTES;
        let room = (self.segment_bytes as usize).saturating_sub(opening + HEADER_BYTES + committed + 2 * FRAME_ALIGNMENT);
        room.min(self.batch_bytes_max as usize)
    }

    /// The longest payload that fits a batch of its own.
    pub(super) fn payload_bytes_max(&self) -> usize {
        let room = self.body_bytes_max().saturating_sub(RECORD_HEADER_BYTES + FRAME_ALIGNMENT);
        room.min(self.entry_bytes_max as usize)
    }

    /// The first reason why these settings cannot work.
    pub(super) fn problem(&self) -> Option<String> {
        if self.shards_max == 0 || self.shards_max > LAST_SHARDS_MAX {
            return Some(format!("shards_max must be between 1 and {LAST_SHARDS_MAX}"));
        }
        let smallest = opening_bytes_max(self.shards_max) + usize::from(self.shards_max) * RECORD_HEADER_BYTES + 1024;
        if !self.segment_bytes.is_multiple_of(SEGMENT_ALIGNMENT) || (self.segment_bytes as usize) < smallest {
            return Some(format!("segment_bytes must be a multiple of {SEGMENT_ALIGNMENT} and at least {smallest}"));
        }
        if self.segment_bytes > SEGMENT_BYTES_MAX {
            return Some(format!("segment_bytes must be at most {SEGMENT_BYTES_MAX}"));
        }
        None
    }
}

impl std::fmt::Debug for LogSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSettings")
            .field("segment_bytes", &self.segment_bytes)
            .field("batch_bytes_max", &self.batch_bytes_max)
            .field("entry_bytes_max", &self.entry_bytes_max)
            .field("cache_bytes_max", &self.cache_bytes_max)
            .field("idle_close_after", &self.idle_close_after)
            .field("shards_max", &self.shards_max)
            .finish_non_exhaustive()
    }
}

/// Segment files are whole pages.
pub(super) const SEGMENT_ALIGNMENT: u32 = 4096;
/// Recovery holds one segment in memory.
pub(super) const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Hears of the log's work, for metrics. Called on the log's thread: it must be quick.
pub trait LogObserver: Send + Sync + 'static {
    /// One batch of `records` records, `bytes` on disk, was written and synced in `took`.
    fn synced(&self, took: Duration, bytes: usize, records: usize);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl LogObserver for NoObserver {
    fn synced(&self, _: Duration, _: usize, _: usize) {}
}
