//! `cairn cluster status`: each node is asked itself, so that what one of them has wrong shows.

use std::time::Duration;

use anyhow::anyhow;
use bytesize::ByteSize;
use cairn_api::v1::{Node, Shard, StatusResponse};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Serialize;

use crate::exit::{Exit, Stop};
use crate::node_client::NodeClient;
use crate::output::{Format, Row, line};
use crate::shared::Shared;

/// How long one node may take: a node that is down must not hold up the picture.
const NODE_DEADLINE: Duration = Duration::from_millis(1_500);

/// The cluster as its nodes tell it.
#[derive(Serialize)]
struct ClusterView {
    cluster_id: String,
    shards: Vec<ShardView>,
    nodes: Vec<NodeView>,
    /// Shards whose replicas have different states at the same index: damage.
    diverged: Vec<u32>,
}

/// One node.
#[derive(Serialize)]
struct NodeView {
    node_id: u64,
    client_address: String,
    peer_address: String,
    voter: bool,
    /// `ready`, `unreachable: ..`, or why it is not ready.
    state: String,
    /// Shards that it says it leads.
    leads: Vec<u32>,
    version: String,
    uptime_seconds: u64,
    memory_bytes: u64,
    cpu_micros: u64,
    disk_free_bytes: u64,
    read_only: bool,
}

/// One shard, as its leader tells it, or whoever answered first.
#[derive(Serialize)]
struct ShardView {
    shard: u32,
    leader: Option<u64>,
    term: u64,
    committed_index: u64,
    applied_index: u64,
    flushed_index: u64,
    position: i64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    lags: Vec<LagView>,
}

/// A follower's lag.
#[derive(Serialize)]
struct LagView {
    node_id: u64,
    entries: u64,
}

impl Row for NodeView {
    const COLUMNS: &'static [&'static str] =
        &["node", "clients", "peers", "voter", "state", "leads", "version", "up", "memory", "disk free"];

    fn cells(&self) -> Vec<String> {
        let leads: Vec<_> = self.leads.iter().map(ToString::to_string).collect();
        vec![
            self.node_id.to_string(),
            self.client_address.clone(),
            self.peer_address.clone(),
            if self.voter { "yes" } else { "no" }.to_owned(),
            self.state.clone(),
            leads.join(","),
            self.version.clone(),
            humantime::format_duration(Duration::from_secs(self.uptime_seconds)).to_string(),
            ByteSize(self.memory_bytes).to_string(),
            ByteSize(self.disk_free_bytes).to_string(),
        ]
    }
}

impl Row for ShardView {
    const COLUMNS: &'static [&'static str] =
        &["shard", "leader", "term", "committed", "applied", "flushed", "position", "voters", "learners", "lag"];

    fn cells(&self) -> Vec<String> {
        let ids = |ids: &[u64]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let lags: Vec<_> = self.lags.iter().map(|lag| format!("{}:{}", lag.node_id, lag.entries)).collect();
        vec![
            self.shard.to_string(),
            self.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
            self.term.to_string(),
            self.committed_index.to_string(),
            self.applied_index.to_string(),
            self.flushed_index.to_string(),
            self.position.to_string(),
            ids(&self.voters),
            ids(&self.learners),
            lags.join(" "),
        ]
    }
}

/// Runs `cairn cluster status`.
///
/// # Errors
/// If no node answers.
pub async fn run(shared: &Shared) -> anyhow::Result<()> {
    let deadline = shared.deadline.min(NODE_DEADLINE);
    let first = any_status(&shared.endpoints, deadline).await?;
    let view = view(&first, deadline).await;
    match shared.output {
        Format::Json => shared.output().record(&view)?,
        Format::Table => {
            line(format_args!("cluster {}", view.cluster_id))?;
            shared.output().rows(&view.nodes)?;
            line(format_args!(""))?;
            shared.output().rows(&view.shards)?;
        }
    }
    if !view.diverged.is_empty() {
        return Err(anyhow!(Stop::new(
            Exit::Damaged,
            format!("the replicas of shard(s) {:?} differ at the same index", view.diverged)
        )));
    }
    Ok(())
}

/// The first answer of any endpoint; each is given `deadline`, and no more than [`NODE_DEADLINE`].
pub async fn any_status(endpoints: &[String], deadline: Duration) -> anyhow::Result<StatusResponse> {
    let mut failures = Vec::new();
    for address in endpoints {
        match NodeClient::new(address, deadline.min(NODE_DEADLINE))?.status().await {
            Ok(status) => return Ok(status),
            Err(error) => failures.push(format!("{address}: {}", error)),
        }
    }
    Err(anyhow!(Stop::new(Exit::Unavailable, format!("no node answers: {}", failures.join("; ")))))
}

