//! When the requests of one append stream were made, as openraft is told.
//!
//! openraft notes the time at which it makes a request, and takes an answer for a sign that the follower still follows at the newest such
//! time among all requests that the answered log id covers. A request without entries covers no more than the one before it: an answer to
//! that one, given long ago and read just now, would count for a request that was never answered. A leader that stood still could so
//! confirm with old answers a read that was asked after another leader had written.
//!
//! Within one stream log ids only rise, and an answer names the last log id of its own request. So a request with entries is covered by its
//! own answer and later ones, and one without by no answer older than that to the newest request with entries.
//!
//! Invariants
//! - A request that is made while others are unanswered counts as made when the newest of these that carries entries was sent, or the oldest
//!   if none does. Whichever answer covers it was given after that. Not earlier than needed: a leader's lease is counted from these times.
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
    /// The oldest first.
    unanswered: Mutex<VecDeque<Sent>>,
    ended: AtomicBool,
}

/// One request that was sent.
#[derive(Clone, Copy)]
struct Sent {
    /// When, in the node's time.
    at: NodeInstant,
    carries_entries: bool,
}

impl SendTimes {
    /// A request leaves.
    pub fn sent(&self, carries_entries: bool) {
        let at = <NodeInstant as openraft::Instant>::now();
        self.unanswered().push_back(Sent { at, carries_entries });
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

    fn unanswered(&self) -> MutexGuard<'_, VecDeque<Sent>> {
        self.unanswered.lock().expect("no one panics while holding it")
    }

    /// As of when a request counts that is made now; none: as of now.
    fn counts_from(&self) -> Option<NodeInstant> {
        let unanswered = self.unanswered();
        let newest = unanswered.iter().rev().find(|sent| sent.carries_entries);
        newest.or(unanswered.front()).map(|sent| sent.at)
    }

    /// Requests as openraft makes them, each as of when it counts.
    pub fn made<S: Stream + Unpin>(self: &Arc<Self>, mut requests: S) -> impl Stream<Item = S::Item> + Unpin + use<S> {
        let times = self.clone();
        futures::stream::poll_fn(move |context| {
            let latest = times.counts_from();
            runtime::not_after(latest, || requests.poll_next_unpin(context))
        })
    }

    /// Requests as they leave.
    pub fn leaving<S: Stream + Unpin, F: Fn(&S::Item) -> bool + Unpin>(
        self: &Arc<Self>,
        mut requests: S,
        carries_entries: F,
    ) -> impl Stream<Item = S::Item> + Unpin + use<S, F> {
        let times = self.clone();
        futures::stream::poll_fn(move |context| {
            let next = requests.poll_next_unpin(context);
            match &next {
                Poll::Ready(Some(request)) => times.sent(carries_entries(request)),
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
    async fn a_request_counts_as_made_when_the_newest_unanswered_one_with_entries_was_sent() {
        let times = Arc::new(SendTimes::default());
        let mut requests = times.made(making());
        let mut made = || requests.next().now_or_never().flatten().expect("one is always there");
        assert_eq!(made(), now(), "nothing is unanswered");
        let mut sent = Vec::new();
        for carries_entries in [true, true, false] {
            tokio::time::advance(MILLISECOND).await;
            times.sent(carries_entries);
            sent.push(now());
            tokio::time::advance(MILLISECOND).await;
        }
        assert_eq!(made(), sent[1], "the first one's answer covers nothing that is made now");
        times.answered();
        assert_eq!(made(), sent[1]);
        times.answered();
        assert_eq!(made(), sent[2], "the news alone is unanswered");
        times.sent(false);
        assert_eq!(made(), sent[2], "of what carries nothing the oldest counts");
        for _ in 0..2 {
            assert!(times.is_waiting());
            times.answered();
        }
        assert!(!times.is_waiting());
        assert_eq!(made(), now());
    }

    #[tokio::test(start_paused = true)]
    async fn what_leaves_is_noted_and_not_what_is_made() {
        let times = Arc::new(SendTimes::default());
        let mut requests = times.made(making());
        requests.next().await;
        assert!(!times.is_waiting());
        let mut leaving = times.leaving(futures::stream::iter([false, true]), |carries_entries| *carries_entries);
        assert_eq!(leaving.next().await, Some(false));
        let first = now();
        tokio::time::advance(MILLISECOND).await;
        assert_eq!(requests.next().await, Some(first));
        assert_eq!(leaving.next().await, Some(true));
        let second = now();
        tokio::time::advance(MILLISECOND).await;
        assert_eq!(requests.next().await, Some(second));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_goes_on_elsewhere() {
        let times = Arc::new(SendTimes::default());
        times.sent(true);
        tokio::time::advance(MILLISECOND).await;
        let before = now();
        times.made(making()).next().await;
        assert_eq!(now(), before);
        let nested = runtime::not_after(Some(before - MILLISECOND), || runtime::not_after(Some(before), now));
        assert_eq!(nested, before - MILLISECOND, "within another such call the earlier one counts");
        let panicking = || runtime::not_after(Some(before - MILLISECOND), || panic!("in the middle"));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(now(), before, "also after a panic");
    }

    #[tokio::test]
    async fn a_stream_says_when_it_has_ended() {
        let times = Arc::new(SendTimes::default());
        let mut requests = times.leaving(futures::stream::iter([1]), |_| true);
        assert_eq!(requests.next().await, Some(1));
        assert!(!times.has_ended());
        assert_eq!(requests.next().await, None);
        assert!(times.has_ended());
    }
}
