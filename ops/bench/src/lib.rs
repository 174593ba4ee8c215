//! Load on a running cluster, and what it gives: throughput, latency, CPU time and memory of the nodes.
//!
//! The loop is closed: each writer waits for its acknowledgement before it sends the next, so that latency is what an actor sees
//! and throughput is not bought with a queue. Load and cluster may share a machine; CPU time per thousand events is the figure
//! that travels best between machines.
//!
//! Where to start reading: [`Plan`] says what is measured, [`run`] measures it, [`Report`] is what comes out.
//!
//! Invariants
//! - Only what was acknowledged within the measured time counts.
//! - Every run writes to journals of its own name, so that runs never meet and nobody else's journal is touched.

mod actors;
mod append;
mod measure;
mod plan;
mod read;
mod report;

pub use append::payload;
pub use measure::{Counts, Gauge, Meter, NodeUsage, finish};
pub use plan::{Plan, Point, Scope};
pub use report::{Latency, PointReport, Report};

use std::time::Duration;

use cairn_client::{Cairn, Error};
use tokio::time::Instant;
use uuid::Uuid;

use measure::Measured;

/// Is told how a run goes on.
pub trait Observer {
    /// A point begins: its place, of how many.
    fn begins(&self, point: &Point, ordinal: usize, points: usize);
    /// A point is measured.
    fn measured(&self, report: &PointReport);
}

/// What all points of a run share.
pub(crate) struct Run<'a> {
    pub cairn: &'a Cairn,
    pub gauge: &'a dyn Gauge,
    /// Names this run's journals.
    pub name: String,
    pub warm_up: Duration,
    pub duration: Duration,
}

/// Measures every point of a plan, one after the other.
///
/// # Errors
/// The first failure that is not overcome by trying again: figures of a cluster that fails would mean nothing.
pub async fn run(cairn: &Cairn, gauge: &dyn Gauge, plan: &Plan, observer: &dyn Observer) -> Result<Report, Error> {
    let run =
        Run { cairn, gauge, name: format!("bench-{}", Uuid::now_v7().simple()), warm_up: plan.warm_up, duration: plan.duration };
    let begun = Instant::now();
    let mut points = Vec::new();
    for (ordinal, point) in plan.points.iter().enumerate() {
        observer.begins(point, ordinal, plan.points.len());
        let measured = run.measure(point, ordinal).await?;
        let report = PointReport::of(*point, &measured);
        observer.measured(&report);
        points.push(report);
    }
    Ok(Report { run: run.name, seconds: begun.elapsed().as_secs_f64(), points })
}

impl Run<'_> {
    async fn measure(&self, point: &Point, ordinal: usize) -> Result<Measured, Error> {
        // A name of its own, so that every point begins with empty journals.
        let prefix = format!("{}-{ordinal}", self.name);
        match *point {
            Point::Append { writers, payload_bytes, batch } => {
                append::measure_append(self, &prefix, writers, payload_bytes, batch).await
            }
            Point::Replay { journals, events_each, payload_bytes } => {
                read::measure_replay(self, &prefix, journals, events_each, payload_bytes).await
            }
            Point::Highest { clients } => read::measure_highest(self, &prefix, clients).await,
            Point::Persist { actors, payload_bytes } => actors::measure_persist(self, &prefix, actors, payload_bytes).await,
            Point::Recover { actors, events_each, payload_bytes } => {
                actors::measure_recover(self, &prefix, actors, events_each, payload_bytes).await
            }
        }
    }
}
