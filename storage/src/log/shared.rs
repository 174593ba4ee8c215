//! The state that callers, the writer and the preparer share, under one lock that is never held across an await.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use cairn_machine::ShardId;
use tokio::sync::{Notify, watch};

use super::entry::LogEntry;
use super::error::LogError;
use super::index::{Place, ShardIndex};
use super::settings::LogSettings;
use crate::EntryId;
use crate::fs::{File, Fs};

/// Called by the writer, in submission order over the whole log.
pub type OnDurable = Box<dyn FnOnce(Result<(), LogError>) + Send>;

pub(super) struct Shared {
    pub fs: Arc<dyn Fs>,
    pub dir: PathBuf,
    pub settings: LogSettings,
    state: Mutex<State>,
    /// Wakes the writer.
    pub work: Notify,
    /// Wakes the preparer.
    pub housework: Notify,
    /// Wakes the writer when a spare segment is there.
    pub spare_ready: Notify,
    pub failed: watch::Sender<Option<LogError>>,
}

pub(super) struct State {
    /// What waits for the writer, in submission order. Bounded by what its submitters admit.
    pub queue: Vec<Operation>,
    /// How many operations were ever queued, and how many of them are durable.
    pub submitted: u64,
    pub completed: u64,
    pub shards: BTreeMap<ShardId, ShardState>,
    /// Every segment that may hold live entries, the current one included.
    pub segments: BTreeMap<u32, Segment>,
    /// The segment that is written now.
    pub current: u32,
    /// The newest segment that was begun to be made ready; the current one or the one after it.
    pub newest: u32,
    /// The segment that comes next, ready to be written.
    pub spare: Option<Spare>,
    /// Segments that nothing needs, oldest first; one is kept to be used again.
    pub freed: VecDeque<(u32, Arc<SegmentFiles>)>,
    /// What ended this log.
    pub broken: Option<LogError>,
    pub stopping: bool,
    /// The next segment finds no room.
    pub disk_full: bool,
    next_serial: u32,
}

pub(super) struct ShardState {
    pub index: ShardIndex,
    pub vote: Option<Bytes>,
    pub committed: Option<EntryId>,
    /// The committed entry changed since the writer last looked.
    pub committed_waits: bool,
    pub durable: watch::Sender<Option<u64>>,
}

pub(super) struct Segment {
    pub files: Arc<SegmentFiles>,
    /// Nothing in it is live; it can go when this many operations are durable, as these made it so.
    pub free_at: Option<u64>,
}

/// An open segment.
pub(super) struct SegmentFiles {
    pub path: PathBuf,
    pub bytes: u32,
    pub writing: Arc<dyn File>,
    pub reading: Arc<dyn File>,
}

pub(super) struct Spare {
    pub number: u32,
    pub files: Arc<SegmentFiles>,
    pub recycled: bool,
}

pub(super) enum Operation {
    Append {
        shard: ShardId,
        serial: u32,
        entries: Vec<LogEntry>,
        done: OnDurable,
    },
    Truncate {
        shard: ShardId,
        last_kept: Option<EntryId>,
        done: OnDurable,
    },
    Purge {
        shard: ShardId,
        up_to: EntryId,
        done: OnDurable,
    },
    Vote {
        shard: ShardId,
        vote: Bytes,
        done: OnDurable,
    },
    Copy {
        shard: ShardId,
        entries: Vec<(LogEntry, Place)>,
        done: OnDurable,
    },
    /// Changes nothing, and is answered when everything before it is durable.
    Barrier {
        done: OnDurable,
    },
}

impl Operation {
    pub fn into_done(self) -> OnDurable {
        match self {
            Self::Append { done, .. }
            | Self::Truncate { done, .. }
            | Self::Purge { done, .. }
            | Self::Vote { done, .. }
            | Self::Copy { done, .. }
            | Self::Barrier { done } => done,
        }
    }
}

