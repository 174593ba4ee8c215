//! When to try again, and when not.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::attempt::Failed;
use crate::limits::{HINTS_FOLLOWED_MAX, RETRY_DELAY_MAX, RETRY_DELAY_MIN, RETRY_DELAY_UNSENT_MAX};

/// Delays between tries: growing, with jitter from a seed, and never beyond the deadline.
pub(crate) struct Retry {
    delays: ExponentialBackoff,
    hints_followed: u32,
}

impl Retry {
    pub(crate) fn new(seed: u64) -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_delay(RETRY_DELAY_MAX)
            .with_factor(2.0)
            .with_jitter()
            .with_jitter_seed(seed)
            .without_max_times()
            .build();
        Self { delays, hints_followed: 0 }
    }

    /// How long to wait after this failure.
    pub(crate) fn delay(&mut self, failed: &Failed) -> Duration {
        let asked = match failed {
            Failed::Answered(failure) if failure.leader.is_some() && self.hints_followed < HINTS_FOLLOWED_MAX => {
                self.hints_followed += 1;
                return Duration::ZERO;
            }
            Failed::Answered(failure) => failure.retry_after().unwrap_or_default().min(RETRY_DELAY_MAX * 4),
            Failed::NotSent(_) => return self.next().min(RETRY_DELAY_UNSENT_MAX),
            Failed::Lost(_) => Duration::ZERO,
        };
        self.next().max(asked)
    }

    fn next(&mut self) -> Duration {
        self.delays.next().unwrap_or(RETRY_DELAY_MAX)
    }

    /// Waits before the next try; false if the deadline leaves no time for one.
    pub(crate) async fn wait(&mut self, failed: &Failed, deadline: Instant) -> bool {
        let next_try = Instant::now() + self.delay(failed);
        if next_try >= deadline {
            return false;
        }
        tokio::time::sleep_until(next_try).await;
        true
    }
}
