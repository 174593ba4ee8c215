//! The time of day as one machine sees it: the world's, and what faults made of it.

use std::sync::atomic::{AtomicI64, Ordering};

use cairn_machine::Timestamp;
use cairn_node::Clock;

use crate::entropy;

/// A machine's clock: the world's time and an offset that faults change.
#[derive(Debug, Default)]
pub struct SimulatedClock {
    offset_micros: AtomicI64,
}

impl SimulatedClock {
    /// Jumps by so many microseconds, forwards or back.
    pub fn jump(&self, micros: i64) {
        self.offset_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(turmoil::sim_elapsed().unwrap_or_default().as_micros()).unwrap_or(i64::MAX);
        Timestamp(entropy::epoch_micros() + elapsed + self.offset_micros.load(Ordering::Relaxed))
    }
}