impl Shared {
    pub fn new(fs: Arc<dyn Fs>, dir: PathBuf, settings: LogSettings, state: State) -> Self {
        Self {
            fs,
            dir,
            settings,
            state: Mutex::new(state),
            work: Notify::new(),
            housework: Notify::new(),
            spare_ready: Notify::new(),
            failed: watch::Sender::new(None),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // The state may be half changed: nothing more is written, and everybody hears why.
            let mut state = poisoned.into_inner();
            state.broken.get_or_insert(LogError::Panicked);
            state
        })
    }

    /// Ends the log: everybody who waits and everybody who comes later hears it. The first cause stays.
    pub fn fail(&self, error: LogError) {
        let queue = {
            let mut state = self.lock();
            if state.broken.is_none() {
                state.broken = Some(error.clone());
            }
            std::mem::take(&mut state.queue)
        };
        let later = error.for_later_callers();
        for operation in queue {
            operation.into_done()(Err(later.clone()));
        }
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(error);
            first
        });
        self.work.notify_one();
        self.housework.notify_one();
        self.spare_ready.notify_one();
    }
}

impl State {
    pub fn new(shards: BTreeMap<ShardId, ShardState>, segments: BTreeMap<u32, Segment>, current: u32) -> Self {
        Self {
            queue: Vec::new(),
            submitted: 0,
            completed: 0,
            shards,
            segments,
            current,
            newest: current,
            spare: None,
            freed: VecDeque::new(),
            broken: None,
            stopping: false,
            disk_full: false,
            next_serial: 0,
        }
    }

    /// Fails once the log broke or stops.
    pub fn check(&self) -> Result<(), LogError> {
        match &self.broken {
            Some(error) => Err(error.for_later_callers()),
            None if self.stopping => Err(LogError::Stopped),
            None => Ok(()),
        }
    }

    pub fn shard(&mut self, shard: ShardId) -> &mut ShardState {
        self.shards.get_mut(&shard).expect("a handle registered its shard")
    }

    pub fn submit(&mut self, operation: Operation) {
        self.submitted += 1;
        self.queue.push(operation);
    }

    pub fn next_serial(&mut self) -> u32 {
        self.next_serial = self.next_serial.wrapping_add(1);
        self.next_serial
    }

    /// Finds the segments that nothing needs any more, oldest first, and hands them to the preparer. Says whether there are any.
    ///
    /// A truncation or purge takes effect in memory before it is on disk, so an empty segment goes only when everything that
    /// had been submitted by the time it was found empty is durable: a crash in between still finds its entries.
    pub fn free_segments(&mut self) -> bool {
        let oldest_live = self.shards.values().filter_map(|shard| shard.index.oldest_segment()).min().unwrap_or(u32::MAX);
        let mut any = false;
        while let Some(mut oldest) = self.segments.first_entry() {
            let number = *oldest.key();
            if number >= oldest_live.min(self.current) {
                break;
            }
            if *oldest.get_mut().free_at.get_or_insert(self.submitted) > self.completed {
                break;
            }
            self.freed.push_back((number, oldest.remove().files));
            any = true;
        }
        any
    }

    /// Brings the cached payloads under `bytes_max`, where they are on disk. Each shard keeps an equal share, and what others
    /// leave of theirs.
    pub fn evict(&mut self, bytes_max: usize) {
        let total: usize = self.shards.values().map(|shard| shard.index.cached_bytes()).sum();
        if total <= bytes_max {
            return;
        }
        let mut holders: Vec<_> = self.shards.values_mut().map(|shard| &mut shard.index).collect();
        holders.sort_by_key(|index| index.cached_bytes());
        // Somewhat below the bound, so that not every batch has to look again.
        let mut room = bytes_max - bytes_max / 16;
        let count = holders.len();
        for (at, index) in holders.into_iter().enumerate() {
            let share = room / (count - at);
            index.evict(index.cached_bytes().saturating_sub(share), u64::MAX);
            room = room.saturating_sub(index.cached_bytes());
        }
    }
}

impl ShardState {
    pub fn new(index: ShardIndex, vote: Option<Bytes>, committed: Option<EntryId>) -> Self {
        let durable = watch::Sender::new(index.last_stored());
        Self { index, vote, committed, committed_waits: false, durable }
    }

    /// Raises the durable index to `index`, if it is higher.
    pub fn raise_durable(&self, index: Option<u64>) {
        self.durable.send_if_modified(|durable| {
            let higher = *durable < index;
            *durable = (*durable).max(index);
            higher
        });
    }
}
