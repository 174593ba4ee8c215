//! `cairn demo`: the main job with nothing to set up.
//!
//! Three nodes as processes with real files and syncs; real events imported through the client library; two leaders killed with
//! SIGKILL while writes are in flight, and restarted only after the others have gone on; everything read back from every node and
//! compared with what was acknowledged.
//!
//! Invariants
//! - A kill counts only if at least [`IN_FLIGHT_MIN`] writes were in flight, and [`EVENTS_WHILE_DEAD_MIN`] events were acknowledged
//!   before the restart: else the demo fails, whatever was read back.
//! - "ok" is said only after every node has given back exactly what was acknowledged.

mod kill;
mod narrator;
mod record;
mod verify;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use cairn_client::Cairn;
use clap::Args;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::exit::{Exit, Stop};
use crate::import::{Groups, ImportError, Imported, Pace, import};
use crate::local::{LocalCluster, Ports};
use crate::{failure, signals};
use kill::Kill;
use narrator::Narrator;
use record::{Journals, Record};

/// Real events: the beginning of a public project's history, kept in the binary so that the demo works anywhere.
const SAMPLE: &[u8] = include_bytes!("../data/sample.jsonl");
/// Writes in flight at each kill, at least.
const IN_FLIGHT_MIN: usize = 16;
/// Events acknowledged between each kill and the restart, at least.
const EVENTS_WHILE_DEAD_MIN: u64 = 500;
/// The whole demo ends within this time.
const DEADLINE: Duration = Duration::from_secs(115);
/// How long a cluster may take to become ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long nodes may take to stop at the end.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Leaders killed, each when this share of the events is acknowledged.
const KILLS_AT: [f64; 2] = [0.12, 0.5];
/// One atomic write a request, so that writes in flight are what the word says.
const PACE: Pace = Pace { requests_in_flight_max: 256, groups_per_request_max: 1, groups_ahead_max: 1_024 };

/// `cairn demo ..`
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Keep the nodes' files in this directory, which must not hold a cluster.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Into how many shards the journals are spread.
    #[arg(long)]
    shards: Option<u16>,
    /// Other events than the built-in ones, as JSON lines.
    #[arg(long, value_name = "FILE", hide = true)]
    file: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
/// What differed, or what did not work.
pub async fn run(arguments: &DemoArguments) -> anyhow::Result<()> {
    let temporary = match &arguments.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("cairn-demo-").tempdir().context("make a temporary directory")?),
    };
    let dir = arguments.dir.as_deref().or(temporary.as_ref().map(TempDir::path)).expect("one of the two is there").to_owned();
    ensure!(!dir.join("cluster.json").exists(), Stop::input(format!("{} holds a cluster", dir.display())));
    let events = match &arguments.file {
        Some(path) => std::fs::read(path).with_context(|| format!("read {}", path.display()))?,
        None => SAMPLE.to_vec(),
    };
    let result = tokio::select! {
        biased;
        result = signals::stop() => result.and(Err(anyhow!(Stop::new(Exit::Interrupted, "stopped")))),
        ended = tokio::time::timeout(DEADLINE, whole(&dir, arguments.shards, &events)) => {
            ended.unwrap_or_else(|_| bail!("not done after {}", humantime::format_duration(DEADLINE)))
        }
    };
    result.map_err(|error| {
        if failure::exit_of(&error) == Exit::Interrupted {
            return error;
        }
        // For whoever wants to know why: the nodes' logs are there.
        let _ = temporary.map(TempDir::keep);
        // One code, whatever the cause: what failed is the demo.
        let message = format!("demo: failed; the nodes' files are in {}: {}", dir.display(), failure::text(&error));
        anyhow!(Stop::new(Exit::Failed, message))
    })
}

async fn whole(dir: &Path, shards: Option<u16>, events: &[u8]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let total = events.iter().filter(|&&byte| byte == b'\n').count() as u64;
    let narrator = Narrator::new(total);
    let mut cluster = LocalCluster::open(dir, Some(3), shards, Ports::Free)?;
    cluster.start()?;
    let statuses = cluster.ready(READY_DEADLINE).await?;
    let shards = u16::try_from(statuses[0].shards).context("the number of shards")?;
    narrator.say(format_args!(
        "three nodes are up at {}, {shards} shard(s), files in {}",
        cluster.endpoints().join(", "),
        dir.display()
    ));
    let record = Record::new(shards);
    let (imported, kills) = import_and_kill(&mut cluster, &record, &narrator, events, total).await?;
    narrator.say(format_args!(
        "imported {} events in {} atomic writes; reading everything back from every node",
        imported.events, imported.atomic_writes
    ));
    cluster.ready(READY_DEADLINE).await?;
    let journals = record.into_journals();
    ensure!(imported.events == total, "{} events were imported instead of {total}", imported.events);
    read_back(&cluster, &journals, &narrator).await?;
    cluster.stop(STOP_DEADLINE).await;
    for (ordinal, kill) in kills.iter().enumerate() {
        narrator.say(format_args!("kill {}: {kill}", ordinal + 1));
    }
    narrator.say(format_args!(
        "{} journals are the same on three nodes, after {:.1} s",
        journals.len(),
        begun.elapsed().as_secs_f64()
    ));
    let gap = kills.iter().map(|kill| kill.gap).max().unwrap_or_default();
    narrator.say(format_args!(
        "demo: ok: {total} events acknowledged, 0 lost, {} leaders killed, longest gap {} ms",
        kills.len(),
        gap.as_millis()
    ));
    Ok(())
}

/// Imports, while leaders are killed and restarted.
async fn import_and_kill(
    cluster: &mut LocalCluster,
    record: &Record,
    narrator: &Narrator,
    events: &[u8],
    total: u64,
) -> anyhow::Result<(Imported, Vec<Kill>)> {
    let cairn = Cairn::connect(cluster.endpoints()).await.context("connect to the cluster")?;
    let pacer = kill::Pacer::default();
    let importing = async {
        let imported = import(Groups::new(events), &cairn, record, PACE).await;
        imported.map_err(|error: ImportError<_>| anyhow!(error).context("import"))
    };
    let killing = async {
        let mut kills = Vec::new();
        for share in KILLS_AT {
            let begin = (share * total as f64) as u64;
            record.until(|record| record.events() >= begin).await;
            kills.push(kill::kill_a_leader(cluster, record, &pacer, narrator).await?);
        }
        pacer.open();
        Ok::<_, anyhow::Error>(kills)
    };
    let pacing = async {
        tokio::join!(pacer.run(record), narrator.follow(record));
    };
    tokio::select! {
        biased;
        both = async { tokio::try_join!(importing, killing) } => both,
        () = pacing => bail!("the pacing ended"),
    }
}

/// Compares every node's journals with what was acknowledged.
async fn read_back(cluster: &LocalCluster, journals: &Journals, narrator: &Narrator) -> anyhow::Result<()> {
    let mut differences = Vec::new();
    for node in cluster.nodes() {
        narrator.begin(&format!("read back from node {}", node.node_id));
        let found = verify::compare_node(&node.client, journals, |events| narrator.add(events))
            .await
            .with_context(|| format!("read back from node {}", node.node_id))?;
        narrator.say(format_args!("node {}: {} differences", node.node_id, found.len()));
        differences.extend(found.into_iter().map(|difference| format!("node {}: {difference}", node.node_id)));
    }
    ensure!(differences.is_empty(), "what was read back differs from what was acknowledged:\n  {}", differences.join("\n  "));
    Ok(())
}
