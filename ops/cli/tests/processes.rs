//! What no simulated world has: real processes that are killed, stopped and asked to stop, real disks that fail and fill up. Clients do
//! what they do in the simulation, and are judged by the same properties.
//!
//! A test that needs a privilege or a tool that is not there says so and counts as skipped, in the line that it prints.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_client::{Cairn, NewEvent};
use cairn_simulation::Outside;
use support::{Cluster, now, pause, wait_for};

/// One cluster at a time: the machine is small, and time-outs are real.
fn take_turns() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three nodes as processes of their own in `dir`, laid out and not started.
fn laid_out(dir: &Path) -> Cluster {
    let laid_out = Cluster::dev(dir, &["--shards", "2"]);
    let endpoints = laid_out.endpoints.clone();
    assert_eq!(laid_out.stop(), 0);
    Cluster::at_rest(dir, &endpoints, 3)
}

fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The simulation's clients at work on a cluster of processes.
struct Load {
    outside: Arc<Outside>,
    running: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(cluster: &Cluster, seed: u64) -> Self {
        let addresses = cluster.endpoints.split(',').map(str::to_owned);
        let outside = Arc::new(Outside::new(seed, addresses, 2));
        let running = std::thread::Builder::new().spawn({
            let outside = Arc::clone(&outside);
            move || one_thread().block_on(outside.run())
        });
        Self { outside, running: running.expect("a thread") }
    }

    /// Waits until so many more operations are acknowledged.
    fn goes_on(&self, more: usize) {
        let goal = self.outside.told().acknowledged + more;
        wait_for("clients are served", || (self.outside.told().acknowledged >= goal).then_some(()));
    }

    /// Stops the clients and judges everything that they were told.
    fn judge(self, acknowledged_min: usize) {
        let told = self.outside.told();
        assert!(told.acknowledged >= acknowledged_min, "too little was acknowledged to judge: {told:?}");
        self.outside.until().stop();
        wait_for("every operation ends", || self.running.is_finished().then_some(()));
        self.running.join().expect("no client panics");
        one_thread().block_on(self.outside.judge()).unwrap_or_else(|broken| panic!("{broken}"));
        println!("judged: {:?}", self.outside.told());
    }
}

#[test]
fn nothing_acknowledged_is_lost_though_nodes_are_killed_and_stopped_and_all_die_at_once() {
    let _turn = take_turns();
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = laid_out(&temporary.path().join("cluster"));
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.ready();
    let load = Load::start(&cluster, 1);
    for node in [1, 2, 3] {
        load.goes_on(50);
        cluster.kill_node(node);
        load.goes_on(50);
        cluster.start_node(node);
        cluster.ready();
        // Long enough that another leader is elected, which this node does not know when it goes on.
        cluster.signal(node, "STOP");
        pause(Duration::from_secs(2));
        load.goes_on(50);
        cluster.signal(node, "CONT");
        cluster.ready();
    }
    (1..=3).for_each(|node| cluster.kill_node(node));
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.ready();
    load.goes_on(50);
    load.judge(200);
}

#[test]
fn a_node_that_is_asked_to_stop_hands_over_first_and_no_client_sees_an_error() {
    /// Clients may notice that a leader changes, no more.
    const GAP_MAX: Duration = Duration::from_secs(1);
    let _turn = take_turns();
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = laid_out(&temporary.path().join("cluster"));
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.ready();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let over = Arc::new(AtomicBool::new(false));
    let endpoints: Vec<String> = cluster.endpoints.split(',').map(str::to_owned).collect();
    let cairn = runtime.block_on(Cairn::builder().endpoints(endpoints).connect()).expect("the cluster answers");
    let writers: Vec<_> = (0..16).map(|number| runtime.spawn(write_until(cairn.clone(), number, Arc::clone(&over)))).collect();
    for node in [1, 2, 3] {
        pause(Duration::from_millis(500));
        assert_eq!(cluster.stop_node(node), Some(0), "node {node} ends well");
        pause(Duration::from_millis(500));
        cluster.start_node(node);
        cluster.ready();
    }
    over.store(true, Ordering::Relaxed);
    let ended: Vec<_> = writers.into_iter().map(|writer| runtime.block_on(writer).expect("no panic")).collect();
    for (number, (events, longest_gap)) in ended.iter().enumerate() {
        let stored = cluster.run(&["-o", "json", "journal", "highest", &format!("writer-{number}")]).json();
        assert_eq!(stored["highest"].as_u64(), Some(*events), "writer {number}");
        assert!(*longest_gap < GAP_MAX, "writer {number} waited {longest_gap:?}");
    }
    println!(
        "{} events, longest gap {:?}",
        ended.iter().map(|ended| ended.0).sum::<u64>(),
        ended.iter().map(|ended| ended.1).max()
    );
}

/// Writes one event after the other, none of which may fail; how many, and the longest time without an answer.
async fn write_until(cairn: Cairn, number: usize, over: Arc<AtomicBool>) -> (u64, Duration) {
    let journal = cairn.journal(format!("writer-{number}")).expect("a name");
    let mut writer = journal.claim().await.expect("a claim");
    let (mut events, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let began = now();
        writer.append(NewEvent::from("event")).await.expect("no client sees an error");
        events += 1;
        longest = longest.max(now() - began);
    }
    (events, longest)
}

