//! What a shard's core does not do by itself. It lets entries leave the log: tells the core how far the tables are flushed, and how
//! far it may purge. And it brings a change of the members to its end that whoever began it left half done.
//!
//! Invariants
//! - Nothing leaves the log that is not flushed.
//! - While a checkpoint is on its way to a follower nothing leaves at all, within the bound in bytes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use super::Inner;
use super::members::leave_joint;
use crate::log_store::LogMeter;
use crate::runtime;
use crate::type_config::RaftLogId;

/// A purge is worth its sync only for so many entries.
const PURGE_ENTRIES_MIN: u64 = 256;
/// A transfer holds the log until it has this many times the bytes that it would keep otherwise.
const TRANSFER_KEEP_FACTOR: u64 = 8;
/// How long the core may take to note a checkpoint and to purge.
const COMPACT_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether it has.
const COMPACT_LOOK: Duration = Duration::from_millis(20);

/// How long leaving a joint membership is waited for.
const LEAVE_JOINT_MAX: Duration = Duration::from_secs(1);

/// Looks every interval until the group ends.
pub(super) async fn run(group: Weak<Inner>, meter: Arc<LogMeter>) {
    let mut joint_before = None;
    loop {
        let Some(inner) = group.upgrade() else { return };
        let (stop, interval) = (inner.stop.clone(), inner.settings.upkeep_interval);
        note_checkpoint(&inner).await;
        purge(&inner, &meter).await;
        joint_before = end_joint(&inner, joint_before).await;
        drop(inner);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = runtime::sleep(interval) => {}
        }
    }
}

/// Tells the core that the tables are flushed further than it knows.
async fn note_checkpoint(inner: &Inner) {
    let known = inner.raft.metrics().borrow_watched().snapshot.map(|id| id.index);
    let flushed = inner.tables.flushed().map(|id| id.index);
    if flushed > known
        && let Err(error) = inner.raft.trigger().snapshot().await
    {
        tracing::debug!(shard = %inner.settings.shard, %error, "the core took no checkpoint");
    }
}

async fn purge(inner: &Inner, meter: &LogMeter) {
    let metrics = inner.raft.metrics().borrow_watched().clone();
    let Some(checkpoint) = metrics.snapshot.map(|id| id.index) else { return };
    let settings = &inner.settings;
    let by_entries = checkpoint.saturating_sub(settings.log_keep_entries);
    let purge_to = if inner.transfers.are_running() {
        meter.keep_from(settings.log_keep_bytes.saturating_mul(TRANSFER_KEEP_FACTOR)).map_or(0, |keep| keep.saturating_sub(1))
    } else {
        let by_bytes = meter.keep_from(settings.log_keep_bytes).map_or(0, |keep| keep.saturating_sub(1));
        by_entries.max(by_bytes)
    };
    let purge_to = purge_to.min(checkpoint);
    let purged_next = metrics.purged.map_or(0, |id| id.index + 1);
    if purge_to >= purged_next + PURGE_ENTRIES_MIN
        && let Err(error) = inner.raft.trigger().purge_log(purge_to).await
    {
        tracing::debug!(shard = %settings.shard, %error, "the core purged nothing");
    }
}

/// As the leader, leaves a joint membership that was there at the last look already: as long as it lasts both sets of voters need a
/// majority, and whoever began the change may be gone.
async fn end_joint(inner: &Inner, before: Option<RaftLogId>) -> Option<RaftLogId> {
    let members = inner.raft.metrics().borrow_watched().membership_config.clone();
    if members.get_joint_config().len() < 2 || !inner.raft.is_leader() {
        return None;
    }
    let now = *members.log_id();
    if now == before {
        let left = tokio::time::timeout(LEAVE_JOINT_MAX, inner.raft.change_membership(leave_joint(), false)).await;
        tracing::info!(shard = %inner.settings.shard, done = matches!(left, Ok(Ok(_))), "leave a joint membership");
    }
    now
}

/// Flushes everything applied and lets it all leave the log.
pub(super) async fn compact(inner: &Inner) -> Result<(), String> {
    let flushed = inner.tables.flush().await.map_err(|error| error.to_string())?;
    let Some(flushed) = flushed.map(|id| id.index) else { return Ok(()) };
    let end = Instant::now() + COMPACT_MAX;
    loop {
        let (checkpoint, purged) = {
            let now = inner.raft.metrics().borrow_watched().clone();
            (now.snapshot.map(|id| id.index), now.purged.map(|id| id.index))
        };
        if purged >= Some(flushed) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("the log was not purged up to {flushed} in time"));
        }
        let told = if checkpoint < Some(flushed) {
            inner.raft.trigger().snapshot().await
        } else {
            inner.raft.trigger().purge_log(flushed).await
        };
        told.map_err(|error| error.to_string())?;
        tokio::time::sleep(COMPACT_LOOK).await;
    }
}
