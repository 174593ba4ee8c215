//! What comes out of a run: JSON with a stable schema, and the cells of a table.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::measure::Measured;
use crate::plan::Point;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run's name, with which its journals begin.
    pub run: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Every point.
    pub points: Vec<PointReport>,
}

/// One point.
#[derive(Clone, Debug, Serialize)]
pub struct PointReport {
    /// What was measured.
    pub point: Point,
    /// For how long, in seconds.
    pub seconds: f64,
    /// Calls that ended within this time.
    pub operations: u64,
    /// Calls a second.
    pub operations_per_second: f64,
    /// Events written or read; for reads of the highest number, the reads.
    pub events: u64,
    /// Events a second.
    pub events_per_second: f64,
    /// From the call to its result.
    pub latency: Latency,
    /// CPU time of all nodes within this time, in seconds; none if a node did not tell.
    pub nodes_cpu_seconds: Option<f64>,
    /// The same for a thousand events.
    pub nodes_cpu_seconds_per_1000: Option<f64>,
    /// Resident memory of all nodes at the end, in bytes.
    pub nodes_memory_bytes: u64,
}

/// Latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50_micros: u64,
    /// 90 of 100 are at or below.
    pub p90_micros: u64,
    /// 99 of 100 are at or below.
    pub p99_micros: u64,
    /// 999 of 1000 are at or below.
    pub p999_micros: u64,
    /// The longest.
    pub max_micros: u64,
}

impl Latency {
    /// Of a histogram of microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            p50_micros: at(0.5),
            p90_micros: at(0.9),
            p99_micros: at(0.99),
            p999_micros: at(0.999),
            max_micros: histogram.max(),
        }
    }
}

impl PointReport {
    pub(crate) fn of(point: Point, measured: &Measured) -> Self {
        let nodes_cpu_seconds = cpu_seconds(measured);
        let thousands = measured.events as f64 / 1_000.0;
        Self {
            point,
            seconds: measured.seconds,
            operations: measured.operations,
            operations_per_second: measured.operations as f64 / measured.seconds,
            events: measured.events,
            events_per_second: measured.events as f64 / measured.seconds,
            latency: Latency::of(&measured.latency_micros),
            nodes_cpu_seconds,
            nodes_cpu_seconds_per_1000: nodes_cpu_seconds.filter(|_| thousands > 0.0).map(|seconds| seconds / thousands),
            nodes_memory_bytes: measured.usage_after.iter().map(|usage| usage.memory_bytes).sum(),
        }
    }
}

/// CPU time of all nodes between the two readings; none if the same nodes did not answer both.
fn cpu_seconds(measured: &Measured) -> Option<f64> {
    let (before, after) = (&measured.usage_before, &measured.usage_after);
    if before.is_empty() || before.len() != after.len() {
        return None;
    }
    let mut micros = 0;
    for (before, after) in before.iter().zip(after) {
        // A node that restarted in between counts from zero again.
        if before.node_id != after.node_id || after.cpu_micros < before.cpu_micros {
            return None;
        }
        micros += after.cpu_micros - before.cpu_micros;
    }
    Some(micros as f64 / 1_000_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::NodeUsage;

    fn measured(before: &[(u64, u64)], after: &[(u64, u64)]) -> Measured {
        let usage = |readings: &[(u64, u64)]| {
            readings.iter().map(|&(node_id, cpu_micros)| NodeUsage { node_id, cpu_micros, memory_bytes: 7 }).collect()
        };
        let mut latency_micros = Histogram::new(3).expect("fixed bounds");
        (1..=1000).for_each(|micros| latency_micros.record(micros).expect("within bounds"));
        Measured {
            seconds: 2.0,
            operations: 1_000,
            events: 4_000,
            latency_micros,
            usage_before: usage(before),
            usage_after: usage(after),
        }
    }

    #[test]
    fn figures_are_per_second_and_cpu_is_per_thousand_events() {
        let point = Point::Highest { clients: 1 };
        let report = PointReport::of(point, &measured(&[(1, 1_000_000), (2, 0)], &[(1, 2_000_000), (2, 1_000_000)]));
        assert_eq!((report.operations_per_second, report.events_per_second), (500.0, 2_000.0));
        assert_eq!((report.nodes_cpu_seconds, report.nodes_cpu_seconds_per_1000), (Some(2.0), Some(0.5)));
        assert_eq!(report.nodes_memory_bytes, 14);
        assert_eq!((report.latency.p50_micros, report.latency.p99_micros, report.latency.max_micros), (500, 990, 1000));
    }

    #[test]
    fn cpu_time_is_not_told_if_a_node_is_missing_or_restarted() {
        for (before, after) in [(&[(1, 5)][..], &[][..]), (&[(1, 5)], &[(1, 4)]), (&[(1, 5)], &[(2, 9)]), (&[], &[])] {
            assert_eq!(cpu_seconds(&measured(before, after)), None);
        }
    }
}
