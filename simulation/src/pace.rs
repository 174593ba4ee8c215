//! How one machine's consensus lives through time: too fast, too slow, or not at all for a while.
//!
//! Invariant: nobody outside of a life asks the runtime for the time, which there is another one. Changes of the rate take effect when
//! the node asks next.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cairn_raft::Pace;
use tokio::time::Instant;

/// A rate is counted in thousandths of the world's.
const USUAL_RATE: u32 = 1_000;

/// A machine's pace, one for all lives of its node.
#[derive(Debug)]
pub struct SimulatedPace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where both clocks stood when the rate changed last; none before a life asks for the first time.
    since: Option<Since>,
    rate: u32,
    stands_still: bool,
    waiting: Vec<Waker>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    worlds: Instant,
    nodes: Instant,
    rate: u32,
}

impl Default for SimulatedPace {
    fn default() -> Self {
        let state = State { since: None, rate: USUAL_RATE, stands_still: false, waiting: Vec::new() };
        Self { state: Mutex::new(state) }
    }
}

impl SimulatedPace {
    /// From now on the node's time goes so many thousandths as fast as the world's; none: as the world's.
    pub fn set_rate(&self, thousandths: Option<u32>) {
        self.lock().rate = thousandths.unwrap_or(USUAL_RATE).max(1);
    }

    /// From now on the node does nothing.
    pub fn stand_still(&self) {
        self.lock().stands_still = true;
    }

    /// The node goes on.
    pub fn go_on(&self) {
        let mut state = self.lock();
        state.stands_still = false;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Another life begins, on a runtime of its own. It does not stand still: a pause ends with the process that is paused.
    pub fn begin_life(&self) {
        let mut state = self.lock();
        state.since = None;
        state.stands_still = false;
        state.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Both clocks, at the rate that holds now.
    fn since(&mut self) -> Since {
        let now = Instant::now();
        let mut since = self.since.unwrap_or(Since { worlds: now, nodes: now, rate: self.rate });
        if since.rate != self.rate {
            since = Since { worlds: now, nodes: since.nodes_at(now), rate: self.rate };
        }
        self.since = Some(since);
        since
    }
}

impl Since {
    fn nodes_at(&self, worlds: Instant) -> Instant {
        self.nodes + worlds.duration_since(self.worlds) * self.rate / USUAL_RATE
    }
}

impl Pace for SimulatedPace {
    fn now(&self) -> Instant {
        self.lock().since().nodes_at(Instant::now())
    }

    fn arrival(&self, instant: Instant) -> Instant {
        let since = self.lock().since();
        if since.rate == USUAL_RATE {
            return since.worlds + instant.duration_since(since.nodes);
        }
        // Rounded up: who wakes too early sees that it is not time yet, and sleeps for nothing.
        since.worlds + instant.duration_since(since.nodes) * USUAL_RATE / since.rate + Duration::from_nanos(1)
    }

    fn poll_works(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.stands_still {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_a_fifth_too_fast_wakes_when_its_own_time_has_come() {
        let pace = SimulatedPace::default();
        let begin = pace.now();
        pace.set_rate(Some(1_200));
        let before = Instant::now();
        tokio::time::sleep_until(pace.arrival(pace.now() + Duration::from_secs(6))).await;
        let took = before.elapsed();
        assert!(took >= Duration::from_secs(5) && took < Duration::from_millis(5_010), "{took:?}");
        assert!(pace.now() >= begin + Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_nodes_time_never_goes_back_when_its_rate_changes() {
        let pace = SimulatedPace::default();
        let mut last = pace.now();
        for rate in [Some(1_200), Some(800), None, Some(800), Some(1_200)] {
            pace.set_rate(rate);
            tokio::time::advance(Duration::from_millis(7)).await;
            let now = pace.now();
            assert!(now >= last);
            last = now;
        }
    }
}
