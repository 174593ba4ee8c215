//! What a node does for itself while it runs: it looks whether it is ready, samples its metrics, hears of what breaks, forms the
//! cluster, spreads leaders, and gives the log's segments back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_machine::ShardId;
use cairn_raft::{BalanceSettings, GroupStatus};
use cairn_storage::fs::Fs;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::condemned;
use crate::core::{Core, Shard};
use crate::disk::{DiskState, DiskWatch};
use crate::failed::Failed;
use crate::known_peers;
use crate::metrics::{ShardMetrics, UPKEEP_INTERVAL};
use crate::node::Opened;
use crate::parts::Parts;
use crate::readiness::Reason;

/// Between two looks at the shards. An idle node spends next to nothing on it.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A replica that lacks more committed entries than this is lagging.
const LAGGING_ENTRIES: u64 = 5_000;
/// A shard that holds more segments of the log than this behind the current one is made to let go.
const PINNED_SEGMENTS_MAX: u32 = 4;
/// Between two looks at the segments.
const PINS_INTERVAL: Duration = Duration::from_secs(2);

/// Between two questions whether a shard has a leader with a quorum and how far it is: while all is well, and while it is not.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_INTERVAL_NOT_READY: Duration = Duration::from_millis(100);
/// How long the answer may take.
const PROBE_MAX: Duration = Duration::from_millis(1_000);

/// Looks after a node.
pub(crate) struct Monitor {
    pub core: Arc<Core>,
    pub readiness: watch::Sender<Vec<Reason>>,
    pub failed: watch::Receiver<Option<Failed>>,
    /// For each shard, what its leader said lately.
    pub heard: Arc<[Heard]>,
}

/// How many committed entries a shard lacks here, as a leader with a quorum said; [`NOTHING_HEARD`] if none answered. What a node
/// believes of its leader says little: a leader does not notice that it has lost its quorum, nor a follower that its leader is gone.
pub(crate) type Heard = AtomicU64;
const NOTHING_HEARD: u64 = u64::MAX;

impl Monitor {
    pub(crate) fn new(core: Arc<Core>, readiness: watch::Sender<Vec<Reason>>, failed: watch::Receiver<Option<Failed>>) -> Self {
        let heard = core.shards.iter().map(|_| Heard::new(NOTHING_HEARD)).collect();
        Self { core, readiness, failed, heard }
    }
}

/// Asks for a shard's leader, again and again.
async fn probe(shard: Shard, heard: Arc<[Heard]>, index: usize) {
    loop {
        let lacks = shard.group.lag(PROBE_MAX).await.unwrap_or(NOTHING_HEARD);
        heard[index].store(lacks, Ordering::Relaxed);
        tokio::time::sleep(if lacks <= LAGGING_ENTRIES { PROBE_INTERVAL } else { PROBE_INTERVAL_NOT_READY }).await;
    }
}

/// Starts everything that runs beside the services.
#[expect(clippy::too_many_arguments, reason = "part of the assembly")]
pub(crate) fn spawn_all(
    monitor: Monitor,
    opened: &Opened,
    parts: &Parts,
    dir: &Path,
    disk: watch::Sender<DiskState>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
    failed: &watch::Sender<Option<Failed>>,
) {
    let until_stop = |task: futures::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    };
    let settings = &monitor.core.settings;
    let disk_watch = DiskWatch {
        settings: settings.disk.clone(),
        fs: Arc::clone(&parts.fs),
        dir: dir.to_owned(),
        own: opened.own,
        groups: opened.all(),
        network: Arc::clone(&parts.network),
        metrics: monitor.core.metrics.clone(),
        state: disk,
    };
    until_stop(Box::pin(disk_watch.run()));
    if settings.raft.spread_leaders {
        until_stop(Box::pin(spread_leaders(Arc::clone(&opened.groups), monitor.core.disk.clone())));
    }
    until_stop(Box::pin(cairn_raft::release_log_pins(
        opened.log.clone(),
        Arc::clone(&opened.groups),
        PINNED_SEGMENTS_MAX,
        PINS_INTERVAL,
    )));
    until_stop(Box::pin(form(Arc::clone(&monitor.core), Arc::clone(&opened.groups), failed.clone())));
    until_stop(Box::pin(known_peers::keep(Arc::clone(&parts.fs), dir.to_owned(), opened.own, opened.all())));
    until_stop(Box::pin(hear_failures(opened, Arc::clone(&parts.fs), dir.to_owned(), failed.clone())));
    for (index, shard) in monitor.core.shards.iter().enumerate() {
        until_stop(Box::pin(probe(shard.clone(), Arc::clone(&monitor.heard), index)));
    }
    until_stop(Box::pin(monitor.run()));
}

