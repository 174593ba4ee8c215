//! What comes out of a run: JSON with a stable schema.

use cairn_bench::{Counts, Latency};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::failover::Failover;
use crate::machine::Machine;
use crate::plan::{Point, Sizes};

/// How many buckets a tenfold of latency is drawn with.
const BUCKETS_PER_DECADE: f64 = 8.0;
/// Latencies up to this are told apart, in decades of microseconds: a hundred seconds.
const DECADES: usize = 8;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// How often everything was measured.
    pub rounds: usize,
    /// How long each point was under load before it was measured, in seconds.
    pub warm_up_seconds: f64,
    /// How long each point was measured, in seconds.
    pub seconds: f64,
    /// How much there was to read.
    pub sizes: Sizes,
    /// Who took part, and who did not.
    pub contenders: Vec<ContenderReport>,
    /// Every point.
    pub points: Vec<PointReport>,
}

/// Who took part, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContenderReport {
    /// Its name on the command line.
    pub name: String,
    /// Its name in tables.
    pub title: String,
    /// Whether it is a system for users, and not a floor.
    pub is_system: bool,
    /// Its version.
    pub version: Option<String>,
    /// Why it took no part.
    pub skipped: Option<String>,
}

/// One point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointReport {
    /// Which.
    pub point: Point,
    /// Those who took part in the run, in order.
    pub contenders: Vec<ContenderSamples>,
}

/// What one system did at one point.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContenderSamples {
    /// Its name.
    pub name: String,
    /// Why it does not do this work.
    pub lacks: Option<String>,
    /// How it failed, in the last round in which it did.
    pub failed: Option<String>,
    /// One for each round; none where it lacks or failed.
    pub rounds: Vec<Option<Sample>>,
}

/// One system at one point in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Events stored.
    pub writes: Option<Flow>,
    /// Events read; for highest numbers, the reads.
    pub reads: Option<Flow>,
    /// What it cost.
    pub usage: Option<Usage>,
    /// Bytes on disk of one event on one node.
    pub disk_bytes_per_event: Option<f64>,
    /// Of one processor, in percent, what the servers took at rest.
    pub idle_percent: Option<f64>,
    /// From the start of a killed node until it serves, in seconds: the median of several.
    pub restart_seconds: Option<f64>,
    /// From the first read of the storm to the last event of the last journal, in seconds.
    pub storm_seconds: Option<f64>,
    /// The loss of the leader.
    pub failover: Option<Failover>,
}

/// One kind of calls within the measured time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// Calls that ended.
    pub operations: u64,
    /// Their events.
    pub events: u64,
    /// Events a second.
    pub events_per_second: f64,
    /// From the call to its result.
    pub latency: Latency,
    /// How the latencies are spread: buckets that hold something, ascending.
    pub latency_buckets: Vec<LatencyBucket>,
}

/// Latencies of about one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// They are at or below this, in microseconds.
    pub to_micros: f64,
    /// How many.
    pub count: u64,
}

/// What a point cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of the servers, in seconds; none if they are within the client's process.
    pub servers_processor_seconds: Option<f64>,
    /// Processor time of the clients, in seconds; the servers' too if they are within its process.
    pub client_processor_seconds: f64,
    /// How many processors everybody else kept busy, on average: what disturbed, and what the kernel did for us in its own name.
    pub others_processors: f64,
    /// Memory of the servers at the end, in bytes.
    pub servers_memory_bytes: Option<u64>,
}

impl LatencyBucket {
    /// How many times as long a bucket reaches as the one before it.
    pub(crate) const WIDTH: f64 = 1.333_521_432_163_324; // the eighth root of ten
}

impl Flow {
    /// What was counted, in so many seconds.
    #[must_use]
    pub fn of(counts: &Counts, seconds: f64) -> Self {
        Self {
            operations: counts.operations,
            events: counts.events,
            events_per_second: counts.events as f64 / seconds,
            latency: Latency::of(&counts.latency_micros),
            latency_buckets: buckets(&counts.latency_micros),
        }
    }
}

fn buckets(histogram: &Histogram<u64>) -> Vec<LatencyBucket> {
    let mut counts = [0; DECADES * BUCKETS_PER_DECADE as usize + 1];
    for recorded in histogram.iter_recorded() {
        let micros = recorded.value_iterated_to().max(1) as f64;
        let bucket = (micros.log10() * BUCKETS_PER_DECADE).ceil() as usize;
        counts[bucket.min(DECADES * BUCKETS_PER_DECADE as usize)] += recorded.count_since_last_iteration();
    }
    let buckets = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
    buckets.map(|(bucket, count)| LatencyBucket { to_micros: 10_f64.powf(bucket as f64 / BUCKETS_PER_DECADE), count }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_one_bucket_that_reaches_it() {
        let mut histogram = Histogram::new_with_max(60_000_000, 3).expect("fixed bounds");
        for micros in [0, 1, 99, 100, 101, 1_000, 59_000_000] {
            histogram.record(micros).expect("within bounds");
        }
        let buckets = buckets(&histogram);
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 7);
        assert!(buckets.is_sorted_by(|low, high| low.to_micros < high.to_micros));
        let below = |micros: f64| {
            buckets.iter().filter(|bucket| bucket.to_micros <= micros * 1.001).map(|bucket| bucket.count).sum::<u64>()
        };
        assert_eq!((below(1.0), below(100.0), below(1_000.0)), (2, 4, 6));
    }

    #[test]
    fn so_many_buckets_make_a_decade() {
        assert!((LatencyBucket::WIDTH.powf(BUCKETS_PER_DECADE) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn events_are_per_second() {
        let latency_micros = Histogram::new(3).expect("fixed bounds");
        let flow = Flow::of(&Counts { operations: 5, events: 500, latency_micros }, 2.0);
        assert_eq!((flow.operations, flow.events_per_second), (5, 250.0));
    }
}
