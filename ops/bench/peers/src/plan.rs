//! What is measured: the points, how large they are, and how often.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Payload of a small event, in bytes.
const SMALL_BYTES: usize = 256;
/// Payload of a large event, in bytes.
const LARGE_BYTES: usize = 4096;

/// One kind of work. Journals are new for each of those that append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// What the servers take of a processor while nobody asks them for anything. First: nothing is left over from a load.
    Idle,
    /// What an event takes on disk, once everything has settled. Before all load: nothing else is stored yet.
    Disk,
    /// One writer of small events.
    #[value(name = "append-1")]
    #[serde(rename = "append-1")]
    Append1,
    /// 16 writers of small events.
    #[value(name = "append-16")]
    #[serde(rename = "append-16")]
    Append16,
    /// 128 writers of small events.
    #[value(name = "append-128")]
    #[serde(rename = "append-128")]
    Append128,
    /// 1024 writers of small events.
    #[value(name = "append-1024")]
    #[serde(rename = "append-1024")]
    Append1024,
    /// 16 writers of 100 events at a time.
    AppendBatch,
    /// 128 writers of large events.
    AppendLarge,
    /// Linearizable reads of the highest sequence number.
    Highest,
    /// One long journal, again and again.
    ReplayOne,
    /// Many journals, again and again.
    ReplayMany,
    /// Writers and replays at the same time.
    Mixed,
    /// All journals are read at once while others write.
    Storm,
    /// A node of a million events is killed and started again, five times: how long until it serves, in the median.
    Restart,
    /// The leader is killed under load. Last: the killed node stays dead.
    Failover,
}

/// What a point that only appends does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// How many writers, each of a journal of its own.
    pub writers: usize,
    /// Payload of one event, in bytes.
    pub payload_bytes: usize,
    /// Events in each atomic write.
    pub batch: usize,
}

impl Point {
    /// The points at which the number of writers grows.
    pub const GROWING: [Self; 4] = [Self::Append1, Self::Append16, Self::Append128, Self::Append1024];

    /// What it does, if it only appends.
    #[must_use]
    pub fn append(self) -> Option<Append> {
        let append = |writers, payload_bytes, batch| Some(Append { writers, payload_bytes, batch });
        match self {
            Self::Append1 => append(1, SMALL_BYTES, 1),
            Self::Append16 => append(16, SMALL_BYTES, 1),
            Self::Append128 => append(128, SMALL_BYTES, 1),
            Self::Append1024 => append(1024, SMALL_BYTES, 1),
            Self::AppendBatch => append(16, SMALL_BYTES, 100),
            Self::AppendLarge => append(128, LARGE_BYTES, 1),
            _ => None,
        }
    }

    /// The background load of those that read or kill beside it.
    #[must_use]
    pub fn background() -> Append {
        Append { writers: 128, payload_bytes: SMALL_BYTES, batch: 1 }
    }

    /// How it is called on the command line and in the report.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it reads journals that must be filled before.
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::ReplayOne | Self::ReplayMany | Self::Mixed | Self::Storm)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Append { writers, payload_bytes, batch }) = self.append() {
            let of = if batch == 1 { String::new() } else { format!(" x {batch} events") };
            let writers = if writers == 1 { "1 writer".to_owned() } else { format!("{writers} writers") };
            return write!(f, "append, {writers}{of}, {payload_bytes} B");
        }
        f.write_str(match self {
            Self::Idle => "at rest",
            Self::Restart => "a node killed and started again",
            Self::Disk => "disk per event and node, settled",
            Self::Highest => "highest sequence number, 128 clients",
            Self::ReplayOne => "replay of one long journal",
            Self::ReplayMany => "replay of many journals",
            Self::Mixed => "mixed: 128 writers beside 16 readers",
            Self::Storm => "recovery storm beside 128 writers",
            _ => "leader killed, 128 writers",
        })
    }
}

/// How much there is to read, and what the disk is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Events of the one long journal.
    pub long_events: usize,
    /// How many other journals.
    pub journals: usize,
    /// Events of each of them.
    pub journal_events: usize,
    /// Events that the disk's figure is divided by.
    pub disk_events: usize,
    /// How many clients ask for highest numbers at the same time.
    pub highest_clients: usize,
    /// Events that are stored when a node is killed and started again.
    pub restart_events: usize,
    /// How long the servers are left alone to see what they take at rest, in seconds.
    pub idle_seconds: f64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            long_events: 10_000,
            journals: 1_000,
            journal_events: 100,
            disk_events: 300_000,
            highest_clients: 128,
            restart_events: 1_000_000,
            idle_seconds: 15.0,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The points, in order.
    pub points: Vec<Point>,
    /// How often everything is measured; the systems take turns within each round.
    pub rounds: usize,
    /// How long each point is under load before it is measured.
    pub warm_up: Duration,
    /// How long each point is measured.
    pub duration: Duration,
    /// How long the size of all data must stay the same until it counts as settled.
    pub calm: Duration,
    /// How much there is to read.
    pub sizes: Sizes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_one_name_on_the_command_line_and_in_the_report() {
        for point in Point::value_variants() {
            assert_eq!(serde_json::to_value(point).expect("a name"), serde_json::json!(point.name()));
        }
    }

    #[test]
    fn what_needs_an_empty_cluster_is_first_and_the_kill_is_last() {
        let points = Point::value_variants();
        assert_eq!((points.first(), points.last()), (Some(&Point::Idle), Some(&Point::Failover)));
        assert!(points.is_sorted(), "points are sorted before they run");
    }
}
