//! The history, put in order for the properties: journal by journal, who tried to write what and what became of it, and everything that
//! was ever read.
//!
//! Invariant: nothing is concluded here; an event is *known* because somebody read it, an atomic write *acknowledged* because somebody
//! was told so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_machine::{PersistenceId, Slice};

use crate::history::{Answer, Call, Fresh, Numbered, Operation, Outcome, ReadEvent, ReadSnapshot, Written};
use crate::stamp::Stamp;

mod snapshots;

pub(crate) use snapshots::Snapshots;

/// One atomic write as one operation tried it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt<'a> {
    /// Which operation.
    pub operation: usize,
    pub began: Duration,
    pub ended: Option<Duration>,
    pub epoch: Option<u64>,
    /// What its request expected the highest number to be; only of the first atomic write of a request.
    pub after: Option<u64>,
    pub events: &'a [Numbered],
    pub fate: Fate<'a>,
}

/// What its client was told about an atomic write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate<'a> {
    Stored {
        previous: u64,
        position: u64,
        timestamp: i64,
    },
    /// Refused, or certainly not applied.
    Not(&'a str),
    /// It may have been stored, or may still be.
    Unknown,
}

impl Attempt<'_> {
    pub(crate) fn first(&self) -> u64 {
        self.events[0].0
    }

    pub(crate) fn last(&self) -> u64 {
        self.events[self.events.len() - 1].0
    }

    /// Whether its events may be there.
    pub(crate) fn may_be_stored(&self) -> bool {
        !matches!(self.fate, Fate::Not(_))
    }
}

/// A replay that was answered, in whole or in part.
#[derive(Clone, Debug)]
pub(crate) struct Replayed<'a> {
    pub operation: usize,
    pub began: Duration,
    pub ended: Duration,
    pub from: u64,
    pub to: u64,
    pub max: u64,
    pub include_deleted: bool,
    pub is_strong: bool,
    /// The snapshot that it follows, in a recovery.
    pub after: Option<&'a ReadSnapshot>,
    pub events: &'a [ReadEvent],
    /// Highest number and delete watermark; none if the stream broke.
    pub end: Option<(u64, u64)>,
}

impl Replayed<'_> {
    /// The greatest number about which it says whether it is there; none if it says nothing.
    pub(crate) fn covers_to(&self) -> Option<u64> {
        let last = self.events.last().map(|event| event.number);
        if self.end.is_none() || self.events.len() as u64 >= self.max { last } else { Some(self.to) }
    }
}

/// Somebody learnt at `ended` that the highest number is at least `at_least`; who asked for a fresh answer learnt that it was exactly
/// that at some time since `began`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub operation: usize,
    pub began: Duration,
    pub ended: Duration,
    pub at_least: u64,
    pub is_exact: bool,
}

/// A deletion of events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deleted {
    pub operation: usize,
    pub began: Duration,
    pub ended: Option<Duration>,
    pub to: u64,
    pub permanent: bool,
    /// The watermark that it was told; none if its outcome is unknown.
    pub told: Option<u64>,
}

/// A claim that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    pub operation: usize,
    pub ended: Duration,
    pub epoch: u64,
}

/// Everything about one journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal<'a> {
    pub attempts: Vec<Attempt<'a>>,
    pub replays: Vec<Replayed<'a>>,
    pub highest_seen: Vec<Seen>,
    pub watermark_seen: Vec<Seen>,
    pub deletions: Vec<Deleted>,
    pub claims: Vec<Claimed>,
    /// Events that were read, by number: as they were read first, and by which operation.
    pub known: BTreeMap<u64, (usize, &'a ReadEvent)>,
    pub snapshots: Snapshots<'a>,
}

impl Journal<'_> {
    /// Whether a number may have been deleted by the time `by`; only for ever, if deleted ones were asked for.
    pub(crate) fn may_be_deleted(&self, number: u64, by: Duration, permanently: bool) -> bool {
        self.deletions.iter().any(|deletion| {
            deletion.began <= by && (deletion.permanent || !permanently) && deletion.told.unwrap_or(deletion.to) >= number
        })
    }

    /// Numbers that are stored for certain: read by somebody, or acknowledged.
    pub(crate) fn stored(&self) -> BTreeSet<u64> {
        let acknowledged = self.attempts.iter().filter(|attempt| matches!(attempt.fate, Fate::Stored { .. }));
        let numbers = acknowledged.flat_map(|attempt| attempt.events.iter().map(|(number, _)| *number));
        numbers.chain(self.known.keys().copied()).collect()
    }
}

/// What was followed of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Followed<'a> {
    pub operation: usize,
    pub ended: Duration,
    pub shard: u16,
    pub after: u64,
    pub events: &'a [(String, ReadEvent)],
    /// How far it had come when it ended: what to resume after.
    pub to: u64,
}

