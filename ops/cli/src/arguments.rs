//! The command line: every command.

use clap::{Parser, Subcommand};

use crate::shared::Shared;
use crate::{bench, cluster, config, demo, dev, exit, journal, node, snapshot};

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
