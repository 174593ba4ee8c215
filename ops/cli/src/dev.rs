//! `cairn dev`: a local cluster that stays until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::local::{LocalCluster, Ports};
use crate::output::line;
use crate::signals;

/// How long the cluster may take to become ready, with much data to read again.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long the nodes may take to stop before they are killed.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// How often the nodes' processes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// `cairn dev ..`
#[derive(Debug, Args)]
pub struct DevArguments {
    /// How many nodes [default: 3, or what the directory holds].
    #[arg(long)]
    nodes: Option<usize>,
    /// Keep the data here, and come back with it; without it everything is gone at the end.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Into how many shards the journals are spread [default: what a node's settings say, or what the directory holds].
    #[arg(long)]
    shards: Option<u16>,
    /// Take any free ports instead of 7101, 7201, 7301 and those after them.
    #[arg(long)]
    free_ports: bool,
}

/// Runs a cluster until a signal.
///
/// # Errors
/// If a node does not start, or ends by itself.
pub async fn run(arguments: &DevArguments) -> anyhow::Result<()> {
    let temporary = match &arguments.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("cairn-dev-").tempdir().context("make a temporary directory")?),
    };
    let dir = arguments.dir.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path)).context("no directory")?;
    let ports = if arguments.free_ports { Ports::Free } else { Ports::WellKnown };
    let mut cluster = LocalCluster::open(dir, arguments.nodes, arguments.shards, ports)?;
    cluster.start()?;
    let ended = {
        let mut signal = std::pin::pin!(signals::stop());
        tokio::select! {
            biased;
            result = &mut signal => result,
            result = stay(&mut cluster, arguments.dir.is_some(), dir) => result,
        }
    };
    cluster.stop(STOP_DEADLINE).await;
    ended
}

/// Tells when the cluster is ready, and then only returns if a node ended by itself. One that was killed is started again: trying
/// that out is what a local cluster is for.
async fn stay(cluster: &mut LocalCluster, lasting: bool, dir: &std::path::Path) -> anyhow::Result<()> {
    let statuses = cluster.ready(READY_DEADLINE).await?;
    greet(cluster, statuses[0].shards, lasting, dir)?;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        for node_id in cluster.start_killed()? {
            line(format_args!("node {node_id} was killed; it is started again"))?;
        }
        cluster.still_run()?;
    }
}

fn greet(cluster: &LocalCluster, shards: u32, lasting: bool, dir: &std::path::Path) -> anyhow::Result<()> {
    let endpoints = cluster.endpoints().join(",");
    line(format_args!("cairn: {} node(s), {shards} shard(s), ready", cluster.nodes().len()))?;
    for node in cluster.nodes() {
        line(format_args!(
            "  node {}  clients {}  operators http://{}/metrics  log {}",
            node.node_id,
            node.client.address(),
            node.http_address,
            node.log().display()
        ))?;
    }
    let kept = if lasting { "the data stays in" } else { "the data is gone at the end; it is in" };
    line(format_args!("{kept} {}", dir.display()))?;
    line(format_args!("try next, in another terminal:"))?;
    for command in [
        format!("export CAIRN_ENDPOINTS={endpoints}"),
        "cairn cluster status".to_owned(),
        "echo 'hello' | cairn journal append greetings".to_owned(),
        "cairn journal read greetings".to_owned(),
        "cairn bench --seconds 5".to_owned(),
    ] {
        line(format_args!("  {command}"))?;
    }
    line(format_args!("Ctrl-C stops the cluster."))
}
