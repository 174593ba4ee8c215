//! Runs the binary as a user does, and clusters of it.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The binary, without any variable that would change what it does.
pub fn cairn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CAIRN_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("output is text"),
            err: String::from_utf8(output.stderr).expect("output is text"),
        }
    }
}

impl Ended {
    /// The output, of a run that must have gone well.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The output as JSON.
    pub fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// Runs to the end.
pub fn run(arguments: &[&str]) -> Ended {
    cairn().args(arguments).output().expect("the binary runs").into()
}

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster made by `cairn dev`, or its nodes one by one.
pub struct Cluster {
    pub dir: PathBuf,
    pub endpoints: String,
    dev: Option<Child>,
    nodes: Vec<Option<Child>>,
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Three nodes in a directory of their own.
    pub fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = temporary.path().join("cluster");
        let mut cluster = Self::dev(&dir, &[]);
        cluster._temporary = Some(temporary);
        cluster
    }

    /// `cairn dev` in a directory.
    pub fn dev(dir: &Path, more: &[&str]) -> Self {
        let mut dev = cairn()
            .args(["dev", "--free-ports", "--dir"])
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(dev.stdout.take().expect("a pipe")).lines();
        let mut endpoints = String::new();
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line.expect("output is text");
            if let Some((_, list)) = line.split_once("CAIRN_ENDPOINTS=") {
                endpoints = list.to_owned();
            }
            let last = line.contains("Ctrl-C");
            said.push(line);
            if last {
                break;
            }
        }
        assert!(!endpoints.is_empty(), "dev names its endpoints: {said:?}");
        Self { dir: dir.to_owned(), endpoints, dev: Some(dev), nodes: Vec::new(), _temporary: None }
    }

    /// The nodes of a cluster that was laid out before, as processes of their own.
    pub fn nodes_of(dir: &Path, endpoints: &str, count: usize) -> Self {
        let mut cluster = Self::at_rest(dir, endpoints, count);
        (1..=count).for_each(|node| cluster.start_node(node));
        cluster
    }

    /// The same, none of them started.
    pub fn at_rest(dir: &Path, endpoints: &str, count: usize) -> Self {
        Self {
            dir: dir.to_owned(),
            endpoints: endpoints.to_owned(),
            dev: None,
            nodes: (0..count).map(|_| None).collect(),
            _temporary: None,
        }
    }

    pub fn start_node(&mut self, node: usize) {
        self.start_node_under(node, &[]);
    }

    /// Starts a node as the child of another program.
    pub fn start_node_under(&mut self, node: usize, program: &[&str]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("node-{node}.log")))
            .expect("the directory is ours");
        let mut command = cairn();
        if let [program, arguments @ ..] = program {
            let binary = command.get_program().to_owned();
            command = Command::new(program);
            command.args(arguments).arg(binary).stdin(Stdio::null());
        }
        command.args(["node", "--config"]).arg(self.dir.join(format!("node-{node}.toml"))).stderr(log);
        self.nodes[node - 1] = Some(command.spawn().expect("the binary runs"));
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, node: usize, signal: &str) {
        let child = self.nodes[node - 1].as_ref().expect("the node runs");
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "{signal} is sent to node {node}");
    }

    /// SIGTERM, and with which code the node ended.
    pub fn stop_node(&mut self, node: usize) -> Option<i32> {
        self.signal(node, "TERM");
        let mut child = self.nodes[node - 1].take().expect("the node runs");
        child.wait().expect("it is our child").code()
    }

    /// With which code a node ended by itself; none as long as it runs.
    pub fn ended(&mut self, node: usize) -> Option<Option<i32>> {
        let ended = self.nodes[node - 1].as_mut()?.try_wait().expect("it is our child")?;
        self.nodes[node - 1] = None;
        Some(ended.code())
    }

    /// SIGKILL.
    pub fn kill_node(&mut self, node: usize) {
        let mut child = self.nodes[node - 1].take().expect("the node runs");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    /// SIGTERM to `cairn dev`, and how it ended.
    pub fn stop(mut self) -> i32 {
        let mut dev = self.dev.take().expect("a cluster of `cairn dev`");
        Command::new("kill").arg(dev.id().to_string()).status().expect("kill runs");
        dev.wait().expect("it is our child").code().unwrap_or(-1)
    }

    /// A command against this cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = cairn();
        command.args(arguments).env("CAIRN_ENDPOINTS", &self.endpoints);
        command
    }

    /// Runs a command against this cluster.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().expect("the binary runs").into()
    }

    /// Runs a command with this standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let feeding = std::thread::Builder::new().spawn(move || {
            // A command that fails early does not read to the end.
            let _ = pipe.write_all(&input);
        });
        let output = child.wait_with_output().expect("it is our child");
        feeding.expect("a thread").join().expect("it only writes");
        output.into()
    }

    /// What the cluster says of itself.
    pub fn status(&self) -> Option<serde_json::Value> {
        let ended = self.run(&["-o", "json", "cluster", "status"]);
        (ended.code == 0).then(|| serde_json::from_str(&ended.out).expect("the status is JSON"))
    }

    /// Waits until every node is ready.
    pub fn ready(&self) -> serde_json::Value {
        wait_for("every node is ready", || {
            let status = self.status()?;
            let nodes = status["nodes"].as_array().expect("nodes is a list");
            nodes.iter().all(|node| node["state"] == "ready").then_some(status)
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Killed hard: the nodes of `cairn dev` must end with it.
        for child in self.dev.iter_mut().chain(self.nodes.iter_mut().flatten()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until something is there.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() - begun < DEADLINE, "not within {DEADLINE:?}: {what}");
        pause(Duration::from_millis(20));
    }
}

/// The time since some moment.
#[expect(clippy::disallowed_methods, reason = "a test of processes lives in real time")]
pub fn now() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}

/// Lets other processes go on.
#[expect(clippy::disallowed_methods, reason = "a test of processes lives in real time")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Reads what a child writes until it ends.
pub fn read_to_end(mut pipe: impl Read) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).expect("output is text");
    text
}
