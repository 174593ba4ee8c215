//! What is said of a run: one figure for each system at each point, and how Cairn does beside it. Pure.

use serde::Serialize;

use crate::plan::Point;
use crate::report::{ContenderSamples, Flow, Report, Sample};
use crate::statistics::{median, range, ratios};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One thing that a sample tells.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What, with its unit.
    pub title: &'static str,
    /// Which way is better.
    pub better: Better,
    get: fn(&Sample) -> Option<f64>,
}

impl Measure {
    /// Events stored, or read where nothing is stored, a second.
    pub const EVENTS: Self = higher("events/s", |sample| flow(sample).map(|flow| flow.events_per_second));
    /// Events read a second.
    pub const READS: Self = higher("events read/s", |sample| sample.reads.as_ref().map(|flow| flow.events_per_second));
    /// The median latency.
    pub const P50: Self = lower("p50 ms", |sample| flow(sample).map(|flow| flow.latency.p50_micros as f64 / 1_000.0));
    /// What 99 of 100 latencies are at or below.
    pub const P99: Self = lower("p99 ms", |sample| flow(sample).map(|flow| flow.latency.p99_micros as f64 / 1_000.0));
    /// Processor time of the servers for a thousand events.
    pub const SERVERS_PROCESSOR: Self =
        lower("servers' CPU s per 1000", |sample| per_thousand(sample, sample.usage?.servers_processor_seconds?));
    /// Processor time of the clients for a thousand events.
    pub const CLIENT_PROCESSOR: Self =
        lower("client's CPU s per 1000", |sample| per_thousand(sample, sample.usage?.client_processor_seconds));
    /// Memory of the servers.
    pub const MEMORY: Self =
        lower("servers' memory MiB (PSS)", |sample| Some(sample.usage?.servers_memory_bytes? as f64 / f64::from(1 << 20)));
    /// How many processors others kept busy.
    pub const OTHERS: Self = lower("others' processors", |sample| Some(sample.usage?.others_processors));
    /// Disk of one event on one node.
    pub const DISK: Self = lower("disk B per event and node", |sample| sample.disk_bytes_per_event);
    /// What the servers take at rest.
    pub const IDLE: Self = lower("% of a processor at rest", |sample| sample.idle_percent);
    /// How long a killed node takes until it serves again.
    pub const RESTART: Self = lower("s until it serves again", |sample| sample.restart_seconds);
    /// How long a storm lasts.
    pub const STORM: Self = lower("s until all are recovered", |sample| sample.storm_seconds);
    /// How long a writer waits when the leader dies.
    pub const WAIT: Self = lower("longest wait ms", |sample| Some(sample.failover.as_ref()?.longest_wait_millis));
    /// How long everybody waits when the leader dies.
    pub const SILENCE: Self = lower("silence ms", |sample| Some(sample.failover.as_ref()?.silence_millis));

    /// The one that a point is judged by.
    #[must_use]
    pub fn headline(point: Point) -> Self {
        match point {
            Point::Idle => Self::IDLE,
            Point::Disk => Self::DISK,
            Point::Restart => Self::RESTART,
            Point::Storm => Self::STORM,
            Point::Failover => Self::WAIT,
            _ => Self::EVENTS,
        }
    }

    /// What a sample tells of it.
    #[must_use]
    pub fn of(&self, sample: &Sample) -> Option<f64> {
        (self.get)(sample)
    }
}

const fn higher(title: &'static str, get: fn(&Sample) -> Option<f64>) -> Measure {
    Measure { title, better: Better::Higher, get }
}

const fn lower(title: &'static str, get: fn(&Sample) -> Option<f64>) -> Measure {
    Measure { title, better: Better::Lower, get }
}

fn flow(sample: &Sample) -> Option<&Flow> {
    sample.writes.as_ref().or(sample.reads.as_ref())
}

fn per_thousand(sample: &Sample, seconds: f64) -> Option<f64> {
    let events: u64 = [&sample.writes, &sample.reads].into_iter().flatten().map(|flow| flow.events).sum();
    (events > 0).then(|| seconds / (events as f64 / 1_000.0))
}

/// One measure of one point, of every system that took part.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// One figure for each system, in the run's order.
    pub figures: Vec<Figure>,
}

/// One system's figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Whose.
    pub name: String,
    /// The median of its rounds.
    pub median: Option<f64>,
    /// The least and the greatest of its rounds.
    pub range: Option<(f64, f64)>,
    /// How many times better ours is: the median of the ratios of each round. None for ours itself.
    pub ours_is_better: Option<f64>,
    /// Why there is no figure.
    pub why_not: Option<String>,
}

impl Comparison {
    /// Compares all with the system of the name `ours`; none if the run has no such point.
    #[must_use]
    pub fn of(report: &Report, point: Point, measure: &Measure, ours: &str) -> Option<Self> {
        let contenders = &report.points.iter().find(|reported| reported.point == point)?.contenders;
        let values = |samples: &ContenderSamples| -> Vec<Option<f64>> {
            samples.rounds.iter().map(|sample| sample.as_ref().and_then(|sample| measure.of(sample))).collect()
        };
        let our_values = contenders.iter().find(|samples| samples.name == ours).map(values);
        let figures = contenders.iter().map(|samples| {
            let theirs = values(samples);
            let told: Vec<f64> = theirs.iter().flatten().copied().collect();
            let ours_is_better = our_values.as_ref().filter(|_| samples.name != ours).and_then(|our_values| {
                median(&match measure.better {
                    Better::Higher => ratios(our_values, &theirs),
                    Better::Lower => ratios(&theirs, our_values),
                })
            });
            let why_not = samples.lacks.clone().or_else(|| samples.failed.as_ref().map(|_| "failed".to_owned()));
            Figure { name: samples.name.clone(), median: median(&told), range: range(&told), ours_is_better, why_not }
        });
        Some(Self { figures: figures.collect() })
    }

