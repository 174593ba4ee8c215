//! The signals that end a process in good order.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Returns when somebody asks the process to stop: Ctrl-C or SIGTERM.
///
/// # Errors
/// If the system does not let us listen.
pub async fn stop() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
