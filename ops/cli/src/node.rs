//! `cairn node`: one node, until a signal or until a part of it breaks.

use std::io::Read;

use anyhow::{Context, anyhow};
use cairn_node::{Node, Parts};
use clap::Args;

use crate::config::SettingsArguments;
use crate::{log_lines, signals};

/// `cairn node ..`
#[derive(Debug, Args)]
pub struct NodeArguments {
    #[command(flatten)]
    settings: SettingsArguments,
    /// End in good order when standard input closes: for whoever starts nodes as child processes.
    #[arg(long, hide = true)]
    stop_with_parent: bool,
}

/// Runs a node.
///
/// # Errors
/// If it cannot start, or a part of it broke.
pub async fn run(arguments: &NodeArguments) -> anyhow::Result<()> {
    let settings = arguments.settings.load()?.settings;
    log_lines::to_standard_error(&settings.telemetry)?;
    let node_id = settings.node.id;
    let parts = Parts::production(&settings).context("take what the node needs from the system")?;
    let node = Node::start(settings, parts).await.with_context(|| format!("start node {node_id}"))?;
    let mut parent = std::pin::pin!(parent_gone(arguments.stop_with_parent));
    tokio::select! {
        biased;
        result = signals::stop() => {
            result?;
            tracing::info!("stopping on a signal");
        }
        () = &mut parent => tracing::info!("stopping, as the parent process is gone"),
        failure = node.failed() => {
            return Err(anyhow!("node {node_id} cannot go on: {failure}"));
        }
    }
    node.shutdown().await;
    Ok(())
}

/// Returns when standard input closes, if asked to look.
async fn parent_gone(look: bool) {
    if !look {
        return std::future::pending().await;
    }
    let (gone, told) = tokio::sync::oneshot::channel();
    // A read of standard input cannot be cancelled: on the runtime's own threads it would hold up the end of the process.
    let watch = std::thread::Builder::new().name("cairn-parent".to_owned()).spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        let _ = gone.send(());
    });
    match watch {
        Ok(_) => drop(told.await),
        Err(error) => {
            tracing::error!(%error, "watch the parent process");
            std::future::pending().await
        }
    }
}
