//! What clients did and what they were told: the record that every property of journals and snapshots is checked against.
//!
//! Invariants
//! - An operation begins before anything of it is sent, and ends after its answer arrived: its effect, if any, lies in between; that
//!   of an operation with an unknown outcome lies anywhere after its beginning, or nowhere.
//! - Nothing here knows how Cairn works: it holds what a user can see.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// Which operation of a world: in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId(pub usize);

/// One call of a client, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Who called.
    pub client: u16,
    /// When it began, since the world did.
    pub began: Duration,
    /// When it ended; none if the world ended first.
    pub ended: Option<Duration>,
    /// The journal; empty for those that are about a shard.
    pub persistence_id: String,
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub outcome: Outcome,
}

/// A number with what stands there.
pub type Numbered = (u64, Stamp);

/// How fresh a read was asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fresh {
    /// Linearizable.
    Strong,
    /// At least this number.
    AtLeast(u64),
    /// Whatever the node has.
    Local,
}

/// Bounds of snapshots, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Least and greatest number.
    pub numbers: (u64, u64),
    /// Least and greatest timestamp.
    pub timestamps: (i64, i64),
}

impl Bounds {
    /// Whether a snapshot is within them.
    #[must_use]
    pub fn admit(&self, number: u64, timestamp: i64) -> bool {
        (self.numbers.0..=self.numbers.1).contains(&number) && (self.timestamps.0..=self.timestamps.1).contains(&timestamp)
    }
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// Claim the journal under this name.
    Claim {
        /// The name.
        writer: String,
    },
    /// Write atomic writes.
    Write {
        /// The writer's name.
        writer: String,
        /// Its epoch, if it claimed.
        epoch: Option<u64>,
        /// What it expects the highest number to be.
        after: Option<u64>,
        /// The events of each atomic write.
        atomic_writes: Vec<Vec<Numbered>>,
    },
    /// Read the highest number.
    Highest {
        /// How fresh.
        fresh: Fresh,
        /// From which node; none = wherever.
        node: Option<u64>,
    },
    /// Replay events.
    Replay {
        /// From this number.
        from: u64,
        /// To this one.
        to: u64,
        /// At most so many.
        max: u64,
        /// Deleted ones too.
        include_deleted: bool,
        /// How fresh.
        fresh: Fresh,
        /// From which node; none = wherever.
        node: Option<u64>,
        /// The snapshot that came before them, in a recovery.
        after: Option<ReadSnapshot>,
    },
    /// Delete events up to a number.
    DeleteTo {
        /// The number.
        to: u64,
        /// For ever.
        permanent: bool,
        /// The epoch that it carries.
        epoch: Option<u64>,
    },
    /// Save a snapshot.
    SaveSnapshot {
        /// Its number.
        number: u64,
        /// The timestamp that the caller gives.
        timestamp: Option<i64>,
        /// What it holds.
        stamp: Stamp,
        /// The epoch that it carries.
        epoch: Option<u64>,
    },
    /// Load the newest snapshot within bounds.
    LoadSnapshot(Bounds),
    /// Delete one snapshot.
    DeleteSnapshot {
        /// Its number.
        number: u64,
        /// Its timestamp; 0 = any.
        timestamp: i64,
    },
    /// Delete snapshots within bounds.
    DeleteSnapshots(Bounds),
    /// Follow a shard's positions.
    FollowShard {
        /// Which.
        shard: u16,
        /// After this position.
        after: u64,
    },
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is under way.
    Pending,
    /// It was answered.
    Ok(Answer),
    /// It certainly had no effect; the reason in words.
    NotApplied(String),
    /// It may have had its effect, or may still have it; the reason in words.
    Unknown(String),
    /// The answer cannot be right whatever happened: what is wrong with it.
    Wrong(String),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// The journal is claimed.
    Claimed {
        /// The epoch.
        epoch: u64,
        /// The highest number at that time.
        highest: u64,
    },
    /// What became of each atomic write.
    Written(Vec<Written>),
    /// The highest number.
    Highest {
        /// The number.
        highest: u64,
        /// Deleted up to here.
        deleted_to: u64,
        /// The writer's epoch.
        epoch: u64,
    },
    /// The events that were replayed.
    Replayed {
        /// Them.
        events: Vec<ReadEvent>,
        /// The highest number and the delete watermark; none if the stream broke.
        end: Option<(u64, u64)>,
    },
    /// Deleted up to here.
    Deleted {
        /// The watermark.
        to: u64,
    },
    /// The snapshot is saved.
    Saved {
        /// With this timestamp.
        timestamp: i64,
    },
    /// The snapshot that was found.
    Loaded(Option<ReadSnapshot>),
    /// Snapshots were deleted.
    SnapshotsDeleted,
    /// The events that were followed.
    Followed {
        /// Them, with their journals.
        events: Vec<(String, ReadEvent)>,
        /// The position up to which the stream said that it had come.
        to: u64,
    },
}

