//! Wall time: a part, so that a simulated world sets it. Everything else measures time with `tokio::time`.

use cairn_machine::Timestamp;

/// Tells the time of day. Only leaders ask; their answer travels inside the entry.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since 1970 UTC; may jump, the rules make stored timestamps non-decreasing.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the part through which wall time enters")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 or after the year 294,000 is as good as none: time stands still there.
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}
