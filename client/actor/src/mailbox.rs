//! The commands that wait for an actor: they outlive its incarnations, so that none is lost when it stops for a while.
//!
//! Invariants
//! - A command is in the mailbox from the moment that `push` succeeds until the actor takes it, or the actor is stopped for good.
//! - At most so many wait as the mailbox has room for; whoever sends more waits, or is refused.
//! - An actor goes to rest only while its mailbox is empty; the next command wakes it.
//! - Nobody rests who was asked to stop: one that would is stopped for good.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use cairn_client::PersistenceId;
use tokio::sync::{Notify, Semaphore};

use crate::actor_ref::{StopReason, TellError};
use crate::kind::MailboxOverflow;

/// A queue that held more than so many gives its memory back when it is empty.
const QUEUE_KEPT: usize = 16;

/// Starts the actor of a mailbox that is at rest.
pub(crate) trait Wake<C>: Send + Sync {
    fn wake(&self, mailbox: Arc<Mailbox<C>>);
}

pub(crate) struct Mailbox<C> {
    persistence_id: PersistenceId,
    state: Mutex<State<C>>,
    room: Semaphore,
    overflow: MailboxOverflow,
    stopped: Notify,
    /// Starts the actor when a command comes while it rests; none for an actor that starts once.
    waker: Option<Arc<dyn Wake<C>>>,
}

struct State<C> {
    /// Before all others: what an earlier incarnation had stashed.
    returned: VecDeque<C>,
    queue: VecDeque<C>,
    life: Life,
    /// The actor's task, waiting for a command.
    task: Option<Waker>,
    asked: Asked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    Resting,
    Active,
    Stopped(StopReason),
}

/// How many commands may wait, and what becomes of one more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MailboxBound {
    pub(crate) room: usize,
    pub(crate) overflow: MailboxOverflow,
}

impl MailboxBound {
    /// So many may wait, and who sends one more waits, too.
    pub(crate) const fn waiting(room: usize) -> Self {
        Self { room, overflow: MailboxOverflow::Wait }
    }
}

/// What its owner asked the actor to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// To go on.
    Nothing,
    /// To rest as soon as nothing is left to do.
    Rest,
    /// To stop as soon as nothing is left to do; nothing new is taken.
    Stop,
}

/// What the actor finds in its mailbox.
pub(crate) enum Taken<C> {
    Command(C),
    /// There is nothing to do, and this is asked for.
    Asked(Asked),
}

impl<C> Mailbox<C> {
    /// A mailbox whose actor runs already.
    pub(crate) fn active(persistence_id: PersistenceId, bound: MailboxBound) -> Self {
        Self::new(persistence_id, bound, Life::Active, None)
    }

    /// A mailbox whose actor starts with the first command.
    pub(crate) fn resting(persistence_id: PersistenceId, bound: MailboxBound, waker: Arc<dyn Wake<C>>) -> Self {
        Self::new(persistence_id, bound, Life::Resting, Some(waker))
    }

    fn new(persistence_id: PersistenceId, bound: MailboxBound, life: Life, waker: Option<Arc<dyn Wake<C>>>) -> Self {
        let state = State { returned: VecDeque::new(), queue: VecDeque::new(), life, task: None, asked: Asked::Nothing };
        Self {
            persistence_id,
            state: Mutex::new(state),
            room: Semaphore::new(bound.room.clamp(1, Semaphore::MAX_PERMITS)),
            overflow: bound.overflow,
            stopped: Notify::new(),
            waker,
        }
    }

    pub(crate) fn persistence_id(&self) -> &PersistenceId {
        &self.persistence_id
    }

