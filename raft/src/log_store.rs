//! openraft's log, on the node's log.
//!
//! Invariants
//! - Votes, appends, truncations and purges of a shard go down one first-in first-out path, and each answers when it is on disk.
//! - A read gives exactly the contiguous range that it was asked for, or an error that stops the node. Only what lies outside the log is
//!   left out; a log that refused entries does not know what lies outside, and gives an error.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex};

use cairn_storage::EntryId;
use cairn_storage::log::{LogEntry, LogError, ShardLog};
use futures::{Stream, TryStreamExt};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use crate::entry::{decode_ballot, decode_payload, encode_ballot, encode_payload};
use crate::limits::APPEND_BYTES_TARGET;
use crate::type_config::{Ballot, RaftEntry, RaftLogId, Types, log_id};

/// One read of the log takes at most this many bytes where a whole range is wanted; more follow.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(crate) fn entry_id(id: &RaftLogId) -> EntryId {
    EntryId { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

pub(crate) fn raft_log_id(id: EntryId) -> RaftLogId {
    log_id(id.term, id.leader, id.index)
}

/// A shard's log as openraft wants it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: ShardLog,
    meter: Arc<LogMeter>,
}

impl LogStore {
    pub fn new(log: ShardLog, meter: Arc<LogMeter>) -> Self {
        Self { log, meter }
    }

    async fn read(&self, mut from: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let mut entries = Vec::new();
        while from < end {
            let read = self.log.read(from..end, READ_BYTES_MAX).await.map_err(failed)?;
            let Some(last) = read.last() else {
                return Err(io::Error::other(format!("the log gave nothing at index {from}")));
            };
            from = last.id.index + 1;
            decode_into(&mut entries, read)?;
        }
        Ok(entries)
    }

    /// What the log holds of a range.
    fn held(&self, range: impl RangeBounds<u64>) -> io::Result<(u64, u64)> {
        let state = self.log.state();
        let first = self.log.first_index();
        let next = state.last.map_or(first, |id| id.index + 1);
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        if end > next {
            // A log that broke refuses what is appended, and openraft learns that later than it asks for it, to apply it.
            self.log.check().map_err(failed)?;
        }
        Ok((from.max(first), end.min(next)))
    }

    /// Chunk by chunk: after a restart the range may be all that the log holds.
    fn chunks(self, from: u64, end: u64) -> impl Stream<Item = io::Result<Vec<RaftEntry>>> {
        futures::stream::try_unfold((self, from), move |(store, from)| async move {
            if from >= end {
                return Ok(None);
            }
            let mut entries = Vec::new();
            let read = store.log.read(from..end, READ_BYTES_MAX).await.map_err(failed)?;
            decode_into(&mut entries, read)?;
            let next = from + entries.len() as u64;
            Ok(Some((entries, (store, next))))
        })
    }
}

fn decode_into(entries: &mut Vec<RaftEntry>, read: Vec<LogEntry>) -> io::Result<()> {
    entries.reserve(read.len());
    for entry in read {
        let payload = decode_payload(&entry.payload)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {}: {error}", entry.id)))?;
        entries.push(RaftEntry { log_id: raft_log_id(entry.id), payload });
    }
    Ok(())
}

fn failed(error: LogError) -> io::Error {
    io::Error::other(error.to_string())
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let (from, end) = self.held(range)?;
        self.read(from, end).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (held, store) = (self.held(range), self.clone());
        let chunks = futures::stream::once(std::future::ready(held)).map_ok(move |(from, end)| store.clone().chunks(from, end));
        let entries = chunks.try_flatten().map_ok(|chunk| futures::stream::iter(chunk.into_iter().map(Ok))).try_flatten();
        Box::pin(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Ballot>, io::Error> {
        let Some(bytes) = self.log.state().vote else { return Ok(None) };
        decode_ballot(&bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("vote: {error}")))
    }

    /// At least one entry, and as many as fit into one message to a follower.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let (from, end) = self.held(start..end)?;
        if from != start || from >= end {
            return Err(io::Error::other(format!("log entries {start}..{end} are not all there")));
        }
        let read = self.log.read(from..end, APPEND_BYTES_TARGET).await.map_err(failed)?;
        let mut entries = Vec::new();
        decode_into(&mut entries, read)?;
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(raft_log_id),
            last_log_id: state.last.or(state.purged).map(raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Ballot) -> Result<(), io::Error> {
        self.log.save_vote(encode_ballot(vote)).await.map_err(failed)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed.as_ref().map(entry_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        Ok(self.log.state().committed.map(raft_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|entry| LogEntry { id: entry_id(&entry.log_id), payload: encode_payload(&entry.payload) })
            .collect();
        self.meter.appended(&entries);
        let on_durable = move |result: Result<(), LogError>| callback.io_completed(result.map_err(failed));
        self.log.append(entries, Box::new(on_durable));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<RaftLogId>) -> Result<(), io::Error> {
        let last_kept = last_log_id.map(|id| id.index);
        self.meter.truncated(last_kept);
        self.log.truncate_after(last_kept).await.map_err(failed)
    }

    async fn purge(&mut self, log_id: RaftLogId) -> Result<(), io::Error> {
        self.meter.purged(log_id.index);
        self.log.purge(entry_id(&log_id)).await.map_err(failed)
    }
}

/// How many bytes of entries lie behind an index, roughly: counted while this process appends them.
#[derive(Default)]
pub(crate) struct LogMeter {
    marks: Mutex<Marks>,
}

/// Every mark says how many bytes were appended before its index.
#[derive(Default)]
struct Marks {
    bytes_total: u64,
    marks: VecDeque<(u64, u64)>,
}

/// A mark is set each time so many bytes were appended.
const MARK_BYTES: u64 = 1024 * 1024;

impl LogMeter {
    fn appended(&self, entries: &[LogEntry]) {
        let mut marks = self.marks.lock().expect("no one panics while holding it");
        for entry in entries {
            if marks.marks.back().is_none_or(|(_, bytes)| marks.bytes_total - bytes >= MARK_BYTES) {
                let mark = (entry.id.index, marks.bytes_total);
                marks.marks.push_back(mark);
            }
            marks.bytes_total += entry.payload.len() as u64;
        }
    }

    fn truncated(&self, last_kept: Option<u64>) {
        let mut marks = self.marks.lock().expect("no one panics while holding it");
        while marks.marks.back().is_some_and(|(index, _)| last_kept.is_none_or(|kept| *index > kept)) {
            let (_, bytes) = marks.marks.pop_back().expect("seen just now");
            marks.bytes_total = bytes;
        }
    }

    fn purged(&self, up_to: u64) {
        let mut marks = self.marks.lock().expect("no one panics while holding it");
        while marks.marks.get(1).is_some_and(|(index, _)| *index <= up_to + 1) {
            marks.marks.pop_front();
        }
    }

    /// The index from which on the log holds at most `bytes_max`, or none if it holds less in all.
    pub fn keep_from(&self, bytes_max: u64) -> Option<u64> {
        let marks = self.marks.lock().expect("no one panics while holding it");
        let floor = marks.bytes_total.checked_sub(bytes_max)?;
        let at = marks.marks.partition_point(|(_, bytes)| *bytes <= floor);
        marks.marks.get(at.checked_sub(1)?).map(|(index, _)| *index)
    }
}