#[test]
fn a_sync_that_fails_ends_the_node_and_nothing_acknowledged_is_lost() {
    let _turn = take_turns();
    let is_there = Command::new("strace").args(["-e", "trace=none", "true"]).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        println!("skipped: strace is not there, or may not trace");
        return;
    }
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = laid_out(&temporary.path().join("cluster"));
    for node in [1, 2] {
        cluster.start_node(node);
    }
    // Only those of the log: the 200th of a thread fails, and if the node went on the next one would say that all is well.
    let inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=200"];
    cluster.start_node_under(3, &inject);
    cluster.ready();
    let load = Load::start(&cluster, 2);
    let code = wait_for("the node ends", || cluster.ended(3));
    assert_ne!(code, Some(0), "it is a failure");
    let said = std::fs::read_to_string(cluster.dir.join("node-3.log")).expect("it has a log");
    assert!(said.contains("the log broke"), "{said}");
    load.goes_on(50);
    cluster.start_node(3);
    cluster.ready();
    load.goes_on(50);
    load.judge(100);
}

#[test]
fn full_disks_make_the_cluster_read_only_and_it_clears_by_itself() {
    const MIB: u64 = 1024 * 1024;
    let _turn = take_turns();
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = laid_out(&temporary.path().join("cluster"));
    let Some(mounts) = Mounts::over(&cluster.dir, 512 * MIB) else {
        println!("skipped: a small file system cannot be mounted here");
        return;
    };
    for node in 1..=3 {
        let file = cluster.dir.join(format!("node-{node}.toml"));
        let marks = "\n[disk]\nread_only_below_bytes = 100663296\nwritable_above_bytes = 134217728\ncheck_interval_ms = 100\n";
        let text = std::fs::read_to_string(&file).expect("dev wrote it");
        std::fs::write(&file, text + marks).expect("the directory is ours");
        cluster.start_node(node);
    }
    cluster.ready();
    let load = Load::start(&cluster, 3);
    load.goes_on(100);
    // Snapshots: events of a journal that the clients do not know would be strange to those who follow a shard.
    let save = |cluster: &Cluster, number: &str| {
        cluster.run_with_input(&["snapshot", "save", "witness", number, "-", "--deadline", "20s"], b"a witness")
    };
    save(&cluster, "1").ok();
    for filled in [1, 2, 3] {
        mounts.fill(filled, 64 * MIB);
        wait_for("the node is read-only", || states(&cluster)?.contains(&(filled, "read_only".to_owned())).then_some(()));
        if filled == 1 {
            load.goes_on(50);
        }
    }
    let refused = save(&cluster, "2");
    assert!(refused.code != 0 && refused.err.contains("read-only"), "{refused:?}");
    assert_eq!(cluster.run(&["snapshot", "load", "witness"]).ok(), "a witness", "reads go on");
    cluster.run(&["snapshot", "delete", "witness", "--number", "1"]).ok();
    for freed in [1, 2, 3] {
        mounts.empty(freed);
    }
    cluster.ready();
    save(&cluster, "3").ok();
    load.goes_on(50);
    load.judge(100);
    drop(cluster);
    drop(mounts);
}

/// Each node that says what state it is in.
fn states(cluster: &Cluster) -> Option<BTreeSet<(u64, String)>> {
    let status = cluster.status()?;
    let nodes = status["nodes"].as_array().expect("nodes is a list");
    Some(nodes.iter().filter_map(|node| Some((node["node_id"].as_u64()?, node["state"].as_str()?.to_owned()))).collect())
}

/// Small file systems in memory in the place of the data directories.
struct Mounts {
    dirs: Vec<std::path::PathBuf>,
}

impl Mounts {
    /// None if this may not be done here.
    fn over(cluster: &Path, bytes: u64) -> Option<Self> {
        let mut mounts = Self { dirs: Vec::new() };
        for node in 1..=3 {
            let dir = cluster.join(format!("node-{node}"));
            let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&dir).output();
            if !mount.is_ok_and(|output| output.status.success()) {
                return None;
            }
            mounts.dirs.push(dir);
        }
        Some(mounts)
    }

    fn filler(&self, node: u64) -> std::path::PathBuf {
        self.dirs[usize::try_from(node - 1).expect("three nodes")].join("somebody-else")
    }

    /// Somebody else takes all but so many bytes.
    fn fill(&self, node: u64, bytes_left: u64) {
        let filler = self.filler(node);
        let free = rustix::fs::statvfs(filler.parent().expect("a directory")).expect("it is there");
        let bytes = (free.f_bavail * free.f_frsize).saturating_sub(bytes_left);
        let file = std::fs::File::create(filler).expect("there is room");
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("there is room");
    }

    fn empty(&self, node: u64) {
        std::fs::remove_file(self.filler(node)).expect("it was filled");
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // Lazily: a node that a failed test left behind may still be in it.
            let _ = Command::new("umount").arg("-l").arg(dir).status();
        }
    }
}