    /// The figure of one system.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use cairn_bench::Latency;

    use super::*;
    use crate::failover::Failover;
    use crate::machine::Machine;
    use crate::plan::Sizes;
    use crate::report::{ContenderReport, LatencyBucket, PointReport, Usage};

    /// A sample that stores so many events a second.
    fn appended(events_per_second: f64) -> Option<Sample> {
        let latency = Latency { p50_micros: 500, p90_micros: 700, p99_micros: 2_000, p999_micros: 3_000, max_micros: 4_000 };
        let latency_buckets =
            vec![LatencyBucket { to_micros: 1_000.0, count: 90 }, LatencyBucket { to_micros: 2_000.0, count: 10 }];
        let events = events_per_second as u64 * 2;
        let usage = Usage {
            servers_processor_seconds: Some(1.5),
            client_processor_seconds: 0.5,
            others_processors: 0.1,
            servers_memory_bytes: Some(100 << 20),
        };
        let writes = Flow { operations: events, events, events_per_second, latency, latency_buckets };
        Some(Sample { writes: Some(writes), usage: Some(usage), ..Sample::default() })
    }

    fn of(name: &str, rounds: Vec<Option<Sample>>) -> ContenderSamples {
        ContenderSamples { name: name.to_owned(), rounds, ..ContenderSamples::default() }
    }

    /// Two rounds of ours and of one other, and a third that is not there.
    pub(crate) fn report() -> Report {
        let contender = |name: &str, title: &str, skipped: Option<&str>| ContenderReport {
            name: name.to_owned(),
            title: title.to_owned(),
            is_system: true,
            version: skipped.is_none().then(|| "1.2".to_owned()),
            skipped: skipped.map(str::to_owned),
        };
        let failover = |longest_wait_millis| {
            let acknowledged = vec![10, 0, 0, 8];
            let failover =
                Failover { longest_wait_millis, silence_millis: 100.0, killed_at_millis: 50.0, bin_millis: 50, acknowledged };
            Some(Sample { failover: Some(failover), ..Sample::default() })
        };
        let lacking = ContenderSamples { lacks: Some("no automatic failover".to_owned()), ..of("other", vec![None, None]) };
        let points = vec![
            PointReport {
                point: Point::Append1,
                contenders: vec![
                    of("cairn", vec![appended(1_000.0), appended(500.0)]),
                    of("other", vec![appended(500.0), appended(100.0)]),
                ],
            },
            PointReport {
                point: Point::Append128,
                contenders: vec![
                    of("cairn", vec![appended(60_000.0), appended(80_000.0)]),
                    of("other", vec![appended(6_000.0), None]),
                ],
            },
            PointReport {
                point: Point::Failover,
                contenders: vec![of("cairn", vec![failover(400.0), failover(600.0)]), lacking],
            },
        ];
        Report {
            machine: Machine {
                processors: 2,
                processor: "A <processor>".to_owned(),
                memory_bytes: 8 << 30,
                kernel: "6.1".to_owned(),
            },
            rounds: 2,
            warm_up_seconds: 0.5,
            seconds: 2.0,
            sizes: Sizes::default(),
            contenders: vec![
                contender("cairn", "Cairn", None),
                contender("other", "Other", None),
                contender("third", "Third", Some("not installed")),
            ],
            points,
        }
    }

    #[test]
    fn ours_is_so_many_times_better_whichever_way_is_better() {
        let report = report();
        let check = |point, measure: Measure, other: Option<f64>, better: Option<f64>| {
            let comparison = Comparison::of(&report, point, &measure, "cairn").expect("the point is there");
            let figure = comparison.figure("other").expect("it took part");
            assert_eq!((figure.median, figure.ours_is_better), (other, better), "{}", measure.title);
            assert_eq!(comparison.figure("cairn").and_then(|ours| ours.ours_is_better), None);
        };
        check(Point::Append1, Measure::EVENTS, Some(300.0), Some(3.5));
        check(Point::Append128, Measure::EVENTS, Some(6_000.0), Some(10.0));
        check(Point::Append1, Measure::P50, Some(0.5), Some(1.0));
        // 1.5 s for 1,000 and for 200 events, beside 2,000 and 1,000 of ours.
        check(Point::Append1, Measure::SERVERS_PROCESSOR, Some(4.5), Some(3.5));
        check(Point::Failover, Measure::WAIT, None, None);
    }

    #[test]
    fn a_report_that_was_kept_is_read_as_it_was() {
        let kept = serde_json::to_string(&report()).expect("plain data");
        let read: Report = serde_json::from_str(&kept).expect("the same data");
        assert_eq!(serde_json::to_string(&read).expect("plain data"), kept);
    }

    #[test]
    fn a_missing_figure_says_why() {
        let comparison = Comparison::of(&report(), Point::Failover, &Measure::WAIT, "cairn").expect("the point is there");
        assert_eq!(comparison.figure("other").and_then(|figure| figure.why_not.as_deref()), Some("no automatic failover"));
        let ours = comparison.figure("cairn").expect("it took part");
        assert_eq!((ours.median, ours.range), (Some(500.0), Some((400.0, 600.0))));
        assert_eq!(Comparison::of(&report(), Point::Disk, &Measure::DISK, "cairn"), None);
    }
}