/// Forms the cluster, if that is this node's to do.
async fn form(core: Arc<Core>, groups: Arc<cairn_raft::Groups>, failed: watch::Sender<Option<Failed>>) {
    if let Err(error) = cairn_raft::form(&groups, &core.peers).await {
        tracing::error!(%error, "form the cluster");
        failed.send_replace(Some(Failed::Birth(error)));
    }
}

/// Spreads leaders while no disk is nearly full: then they go where there is room.
async fn spread_leaders(groups: Arc<cairn_raft::Groups>, mut disk: watch::Receiver<DiskState>) {
    loop {
        if disk.wait_for(|disk| !disk.anywhere_nearly_full).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            _ = disk.wait_for(|disk| disk.anywhere_nearly_full) => {}
            () = cairn_raft::balance_leaders(Arc::clone(&groups), BalanceSettings::default()) => return,
        }
    }
}

fn hear_failures(
    opened: &Opened,
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    failed: watch::Sender<Option<Failed>>,
) -> impl Future<Output = ()> + Send + use<> {
    let log = opened.log.failed();
    let shards: Vec<_> = opened
        .all()
        .into_iter()
        .map(|group| {
            let mut failed = group.failed();
            Box::pin(async move {
                match failed.wait_for(Option::is_some).await.ok().and_then(|fatal| fatal.clone()) {
                    Some(fatal) => fatal,
                    None => std::future::pending().await,
                }
            })
        })
        .collect();
    async move {
        let failure = tokio::select! {
            biased;
            error = log => Failed::Log(error),
            (fatal, _, _) = futures::future::select_all(shards) => Failed::Shard(fatal),
        };
        tracing::error!(%failure, "the node cannot go on");
        if let Failed::Shard(fatal) = &failure
            && fatal.is_lasting
        {
            condemned::condemn(&*fs, &dir, &fatal.reason).await;
        }
        failed.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(failure);
            is_first
        });
    }
}

/// What was seen of a shard's leader.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    leader: Option<u64>,
}

