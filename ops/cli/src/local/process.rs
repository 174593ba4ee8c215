//! One node as a child process.

use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// The hidden flag that ties a node's life to its standard input.
pub const STOP_WITH_PARENT: &str = "--stop-with-parent";

/// How often an ending process is looked at.
const WAIT_INTERVAL: Duration = Duration::from_millis(10);

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
}

impl NodeProcess {
    /// Starts a node of this same binary.
    ///
    /// # Errors
    /// If the process cannot be started, or its log cannot be written.
    pub fn start(settings: &Path, log: &Path) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("find this binary")?;
        let log =
            OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("open the log {}", log.display()))?;
        let mut command = Command::new(&binary);
        // Variables would change every node in the same way: their settings stand in their files alone.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with(crate::settings::VARIABLE_PREFIX)) {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["node", STOP_WITH_PARENT, "--config"])
            .arg(settings)
            // Ctrl-C in a terminal goes to a whole process group: the nodes are stopped in good order instead.
            .process_group(0)
            // The pipe's other end closes when this process ends in any way.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        Ok(Self { child })
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill a node")?;
        self.child.wait().context("wait for a killed node")?;
        Ok(())
    }

    /// How it ended; none while it runs.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("look at a node's process")
    }

    /// Whether SIGKILL ended it.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn was_killed(&mut self) -> anyhow::Result<bool> {
        Ok(self.ended()?.is_some_and(|status| status.signal() == Some(Signal::KILL.as_raw())))
    }

    /// Sends it SIGTERM.
    pub fn ask_to_stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            // It may just have ended by itself, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it ended; kills it at the end of the wait.
    pub async fn wait_until(&mut self, end: Instant) {
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() >= end {
                let _ = self.kill();
                return;
            }
            tokio::time::sleep(WAIT_INTERVAL).await;
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
