//! The command line: every command, and the options that all of them share.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::output::{Format, Output};
use crate::{bench, cluster, config, demo, dev, exit, journal, node, snapshot};

/// Where the nodes of `cairn dev` listen for clients.
const DEFAULT_ENDPOINTS: &str = "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103";

/// A replicated store for the events and snapshots of persistent actors.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, after_help = exit::TABLE, max_term_width = 110)]
pub struct Arguments {
    /// What all commands share.
    #[command(flatten)]
    pub shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands share.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// Client addresses of the cluster; one that answers is enough.
    #[arg(
        long,
        global = true,
        env = "CAIRN_ENDPOINTS",
        value_delimiter = ',',
        default_value = DEFAULT_ENDPOINTS,
        value_name = "HOST:PORT,..",
        help_heading = "Common options"
    )]
    pub endpoints: Vec<String>,
    /// How results look: a table for people, JSON for programs.
    #[arg(
        short,
        long,
        global = true,
        env = "CAIRN_OUTPUT",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Common options"
    )]
    pub output: Format,
    /// How long one request is tried again before its outcome is given up as unknown or unavailable.
    #[arg(
        long,
        global = true,
        env = "CAIRN_DEADLINE",
        value_parser = humantime::parse_duration,
        default_value = "30s",
        value_name = "DURATION",
        help_heading = "Common options"
    )]
    pub deadline: Duration,
}

impl Shared {
    /// Where results go.
    pub fn output(&self) -> Output {
        Output { format: self.output }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job: three nodes, real events, two leaders killed, nothing lost.
    Demo(demo::DemoArguments),
    /// Run a local cluster until Ctrl-C.
    Dev(dev::DevArguments),
    /// Run one node.
    Node(node::NodeArguments),
    /// Check settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Look at the cluster and change it.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Append, read, follow, delete, import and export events.
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Save, load, list and delete snapshots.
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Measure a running cluster.
    Bench(bench::BenchArguments),
}
