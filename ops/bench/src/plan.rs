//! What is measured.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Payload of a small event, in bytes.
const SMALL_BYTES: usize = 256;
/// Payload of a large event, in bytes.
const LARGE_BYTES: usize = 4096;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Point {
    /// Writers that append and wait, each to a journal of its own.
    Append {
        /// How many writers.
        writers: usize,
        /// Payload of one event.
        payload_bytes: usize,
        /// Events in each atomic write.
        batch: usize,
    },
    /// Whole replays, again and again.
    Replay {
        /// How many journals.
        journals: usize,
        /// Events of each.
        events_each: usize,
        /// Payload of one event.
        payload_bytes: usize,
    },
    /// Linearizable reads of the highest sequence number.
    Highest {
        /// How many clients read at the same time.
        clients: usize,
    },
    /// Persistent actors that persist an event and answer, one command after the other.
    Persist {
        /// How many actors.
        actors: usize,
        /// Payload of one event.
        payload_bytes: usize,
    },
    /// Persistent actors that start at once and recover, all of them again and again.
    Recover {
        /// How many actors.
        actors: usize,
        /// Events of each.
        events_each: usize,
        /// Payload of one event.
        payload_bytes: usize,
    },
}

/// Which points are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Appends, replays, highest reads and actors.
    All,
    /// Appends only.
    Append,
    /// Replays only.
    Replay,
    /// Highest reads only.
    Highest,
    /// Persistent actors only.
    Actors,
}

/// The points of a run, and how long each is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The points, in order.
    pub points: Vec<Point>,
    /// How long each is under load before it is measured.
    pub warm_up: Duration,
    /// How long each is measured.
    pub duration: Duration,
}

impl Plan {
    /// The points that the product is judged by.
    #[must_use]
    pub fn standard(scope: Scope, warm_up: Duration, duration: Duration) -> Self {
        let append = |writers, payload_bytes, batch| Point::Append { writers, payload_bytes, batch };
        let appends = [
            append(1, SMALL_BYTES, 1),
            append(16, SMALL_BYTES, 1),
            append(128, SMALL_BYTES, 1),
            append(1024, SMALL_BYTES, 1),
            append(16, SMALL_BYTES, 100),
            append(1, LARGE_BYTES, 1),
            append(16, LARGE_BYTES, 1),
            append(128, LARGE_BYTES, 1),
            append(1024, LARGE_BYTES, 1),
        ];
        let replays = [
            Point::Replay { journals: 1, events_each: 100_000, payload_bytes: SMALL_BYTES },
            Point::Replay { journals: 1_000, events_each: 100, payload_bytes: SMALL_BYTES },
        ];
        let highest = [Point::Highest { clients: 128 }];
        let recover = |actors, events_each| Point::Recover { actors, events_each, payload_bytes: SMALL_BYTES };
        let actors = [
            Point::Persist { actors: 1, payload_bytes: SMALL_BYTES },
            Point::Persist { actors: 1024, payload_bytes: SMALL_BYTES },
            recover(1, 10_000),
            recover(1_000, 100),
        ];
        let mut points = Vec::new();
        if matches!(scope, Scope::All | Scope::Append) {
            points.extend(appends);
        }
        if matches!(scope, Scope::All | Scope::Replay) {
            points.extend(replays);
        }
        if matches!(scope, Scope::All | Scope::Highest) {
            points.extend(highest);
        }
        if matches!(scope, Scope::All | Scope::Actors) {
            points.extend(actors);
        }
        Self { points, warm_up, duration }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { writers, payload_bytes, batch: 1 } => write!(f, "append, {writers} writers, {payload_bytes} B"),
            Self::Append { writers, payload_bytes, batch } => {
                write!(f, "append, {writers} writers x {batch} events, {payload_bytes} B")
            }
            Self::Replay { journals: 1, events_each, payload_bytes } => {
                write!(f, "replay one journal of {events_each}, {payload_bytes} B")
            }
            Self::Replay { journals, events_each, payload_bytes } => {
                write!(f, "replay {journals} journals of {events_each}, {payload_bytes} B")
            }
            Self::Highest { clients } => write!(f, "highest number, {clients} clients"),
            Self::Persist { actors, payload_bytes } => write!(f, "persist, {actors} actors, {payload_bytes} B"),
            Self::Recover { actors: 1, events_each, payload_bytes } => {
                write!(f, "recover one actor of {events_each}, {payload_bytes} B")
            }
            Self::Recover { actors, events_each, payload_bytes } => {
                write!(f, "recover {actors} actors of {events_each}, {payload_bytes} B")
            }
        }
    }
}
