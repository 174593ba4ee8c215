//! Spreads the leaders of shards over the nodes, gently.
//!
//! Each shard has a preferred leader: the voters in order of their node ids, counted round by the shard's number. A leader that is
//! not the preferred one hands over when that one is healthy and has caught up.
//!
//! Invariants
//! - A node hands over at most one shard at a time, with a pause after it.
//! - Nothing is handed over to a node that is behind or was silent.

use std::sync::Arc;
use std::time::Duration;

use cairn_machine::{NodeId, ShardId};

use crate::group::Group;
use crate::groups::Groups;

/// How leaders are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceSettings {
    /// Between two looks, and after each hand-over.
    pub interval: Duration,
    /// A leader stays at least this long after it was elected: a node that just came back is left alone at first.
    pub settle: Duration,
    /// A successor may lack so many entries.
    pub lag_entries_max: u64,
}

impl Default for BalanceSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(2), settle: Duration::from_secs(3), lag_entries_max: 64 }
    }
}

/// Who should lead a shard.
#[must_use]
pub fn preferred_leader(shard: ShardId, voters: &[NodeId]) -> Option<NodeId> {
    let mut voters = voters.to_vec();
    voters.sort_unstable();
    let at = usize::from(shard.0).checked_rem(voters.len())?;
    Some(voters[at])
}

/// Hands shards over for as long as it runs; the node spawns it.
pub async fn balance_leaders(groups: Arc<Groups>, settings: BalanceSettings) {
    let me = groups.card().node.node_id;
    // Nodes look at different moments, so that they do not all hand over at once.
    let jitter = settings.interval.mul_f64((me.0 % 8) as f64 / 16.0);
    let mut led_since = std::collections::BTreeMap::new();
    loop {
        tokio::time::sleep(settings.interval + jitter).await;
        let now = tokio::time::Instant::now();
        let all = groups.all();
        led_since.retain(|shard, _| all.iter().any(|group| group.shard() == *shard && group.is_leader()));
        let ripe = all.into_iter().filter(Group::is_leader).find_map(|group| {
            let since = *led_since.entry(group.shard()).or_insert(now);
            let successor = successor(&group, me, settings)?;
            (now.duration_since(since) >= settings.settle).then_some((group, successor))
        });
        let Some((group, successor)) = ripe else { continue };
        match group.transfer_leader(successor).await {
            Ok(()) => tracing::info!(shard = %group.shard(), %successor, "handed leadership to the preferred node"),
            Err(error) => tracing::info!(shard = %group.shard(), %successor, %error, "leadership was not handed over"),
        }
    }
}

/// The preferred leader, if it is another node and fit to lead.
fn successor(group: &Group, me: NodeId, settings: BalanceSettings) -> Option<NodeId> {
    let status = group.status();
    let voters: Vec<_> = status.members.voters.iter().map(|node| node.node_id).collect();
    let preferred = preferred_leader(group.shard(), &voters).filter(|preferred| *preferred != me)?;
    let follower = status.replication.get(&preferred)?;
    let lease = group.settings().timing.election_max;
    let fit = !status.members.changing
        && follower.lag_entries <= settings.lag_entries_max
        && follower.silent.is_some_and(|silent| silent < lease);
    fit.then_some(preferred)
}
