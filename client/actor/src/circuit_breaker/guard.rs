//! Calls through a circuit breaker.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_client::Error;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{CallOutcome, CircuitBreaker, CircuitBreakerSettings, CircuitState, Permit};

/// What a call that took too long has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it reads.
    None,
    /// Perhaps what it was to do.
    Perhaps,
}

/// A breaker that calls go through; its changes are logged, and can be watched.
///
/// Akka: `CircuitBreaker.withCircuitBreaker`.
#[derive(Debug)]
pub struct Guard {
    name: Cow<'static, str>,
    settings: CircuitBreakerSettings,
    inner: Mutex<Inner>,
    states: watch::Sender<CircuitState>,
}

#[derive(Debug)]
struct Inner {
    breaker: CircuitBreaker,
    random: StdRng,
}

impl Guard {
    /// A closed breaker under a name for logs and errors, with the random choices of a seed.
    ///
    /// # Panics
    /// As [`CircuitBreaker::new`].
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, settings: CircuitBreakerSettings, seed: u64) -> Self {
        let inner = Inner { breaker: CircuitBreaker::new(settings), random: StdRng::seed_from_u64(seed) };
        Self { name: name.into(), settings, inner: Mutex::new(inner), states: watch::Sender::new(CircuitState::Closed) }
    }

    /// What it is called in logs and errors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn settings(&self) -> CircuitBreakerSettings {
        self.settings
    }

    /// How it stands now.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.lock().breaker.state(Instant::now())
    }

    /// How many calls failed in a row; 0 unless it is closed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.lock().breaker.failures()
    }

    /// Its states as calls bring them about: half-open with the first call after the time is over.
    ///
    /// Akka: `CircuitBreaker.onOpen`, `onClose`, `onHalfOpen`.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<CircuitState> {
        self.states.subscribe()
    }

    pub(super) async fn call<T>(&self, effect: Effect, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.call_within(self.settings.call_timeout, effect, call).await
    }

    /// A call that may take another time than the breaker's settings say; zero = as long as it likes.
    pub(super) async fn call_within<T>(
        &self,
        call_timeout: Duration,
        effect: Effect,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = Begun { guard: self, permit: Some(self.begin()?) };
        let result = if call_timeout.is_zero() {
            call.await
        } else {
            timeout(call_timeout, call).await.unwrap_or_else(|_| {
                let message = format!("no answer within {call_timeout:?}");
                Err(match effect {
                    Effect::None => Error::Unavailable { message },
                    Effect::Perhaps => Error::Unknown { message },
                })
            })
        };
        begun.settle(match &result {
            Err(Error::Unavailable { .. } | Error::Unknown { .. }) => CallOutcome::NotReached,
            _ => CallOutcome::Reached,
        });
        result
    }

    fn begin(&self) -> Result<Permit, Error> {
        self.change(|inner, now| inner.breaker.begin(now))
            .map_err(|open| Error::Unavailable { message: format!("{}: {open}", self.name) })
    }

    fn settle(&self, permit: Permit, outcome: CallOutcome) {
        self.change(|Inner { breaker, random }, now| breaker.settle(permit, outcome, now, || random.random()));
    }

    /// Tells what has changed: under the lock, so that it is told in order.
    fn change<T>(&self, change: impl FnOnce(&mut Inner, Instant) -> T) -> T {
        let now = Instant::now();
        let mut inner = self.lock();
        let result = change(&mut inner, now);
        let state = inner.breaker.state(now);
        let has_changed = self.states.send_if_modified(|known| std::mem::replace(known, state) != state);
        if has_changed {
            let name = &*self.name;
            match state {
                CircuitState::Closed => tracing::info!(name, "circuit breaker: closed"),
                CircuitState::HalfOpen => tracing::info!(name, "circuit breaker: half-open"),
                CircuitState::Open => tracing::warn!(name, "circuit breaker: open"),
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in there panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that has begun: settled also if nobody waits for its end.
struct Begun<'a> {
    guard: &'a Guard,
    permit: Option<Permit>,
}

impl Begun<'_> {
    fn settle(mut self, outcome: CallOutcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: CallOutcome) {
        if let Some(permit) = self.permit.take() {
            self.guard.settle(permit, outcome);
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.end(CallOutcome::Abandoned);
    }
}
