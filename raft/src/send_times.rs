//! When the requests of one append stream were made, as openraft is told.
//!
//! openraft notes the time at which it makes a request, and takes an answer for a sign that the follower still follows at the newest such
//! time among all requests that the answered log id covers. A request without entries covers no more than the one before it: an answer to
//! that one, given long ago and read just now, would count for a request that was never answered. A leader that stood still could so
//! confirm with old answers a read that was asked after another leader had written.
//!
//! Invariants
//! - A request that is made while others are unanswered counts as made when the oldest of these was sent. Whichever answer covers it was
//!   given after that.
//! - An answer counts when openraft comes for the next one: only then has it taken this one in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use futures::{Stream, StreamExt};

use crate::runtime::{self, NodeInstant};

/// The requests of one stream that are on their way.
#[derive(Default)]
pub(crate) struct SendTimes {
    /// When each was sent, in the node's time, the oldest first.
    unanswered: Mutex<VecDeque<NodeInstant>>,
    ended: AtomicBool,
}

impl SendTimes {
    /// A request leaves.
    pub fn sent(&self) {
        let now = <NodeInstant as openraft::Instant>::now();
        self.unanswered().push_back(now);
    }

    /// The oldest request was answered, and the answer was taken in.
    pub fn answered(&self) {
        self.unanswered().pop_front();
    }

    /// Whether something is unanswered.
    pub fn is_waiting(&self) -> bool {
        !self.unanswered().is_empty()
    }

    /// Whether no more requests will leave.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn unanswered(&self) -> MutexGuard<'_, VecDeque<NodeInstant>> {
        self.unanswered.lock().expect("no one panics while holding it")
    }

    /// Requests as openraft makes them, each no later than the oldest that is unanswered.
    pub fn made<S: Stream + Unpin>(self: &Arc<Self>, mut requests: S) -> impl Stream<Item = S::Item> + Unpin + use<S> {
        let times = self.clone();
        futures::stream::poll_fn(move |context| {
            let oldest = times.unanswered().front().copied();
            runtime::not_after(oldest, || requests.poll_next_unpin(context))
        })
    }

    /// Requests as they leave.
    pub fn leaving<S: Stream + Unpin>(self: &Arc<Self>, mut requests: S) -> impl Stream<Item = S::Item> + Unpin + use<S> {
        let times = self.clone();
        futures::stream::poll_fn(move |context| {
            let next = requests.poll_next_unpin(context);
            match &next {
                Poll::Ready(Some(_)) => times.sent(),
                Poll::Ready(None) => times.ended.store(true, Ordering::Relaxed),
                Poll::Pending => {}
            }
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn now() -> NodeInstant {
        <NodeInstant as openraft::Instant>::now()
    }

    /// A stream of requests that are nothing but the time at which they were made.
    fn making() -> impl Stream<Item = NodeInstant> + Unpin {
        futures::stream::poll_fn(|_| Poll::Ready(Some(now())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_counts_as_made_when_the_oldest_unanswered_one_was_sent() {
        let times = Arc::new(SendTimes::default());
        let mut requests = times.leaving(times.made(making()));
        let mut made = || requests.next().now_or_never().flatten().expect("one is always there");
        let first = made();
        assert_eq!(first, now(), "nothing was unanswered");
        tokio::time::advance(MILLISECOND).await;
        let second_sent = now();
        assert_eq!(made(), first);
        tokio::time::advance(MILLISECOND).await;
        assert_eq!(made(), first);
        times.answered();
        tokio::time::advance(MILLISECOND).await;
        assert_eq!(made(), second_sent, "what was sent counts, not what it counted as itself");
        for _ in 0..3 {
            assert!(times.is_waiting());
            times.answered();
        }
        assert!(!times.is_waiting());
        tokio::time::advance(MILLISECOND).await;
        assert_eq!(made(), now());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_goes_on_elsewhere() {
        let times = Arc::new(SendTimes::default());
        times.sent();
        tokio::time::advance(MILLISECOND).await;
        let before = now();
        times.made(making()).next().await;
        assert_eq!(now(), before);
        let panicking = || runtime::not_after(Some(before - MILLISECOND), || panic!("in the middle"));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(now(), before, "also after a panic");
    }

    #[tokio::test]
    async fn a_stream_says_when_it_has_ended() {
        let times = Arc::new(SendTimes::default());
        let mut requests = times.leaving(futures::stream::iter([1]));
        assert_eq!(requests.next().await, Some(1));
        assert!(!times.has_ended());
        assert_eq!(requests.next().await, None);
        assert!(times.has_ended());
    }
}
