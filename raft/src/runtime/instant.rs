//! An instant of a node's time.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use tokio::time::Instant;

/// An instant of the time of the node whose task asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeInstant(pub Instant);

impl openraft::Instant for NodeInstant {
    fn now() -> Self {
        let now = Self(super::paced(|pace| pace.now()).unwrap_or_else(Instant::now));
        super::LATEST.get().map_or(now, |latest| latest.min(now))
    }
}

impl Add<Duration> for NodeInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for NodeInstant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for NodeInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl Sub for NodeInstant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0)
    }
}

impl SubAssign<Duration> for NodeInstant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}
