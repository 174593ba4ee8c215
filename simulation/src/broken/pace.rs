//! A node whose consensus stands still.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_node::Pace;
use tokio::time::Instant;

use super::Bug;

/// Which node.
const NODE: u64 = 1;
/// How long it works.
const WORKS_FOR: Duration = Duration::from_secs(20);

/// A wrong pace in the place of the real one, if the bug is one of time.
pub(super) fn wrap(bug: Bug, node: u64, real: Option<Arc<dyn Pace>>) -> Option<Arc<dyn Pace>> {
    if bug != Bug::PaceStops || node != NODE {
        return real;
    }
    Some(Arc::new(StopsForEver { ends: Instant::now() + WORKS_FOR, real }))
}

struct StopsForEver {
    ends: Instant,
    real: Option<Arc<dyn Pace>>,
}

impl Pace for StopsForEver {
    fn now(&self) -> Instant {
        self.real.as_ref().map_or_else(Instant::now, |real| real.now())
    }

    fn arrival(&self, instant: Instant) -> Instant {
        self.real.as_ref().map_or(instant, |real| real.arrival(instant))
    }

    fn poll_works(&self, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() > self.ends {
            return Poll::Pending;
        }
        self.real.as_ref().map_or(Poll::Ready(()), |real| real.poll_works(context))
    }
}
