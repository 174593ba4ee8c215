//! A server as a child process: it ends with its handle.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::Instant;

/// How long a cluster may take to serve.
pub const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may take to stop before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// How often something that is waited for is looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How many of a server's last log lines are shown when it fails.
const LOG_LINES_SHOWN: usize = 15;

/// A running server. Dropping it kills it, and everything that it started in its group.
#[derive(Debug)]
pub struct Server {
    name: String,
    log: PathBuf,
    stop_signal: Signal,
    /// How it is started, and again.
    command: Mutex<Command>,
    id: AtomicU32,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Starts a server; what it says goes to `log`.
    pub fn start(name: impl Into<String>, mut command: Command, log: PathBuf) -> Result<Self> {
        let name = name.into();
        let output =
            OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        command
            // Ctrl-C in a terminal goes to a whole process group: servers are stopped by us.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share the log")?)
            .stderr(output);
        let server = Self {
            name,
            log,
            stop_signal: Signal::TERM,
            command: Mutex::new(command),
            id: AtomicU32::new(0),
            child: Mutex::new(None),
        };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it as before, after it was killed.
    pub fn start_again(&self) -> Result<()> {
        let mut command = self.command.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn().with_context(|| format!("start {}: {}", self.name, command.get_program().display()))?;
        self.id.store(child.id(), Ordering::Relaxed);
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// Is asked to stop with this signal instead of SIGTERM.
    pub fn stopped_with(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// An error with its last log lines if it has ended.
    pub fn still_runs(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = child.as_mut() else { bail!("{} was stopped", self.name) };
        if let Some(status) = running.try_wait().context("look at a server")? {
            *child = None;
            bail!("{} ended ({status}); it said last:\n{}", self.name, last_lines(&self.log));
        }
        Ok(())
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take().context("the server does not run")?;
        child.kill().with_context(|| format!("kill {}", self.name))?;
        child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    fn ask_to_stop(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(_), Some(pid)) = (child.as_ref(), pid(self.id())) {
            // It may just have ended by itself, which is what is wanted.
            let _ = kill_process(pid, self.stop_signal);
        }
    }

    fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => false,
            _ => {
                *child = None;
                true
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = pid(self.id());
        if let Some(child) = self.child.get_mut().unwrap_or_else(PoisonError::into_inner) {
            if let Some(pid) = pid {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks all to stop at once and waits for them; what does not stop in time is killed.
pub async fn stop_all(servers: &[Server]) {
    servers.iter().for_each(Server::ask_to_stop);
    let end = Instant::now() + STOP_DEADLINE;
    for server in servers {
        while !server.has_ended() {
            if Instant::now() >= end {
                let _ = server.kill();
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Asks again and again until there is an answer; fails when a server ends, or at the deadline with the last reason.
pub async fn until_ready<T>(what: &str, servers: &[&Server], mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + READY_DEADLINE;
    loop {
        servers.iter().try_for_each(|server| server.still_runs())?;
        let waiting = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(waiting) => waiting,
        };
        if Instant::now() >= end {
            return Err(waiting.context(format!("{what} within {} s", READY_DEADLINE.as_secs())));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Runs a program to its end; its output.
pub async fn run(command: Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = tokio::process::Command::from(command).kill_on_drop(true).stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a program says when it is asked for its version; none if it is not there.
pub fn version_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The first of these places, or of `PATH`, where a program is.
pub fn find_program(name: &str, places: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(places.iter().map(PathBuf::from));
    places.map(|place| place.join(name)).find(|program| program.is_file())
}

/// So many ports that are free now. All are held until all are known, so that none is handed out twice.
pub fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("find a free port on 127.0.0.1")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_server_that_ends_is_told_with_what_it_said() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let server = Server::start("x", shell("echo no such disk >&2; exit 3"), dir.path().join("log")).expect("a shell");
        let asked = until_ready("x serves", &[&server], async || -> Result<()> { bail!("not yet") }).await;
        let error = asked.expect_err("it ended").to_string();
        assert!(error.contains("x ended (exit status: 3)") && error.contains("no such disk"), "{error}");
    }

    #[tokio::test]
    async fn what_a_server_started_ends_with_its_handle() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("child");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let server = Server::start("x", shell(&script), dir.path().join("log")).expect("a shell");
        let servers = [&server];
        let child = until_ready("a child", &servers, async || {
            let text = std::fs::read_to_string(&file)?;
            text.trim().parse::<u32>().context("no number yet")
        });
        let child = pid(child.await.expect("it says so")).expect("a process");
        drop(server);
        let gone = async {
            while rustix::process::test_kill_process(child).is_ok() && !is_zombie(child) {
                tokio::time::sleep(LOOK_INTERVAL).await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the child ends");
    }

    /// Nobody may have waited for an orphan yet.
    fn is_zombie(pid: Pid) -> bool {
        let stat = procfs::process::Process::new(pid.as_raw_pid()).and_then(|process| process.stat());
        stat.map_or(true, |stat| stat.state == 'Z')
    }

    #[tokio::test]
    async fn a_server_is_asked_to_stop_before_it_is_killed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (ready, stopped) = (dir.path().join("ready"), dir.path().join("stopped"));
        let script =
            format!("trap 'touch {}; exit 0' TERM; touch {}; while :; do sleep 0.01; done", stopped.display(), ready.display());
        let servers = [Server::start("x", shell(&script), dir.path().join("log")).expect("a shell")];
        until_ready("the trap", &[&servers[0]], async || std::fs::read(&ready).context("no file yet")).await.expect("it is set");
        stop_all(&servers).await;
        assert!(stopped.exists());
    }

    #[test]
    fn free_ports_are_different() {
        let ports = free_ports::<9>().expect("ports");
        let different: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), ports.len());
    }
}
