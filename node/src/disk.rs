//! The disk watch: a node whose disk is nearly full hands leadership over, and takes no writes while a quorum of roomy nodes is
//! missing. It clears by itself.
//!
//! What is left below the mark is reserved: deletions, claims and checkpoints go on, so that there is a way out.
//!
//! Invariants
//! - A shard is read-only where this node leads it and either this node's disk is nearly full, or fewer than a majority of the
//!   voters are alive and have room.
//! - Between the two marks nothing changes: no flapping.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1;
use cairn_api::v1::cluster_client::ClusterClient;
use cairn_machine::{NodeId, ShardId};
use cairn_raft::{Group, NodeInfo};
use cairn_storage::fs::{DiskSpace, Fs};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::connector;
use crate::metrics::Metrics;
use crate::network::Network;
use crate::settings::DiskSettings;

/// A node is asked for its disk's state within this time.
const QUESTION_MAX: Duration = Duration::from_millis(1_000);
/// A follower that was silent for longer does not count as alive.
const SILENT_MAX: Duration = Duration::from_secs(2);
/// Leadership is handed over within this time, or stays.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// What is known of the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskState {
    /// Free bytes of this node's disk; none before the first look, and for a disk without an end.
    pub free_bytes: Option<u64>,
    /// Its size in bytes.
    pub total_bytes: Option<u64>,
    /// This node's disk is nearly full.
    pub nearly_full: bool,
    /// Shards led here that take no writes.
    pub read_only: BTreeSet<ShardId>,
    /// Some member's disk is nearly full.
    pub anywhere_nearly_full: bool,
}

impl DiskState {
    /// Whether this node takes no writes where it should: its own disk is nearly full, or too many of a shard's that it leads.
    pub(crate) fn refuses_writes(&self) -> bool {
        self.nearly_full || !self.read_only.is_empty()
    }
}

/// Watches the disks for as long as the node runs.
pub(crate) struct DiskWatch {
    pub settings: DiskSettings,
    pub fs: Arc<dyn Fs>,
    pub dir: PathBuf,
    pub own: NodeId,
    pub groups: Vec<Group>,
    pub network: Arc<dyn Network>,
    pub metrics: Metrics,
    pub state: watch::Sender<DiskState>,
}

impl DiskWatch {
    pub(crate) async fn run(self) {
        let (full, is_full) = watch::channel(None);
        tokio::join!(self.keep_looking(full), self.lead_nothing_while_full(is_full));
    }

    /// Says, while the own disk is nearly full, whose disks else are.
    async fn keep_looking(&self, full: watch::Sender<Option<BTreeSet<NodeId>>>) {
        let mut members = Members::new(Arc::clone(&self.network));
        loop {
            self.look(&mut members, &full).await;
            tokio::time::sleep(self.interval()).await;
        }
    }

    /// Beside the looks: a hand-over takes as long as its successor does, and what is read-only changes meanwhile.
    async fn lead_nothing_while_full(&self, mut full: watch::Receiver<Option<BTreeSet<NodeId>>>) {
        loop {
            let others_nearly_full = match full.wait_for(Option::is_some).await {
                Ok(others) => others.clone().unwrap_or_default(),
                Err(_) => return,
            };
            self.hand_over(&others_nearly_full).await;
            tokio::time::sleep(self.interval()).await;
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.settings.check_interval_ms)
    }

    async fn look(&self, members: &mut Members, full: &watch::Sender<Option<BTreeSet<NodeId>>>) {
        let nearly_full_before = self.state.borrow().nearly_full;
        let space = match self.fs.free_bytes(&self.dir).await {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(%error, "look how full the disk is");
                return;
            }
        };
        let nearly_full = is_nearly_full(&self.settings, nearly_full_before, space);
        let others_nearly_full = members.nearly_full(self.own, &self.groups).await;
        members.note_led(&self.groups);
        let read_only = self.groups.iter().filter(|group| group.is_leader());
        let has_room = |group: &Group| has_roomy_quorum(group, self.own, &others_nearly_full, members.led_for(group.shard()));
        let read_only = read_only.filter(|group| nearly_full || !has_room(group));
        let state = DiskState {
            free_bytes: (space.available != u64::MAX).then_some(space.available),
            total_bytes: (space.total != u64::MAX).then_some(space.total),
            nearly_full,
            read_only: read_only.map(Group::shard).collect(),
            anywhere_nearly_full: nearly_full || !others_nearly_full.is_empty(),
        };
        if nearly_full != nearly_full_before {
            tracing::warn!(nearly_full, free_bytes = space.available, "the disk's state has changed");
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.metrics.disk_free.set(space.available as f64);
        self.metrics.read_only.set(if state.refuses_writes() { 1.0 } else { 0.0 });
        self.state.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        });
        full.send_replace(nearly_full.then_some(others_nearly_full));
    }

    /// Leads nothing here that somebody with room could lead.
    async fn hand_over(&self, others_nearly_full: &BTreeSet<NodeId>) {
        for group in self.groups.iter().filter(|group| group.is_leader()) {
            if !self.state.borrow().nearly_full {
                return;
            }
            let Some(successor) = roomy_successor(group, self.own, others_nearly_full) else { continue };
            match tokio::time::timeout(HAND_OVER_MAX, group.transfer_leader(successor)).await {
                Ok(Ok(())) => tracing::info!(shard = %group.shard(), %successor, "handed over: the disk is nearly full"),
                Ok(Err(error)) => tracing::warn!(shard = %group.shard(), %successor, %error, "hand over from a full disk"),
                Err(_) => tracing::warn!(shard = %group.shard(), %successor, "hand over from a full disk: not in time"),
            }
        }
    }
}

