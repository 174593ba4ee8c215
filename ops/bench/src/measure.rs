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

/// Counts what is done within the measured time. Clones count together.
#[derive(Clone, Debug)]
pub struct Meter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    begin: Instant,
    end: Instant,
    counts: Mutex<Counts>,
}

/// What a [`Meter`] has counted.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Calls that ended within the measured time.
    pub operations: u64,
    /// Events that they stored or read.
    pub events: u64,
    /// From call to result, in microseconds.
    pub latency_micros: Histogram<u64>,
}

impl Meter {
    /// Measures from `warm_up` from now on, for `duration`.
    #[must_use]
    pub fn start(warm_up: Duration, duration: Duration) -> Self {
        let begin = Instant::now() + warm_up;
        Self::between(begin, begin + duration)
    }

    /// Counts other things in the same time.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::between(self.shared.begin, self.shared.end)
    }

    fn between(begin: Instant, end: Instant) -> Self {
        let latency_micros = Histogram::new_with_max(LATENCY_MICROS_MAX, 3).expect("fixed bounds");
        let counts = Mutex::new(Counts { operations: 0, events: 0, latency_micros });
        Self { shared: Arc::new(Shared { begin, end, counts }) }
    }

    /// When the measured time begins.
    #[must_use]
    pub fn begin(&self) -> Instant {
        self.shared.begin
    }

    /// When the measured time ends.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.shared.end
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the measured time is over.
    #[must_use]
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
///
/// # Errors
/// The first failure.
///
/// # Panics
/// If a task of the load panicked.
pub async fn finish<E: 'static>(mut tasks: JoinSet<Result<(), E>>) -> Result<(), E> {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a load does not panic")?;
    }
    Ok(())
}

/// Puts load on the cluster and measures it. `load` must end by itself once the meter is over.
pub(crate) async fn measure<E>(run: &Run<'_>, meter: &Meter, load: impl Future<Output = Result<(), E>>) -> Result<Measured, E> {
    let gauges = async {
        tokio::time::sleep_until(meter.begin()).await;
        let before = run.gauge.read().await;
        tokio::time::sleep_until(meter.end()).await;
        Ok((before, run.gauge.read().await))
    };
    let ((), (usage_before, usage_after)) = tokio::try_join!(load, gauges)?;
    let Counts { operations, events, latency_micros } = meter.counts();
    let seconds = (meter.end() - meter.begin()).as_secs_f64();
    Ok(Measured { seconds, operations, events, latency_micros, usage_before, usage_after })
}
