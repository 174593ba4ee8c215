//! A timer for deadlines that move often and are hardly ever reached.
//!
//! It stays set for the earliest moment that matters, and is set anew when it ends, not whenever the deadline moves.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// See the module. It takes memory from its first use on.
#[derive(Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready when the deadline, which may be another one at each call, has come.
    pub(crate) fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_the_deadline_of_now_whether_that_was_moved_on_or_back() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut timer = LazyTimer::default();
        let mut look = async |deadline: Duration| {
            let looked = poll_fn(|cx| Poll::Ready(timer.poll_until(begin + deadline, cx))).await;
            looked.is_ready()
        };
        assert!(!look(10 * second).await);
        tokio::time::advance(5 * second).await;
        assert!(!look(15 * second).await, "it was moved on");
        tokio::time::advance(6 * second).await;
        assert!(!look(15 * second).await, "the first deadline is over, and is not the one of now");
        assert!(!look(12 * second).await, "it was moved back");
        tokio::time::advance(second).await;
        assert!(look(12 * second).await);
        assert!(!look(13 * second).await, "it can be used again");
        poll_fn(|cx| timer.poll_until(begin + 13 * second, cx)).await;
        assert_eq!(Instant::now(), begin + 13 * second, "it wakes whoever waits");
    }
}