impl Monitor {
    async fn run(self) {
        let metrics: Vec<_> = self.core.shards.iter().map(|shard| self.core.metrics.shard(shard.id)).collect();
        let mut seen = vec![Seen::default(); self.core.shards.len()];
        let mut upkept = tokio::time::Instant::now();
        loop {
            self.look(&metrics, &mut seen);
            if upkept.elapsed() >= UPKEEP_INTERVAL {
                upkept = tokio::time::Instant::now();
                self.upkeep().await;
            }
            tokio::select! {
                biased;
                () = self.core.draining.cancelled(), if !self.is_draining_seen() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    fn is_draining_seen(&self) -> bool {
        self.readiness.borrow().contains(&Reason::Stopping)
    }

    fn look(&self, metrics: &[ShardMetrics], seen: &mut [Seen]) {
        let mut reasons = Vec::new();
        if self.failed.borrow().is_some() {
            reasons.push(Reason::Failed);
        }
        if self.core.draining.is_cancelled() {
            reasons.push(Reason::Stopping);
        }
        let statuses = self.core.statuses();
        if statuses.iter().any(|status| status.members.get(self.core.identity.node_id).is_none()) {
            reasons.push(Reason::WaitingForCluster);
        } else {
            let lacks = self.heard.iter().map(|heard| heard.load(Ordering::Relaxed));
            reasons.extend(statuses.iter().zip(lacks).filter_map(|(status, lacks)| not_ready(status, lacks)));
        }
        if self.core.disk.borrow().refuses_writes() {
            reasons.push(Reason::ReadOnly);
        }
        for ((shard, status), (metrics, seen)) in self.core.shards.iter().zip(&statuses).zip(metrics.iter().zip(seen)) {
            self.sample(shard, status, metrics, seen);
        }
        self.readiness.send_if_modified(|known| {
            let changed = *known != reasons;
            if changed {
                tracing::info!(reasons = ?reasons.iter().map(ToString::to_string).collect::<Vec<_>>(), "readiness has changed");
                *known = reasons;
            }
            changed
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn sample(&self, shard: &Shard, status: &GroupStatus, metrics: &ShardMetrics, seen: &mut Seen) {
        metrics.term.set(status.term as f64);
        metrics.is_leader.set(if shard.group.is_leader() { 1.0 } else { 0.0 });
        metrics.committed.set(status.committed.unwrap_or(0) as f64);
        metrics.applied.set(status.applied.unwrap_or(0) as f64);
        // Positions are dense: the newest one is the number of events ever stored.
        metrics.append_events.absolute(shard.newest_position().0);
        let leader = status.leader.as_ref().map(|leader| leader.node_id.0);
        if leader.is_some() && leader != seen.leader {
            metrics.leader_changes.increment(1);
            seen.leader = leader;
        }
        for (node, follower) in &status.replication {
            self.core.metrics.replication_lag(shard.id, node.0, follower.lag_entries);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    async fn upkeep(&self) {
        let metrics = &self.core.metrics;
        metrics.in_flight_commands.set(self.core.admission.commands() as f64);
        metrics.in_flight_bytes.set(self.core.admission.bytes() as f64);
        let mut damages = 0;
        for shard in &self.core.shards {
            damages += shard.tables().statistics().await.damages;
        }
        metrics.corruption.absolute(damages);
        metrics.upkeep();
    }
}

/// Why one shard keeps the node from being ready.
fn not_ready(status: &GroupStatus, lacks: u64) -> Option<Reason> {
    let shard: ShardId = status.shard;
    if status.leader.is_none() || lacks == NOTHING_HEARD {
        return Some(Reason::NoLeader(shard));
    }
    // What this node itself knows to be committed may be newer, or older, than what the leader said.
    let behind = lacks.max(status.committed.unwrap_or(0).saturating_sub(status.applied.unwrap_or(0)));
    (behind > LAGGING_ENTRIES).then_some(Reason::Lagging(shard, behind))
}

#[cfg(test)]
mod tests {
    use cairn_raft::{GroupMembers, NodeInfo, Role, Voted};

    use super::*;

    fn follower(committed: u64, applied: u64) -> GroupStatus {
        GroupStatus {
            shard: ShardId(1),
            term: 3,
            vote: Voted::default(),
            role: Role::Follower,
            leader: Some(NodeInfo::default()),
            last: Some(committed),
            committed: Some(committed),
            applied: Some(applied),
            flushed: None,
            purged: None,
            checkpoint: None,
            members: GroupMembers::default(),
            replication: std::collections::BTreeMap::new(),
            state_hash: None,
        }
    }

    #[test]
    fn a_replica_that_lacks_much_is_lagging_and_one_that_hears_of_no_leader_says_that() {
        assert_eq!(not_ready(&follower(10, 10), 0), None);
        assert_eq!(not_ready(&follower(10, 10), LAGGING_ENTRIES), None);
        // It has applied all that it has, but the leader has much more.
        let much = LAGGING_ENTRIES + 1;
        assert_eq!(not_ready(&follower(10, 10), much), Some(Reason::Lagging(ShardId(1), much)));
        assert_eq!(not_ready(&follower(10 + much, 10), 0), Some(Reason::Lagging(ShardId(1), much)));
        assert_eq!(not_ready(&follower(10, 10), NOTHING_HEARD), Some(Reason::NoLeader(ShardId(1))));
        assert_eq!(not_ready(&GroupStatus { leader: None, ..follower(10, 10) }, 0), Some(Reason::NoLeader(ShardId(1))));
    }
}