    /// Puts a command at the end as soon as there is room, or only if there is, as its kind has it.
    pub(crate) async fn push(self: &Arc<Self>, command: C) -> Result<(), TellError<C>> {
        if self.overflow == MailboxOverflow::Refuse {
            return self.try_push(command);
        }
        match self.room.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(TellError::Stopped(command)),
        }
        self.put(command)
    }

    /// Puts a command at the end if there is room.
    pub(crate) fn try_push(self: &Arc<Self>, command: C) -> Result<(), TellError<C>> {
        match self.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(TellError::Full(command)),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(TellError::Stopped(command)),
        }
        self.put(command)
    }

    fn put(self: &Arc<Self>, command: C) -> Result<(), TellError<C>> {
        let (task, starts) = {
            let mut state = self.lock();
            if matches!(state.life, Life::Stopped(_)) || state.asked == Asked::Stop {
                return Err(TellError::Stopped(command));
            }
            state.queue.push_back(command);
            let starts = state.life == Life::Resting;
            if starts {
                state.life = Life::Active;
            }
            (state.task.take(), starts)
        };
        if let Some(task) = task {
            task.wake();
        }
        if starts && let Some(waker) = &self.waker {
            waker.wake(self.clone());
        }
        Ok(())
    }

    /// The next command, or what is asked for when there is none.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken<C>> {
        let mut state = self.lock();
        if let Some(command) = state.returned.pop_front() {
            return Poll::Ready(Taken::Command(command));
        }
        if let Some(command) = state.queue.pop_front() {
            if state.queue.is_empty() && state.queue.capacity() > QUEUE_KEPT {
                state.queue = VecDeque::new();
            }
            drop(state);
            self.room.add_permits(1);
            return Poll::Ready(Taken::Command(command));
        }
        // Also where something is asked for: whoever is busy comes back, and is woken by a command before that.
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        if state.asked == Asked::Nothing { Poll::Pending } else { Poll::Ready(Taken::Asked(state.asked)) }
    }

    /// Puts commands back in front of all others: they had been taken, and their room was given back.
    pub(crate) fn give_back(&self, commands: impl IntoIterator<Item = C>) {
        let mut state = self.lock();
        let mut commands: VecDeque<C> = commands.into_iter().collect();
        commands.append(&mut state.returned);
        state.returned = commands;
    }

    /// Asks the actor to rest or to stop when nothing is left to do. One at rest has nothing to do.
    pub(crate) fn ask(&self, asked: Asked) {
        if asked == Asked::Stop {
            self.room.close();
        }
        let (task, ends) = {
            let mut state = self.lock();
            match state.life {
                Life::Active => state.asked = state.asked.max(asked),
                Life::Resting if asked == Asked::Stop => state.life = Life::Stopped(StopReason::Done),
                Life::Resting | Life::Stopped(_) => {}
            }
            (state.task.take(), matches!(state.life, Life::Stopped(_)))
        };
        if let Some(task) = task {
            task.wake();
        }
        if ends {
            self.stopped.notify_waiters();
        }
    }

    /// Lets the actor rest; if its owner has asked it to stop, it is stopped for good, for this reason. False if commands have come
    /// meanwhile: then it must go on.
    pub(crate) fn rest(&self, reason: StopReason) -> bool {
        let mut state = self.lock();
        if !state.queue.is_empty() || !state.returned.is_empty() {
            return false;
        }
        // Under the same lock as the question: whoever asks later finds it at rest.
        let stops = state.asked == Asked::Stop;
        state.life = if stops { Life::Stopped(reason) } else { Life::Resting };
        state.asked = Asked::Nothing;
        state.task = None;
        drop(state);
        if stops {
            self.stopped.notify_waiters();
        }
        true
    }

    /// Whether the actor could be woken again.
    pub(crate) fn can_rest(&self) -> bool {
        self.waker.is_some()
    }

    /// Drops all commands that wait: those who asked are told so.
    pub(crate) fn clear(&self) {
        let (returned, queue) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.returned), std::mem::take(&mut state.queue))
        };
        drop(returned);
        self.room.add_permits(queue.len());
    }

    /// Ends it for good: all commands that wait are dropped, and nothing more is taken.
    pub(crate) fn stop(&self, reason: StopReason) {
        self.room.close();
        self.lock().life = Life::Stopped(reason);
        self.clear();
        self.stopped.notify_waiters();
    }

    /// Waits until it is stopped for good.
    pub(crate) async fn stopped(&self) -> StopReason {
        loop {
            let stopped = self.stopped.notified();
            if let Some(reason) = self.stop_reason() {
                return reason;
            }
            stopped.await;
        }
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        match &self.lock().life {
            Life::Stopped(reason) => Some(reason.clone()),
            Life::Resting | Life::Active => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often an actor is started.
    #[derive(Default)]
    struct Starts(Mutex<u32>);

    impl Wake<&'static str> for Starts {
        fn wake(&self, _: Arc<Mailbox<&'static str>>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    fn woken() -> Arc<Mailbox<&'static str>> {
        let id = PersistenceId::new("actor").unwrap();
        let mailbox = Arc::new(Mailbox::resting(id, MailboxBound::waiting(2), Arc::new(Starts::default())));
        mailbox.try_push("first").unwrap();
        mailbox
    }

    fn take(mailbox: &Mailbox<&'static str>) -> Option<&'static str> {
        match mailbox.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Taken::Command(command)) => Some(command),
            Poll::Ready(Taken::Asked(_)) | Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn stop_that_is_asked_for_before_an_actor_rests_is_not_lost() {
        let mailbox = woken();
        take(&mailbox);
        mailbox.ask(Asked::Stop);
        let waits = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.stopped().await }
        });
        tokio::task::yield_now().await;
        assert!(mailbox.rest(StopReason::Superseded));
        assert_eq!(mailbox.stop_reason(), Some(StopReason::Superseded));
        assert_eq!(waits.await.unwrap(), StopReason::Superseded);
        assert_eq!(mailbox.try_push("late"), Err(TellError::Stopped("late")));
    }

    #[test]
    fn stop_of_an_actor_at_rest_is_at_once() {
        let mailbox = woken();
        take(&mailbox);
        assert!(mailbox.rest(StopReason::Superseded));
        assert_eq!(mailbox.stop_reason(), None);
        mailbox.ask(Asked::Stop);
        assert_eq!(mailbox.stop_reason(), Some(StopReason::Done));
    }

    #[test]
    fn actor_that_was_asked_to_stop_goes_on_while_commands_wait() {
        let mailbox = woken();
        mailbox.ask(Asked::Stop);
        assert!(!mailbox.rest(StopReason::Done));
        assert_eq!(mailbox.stop_reason(), None);
        assert_eq!(take(&mailbox), Some("first"));
        assert!(mailbox.rest(StopReason::Done));
        assert_eq!(mailbox.stop_reason(), Some(StopReason::Done));
    }
}
