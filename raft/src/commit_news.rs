//! When a follower hears of a commit: with the next entries, or a moment later if none come.
//!
//! openraft tells of each commit at once, in a request of its own if no entries wait. For a writer that waits for each answer that is a
//! second round to every follower for each write, and it leaves before the answer does. Nobody waits for it but reads on followers,
//! and those that must be linearizable say so.
//!
//! Invariants
//! - A request with entries is never held. It carries a commit at least as new as the one that was held, which it replaces; openraft
//!   takes one answer for both, as it counts by log id.
//! - A commit leaves within [`COMMIT_HELD_MAX`] and a tick of the timer, at once when somebody [hurries](CommitNews::hurry) it or has done so
//!   since the last news, and before the stream ends: as far as the stream is asked for its next request.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::Fuse;
use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_stream::wrappers::WatchStream;

use crate::limits::COMMIT_HELD_MAX;
use crate::runtime;
use crate::type_config::Types;

type Append = AppendEntriesRequest<Types>;

/// One shard's news of commits, to all its followers.
#[derive(Default)]
pub(crate) struct CommitNews {
    hurry: watch::Sender<()>,
}

impl CommitNews {
    /// Somebody waits on a follower: what is held leaves now.
    pub fn hurry(&self) {
        self.hurry.send_replace(());
    }

    /// The requests to one follower, with news of commits held back for entries to carry them.
    pub fn carried_by_entries<S: Stream<Item = Append> + Unpin>(&self, requests: S) -> CarriedByEntries<S> {
        CarriedByEntries {
            requests: requests.fuse(),
            held: None,
            timer: None,
            hurry: WatchStream::from_changes(self.hurry.subscribe()),
        }
    }
}

/// See [`CommitNews::carried_by_entries`].
pub(crate) struct CarriedByEntries<S: Stream> {
    requests: Fuse<S>,
    held: Option<Append>,
    /// When what is held leaves; kept, as making one costs more than setting it.
    timer: Option<Pin<Box<Sleep>>>,
    hurry: WatchStream<()>,
}

impl<S: Stream<Item = Append> + Unpin> CarriedByEntries<S> {
    fn hold(&mut self, news: Append) {
        if self.held.replace(news).is_some() {
            // The older one's wait counts.
            return;
        }
        let until = runtime::moment_after(COMMIT_HELD_MAX);
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(until),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(until))),
        }
    }

    /// Whether what is held has to leave; this task is woken when it has.
    fn poll_due(&mut self, context: &mut Context<'_>) -> bool {
        let is_late = self.timer.as_mut().is_none_or(|timer| timer.as_mut().poll(context).is_ready());
        is_late || self.hurry.poll_next_unpin(context).is_ready()
    }
}

