//! The clock, the histogram and the gauges of one point.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;

/// Longest latency that is told apart, in microseconds: a minute.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// What a node has used since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeUsage {
    /// Which node.
    pub node_id: u64,
    /// CPU time of its process, in microseconds.
    pub cpu_micros: u64,
    /// Resident memory of its process, in bytes.
    pub memory_bytes: u64,
}

/// Reads what the nodes use.
pub trait Gauge: Send + Sync {
    /// What every node that answers has used so far.
    fn read(&self) -> Pin<Box<dyn Future<Output = Vec<NodeUsage>> + Send + '_>>;
}

/// What one point gave.
pub(crate) struct Measured {
    pub seconds: f64,
    pub operations: u64,
    pub events: u64,
    pub latency_micros: Histogram<u64>,
    pub usage_before: Vec<NodeUsage>,
    pub usage_after: Vec<NodeUsage>,
}

/// Counts what is done within the measured time.
#[derive(Clone)]
pub(crate) struct Meter {
    shared: Arc<Shared>,
}

struct Shared {
    begin: Instant,
    end: Instant,
    counts: Mutex<Counts>,
}

struct Counts {
    operations: u64,
    events: u64,
    latency_micros: Histogram<u64>,
}

impl Meter {
    /// Measures from `warm_up` from now on, for `duration`.
    pub fn start(warm_up: Duration, duration: Duration) -> Self {
        let begin = Instant::now() + warm_up;
        let latency_micros = Histogram::new_with_max(LATENCY_MICROS_MAX, 3).expect("fixed bounds");
        let counts = Mutex::new(Counts { operations: 0, events: 0, latency_micros });
        Self { shared: Arc::new(Shared { begin, end: begin + duration, counts }) }
    }

    /// Whether the measured time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.shared.end
    }

    /// One operation is done.
    pub fn done(&self, begun: Instant, events: u64) {
        let now = Instant::now();
        if now < self.shared.begin || now >= self.shared.end {
            return;
        }
        let micros = u64::try_from((now - begun).as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.operations += 1;
        counts.events += events;
        counts.latency_micros.saturating_record(micros);
    }
}

/// Waits until all that puts load on the cluster has ended; the first failure ends the others.
pub(crate) async fn finish<E: 'static>(mut tasks: JoinSet<Result<(), E>>) -> Result<(), E> {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a load does not panic")?;
    }
    Ok(())
}

/// Puts load on the cluster and measures it. `load` must end by itself once the meter is over.
pub(crate) async fn measure<E>(run: &Run<'_>, meter: &Meter, load: impl Future<Output = Result<(), E>>) -> Result<Measured, E> {
    let gauges = async {
        tokio::time::sleep_until(meter.shared.begin).await;
        let before = run.gauge.read().await;
        tokio::time::sleep_until(meter.shared.end).await;
        Ok((before, run.gauge.read().await))
    };
    let ((), (usage_before, usage_after)) = tokio::try_join!(load, gauges)?;
    let counts = meter.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured {
        seconds: (meter.shared.end - meter.shared.begin).as_secs_f64(),
        operations: counts.operations,
        events: counts.events,
        latency_micros: counts.latency_micros.clone(),
        usage_before,
        usage_after,
    })
}
