//! A cluster on this machine: its settings files, and its nodes as processes of this same binary.
//!
//! `cairn dev`, `cairn demo` and the tests run real processes with real files, so that what they show is what a user gets.
//!
//! Invariants
//! - A node's process ends with the process that started it, also if that is killed.
//! - A directory that holds a cluster is started again as that cluster; it never becomes another one.

mod layout;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cairn_api::v1::StatusResponse;
use tokio::time::Instant;

pub use layout::Ports;
use layout::{Layout, NodeFiles};
pub use process::NodeProcess;

use crate::node_client::NodeClient;

/// How long one question to a node may take.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// How often a waiting question is repeated.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// How many of a node's last log lines are shown when it fails.
const LOG_LINES_SHOWN: usize = 15;

/// A cluster whose nodes are child processes.
#[derive(Debug)]
pub struct LocalCluster {
    nodes: Vec<LocalNode>,
}

/// One of its nodes.
#[derive(Debug)]
pub struct LocalNode {
    /// Its node id.
    pub node_id: u64,
    /// Where clients reach it.
    pub client: NodeClient,
    /// Where operators reach it.
    pub http_address: String,
    files: NodeFiles,
    process: Option<NodeProcess>,
}

impl LocalCluster {
    /// A cluster in a directory: the one that is there, or a new one. Nothing is started yet.
    ///
    /// # Errors
    /// If the directory holds a cluster of another shape, or cannot be used.
    pub fn open(dir: &Path, nodes: Option<usize>, shards: Option<u16>, ports: Ports) -> anyhow::Result<Self> {
        let layout = match Layout::read(dir)? {
            Some(layout) => {
                let there = layout.nodes.len();
                ensure!(nodes.is_none_or(|nodes| nodes == there), "{} holds a cluster of {there} nodes", dir.display());
                if let Some(shards) = shards {
                    ensure!(shards == layout.shards, "{} holds a cluster of {} shards", dir.display(), layout.shards);
                }
                layout
            }
            None => Layout::create(dir, nodes.unwrap_or(3), shards, ports)?,
        };
        let nodes = layout.nodes.into_iter().map(LocalNode::of).collect::<anyhow::Result<_>>()?;
        Ok(Self { nodes })
    }

    /// The nodes, ascending by id.
    pub fn nodes(&self) -> &[LocalNode] {
        &self.nodes
    }

    /// Where clients reach the nodes.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.client.address().to_owned()).collect()
    }

    /// A node by its id.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&mut self, node_id: u64) -> anyhow::Result<&mut LocalNode> {
        self.nodes.iter_mut().find(|node| node.node_id == node_id).with_context(|| format!("no local node {node_id}"))
    }

    /// Starts every node that does not run.
    ///
    /// # Errors
    /// If an address is in use, by another cluster perhaps that would answer in this one's place; if a process cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        for node in self.nodes.iter().filter(|node| node.process.is_none()) {
            node.files.addresses_are_free()?;
        }
        self.nodes.iter_mut().try_for_each(LocalNode::start)
    }

    /// Waits until every node is ready and every shard has a leader that all nodes name; returns what they say.
    ///
    /// # Errors
    /// If a node ended, or the deadline did.
    pub async fn ready(&mut self, deadline: Duration) -> anyhow::Result<Vec<StatusResponse>> {
        let end = Instant::now() + deadline;
        loop {
            let waiting = match self.statuses().await? {
                Ok(statuses) => match agreement(&statuses) {
                    Ok(()) => return Ok(statuses),
                    Err(waiting) => waiting,
                },
                Err(waiting) => waiting,
            };
            if Instant::now() >= end {
                bail!("the cluster is not ready after {}: {waiting}", humantime::format_duration(deadline));
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    /// Starts every node again that was killed by SIGKILL; says which.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn start_killed(&mut self) -> anyhow::Result<Vec<u64>> {
        let mut started = Vec::new();
        for node in &mut self.nodes {
            let Some(process) = &mut node.process else { continue };
            if process.was_killed()? {
                node.process = None;
                node.start()?;
                started.push(node.node_id);
            }
        }
        Ok(started)
    }

    /// What every node says of itself, or why one does not answer.
    async fn statuses(&mut self) -> anyhow::Result<Result<Vec<StatusResponse>, String>> {
        let mut statuses = Vec::new();
        for node in &mut self.nodes {
            node.still_runs()?;
            match node.client.status().await {
                Ok(status) => statuses.push(status),
                Err(error) => return Ok(Err(format!("node {}: {}", node.node_id, error))),
            }
        }
        Ok(Ok(statuses))
    }

    /// An error if a node ended by itself.
    ///
    /// # Errors
    /// With how it ended and its last log lines.
    pub fn still_run(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(LocalNode::still_runs)
    }

    /// Asks every node to stop and waits; what does not stop within the deadline is killed.
    pub async fn stop(&mut self, deadline: Duration) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                process.ask_to_stop();
            }
        }
        let end = Instant::now() + deadline;
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                process.wait_until(end).await;
            }
        }
    }
}

impl LocalNode {
    fn of(files: NodeFiles) -> anyhow::Result<Self> {
        Ok(Self {
            node_id: files.node_id,
            client: NodeClient::new(&files.client_address, ASK_DEADLINE)?,
            http_address: files.http_address.clone(),
            files,
            process: None,
        })
    }

    /// Where its log lines go.
    pub fn log(&self) -> &PathBuf {
        &self.files.log
    }

    /// Starts it, unless it runs.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.process.is_none() {
            self.process = Some(NodeProcess::start(&self.files.settings, &self.files.log)?);
        }
        Ok(())
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().with_context(|| format!("node {} does not run", self.node_id))?;
        process.kill()
    }

    fn still_runs(&mut self) -> anyhow::Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if let Some(ended) = process.ended()? {
            self.process = None;
            let log = std::fs::read_to_string(&self.files.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
            bail!("node {} ended ({ended}); its last log lines, from {}:\n  {last}", self.node_id, self.files.log.display());
        }
        Ok(())
    }
}

/// Whether all nodes are ready and name the same leader of every shard; else what is missing.
fn agreement(statuses: &[StatusResponse]) -> Result<(), String> {
    for status in statuses {
        if !status.not_ready.is_empty() {
            return Err(format!("node {}: {}", status.node_id, status.not_ready.join(", ")));
        }
        if status.shard_states.len() != status.shards as usize {
            return Err(format!("node {}: has {} of {} shards", status.node_id, status.shard_states.len(), status.shards));
        }
        for (shard, first) in status.shard_states.iter().zip(&statuses[0].shard_states) {
            if shard.leader == 0 || shard.leader != first.leader {
                return Err(format!("node {}: shard {} has no settled leader", status.node_id, shard.shard));
            }
        }
    }
    Ok(())
}
