//! What a shard's core does not do by itself. It lets entries leave the log: tells the core how far the tables are flushed, and how
//! far it may purge. It brings a change of the members to its end that whoever began it left half done. And it hands over where this
//! node leads and its disk hangs: the followers are a quorum without it, so that nobody else would notice while writes pile up here.
//!
//! Invariants
//! - Nothing leaves the log that is not flushed.
//! - While a checkpoint is on its way to a follower nothing leaves at all, within the bound in bytes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use super::members::leave_joint;
use super::{Group, Inner};
use crate::log_store::LogMeter;
use crate::runtime;
use crate::status::Replication;
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

/// A log that made no progress for so many times the longest draw of an election, and holds what is not synced, is on a disk that hangs.
const HUNG_ELECTIONS: u32 = 4;
/// It was seen so at least so many times: after a pause of the process the disk has its time too.
const HUNG_LOOKS_MIN: u32 = 3;

/// Looks every interval until the group ends.
pub(super) async fn run(group: Weak<Inner>, meter: Arc<LogMeter>) {
    let mut joint_before = None;
    let mut syncs = Syncs::default();
    loop {
        let Some(inner) = group.upgrade() else { return };
        let (stop, interval) = (inner.stop.clone(), inner.settings.upkeep_interval);
        syncs.look(&inner);
        if syncs.are_hung(&inner) {
            leave_hung_disk(&inner, &mut syncs).await;
        }
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

/// How the shard's log got on from look to look.
#[derive(Default)]
struct Syncs {
    durable: Option<u64>,
    /// At how many looks in a row something waited and nothing had become durable since the look before.
    looks_stuck: u32,
    is_told: bool,
}

impl Syncs {
    fn look(&mut self, inner: &Inner) {
        let last = inner.log.state().last.map(|id| id.index);
        let durable = inner.log.durable_index();
        if last > durable && durable == self.durable {
            self.looks_stuck = self.looks_stuck.saturating_add(1);
        } else {
            *self = Self { durable, ..Self::default() };
        }
    }

    /// Whether the disk hangs. One that is slow makes progress between two looks, or soon after.
    fn are_hung(&self, inner: &Inner) -> bool {
        let settings = &inner.settings;
        let span = settings.timing.election_max * HUNG_ELECTIONS;
        let looks = span.as_nanos().div_ceil(settings.upkeep_interval.as_nanos().max(1)) + 1;
        u128::from(self.looks_stuck) >= looks.max(HUNG_LOOKS_MIN.into())
    }
}

/// Hands over, if this node leads and the others go on without it.
async fn leave_hung_disk(inner: &Arc<Inner>, syncs: &mut Syncs) {
    let group = Group { inner: inner.clone() };
    if !group.is_leader() || !others_go_on(&group, syncs.durable) {
        return;
    }
    if !std::mem::replace(&mut syncs.is_told, true) {
        tracing::warn!(shard = %group.shard(), durable = syncs.durable, "hand over: the log's disk hangs");
    }
    group.hand_over(inner.settings.timing.election_max * HUNG_ELECTIONS).await;
}

/// Whether more than half of the voters, this one not among them, live and have synced what hangs here. Without them an election would
/// wait for the same disk, and reads with it.
fn others_go_on(group: &Group, durable: Option<u64>) -> bool {
    let (status, lease) = (group.status(), group.inner.settings.timing.election_max);
    let goes_on = |follower: &Replication| follower.matched > durable && follower.silent.is_some_and(|silent| silent < lease);
    let voters = &status.members.voters;
    let ahead = voters.iter().filter(|voter| status.replication.get(&voter.node_id).is_some_and(goes_on)).count();
    !status.members.changing && ahead * 2 > voters.len()
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
