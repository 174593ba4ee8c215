//! Import: atomic writes from lines into journals, ordered in each, many journals at once.
//!
//! Invariants
//! - A journal has at most one request in flight, so a later write never overtakes an earlier one.
//! - Every request carries the numbers and the writer that it would carry in another run, so that an import that was stopped is
//!   run again from the start and stores each event once.
//! - What is read ahead is bounded in count and bytes.

mod groups;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;

use cairn_machine::{PersistenceId, Refusal, SequenceNumber, WriteOutcome, WriteReply};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::AsyncBufRead;

pub use groups::{Group, Groups, InputError};

/// The writer of every import: always the same, so that a second run is the same writes again. Persisted: never change.
pub const IMPORT_WRITER: &str = "cairn-import";
/// Bytes of atomic writes read ahead; one more may come on top.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of atomic writes in one request; a single one may be larger.
const REQUEST_BYTES_TARGET: usize = 256 * 1024;

/// Where the writes go.
pub trait Target {
    /// Why a write has no answer.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Stores the atomic writes of one journal, if its highest number is still `after`, and tries again until the outcome is
    /// known or a deadline ends.
    fn write(&self, after: Option<SequenceNumber>, groups: &[Group]) -> impl Future<Output = Result<WriteReply, Self::Error>>;
}

/// Sees an import go on, and may slow it down.
pub trait Observer {
    /// Waits until the next request may be sent. Dropping the wait takes nothing.
    fn ready(&self) -> impl Future<Output = ()>;
    /// A request with these atomic writes is about to be sent.
    fn sent(&self, groups: &[Group]);
    /// A request was acknowledged: every atomic write is stored.
    fn acknowledged(&self, groups: Vec<Group>, reply: &WriteReply);
    /// A request ended without being acknowledged.
    fn failed(&self, groups: &[Group]);
}

/// How much at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests in flight at most.
    pub requests_in_flight_max: usize,
    /// Atomic writes in one request at most.
    pub groups_per_request_max: usize,
    /// Atomic writes read ahead at most: how far the order of the file may be left for the sake of many journals at once.
    pub groups_ahead_max: usize,
}

/// What was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Events stored, by this run or an earlier one.
    pub events: u64,
    /// Atomic writes stored.
    pub atomic_writes: u64,
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError<E: std::error::Error + 'static> {
    /// The input is wrong.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The rules refused an atomic write.
    #[error("atomic write {first} of {persistence_id:?}, from line {line} on, is refused: {refusal}")]
    Refused {
        /// Its first line, from 1.
        line: u64,
        /// Its journal.
        persistence_id: PersistenceId,
        /// Its first number.
        first: SequenceNumber,
        /// Why.
        refusal: RefusalText,
    },
    /// A write has no answer.
    #[error("write {persistence_id:?}, from line {line} on")]
    Write {
        /// The first line of the request, from 1.
        line: u64,
        /// Its journal.
        persistence_id: PersistenceId,
        /// Why.
        source: E,
    },
}

/// A refusal in words.
#[derive(Debug)]
pub struct RefusalText(Refusal);

impl std::fmt::Display for RefusalText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&cairn_api::v1::Failure::from(self.0.clone()).message)
    }
}

/// Imports everything.
///
/// # Errors
/// The first thing that went wrong, after every request in flight has been answered. Running it again is safe.
pub async fn import<R, T, O>(
    mut input: Groups<R>,
    target: &T,
    observer: &O,
    pace: Pace,
) -> Result<Imported, ImportError<T::Error>>
where
    R: AsyncBufRead + Unpin,
    T: Target,
    O: Observer,
{
    let mut queues = Queues::default();
    let mut in_flight = FuturesUnordered::new();
    let mut imported = Imported::default();
    let mut stopped: Option<ImportError<T::Error>> = None;
    let mut ended = false;
    loop {
        let may_send = stopped.is_none() && !queues.ready.is_empty() && in_flight.len() < pace.requests_in_flight_max;
        let may_read = stopped.is_none() && !ended && queues.have_room(pace.groups_ahead_max);
        tokio::select! {
            biased;
            Some(answered) = in_flight.next(), if !in_flight.is_empty() => {
                let (groups, result): (Vec<Group>, _) = answered;
                queues.finish(&groups);
                if let Err(error) = settle(groups, result, observer, &mut imported) {
                    stopped.get_or_insert(error);
                }
            }
            () = observer.ready(), if may_send => {
                let (after, groups) = queues.take(pace.groups_per_request_max);
                observer.sent(&groups);
                in_flight.push(send(target, after, groups));
            }
            next = input.next(), if may_read => match next {
                Ok(Some(group)) => queues.put(group),
                Ok(None) => ended = true,
                Err(error) => {
                    stopped.get_or_insert(error.into());
                }
            },
            else => break,
        }
    }
    stopped.map_or(Ok(imported), Err)
}

