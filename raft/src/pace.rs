//! How one node lives through time, as a part: real by default, faster, slower or standing still where a test or a simulation wants it.

use std::task::{Context, Poll};

use tokio::time::Instant;

/// The time that one node's consensus goes by: all shards of a node have the same.
///
/// The runtime's clock goes for all nodes of a process alike. A pace makes the clock of one of them go wrong, as clocks do, and stops
/// its work for a while, as a busy host or a debugger does.
///
/// What sleeps when the pace changes wakes at the moment that was told when it fell asleep.
pub trait Pace: Send + Sync + 'static {
    /// The node's time. It never goes back.
    fn now(&self) -> Instant;

    /// When the runtime's clock shows that the node's time has come to `instant`; what is past may be told as anything that is past.
    fn arrival(&self, instant: Instant) -> Instant;

    /// Ready while the node works. Otherwise the task of this context is left alone until it is woken, which must happen when the
    /// node goes on.
    fn poll_works(&self, context: &mut Context<'_>) -> Poll<()>;
}
