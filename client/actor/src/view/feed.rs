//! Where the events of a view come from at the moment.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_client::{SequenceNumber, StoredEvent};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::{Update, UpdateFailure};
use crate::actor_ref::ReplyTo;
use crate::store::Events;

/// Who waits for the end of an update.
pub(super) type Waiting = Vec<ReplyTo<Result<SequenceNumber, UpdateFailure>>>;

/// Where events come from.
pub(super) enum Feed {
    Idle,
    /// Those that are stored from now on.
    Follow(Events),
    Update(Box<Running>),
}

/// An update that is under way.
pub(super) struct Running {
    pub(super) update: Update,
    pub(super) waiting: Waiting,
    events: Events,
    silence: Silence,
    /// For the first one.
    _permit: Option<OwnedSemaphorePermit>,
}

/// What came.
pub(super) enum Fed {
    Event(Box<StoredEvent>),
    /// The update is over.
    Over,
    Failed(UpdateFailure),
}

impl Feed {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fed> {
        match self {
            Self::Idle => Poll::Pending,
            Self::Follow(events) => events.as_mut().poll_next(cx).map(|next| fed(next, Fed::Failed(UpdateFailure::Ended))),
            Self::Update(running) => running.poll(cx),
        }
    }
}

impl Running {
    pub(super) fn new(
        update: Update,
        waiting: Waiting,
        events: Events,
        idle: Duration,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { update, waiting, events, silence: Silence::new(idle), _permit: permit }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fed> {
        match self.events.as_mut().poll_next(cx) {
            Poll::Ready(next) => {
                self.silence.is_broken = true;
                Poll::Ready(fed(next, Fed::Over))
            }
            Poll::Pending => self.silence.poll(cx).map(|()| Fed::Failed(UpdateFailure::TimedOut(self.silence.allowed))),
        }
    }
}

fn fed(next: Option<Result<StoredEvent, cairn_client::Error>>, end: Fed) -> Fed {
    match next {
        Some(Ok(event)) => Fed::Event(Box::new(event)),
        Some(Err(error)) => Fed::Failed(error.into()),
        None => end,
    }
}

/// Tells when nothing came for long: looked at now and then, and not with each event (contract 3.4).
struct Silence {
    allowed: Duration,
    is_broken: bool,
    look: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(allowed: Duration) -> Self {
        Self { allowed, is_broken: false, look: Box::pin(sleep(allowed)) }
    }

    /// Ready when it has lasted too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.look.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.is_broken) {
                return Poll::Ready(());
            }
            self.look.as_mut().reset(Instant::now() + self.allowed);
        }
        Poll::Pending
    }
}
