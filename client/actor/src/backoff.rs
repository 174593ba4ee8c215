//! How long to wait before the next try: longer each time, up to a bound, and not the same for all who failed together.

use std::time::Duration;

/// Waiting times that double.
///
/// Akka: `BackoffOpts`, `SupervisorStrategy.restartWithBackoff`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Before the first try again.
    pub first: Duration,
    /// At most, before jitter.
    pub longest: Duration,
    /// At most this share of the time is added, by chance.
    pub jitter: f64,
}

impl Backoff {
    /// The time before a try again, of which there were so many before.
    #[must_use]
    pub fn delay(&self, tries_before: u32, random: u64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(tries_before));
        // 53 bits: all that a fraction of this kind holds.
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        doubled.min(self.longest).mul_f64(1.0 + self.jitter.clamp(0.0, 1.0) * fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1), jitter: 0.2 };

    #[test]
    fn doubles_up_to_the_longest() {
        let delays: Vec<_> = (0..6).map(|tries| BACKOFF.delay(tries, 0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(BACKOFF.delay(u32::MAX, 0), Duration::from_secs(1));
    }

    #[test]
    fn jitter_adds_its_share_at_most() {
        assert!(BACKOFF.delay(0, u64::MAX) <= Duration::from_millis(120));
        assert!(BACKOFF.delay(0, u64::MAX) > Duration::from_millis(119));
    }
}
