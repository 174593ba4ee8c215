//! When a shard looks at its timers: not before one of them can have run out, and together with the node's other shards.
//!
//! openraft looks at the timers of each shard five times a heartbeat, each shard at moments of its own; a node at rest does little
//! else than wake up for that. A leader that has just sent a heartbeat has nothing to do until the next one, and a follower that has
//! just heard one does not campaign for a long time.
//!
//! Invariants
//! - A tick is never early, and a heartbeat or a campaign is never later than with a tick each [`Ticks::period`], but for the first
//!   heartbeat of a leader that was a follower just before: it comes within two heartbeats, after the entry that its term begins with.
//! - Whoever hears nothing ticks each period.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What openraft waits for less long than this is no tick; it gathers completions for a microsecond.
const TICK_MIN: Duration = Duration::from_micros(100);

/// The moments at which a shard ticks, in its node's time.
#[derive(Debug)]
pub(crate) struct Ticks {
    origin: Instant,
    heartbeat: Duration,
    /// Until then no timer runs out: microseconds after the origin.
    quiet_until: AtomicU64,
}

impl Ticks {
    /// Ticks counted from `origin`, of a shard whose leader gives a sign of life each `heartbeat`.
    pub fn new(origin: Instant, heartbeat: Duration) -> Self {
        Self { origin, heartbeat, quiet_until: AtomicU64::new(0) }
    }

    /// From tick to tick, as openraft has it: five are a little longer than a heartbeat.
    fn period(&self) -> Duration {
        (self.heartbeat * 13 / 64).max(Duration::from_millis(1))
    }

    /// A heartbeat was sent: the next one is due after an interval.
    pub fn heartbeat_sent(&self, now: Instant) {
        self.quiet(now + self.heartbeat);
    }

    /// A heartbeat was heard: the shortest wait for another one is longer than two intervals. Not more than that, since a follower
    /// that is made the leader meanwhile has heartbeats to send.
    pub fn heartbeat_heard(&self, now: Instant) {
        self.quiet(now + self.heartbeat * 2);
    }

    fn quiet(&self, until: Instant) {
        let micros = until.saturating_duration_since(self.origin).as_micros();
        self.quiet_until.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The first tick that is not before `deadline` and of use; a wait that is none for a tick ends when it wanted to.
    pub fn not_before(&self, deadline: Instant, now: Instant) -> Instant {
        if deadline.saturating_duration_since(now) < TICK_MIN {
            return deadline;
        }
        let quiet = Duration::from_micros(self.quiet_until.load(Ordering::Relaxed));
        let since = deadline.saturating_duration_since(self.origin).max(quiet);
        let ticks = since.as_nanos().div_ceil(self.period().as_nanos());
        u32::try_from(ticks).map_or(deadline, |ticks| self.origin + self.period() * ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(90);
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A shard's ticks, and a moment after their origin.
    fn ticks() -> (Ticks, Instant) {
        let now = Instant::now() + HEARTBEAT;
        (Ticks::new(now - HEARTBEAT / 2, HEARTBEAT), now)
    }

    #[test]
    fn shards_that_wait_for_different_moments_wake_together() {
        let (ticks, now) = ticks();
        let first = ticks.not_before(now + MILLISECOND, now);
        for millis in 1..1_000 {
            let deadline = now + MILLISECOND * millis;
            let at = ticks.not_before(deadline, now);
            assert!(at >= deadline && at < deadline + ticks.period(), "{millis} ms");
            assert_eq!((at - first).as_nanos() % ticks.period().as_nanos(), 0, "{millis} ms");
        }
    }

    #[test]
    fn the_tick_after_a_heartbeat_is_the_one_that_sends_the_next() {
        let (ticks, now) = ticks();
        let tick = ticks.not_before(now + MILLISECOND, now);
        let sent = tick + MILLISECOND / 4;
        ticks.heartbeat_sent(sent);
        let next = ticks.not_before(tick + ticks.period(), sent);
        assert_eq!(next, tick + ticks.period() * 5);
        assert!(next >= sent + HEARTBEAT && next < sent + HEARTBEAT + 2 * MILLISECOND);
    }

    #[test]
    fn who_hears_heartbeats_sleeps_and_who_hears_none_ticks_each_period() {
        let (ticks, now) = ticks();
        ticks.heartbeat_heard(now);
        let quiet = ticks.not_before(now + MILLISECOND, now);
        assert!(quiet >= now + HEARTBEAT * 2 && quiet < now + HEARTBEAT * 2 + ticks.period());
        let mut at = quiet;
        for _ in 0..20 {
            let next = ticks.not_before(at + MILLISECOND, at);
            assert_eq!(next, at + ticks.period());
            at = next;
        }
    }

    #[test]
    fn what_is_no_tick_is_not_delayed() {
        let (ticks, now) = ticks();
        ticks.heartbeat_heard(now);
        for deadline in [now + Duration::from_micros(1), now, now - HEARTBEAT] {
            assert_eq!(ticks.not_before(deadline, now), deadline);
        }
    }

    #[test]
    fn a_node_older_than_the_counter_of_its_ticks_goes_on() {
        let now = Instant::now();
        let ticks = Ticks::new(now, Duration::from_millis(3));
        let later = now + MILLISECOND * u32::MAX + MILLISECOND * u32::MAX;
        assert_eq!(ticks.not_before(later + HEARTBEAT, later), later + HEARTBEAT);
    }
}