impl<S: Stream<Item = Append> + Unpin> Stream for CarriedByEntries<S> {
    type Item = Append;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Append>> {
        loop {
            match self.requests.poll_next_unpin(context) {
                Poll::Ready(Some(news)) if news.entries.is_empty() => self.hold(news),
                Poll::Ready(Some(request)) => {
                    self.held = None;
                    return Poll::Ready(Some(request));
                }
                Poll::Ready(None) => return Poll::Ready(self.held.take()),
                Poll::Pending => break,
            }
        }
        if self.held.is_some() && self.poll_due(context) { Poll::Ready(self.held.take()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use openraft::EntryPayload;
    use tokio::sync::mpsc;
    use tokio::time::Instant;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;
    use crate::type_config::{Ballot, RaftEntry, log_id};

    /// What a test says to one follower, and what of it leaves.
    struct Follower {
        news: CommitNews,
        requests: Option<mpsc::UnboundedSender<Append>>,
        leaving: CarriedByEntries<UnboundedReceiverStream<Append>>,
    }

    impl Follower {
        fn new() -> Self {
            let (requests, asked) = mpsc::unbounded_channel();
            let news = CommitNews::default();
            let leaving = news.carried_by_entries(UnboundedReceiverStream::new(asked));
            Self { news, requests: Some(requests), leaving }
        }

        fn send(&self, request: Append) {
            self.requests.as_ref().expect("the stream has not ended").send(request).expect("the other half is here");
        }

        /// What leaves next, and how long that took.
        async fn next(&mut self) -> (Option<Append>, Duration) {
            let began = Instant::now();
            (self.leaving.next().await, began.elapsed())
        }

        /// Lets it look at what it was given, and take it in if it does not leave.
        async fn nothing_leaves(&mut self) {
            let soon = tokio::time::timeout(Duration::from_micros(1), self.leaving.next()).await;
            assert!(soon.is_err(), "{:?} left at once", soon.unwrap());
        }
    }

    /// News of a commit, behind entries up to `previous`.
    fn news(previous: u64, committed: u64) -> Append {
        Append {
            vote: Ballot::new_committed(1, 1),
            prev_log_id: Some(log_id(1, 1, previous)),
            entries: Vec::new(),
            leader_commit: Some(log_id(1, 1, committed)),
        }
    }

    fn entry(index: u64, committed: u64) -> Append {
        let entries = vec![RaftEntry { log_id: log_id(1, 1, index), payload: EntryPayload::Blank }];
        Append { entries, ..news(index - 1, committed) }
    }

    fn committed(request: Option<&Append>) -> u64 {
        request.and_then(|request| request.leader_commit).expect("something left, with a commit").index
    }

    #[tokio::test(start_paused = true)]
    async fn entries_leave_at_once_and_take_a_held_commit_along() {
        let mut follower = Follower::new();
        follower.send(news(4, 4));
        follower.nothing_leaves().await;
        follower.send(entry(5, 4));
        let (left, waited) = follower.next().await;
        assert_eq!((left.map(|request| request.entries.len()), waited), (Some(1), Duration::ZERO));
        tokio::time::sleep(COMMIT_HELD_MAX * 3).await;
        follower.nothing_leaves().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_no_entries_follow_leaves_within_its_bound() {
        let mut follower = Follower::new();
        for round in 1..4 {
            follower.send(news(round, round));
            let (left, waited) = follower.next().await;
            assert_eq!(committed(left.as_ref()), round);
            assert!(waited > Duration::ZERO && waited <= COMMIT_HELD_MAX + Duration::from_millis(1), "{waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_commit_replaces_an_older_one_and_does_not_prolong_its_wait() {
        let mut follower = Follower::new();
        let began = Instant::now();
        let mut last = 0;
        let left = loop {
            last += 1;
            follower.send(news(9, last));
            tokio::select! {
                left = follower.leaving.next() => break left,
                () = tokio::time::sleep(COMMIT_HELD_MAX / 2) => {}
            }
        };
        assert!(began.elapsed() <= COMMIT_HELD_MAX * 2, "{:?}", began.elapsed());
        assert_eq!(committed(left.as_ref()), last);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_on_a_follower_hurries_it() {
        let mut follower = Follower::new();
        follower.send(news(4, 4));
        follower.nothing_leaves().await;
        follower.news.hurry();
        let (left, waited) = follower.next().await;
        assert_eq!((committed(left.as_ref()), waited), (4, Duration::ZERO));
        follower.send(news(4, 5));
        follower.nothing_leaves().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_hurries_before_the_news_is_there_does_not_wait_for_it() {
        let mut follower = Follower::new();
        let mut another = follower.news.carried_by_entries(futures::stream::iter([news(4, 4)]).chain(futures::stream::pending()));
        follower.nothing_leaves().await;
        follower.news.hurry();
        follower.send(news(4, 4));
        let (left, waited) = follower.next().await;
        assert_eq!((committed(left.as_ref()), waited), (4, Duration::ZERO));
        let began = Instant::now();
        assert_eq!(committed(another.next().await.as_ref()), 4, "every follower's news is hurried");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_leaves_before_the_stream_ends() {
        let mut follower = Follower::new();
        follower.send(news(4, 4));
        follower.nothing_leaves().await;
        follower.requests = None;
        let (left, waited) = follower.next().await;
        assert_eq!((committed(left.as_ref()), waited), (4, Duration::ZERO));
        assert!(follower.next().await.0.is_none());
        assert!(follower.next().await.0.is_none(), "an ended stream stays ended");
    }
}