fn is_nearly_full(settings: &DiskSettings, before: bool, space: DiskSpace) -> bool {
    let mark = if before { settings.writable_above_bytes } else { settings.read_only_below_bytes };
    space.available < mark
}

/// Voters other than this node that have room and were silent for less than a while, which is so much if they never answered this
/// leader; by what of the log they have.
fn roomy_voters(
    group: &Group,
    own: NodeId,
    nearly_full: &BTreeSet<NodeId>,
    never_heard: Duration,
) -> BTreeMap<NodeId, Option<u64>> {
    let status = group.status();
    let others = status.replication.iter().filter(|(id, follower)| {
        **id != own
            && status.members.is_voter(**id)
            && !nearly_full.contains(id)
            && follower.silent.unwrap_or(never_heard) < SILENT_MAX
    });
    others.map(|(id, follower)| (*id, follower.matched)).collect()
}

/// A leader that has just begun has yet to hear of the others: until it could have, they count.
fn has_roomy_quorum(group: &Group, own: NodeId, nearly_full: &BTreeSet<NodeId>, led_for: Duration) -> bool {
    // Without a full disk anywhere nothing is refused here: whether a quorum is alive is for consensus to say.
    let roomy = || roomy_voters(group, own, nearly_full, led_for).len() + 1;
    nearly_full.is_empty() || roomy() * 2 > group.status().members.voters.len()
}

fn roomy_successor(group: &Group, own: NodeId, nearly_full: &BTreeSet<NodeId>) -> Option<NodeId> {
    let voters = roomy_voters(group, own, nearly_full, Duration::MAX);
    voters.into_iter().max_by_key(|(_, matched)| *matched).map(|(id, _)| id)
}

/// The other members, asked for the state of their disks over their client ports.
struct Members {
    network: Arc<dyn Network>,
    channels: BTreeMap<String, Channel>,
    nearly_full: BTreeSet<NodeId>,
    /// Since when this node is seen to lead a shard.
    led_since: BTreeMap<ShardId, Instant>,
}

impl Members {
    fn new(network: Arc<dyn Network>) -> Self {
        Self { network, channels: BTreeMap::new(), nearly_full: BTreeSet::new(), led_since: BTreeMap::new() }
    }

    /// Remembers since when this node leads what it leads.
    fn note_led(&mut self, groups: &[Group]) {
        for group in groups {
            if group.is_leader() {
                self.led_since.entry(group.shard()).or_insert_with(Instant::now);
            } else {
                self.led_since.remove(&group.shard());
            }
        }
    }

    fn led_for(&self, shard: ShardId) -> Duration {
        self.led_since.get(&shard).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Whose disks are nearly full. One that does not answer is believed to be as it was.
    async fn nearly_full(&mut self, own: NodeId, groups: &[Group]) -> BTreeSet<NodeId> {
        // Only leaders act on it.
        if !groups.iter().any(Group::is_leader) {
            return self.nearly_full.clone();
        }
        let members: BTreeMap<NodeId, NodeInfo> = groups
            .iter()
            .flat_map(|group| group.watch().borrow().members.voters.clone())
            .filter(|node| node.node_id != own)
            .map(|node| (node.node_id, node))
            .collect();
        self.nearly_full.retain(|id| members.contains_key(id));
        self.channels.retain(|address, _| members.values().any(|node| node.client_address == *address));
        let asked = members.into_values().filter_map(|node| Some((node.node_id, self.channel(&node.client_address)?)));
        let asked: Vec<_> = asked.collect();
        let answers = asked.into_iter().map(|(id, channel)| async move { (id, ask(channel).await) });
        for (id, answer) in futures::future::join_all(answers).await {
            match answer {
                Some(true) => drop(self.nearly_full.insert(id)),
                Some(false) => drop(self.nearly_full.remove(&id)),
                None => {}
            }
        }
        self.nearly_full.clone()
    }

    fn channel(&mut self, address: &str) -> Option<Channel> {
        if let Some(channel) = self.channels.get(address) {
            return Some(channel.clone());
        }
        let channel = connector::channel(&self.network, address).ok()?;
        self.channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }
}

async fn ask(channel: Channel) -> Option<bool> {
    let mut client = ClusterClient::new(channel);
    let question = client.status(v1::StatusRequest {});
    let answer = tokio::time::timeout(QUESTION_MAX, question).await.ok()?.ok()?;
    Some(answer.into_inner().read_only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_nearly_full_from_one_mark_and_roomy_again_from_the_other() {
        let settings = DiskSettings { read_only_below_bytes: 100, writable_above_bytes: 200, check_interval_ms: 1 };
        let space = |available| DiskSpace { total: 1000, available };
        for (before, available, expected) in [
            (false, 100, false),
            (false, 99, true),
            (true, 99, true),
            (true, 150, true),
            (true, 199, true),
            (true, 200, false),
            (false, 150, false),
        ] {
            assert_eq!(is_nearly_full(&settings, before, space(available)), expected, "{before} {available}");
        }
    }
}