/// What became of an atomic write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Written {
    /// It is stored.
    Stored {
        /// The highest number before it.
        previous: u64,
        /// The position of its first event.
        position: u64,
        /// When, in microseconds since 1970.
        timestamp: i64,
    },
    /// It is refused: why, in words.
    Refused(String),
}

/// An event that was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadEvent {
    /// Its number.
    pub number: u64,
    /// What it holds.
    pub stamp: Stamp,
    /// Its position.
    pub position: u64,
    /// The first number of its atomic write.
    pub write_first: u64,
    /// Who wrote it.
    pub writer: String,
    /// When, in microseconds since 1970.
    pub timestamp: i64,
    /// Whether it is logically deleted.
    pub deleted: bool,
}

/// A snapshot that was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSnapshot {
    /// Its number.
    pub number: u64,
    /// Its timestamp.
    pub timestamp: i64,
    /// What it holds.
    pub stamp: Stamp,
}

impl Operation {
    /// Whether its client was told that something is stored or deleted.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        let Outcome::Ok(answer) = &self.outcome else { return false };
        match answer {
            Answer::Written(outcomes) => outcomes.iter().any(|outcome| matches!(outcome, Written::Stored { .. })),
            Answer::Deleted { .. } | Answer::Saved { .. } | Answer::SnapshotsDeleted => true,
            _ => false,
        }
    }
}

/// The record; clones share it.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Arc<Mutex<Vec<Operation>>>,
    /// When a record of what happens outside of any world began; none: time is the world's.
    began: Option<tokio::time::Instant>,
}

impl History {
    /// A record in real time.
    #[must_use]
    pub fn in_real_time() -> Self {
        Self { began: Some(tokio::time::Instant::now()), ..Self::default() }
    }

    /// Since the record began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.map_or_else(now, |began| began.elapsed())
    }

    /// An operation begins now.
    pub fn begin(&self, client: u16, persistence_id: &str, call: Call) -> OperationId {
        self.begin_at(self.now(), client, persistence_id, call)
    }

    /// An operation began at a moment that is over: what it is was not known before.
    pub fn begin_at(&self, began: Duration, client: u16, persistence_id: &str, call: Call) -> OperationId {
        let mut operations = self.lock();
        operations.push(Operation {
            client,
            began,
            ended: None,
            persistence_id: persistence_id.to_owned(),
            call,
            outcome: Outcome::Pending,
        });
        OperationId(operations.len() - 1)
    }

    /// It ends now.
    pub fn end(&self, id: OperationId, outcome: Outcome) {
        let ended = self.now();
        let mut operations = self.lock();
        let operation = &mut operations[id.0];
        operation.ended = Some(ended);
        operation.outcome = outcome;
        tracing::trace!(target: "history", id = id.0, ?operation, "ended");
    }

    /// Everything, in the order in which it began.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since the world began, as the host whose turn it is sees it.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
