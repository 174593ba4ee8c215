//! Cairn's one binary: a node, a local cluster, and the operator's commands.
//!
//! Where to start reading: `arguments` holds every command; each family of commands has a file of its name; `exit` has the table
//! of exit codes. `import`, `lines` and `local` are shared: the demo, the commands and the tests use the same code.

mod allocator;
mod arguments;
mod bench;
mod cluster;
mod config;
mod connect;
mod demo;
mod dev;
mod exit;
mod export;
mod failure;
mod import;
mod journal;
mod lines;
mod local;
mod log_lines;
mod node;
mod node_client;
mod output;
mod progress;
mod settings;
mod shared;
mod signals;
mod snapshot;
mod source;

use std::process::ExitCode;

use anyhow::Context;
use arguments::{Arguments, Command};
use clap::Parser;

fn main() -> ExitCode {
    allocator::give_memory_back();
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => exit::Exit::Done.into(),
        Err(error) => failure::report(&error).into(),
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    // One thread: measured best for a node, whose work is many small steps that share state; the log and the tables have
    // threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(run(arguments));
    // A blocked read of standard input must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let shared = &arguments.shared;
    match &arguments.command {
        Command::Demo(demo) => demo::run(demo).await,
        Command::Dev(dev) => dev::run(dev).await,
        Command::Node(node) => node::run(node).await,
        Command::Config(config) => config::run(config, shared.output()),
        Command::Cluster(cluster) => cluster::run(cluster, shared).await,
        Command::Journal(journal) => journal::run(journal, shared).await,
        Command::Snapshot(snapshot) => snapshot::run(snapshot, shared).await,
        Command::Bench(bench) => bench::run(bench, shared).await,
    }
}