/// The whole history, in order.
pub(crate) struct Evidence<'a> {
    pub operations: &'a [Operation],
    pub shards: u16,
    pub journals: BTreeMap<&'a str, Journal<'a>>,
    pub follows: Vec<Followed<'a>>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(operations: &'a [Operation], shards: u16) -> Self {
        let mut evidence = Self { operations, shards, journals: BTreeMap::new(), follows: Vec::new() };
        for (id, operation) in operations.iter().enumerate() {
            evidence.take(id, operation);
        }
        evidence
    }

    /// The shard that owns a journal.
    pub(crate) fn shard_of(&self, persistence_id: &str) -> u16 {
        let persistence_id = PersistenceId::new(persistence_id.to_owned()).expect("the workload's names are legal");
        Slice::of(&persistence_id).shard(self.shards).0
    }

    fn take(&mut self, id: usize, operation: &'a Operation) {
        let persistence_id = operation.persistence_id.as_str();
        match &operation.call {
            Call::Write { epoch, after, atomic_writes, .. } => self.take_write(id, operation, (*epoch, *after), atomic_writes),
            Call::DeleteTo { to, permanent, .. } => {
                let told = match &operation.outcome {
                    Outcome::Ok(Answer::Deleted { to }) => Some(*to),
                    Outcome::NotApplied(_) => return,
                    _ => None,
                };
                let deleted = Deleted {
                    operation: id,
                    began: operation.began,
                    ended: operation.ended,
                    to: *to,
                    permanent: *permanent,
                    told,
                };
                self.journals.entry(persistence_id).or_default().deletions.push(deleted);
                if let (Some(told), Some(ended)) = (told, operation.ended) {
                    let seen = Seen { operation: id, began: operation.began, ended, at_least: told, is_exact: false };
                    self.journals.entry(persistence_id).or_default().watermark_seen.push(seen);
                }
            }
            Call::SaveSnapshot { .. }
            | Call::LoadSnapshot { .. }
            | Call::DeleteSnapshot { .. }
            | Call::DeleteSnapshots { .. } => {
                self.journals.entry(persistence_id).or_default().snapshots.take(id, operation);
            }
            Call::Claim { .. } | Call::Highest { .. } | Call::Replay { .. } | Call::FollowShard { .. } => {}
        }
        let (Outcome::Ok(answer), Some(ended)) = (&operation.outcome, operation.ended) else { return };
        let seen = |at_least, is_exact| Seen { operation: id, began: operation.began, ended, at_least, is_exact };
        match (&operation.call, answer) {
            (Call::Claim { .. }, Answer::Claimed { epoch, highest }) => {
                let journal = self.journals.entry(persistence_id).or_default();
                journal.claims.push(Claimed { operation: id, ended, epoch: *epoch });
                journal.highest_seen.push(seen(*highest, true));
            }
            (Call::Highest { fresh, .. }, Answer::Highest { highest, deleted_to, .. }) => {
                let journal = self.journals.entry(persistence_id).or_default();
                journal.highest_seen.push(seen(*highest, *fresh == Fresh::Strong));
                journal.watermark_seen.push(seen(*deleted_to, *fresh == Fresh::Strong));
            }
            (Call::Replay { from, to, max, include_deleted, fresh, after, .. }, Answer::Replayed { events, end }) => {
                let is_strong = *fresh == Fresh::Strong;
                let journal = self.journals.entry(persistence_id).or_default();
                for event in events {
                    journal.known.entry(event.number).or_insert((id, event));
                }
                if let Some((highest, deleted_to)) = end {
                    journal.highest_seen.push(seen(*highest, is_strong));
                    journal.watermark_seen.push(seen(*deleted_to, is_strong));
                }
                let (from, to, max, include_deleted, end) = (*from, *to, *max, *include_deleted, *end);
                journal.replays.push(Replayed {
                    operation: id,
                    began: operation.began,
                    ended,
                    from,
                    to,
                    max,
                    include_deleted,
                    is_strong,
                    after: after.as_ref(),
                    events,
                    end,
                });
            }
            (Call::FollowShard { shard, after }, Answer::Followed { events, to }) => {
                for (persistence_id, event) in events {
                    self.journals.entry(persistence_id).or_default().known.entry(event.number).or_insert((id, event));
                }
                self.follows.push(Followed { operation: id, ended, shard: *shard, after: *after, events, to: *to });
            }
            _ => {}
        }
    }

    fn take_write(
        &mut self,
        id: usize,
        operation: &'a Operation,
        (epoch, after): (Option<u64>, Option<u64>),
        atomic_writes: &'a [Vec<Numbered>],
    ) {
        let journal = self.journals.entry(operation.persistence_id.as_str()).or_default();
        for (index, events) in atomic_writes.iter().enumerate() {
            let fate = match &operation.outcome {
                Outcome::Ok(Answer::Written(written)) => match &written[index] {
                    Written::Stored { previous, position, timestamp } => {
                        Fate::Stored { previous: *previous, position: *position, timestamp: *timestamp }
                    }
                    // What can no longer be known is no refusal.
                    Written::Refused(why) if why.contains("Forgotten") => Fate::Unknown,
                    Written::Refused(why) => Fate::Not(why),
                },
                Outcome::NotApplied(why) => Fate::Not(why),
                Outcome::Ok(_) | Outcome::Pending | Outcome::Unknown(_) | Outcome::Wrong(_) => Fate::Unknown,
            };
            let (began, ended) = (operation.began, operation.ended);
            if let (Fate::Stored { .. }, Some(ended)) = (fate, ended) {
                let at_least = events[events.len() - 1].0;
                journal.highest_seen.push(Seen { operation: id, began, ended, at_least, is_exact: false });
            }
            let after = after.filter(|_| index == 0);
            journal.attempts.push(Attempt { operation: id, began, ended, epoch, after, events, fate });
        }
    }
}

/// What was tried under each stamp: the same write may have been sent by several operations.
pub(crate) fn by_stamp<'a, 'b>(journal: &'b Journal<'a>) -> BTreeMap<Stamp, Vec<&'b Attempt<'a>>> {
    let mut attempts: BTreeMap<Stamp, Vec<&Attempt<'_>>> = BTreeMap::new();
    for attempt in &journal.attempts {
        for (_, stamp) in attempt.events {
            attempts.entry(*stamp).or_default().push(attempt);
        }
    }
    attempts
}
