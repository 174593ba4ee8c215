//! `cairn bench`: load on a running cluster.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use cairn_bench::{Gauge, NodeUsage, Observer, Plan, Point, PointReport, Scope};
use clap::{Args, ValueEnum};

use crate::connect::connect;
use crate::exit::Stop;
use crate::node_client::NodeClient;
use crate::output::{Format, Row};
use crate::shared::Shared;

/// How long a node may take to say what it uses: a node under full load answers late.
const GAUGE_DEADLINE: Duration = Duration::from_secs(10);

/// `cairn bench ..`
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// What is measured.
    #[arg(long, value_enum, default_value_t)]
    only: Only,
    /// How long each point is measured.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// How long each point is under load before it is measured.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    warm_up_seconds: f64,
    /// One append point of your own instead: how many writers.
    #[arg(long, value_name = "COUNT", conflicts_with = "only", value_parser = clap::value_parser!(u32).range(1..))]
    writers: Option<u32>,
    /// Of your own point: payload of one event, in bytes.
    #[arg(long, default_value_t = 256, requires = "writers")]
    payload_bytes: usize,
    /// Of your own point: events in each atomic write.
    #[arg(long, default_value_t = 1, requires = "writers", value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Also write the report as JSON here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Only {
    /// Appends, replays, reads of the highest number, and persistent actors.
    #[default]
    All,
    /// Appends.
    Append,
    /// Replays.
    Replay,
    /// Reads of the highest number.
    Highest,
    /// Persistent actors: persisting, and recovering.
    Actors,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds from 0.1 to 86400".to_owned()),
    }
}

impl BenchArguments {
    fn plan(&self) -> Plan {
        let scope = match self.only {
            Only::All => Scope::All,
            Only::Append => Scope::Append,
            Only::Replay => Scope::Replay,
            Only::Highest => Scope::Highest,
            Only::Actors => Scope::Actors,
        };
        let [warm_up, duration] = [self.warm_up_seconds, self.seconds].map(Duration::from_secs_f64);
        let mut plan = Plan::standard(scope, warm_up, duration);
        if let Some(writers) = self.writers {
            plan.points =
                vec![Point::Append { writers: writers as usize, payload_bytes: self.payload_bytes, batch: self.batch as usize }];
        }
        plan
    }
}

/// Runs `cairn bench`.
///
/// # Errors
/// The first failure of the cluster.
pub async fn run(arguments: &BenchArguments, shared: &Shared) -> anyhow::Result<()> {
    // Before the first figure: a run takes minutes.
    let mut json = match &arguments.json {
        Some(path) => Some(File::create(path).map_err(|error| Stop::input(format!("create {}: {error}", path.display())))?),
        None => None,
    };
    let cairn = connect(shared).await?;
    let nodes = Nodes::find(shared).await?;
    let report = cairn_bench::run(&cairn, &nodes, &arguments.plan(), &Telling).await?;
    if let Some(file) = &mut json {
        file.write_all(&serde_json::to_vec_pretty(&report)?).context("write the report as JSON")?;
    }
    match shared.output {
        Format::Json => shared.output().record(&report),
        Format::Table => shared.output().rows(&report.points),
    }
}

/// Tells on standard error how it goes: a run takes minutes.
struct Telling;

impl Observer for Telling {
    fn begins(&self, point: &Point, ordinal: usize, points: usize) {
        eprintln!("[{}/{points}] {point} ..", ordinal + 1);
    }

    fn measured(&self, report: &PointReport) {
        eprintln!(
            "      {:.0} events/s, p50 {} us, p99 {} us",
            report.events_per_second, report.latency.p50_micros, report.latency.p99_micros
        );
    }
}

/// The cluster's nodes, each asked itself.
struct Nodes(Vec<NodeClient>);

impl Nodes {
    async fn find(shared: &Shared) -> anyhow::Result<Self> {
        let status = crate::cluster::any_status(&shared.endpoints, shared.deadline).await?;
        let nodes = status.nodes.iter().map(|node| NodeClient::new(&node.client_address, GAUGE_DEADLINE));
        Ok(Self(nodes.collect::<Result<_, _>>()?))
    }
}

impl Gauge for Nodes {
    fn read(&self) -> Pin<Box<dyn Future<Output = Vec<NodeUsage>> + Send + '_>> {
        Box::pin(async {
            let asked = futures::future::join_all(self.0.iter().map(NodeClient::status)).await;
            let answered = asked.into_iter().filter_map(Result::ok);
            answered
                .map(|status| NodeUsage {
                    node_id: status.node_id,
                    cpu_micros: status.cpu_micros,
                    memory_bytes: status.memory_bytes,
                })
                .collect()
        })
    }
}

impl Row for PointReport {
    const COLUMNS: &'static [&'static str] =
        &["point", "events/s", "p50 us", "p99 us", "p99.9 us", "max us", "nodes' CPU s", "per 1000", "nodes' memory"];

    fn cells(&self) -> Vec<String> {
        let seconds = |seconds: Option<f64>, digits| seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.digits$}"));
        vec![
            self.point.to_string(),
            format!("{:.0}", self.events_per_second),
            self.latency.p50_micros.to_string(),
            self.latency.p99_micros.to_string(),
            self.latency.p999_micros.to_string(),
            self.latency.max_micros.to_string(),
            seconds(self.nodes_cpu_seconds, 2),
            seconds(self.nodes_cpu_seconds_per_1000, 4),
            ByteSize(self.nodes_memory_bytes).to_string(),
        ]
    }
}
