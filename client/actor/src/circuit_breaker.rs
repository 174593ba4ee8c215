//! A circuit breaker: while a store cannot be reached, calls fail at once instead of one after the other at their deadlines.
//!
//! [`CircuitBreaker`] is the state machine, pure, with time and chance handed in. [`Guard`] runs calls through one, and [`GuardedStore`]
//! puts some before the journals of a store and some before its snapshots: one each, or one each a shard.
//!
//! What counts as a failure is only what says that the store is out of reach or overloaded. A conflict, a fenced writer, a full disk
//! are answers: whoever gets them has reached the store.
//!
//! Invariants
//! - While it is open no call is begun. While it is half-open one is at a time.
//! - What became of a call counts only in the period in which it was begun.
//! - A refused call was not begun: it certainly took no effect.

mod guard;
mod store;

use std::time::Duration;

use tokio::time::Instant;

pub use guard::Guard;
pub use store::GuardedStore;

/// When a breaker opens, and for how long.
///
/// Akka: `journal-plugin-fallback.circuit-breaker`, `snapshot-store-plugin-fallback.circuit-breaker`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitBreakerSettings {
    /// After how many failures in a row it opens.
    ///
    /// Akka: `circuit-breaker.max-failures`.
    pub failures_max: u32,
    /// How long a call may take; zero = as long as it likes.
    ///
    /// Akka: `circuit-breaker.call-timeout`.
    pub call_timeout: Duration,
    /// How long it stays open, the first time.
    ///
    /// Akka: `circuit-breaker.reset-timeout`.
    pub reset_timeout: Duration,
    /// By how much longer it stays open each next time, until a call succeeds.
    ///
    /// Akka: `circuit-breaker.exponential-backoff-factor`.
    pub backoff_factor: f64,
    /// Up to what part of itself that time is lengthened by chance, so that not all clients come back at the same moment.
    ///
    /// Akka: `circuit-breaker.random-factor`.
    pub random_factor: f64,
    /// The time stops growing before it reaches this.
    ///
    /// Akka: `circuit-breaker.max-reset-timeout`.
    pub reset_timeout_max: Duration,
}

impl CircuitBreakerSettings {
    /// For journals: opens after 10 failures for 30 s, a call taking at most 10 s; then for longer, up to 5 minutes.
    #[must_use]
    pub const fn journal() -> Self {
        Self {
            failures_max: 10,
            call_timeout: Duration::from_secs(10),
            reset_timeout: Duration::from_secs(30),
            backoff_factor: 2.0,
            random_factor: 0.2,
            reset_timeout_max: Duration::from_secs(300),
        }
    }

    /// For snapshots: opens after 5 failures for 60 s, a call taking at most 20 s; then for longer, up to 5 minutes.
    #[must_use]
    pub const fn snapshots() -> Self {
        Self { failures_max: 5, call_timeout: Duration::from_secs(20), reset_timeout: Duration::from_secs(60), ..Self::journal() }
    }

    /// Open for the same time each time, to the moment: as in Akka.
    #[must_use]
    pub const fn without_backoff(self) -> Self {
        Self { backoff_factor: 1.0, random_factor: 0.0, ..self }
    }
}

/// Whether calls go through.
///
/// Akka: `CircuitBreaker.isClosed`, `isOpen`, `isHalfOpen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// They do.
    Closed,
    /// They do not.
    Open,
    /// One does, to see.
    HalfOpen,
}

/// A call was not begun, as the breaker is open.
///
/// Akka: `CircuitBreakerOpenException`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open for another {remaining:?}")]
pub struct CircuitOpen {
    /// How long it stays open; zero while another call finds out.
    ///
    /// Akka: `CircuitBreakerOpenException.remainingDuration`.
    pub remaining: Duration,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The store was reached.
    Reached,
    /// The store was not reached, or is overloaded, or took too long.
    NotReached,
    /// Nobody waited for the end.
    Abandoned,
}

/// A call that may be begun; to be settled once it has ended.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a call that is not settled blocks a half-open breaker"]
pub struct Permit {
    period: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { is_probing: bool },
}

