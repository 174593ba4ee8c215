//! Wakes the actor when a delivery may be overdue.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Sleep, sleep_until};

use crate::outbox::Redelivery;

/// The timer of the next tick; none while nothing waits for confirmation.
#[derive(Default)]
pub(super) struct Redelivering {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Redelivering {
    /// Ready when it is time for a tick.
    pub(super) fn poll<C>(&mut self, outbox: Option<&mut dyn Redelivery<C>>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = outbox.and_then(|outbox| outbox.next_tick()) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}
