//! The runtime that consensus runs on: tokio's, in one node's time, with that node's dice.
//!
//! openraft asks its runtime for the time, for sleep, for tasks and for chance without saying on whose behalf. A [`Life`] is that
//! answer; it travels with the task, and every task hands it on to those that it spawns. What calls openraft from elsewhere does
//! so through [`Life::scope`] or [`Life::enter`].
//!
//! Invariants
//! - Nothing random in consensus comes from anywhere but the node's seed.
//! - A task of a node that stands still is not polled until it goes on.
//! - Without a [`Pace`] everything is tokio's own.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::ready;
use std::time::Duration;

use futures::future::Either;
use futures::{Stream, StreamExt};
use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch};
use rand_openraft::SeedableRng;
use rand_openraft::rngs::StdRng;
use tokio::time::Instant;

use crate::pace::Pace;

mod instant;
mod ticks;

pub(crate) use instant::NodeInstant;
pub(crate) use ticks::Ticks;

tokio::task_local! {
    static LIFE: Life;
}

thread_local! {
    /// See [`not_after`].
    static LATEST: Cell<Option<NodeInstant>> = const { Cell::new(None) };
}

/// What consensus of one shard on one node lives by. Cheap to clone; all clones throw the same dice.
#[derive(Clone)]
pub(crate) struct Life {
    /// None: the runtime's own time.
    pace: Option<Arc<dyn Pace>>,
    /// None: whoever waits for a tick wakes when it wants to.
    ticks: Option<Arc<Ticks>>,
    dice: Arc<Mutex<StdRng>>,
}

impl Life {
    pub fn new(pace: Option<Arc<dyn Pace>>, seed: [u8; 32]) -> Self {
        Self { pace, ticks: None, dice: Arc::new(Mutex::new(StdRng::from_seed(seed))) }
    }

    /// The same with these ticks.
    pub fn with_ticks(self, ticks: Ticks) -> Self {
        Self { ticks: Some(Arc::new(ticks)), ..self }
    }

    /// A future that lives by this, but does not stand still by itself.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        LIFE.scope(self.clone(), future)
    }

    /// A call that lives by this.
    pub fn enter<T>(&self, call: impl FnOnce() -> T) -> T {
        LIFE.sync_scope(self.clone(), call)
    }

    /// A task that lives by this, and stands still when the node does.
    pub fn spawn<T>(&self, future: T) -> tokio::task::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        match self.pace.clone() {
            None => tokio::spawn(LIFE.scope(self.clone(), future)),
            Some(pace) => tokio::spawn(LIFE.scope(self.clone(), keep_pace(pace, future))),
        }
    }
}

async fn keep_pace<T: Future>(pace: Arc<dyn Pace>, future: T) -> T::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        ready!(pace.poll_works(context));
        future.as_mut().poll(context)
    })
    .await
}

/// Spawns a task that lives as its parent does.
pub(crate) fn spawn<T>(future: T) -> tokio::task::JoinHandle<T::Output>
where
    T: Future + Send + 'static,
    T::Output: Send + 'static,
{
    match LIFE.try_with(Life::clone) {
        Ok(life) => life.spawn(future),
        Err(_) => tokio::spawn(future),
    }
}

/// A stream that somebody else polls, in this task's time: it stands still when the node does.
pub(crate) fn keep<S: Stream + Unpin>(mut stream: S) -> impl Stream<Item = S::Item> {
    let life = LIFE.try_with(Life::clone).ok();
    match life.and_then(|life| Some((life.pace.clone()?, life))) {
        None => Either::Left(stream),
        Some((pace, life)) => Either::Right(futures::stream::poll_fn(move |context| {
            ready!(pace.poll_works(context));
            life.enter(|| stream.poll_next_unpin(context))
        })),
    }
}

/// Sleeps in the node's time.
pub(crate) fn sleep(duration: Duration) -> tokio::time::Sleep {
    match arrival_after(duration) {
        Some(arrival) => tokio::time::sleep_until(arrival),
        None => tokio::time::sleep(duration),
    }
}

/// A call for which it is no later than `latest` in the node's time, if that is given: for what openraft notes the time of by itself.
pub(crate) fn not_after<T>(latest: Option<NodeInstant>, call: impl FnOnce() -> T) -> T {
    struct Restore(Option<NodeInstant>);

    impl Drop for Restore {
        fn drop(&mut self) {
            LATEST.set(self.0);
        }
    }

    let outer = LATEST.get();
    let _restore = Restore(outer);
    LATEST.set(outer.into_iter().chain(latest).min());
    call()
}

/// What the pace of the task says, if it has one.
fn paced<T>(ask: impl FnOnce(&dyn Pace) -> T) -> Option<T> {
    LIFE.try_with(|life| life.pace.as_deref().map(ask)).ok().flatten()
}

/// When the task wakes that waits for this.
fn tick(deadline: NodeInstant) -> NodeInstant {
    with_ticks(|ticks, now| NodeInstant(ticks.not_before(deadline.0, now))).unwrap_or(deadline)
}

/// The shard of this task sends a heartbeat.
pub(crate) fn heartbeat_sent() {
    with_ticks(|ticks, now| ticks.heartbeat_sent(now));
}

/// The shard of this task hears a heartbeat.
pub(crate) fn heartbeat_heard() {
    with_ticks(|ticks, now| ticks.heartbeat_heard(now));
}

/// Asks the ticks of the task's shard, if it has some, at the node's moment.
fn with_ticks<T>(ask: impl FnOnce(&Ticks, Instant) -> T) -> Option<T> {
    let now = <NodeInstant as openraft::Instant>::now().0;
    LIFE.try_with(|life| life.ticks.as_deref().map(|ticks| ask(ticks, now))).ok().flatten()
}

/// When the node's instant comes on the runtime's clock.
fn arrival(instant: NodeInstant) -> Instant {
    paced(|pace| pace.arrival(instant.0)).unwrap_or(instant.0)
}

/// When a span of the node's time is over, on the runtime's clock.
pub(crate) fn moment_after(duration: Duration) -> Instant {
    arrival_after(duration).unwrap_or_else(|| Instant::now() + duration)
}

/// When a span of the node's time is over, on the runtime's clock; none: as the runtime says.
fn arrival_after(duration: Duration) -> Option<Instant> {
    paced(|pace| Some(pace.arrival(pace.now().checked_add(duration)?))).flatten()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct NodeRuntime(TokioRuntime);

impl AsyncRuntime for NodeRuntime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = NodeInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = StdRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        sleep(duration)
    }

    fn sleep_until(deadline: NodeInstant) -> Self::Sleep {
        tokio::time::sleep_until(arrival(tick(deadline)))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        match arrival_after(duration) {
            Some(arrival) => tokio::time::timeout_at(arrival, future),
            None => tokio::time::timeout(duration, future),
        }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: NodeInstant, future: F) -> Self::Timeout<R, F> {
        tokio::time::timeout_at(arrival(deadline), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    /// # Panics
    /// Outside of a node's life: two nodes would draw the same, or one would not draw from its seed.
    fn thread_rng() -> StdRng {
        LIFE.with(|life| StdRng::from_rng(&mut *life.dice.lock().expect("no one panics while holding it")))
    }

    /// For openraft's suites alone, as [`Self::block_on`].
    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    /// What runs in here draws from a seed that is always the same.
    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(Life::new(None, [0; 32]).scope(future))
    }
}

#[cfg(test)]
mod tests;