/// The breaker itself.
///
/// Akka: `CircuitBreaker`.
#[derive(Debug)]
pub struct CircuitBreaker {
    settings: CircuitBreakerSettings,
    state: State,
    /// Each state has one of its own.
    period: u64,
    /// For how long it opens the next time.
    reset_timeout: Duration,
}

impl CircuitBreaker {
    /// A closed breaker.
    ///
    /// # Panics
    /// If it would open after no failure, or a factor is not a number from 1, or from 0 for the part by chance.
    #[must_use]
    pub fn new(settings: CircuitBreakerSettings) -> Self {
        assert!(settings.failures_max > 0, "a breaker opens after failures");
        assert!(settings.backoff_factor >= 1.0 && settings.backoff_factor.is_finite(), "the time grows");
        assert!(settings.random_factor >= 0.0 && settings.random_factor.is_finite(), "the time grows by chance");
        Self { settings, state: State::Closed { failures: 0 }, period: 0, reset_timeout: settings.reset_timeout }
    }

    /// Asks whether a call may be begun.
    ///
    /// # Errors
    /// [`CircuitOpen`] if it may not.
    pub fn begin(&mut self, now: Instant) -> Result<Permit, CircuitOpen> {
        if let State::Open { until } = self.state {
            let remaining = until.saturating_duration_since(now);
            if !remaining.is_zero() {
                return Err(CircuitOpen { remaining });
            }
            self.enter(State::HalfOpen { is_probing: false });
        }
        if let State::HalfOpen { is_probing } = &mut self.state
            && std::mem::replace(is_probing, true)
        {
            return Err(CircuitOpen { remaining: Duration::ZERO });
        }
        Ok(Permit { period: self.period })
    }

    /// Says what became of a call. `chance` draws a number from 0 up to 1, without it.
    pub fn settle(&mut self, permit: Permit, outcome: CallOutcome, now: Instant, chance: impl FnOnce() -> f64) {
        if permit.period != self.period {
            return;
        }
        match (&mut self.state, outcome) {
            (State::Closed { failures }, CallOutcome::Reached) => *failures = 0,
            (State::Closed { failures }, CallOutcome::NotReached) => {
                *failures += 1;
                if *failures >= self.settings.failures_max {
                    self.open(now, chance());
                }
            }
            (State::HalfOpen { .. }, CallOutcome::Reached) => {
                self.reset_timeout = self.settings.reset_timeout;
                self.enter(State::Closed { failures: 0 });
            }
            (State::HalfOpen { .. }, CallOutcome::NotReached) => self.open(now, chance()),
            // Nothing was found out: another call may.
            (State::HalfOpen { is_probing }, CallOutcome::Abandoned) => *is_probing = false,
            (State::Closed { .. }, CallOutcome::Abandoned) => {}
            (State::Open { .. }, _) => unreachable!("no call is begun in an open period"),
        }
    }

    /// How it stands at a moment.
    #[must_use]
    pub fn state(&self, now: Instant) -> CircuitState {
        match self.state {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { until } if now < until => CircuitState::Open,
            State::Open { .. } | State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// How many calls failed in a row; 0 unless it is closed.
    ///
    /// Akka: `CircuitBreaker.currentFailureCount`.
    #[must_use]
    pub fn failures(&self) -> u32 {
        match self.state {
            State::Closed { failures } => failures,
            State::Open { .. } | State::HalfOpen { .. } => 0,
        }
    }

    fn open(&mut self, now: Instant, chance: f64) {
        self.enter(State::Open { until: now + self.reset_timeout });
        let lengthened = self.settings.backoff_factor * (1.0 + chance * self.settings.random_factor);
        let next = Duration::try_from_secs_f64(self.reset_timeout.as_secs_f64() * lengthened);
        // It is not clamped to the maximum: it stops growing below it.
        self.reset_timeout = next.ok().filter(|next| *next < self.settings.reset_timeout_max).unwrap_or(self.reset_timeout);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.period += 1;
    }
}

#[cfg(test)]
mod tests;