async fn send<T: Target>(
    target: &T,
    after: Option<SequenceNumber>,
    groups: Vec<Group>,
) -> (Vec<Group>, Result<WriteReply, T::Error>) {
    let result = target.write(after, &groups).await;
    (groups, result)
}

fn settle<E: std::error::Error + 'static>(
    groups: Vec<Group>,
    result: Result<WriteReply, E>,
    observer: &impl Observer,
    imported: &mut Imported,
) -> Result<(), ImportError<E>> {
    let first = groups.first().expect("a request holds at least one atomic write");
    let reply = match result {
        Ok(reply) => reply,
        Err(source) => {
            observer.failed(&groups);
            return Err(ImportError::Write { line: first.line, persistence_id: first.persistence_id.clone(), source });
        }
    };
    for (group, outcome) in groups.iter().zip(&reply.outcomes) {
        if let WriteOutcome::Refused(refusal) = outcome {
            observer.failed(&groups);
            return Err(ImportError::Refused {
                line: group.line,
                persistence_id: group.persistence_id.clone(),
                first: group.atomic_write.first(),
                refusal: RefusalText(refusal.clone()),
            });
        }
    }
    imported.atomic_writes += groups.len() as u64;
    imported.events += groups.iter().map(|group| group.events.len() as u64).sum::<u64>();
    observer.acknowledged(groups, &reply);
    Ok(())
}

/// What was read and not yet sent, journal by journal.
#[derive(Default)]
struct Queues {
    journals: HashMap<PersistenceId, Queue>,
    /// Journals that have something to send and nothing in flight, by the line of what they send next: the file's order is kept
    /// as far as it can be, so that no journal is left for the end, where it would be sent alone.
    ready: BTreeMap<u64, PersistenceId>,
    groups: usize,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Group>,
    in_flight: bool,
    /// The last number sent in this run.
    last: Option<SequenceNumber>,
}

impl Queues {
    fn have_room(&self, groups_max: usize) -> bool {
        self.groups < groups_max && self.bytes < QUEUED_BYTES_MAX
    }

    fn put(&mut self, group: Group) {
        self.groups += 1;
        self.bytes += group.atomic_write.body().len();
        let queue = self.journals.entry(group.persistence_id.clone()).or_default();
        if queue.waiting.is_empty() && !queue.in_flight {
            self.ready.insert(group.line, group.persistence_id.clone());
        }
        queue.waiting.push_back(group);
    }

    /// The next request: what it expects, and its atomic writes.
    fn take(&mut self, groups_max: usize) -> (Option<SequenceNumber>, Vec<Group>) {
        let (_, persistence_id) = self.ready.pop_first().expect("asked only if a journal is ready");
        let queue = self.journals.get_mut(&persistence_id).expect("what is ready has a queue");
        let mut groups = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.waiting.front() {
            let with_next = bytes + next.atomic_write.body().len();
            if !groups.is_empty() && (groups.len() >= groups_max || with_next > REQUEST_BYTES_TARGET) {
                break;
            }
            bytes = with_next;
            groups.extend(queue.waiting.pop_front());
        }
        self.groups -= groups.len();
        self.bytes -= bytes;
        queue.in_flight = true;
        let after = queue.last;
        queue.last = groups.last().map(|group| group.atomic_write.last());
        (after, groups)
    }

    /// A request was answered.
    fn finish(&mut self, groups: &[Group]) {
        let Some(group) = groups.first() else { return };
        let queue = self.journals.get_mut(&group.persistence_id).expect("what was sent has a queue");
        queue.in_flight = false;
        if let Some(next) = queue.waiting.front() {
            self.ready.insert(next.line, group.persistence_id.clone());
        }
    }
}

#[cfg(test)]
mod tests;
