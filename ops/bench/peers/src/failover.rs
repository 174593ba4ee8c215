//! How long writers wait when the leader dies: who was acknowledged when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How finely the time line is drawn.
const BIN: Duration = Duration::from_millis(50);

/// The loss of a leader, as the writers saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failover {
    /// The longest that one writer went from one acknowledgement to its next, the kill between them or behind them, in milliseconds.
    pub longest_wait_millis: f64,
    /// The longest that no writer at all was acknowledged, in milliseconds.
    pub silence_millis: f64,
    /// When the leader was killed, in milliseconds from the time line's begin.
    pub killed_at_millis: f64,
    /// How long each bin of the time line is, in milliseconds.
    pub bin_millis: u64,
    /// Events acknowledged in each bin.
    pub acknowledged: Vec<u64>,
}

/// Writes down acknowledgements. Clones write to the same record.
#[derive(Clone)]
pub(crate) struct Record {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    begin: Instant,
    killed: Option<Instant>,
    last: Instant,
    silence: Duration,
    longest_wait: Duration,
    acknowledged: Vec<u64>,
}

impl Record {
    pub fn begin_at(begin: Instant) -> Self {
        let (silence, longest_wait) = (Duration::ZERO, Duration::ZERO);
        let shared = Shared { begin, killed: None, last: begin, silence, longest_wait, acknowledged: Vec::new() };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// A writer whose last acknowledgement was at `since` has one now.
    pub fn acknowledged(&self, since: Instant, now: Instant) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.killed.is_some() {
            shared.longest_wait = shared.longest_wait.max(now.saturating_duration_since(since));
            shared.silence = shared.silence.max(now.saturating_duration_since(shared.last));
        }
        shared.last = shared.last.max(now);
        let Some(offset) = now.checked_duration_since(shared.begin) else { return };
        let bin = usize::try_from(offset.as_micros() / BIN.as_micros()).expect("a run lasts minutes");
        if shared.acknowledged.len() <= bin {
            shared.acknowledged.resize(bin + 1, 0);
        }
        shared.acknowledged[bin] += 1;
    }

    /// The leader is killed now.
    pub fn killed(&self, now: Instant) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).killed = Some(now);
    }

    /// Whether a moment is after the kill.
    pub fn is_after_kill(&self, moment: Instant) -> bool {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).killed.is_some_and(|killed| moment > killed)
    }

    /// What became of it.
    pub fn outcome(&self) -> Failover {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        Failover {
            longest_wait_millis: millis(shared.longest_wait),
            silence_millis: millis(shared.silence),
            killed_at_millis: shared.killed.map_or(0.0, |killed| millis(killed - shared.begin)),
            bin_millis: u64::try_from(BIN.as_millis()).expect("milliseconds"),
            acknowledged: shared.acknowledged.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_waits_that_end_after_the_kill_count_and_bins_hold_everything() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let record = Record::begin_at(begin);
        record.acknowledged(at(0), at(500)); // a long wait before the kill is no failover
        record.acknowledged(at(490), at(510));
        record.killed(at(600));
        assert!(record.is_after_kill(at(601)) && !record.is_after_kill(at(600)));
        record.acknowledged(at(510), at(700)); // of a shard that goes on
        record.acknowledged(at(500), at(1_000));
        let outcome = record.outcome();
        assert_eq!((outcome.longest_wait_millis, outcome.silence_millis, outcome.killed_at_millis), (500.0, 300.0, 600.0));
        assert_eq!(outcome.acknowledged.iter().sum::<u64>(), 4);
        assert_eq!((outcome.acknowledged[10], outcome.acknowledged[14], outcome.acknowledged[20]), (2, 1, 1));
    }
}