async fn view(first: &StatusResponse, deadline: Duration) -> ClusterView {
    let mut asked: FuturesUnordered<_> = first.nodes.iter().map(|node| ask(node, deadline)).collect();
    let mut answers = Vec::new();
    while let Some(answer) = asked.next().await {
        answers.push(answer);
    }
    answers.sort_by_key(|(node, _)| node.node_id);
    let statuses: Vec<&StatusResponse> = answers.iter().filter_map(|(_, status)| status.as_ref().ok()).collect();
    let shards = (0..first.shards).filter_map(|shard| shard_view(shard, &statuses)).collect();
    let diverged = (0..first.shards).filter(|&shard| differs(shard, &statuses)).collect();
    let nodes = answers.iter().map(|(node, status)| node_view(node, status)).collect();
    ClusterView { cluster_id: first.cluster_id.clone(), shards, nodes, diverged }
}

async fn ask(node: &Node, deadline: Duration) -> (&Node, Result<StatusResponse, String>) {
    let status = match NodeClient::new(&node.client_address, deadline) {
        Ok(client) => client.status().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    (node, status)
}

fn node_view(node: &Node, status: &Result<StatusResponse, String>) -> NodeView {
    let state = match status {
        Ok(status) if status.not_ready.is_empty() => "ready".to_owned(),
        Ok(status) => status.not_ready.join(", "),
        Err(error) => format!("unreachable: {error}"),
    };
    let status = status.as_ref().ok().cloned().unwrap_or_default();
    let led = status.shard_states.iter().filter(|shard| shard.leader == node.node_id);
    NodeView {
        node_id: node.node_id,
        client_address: node.client_address.clone(),
        peer_address: node.peer_address.clone(),
        voter: node.voter,
        state,
        leads: led.map(|shard| shard.shard).collect(),
        version: status.version,
        uptime_seconds: status.uptime_seconds,
        memory_bytes: status.memory_bytes,
        cpu_micros: status.cpu_micros,
        disk_free_bytes: status.disk_free_bytes,
        read_only: status.read_only,
    }
}

/// What the leader says of a shard; without one, whoever has the highest term.
fn shard_view(shard: u32, statuses: &[&StatusResponse]) -> Option<ShardView> {
    let told = statuses.iter().flat_map(|status| {
        let states = status.shard_states.iter().filter(|state| state.shard == shard);
        states.map(|state| (state.leader == status.node_id, state))
    });
    let (_, state): (bool, &Shard) = told.max_by_key(|(leads, state)| (state.term, *leads, state.applied_index))?;
    Some(ShardView {
        shard,
        leader: (state.leader != 0).then_some(state.leader),
        term: state.term,
        committed_index: state.committed_index,
        applied_index: state.applied_index,
        flushed_index: state.flushed_index,
        position: state.position,
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        lags: state.lags.iter().map(|lag| LagView { node_id: lag.node_id, entries: lag.entries }).collect(),
    })
}

/// Whether two replicas of a shard have different states at the same index.
fn differs(shard: u32, statuses: &[&StatusResponse]) -> bool {
    let states = || statuses.iter().flat_map(|status| &status.shard_states).filter(|state| state.shard == shard);
    states().any(|one| states().any(|other| one.state_hash_index == other.state_hash_index && one.state_hash != other.state_hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(node_id: u64, term: u64, leader: u64, hash_index: u64, hash: &'static [u8]) -> StatusResponse {
        let shard = Shard { leader, term, state_hash_index: hash_index, state_hash: hash.into(), ..Shard::default() };
        StatusResponse { node_id, shards: 1, shard_states: vec![shard], ..StatusResponse::default() }
    }

    #[test]
    fn replicas_differ_only_if_their_states_differ_at_the_same_index() {
        let (a, b, c) = (status(1, 1, 1, 5, b"x"), status(2, 1, 1, 5, b"y"), status(3, 1, 1, 6, b"y"));
        assert!(differs(0, &[&a, &b]));
        assert!(!differs(0, &[&a, &c]));
        assert!(!differs(0, &[&a, &a]));
    }

    #[test]
    fn the_leader_of_the_highest_term_is_believed() {
        let (old, new, follower) = (status(1, 1, 1, 0, b""), status(2, 2, 2, 0, b""), status(3, 2, 0, 0, b""));
        let view = shard_view(0, &[&old, &follower, &new]).expect("the shard is told of");
        assert_eq!((view.term, view.leader), (2, Some(2)));
        assert!(shard_view(1, &[&old]).is_none());
    }
}
