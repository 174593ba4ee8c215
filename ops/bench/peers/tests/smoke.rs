//! Every system that is installed does every kind of work, a little of it: nothing is measured here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_bench_peers::systems::SystemName;
use cairn_bench_peers::{Contender, Observer, Plan, Point, RealDisk, Report, Sample, Sizes, figures_markdown, run};
use clap::ValueEnum;

/// Small enough for a debug build on a busy machine.
const SIZES: Sizes = Sizes {
    long_events: 250,
    journals: 20,
    journal_events: 10,
    disk_events: 320,
    highest_clients: 8,
    restart_events: 320,
    idle_seconds: 0.3,
};

/// One cluster at a time: together they would only wait for each other.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Quiet;

impl Observer for Quiet {
    fn skipped(&self, title: &str, reason: &str) {
        println!("{title}: skipped, {reason}");
    }

    fn turn(&self, _: &str, _: usize, _: usize) {}

    fn measured(&self, _: Point, _: &Sample) {}

    fn failed(&self, _: Option<Point>, _: &anyhow::Error) {}
}

fn dir() -> tempfile::TempDir {
    let disk = RealDisk::find(None).expect("a disk");
    let dir = tempfile::Builder::new().prefix("cairn-peers-test-").tempdir_in(disk.path()).expect("a folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    dir
}

async fn measure(name: SystemName, points: &[Point], dir: &Path) -> Report {
    let contenders: Vec<Box<dyn Contender>> = vec![name.contender(None)];
    let millis = Duration::from_millis;
    let plan =
        Plan { points: points.to_vec(), rounds: 1, warm_up: millis(50), duration: millis(300), calm: millis(200), sizes: SIZES };
    run(&contenders, &plan, dir, &Quiet).await.expect("folders can be made")
}

/// Processes whose command line names something in a folder.
fn processes_of(dir: &Path) -> Vec<i32> {
    let name = dir.to_str().expect("a plain name");
    let all = procfs::process::all_processes().expect("/proc").filter_map(Result::ok);
    let mine = all.filter(|process| process.cmdline().is_ok_and(|line| line.iter().any(|argument| argument.contains(name))));
    mine.map(|process| process.pid).collect()
}

async fn check(name: SystemName) {
    let _turn = TURN.lock().await;
    let dir = dir();
    let points: Vec<_> = Point::value_variants().iter().copied().filter(|point| *point != Point::Append1024).collect();
    let report = measure(name, &points, dir.path()).await;
    if report.contenders[0].skipped.is_some() {
        return;
    }
    // On a busy machine a slow system may end nothing within one point's moment, but not in all of them.
    let mut done_at_all = 0;
    for point in &report.points {
        let done = &point.contenders[0];
        assert_eq!(done.failed, None, "{}", point.point);
        let sample = &done.rounds[0];
        assert_eq!(sample.is_some(), done.lacks.is_none(), "{}", point.point);
        let Some(sample) = sample else { continue };
        done_at_all += [&sample.writes, &sample.reads].into_iter().flatten().map(|flow| flow.events).sum::<u64>();
        if let Some(failover) = &sample.failover {
            assert!(failover.longest_wait_millis > 0.0 && failover.silence_millis > 0.0, "writers went on: {failover:?}");
        }
        if point.point == Point::Disk {
            let bytes = sample.disk_bytes_per_event.expect("it is measured");
            assert!((0.0..1_000_000.0).contains(&bytes), "{bytes} B an event");
        }
        if point.point == Point::Idle {
            let percent = sample.idle_percent.expect("it is measured");
            assert!((0.0..1_000.0).contains(&percent), "{percent} % of a processor");
        }
        if point.point == Point::Restart {
            assert!(sample.restart_seconds.is_some_and(|seconds| seconds > 0.0), "{sample:?}");
        }
        if let Some(usage) = sample.usage.filter(|_| report.contenders[0].is_system) {
            assert!(usage.servers_memory_bytes.is_some_and(|bytes| bytes > 1_000_000), "{usage:?}");
        }
    }
    assert!(done_at_all > 0, "nothing was done");
    assert_eq!(processes_of(dir.path()), [0; 0], "every server has ended");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0, "its data is gone");
    assert!(figures_markdown(&report, "cairn").contains("append, 16 writers"));
}

macro_rules! check {
    ($($test:ident: $name:ident,)*) => {
        $(#[tokio::test]
        async fn $test() {
            check(SystemName::$name).await;
        })*
    };
}

check! {
    cairn_does_every_work: Cairn,
    etcd_does_every_work: Etcd,
    jetstream_does_every_work: Jetstream,
    jetstream_with_synchronous_writes_does_every_work: JetstreamSynced,
    postgresql_does_every_work: Postgresql,
    the_floor_of_syncs_does_its_work: SyncFloor,
    the_floor_of_calls_does_its_work: EchoUnary,
    the_floor_of_one_stream_does_its_work: EchoStream,
}

#[tokio::test]
async fn a_run_that_is_given_up_leaves_no_server_behind() {
    let _turn = TURN.lock().await;
    let dir = dir();
    let path: PathBuf = dir.path().to_owned();
    let name = [SystemName::Etcd, SystemName::Cairn].into_iter().find(|name| name.contender(None).version().is_ok());
    let Some(name) = name else {
        println!("neither etcd nor Cairn is installed: skipped");
        return;
    };
    let appearing = async {
        while processes_of(&path).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        biased;
        () = appearing => {}
        _ = measure(name, &[Point::Append128], dir.path()) => panic!("no server was seen"),
    }
    assert_eq!(processes_of(&path), [0; 0]);
}

#[tokio::test]
async fn a_stale_writer_is_refused_everywhere() {
    let _turn = TURN.lock().await;
    for name in [SystemName::Cairn, SystemName::Etcd, SystemName::Jetstream, SystemName::Postgresql] {
        let (contender, dir) = (name.contender(None), dir());
        if let Err(reason) = contender.version() {
            println!("{}: skipped, {reason}", contender.title());
            continue;
        }
        let data = tempfile::tempdir_in(dir.path()).expect("a folder");
        let system = contender.start(data.path()).await.expect("it starts");
        let (payload, patience) = (cairn_bench::payload(100), Duration::from_secs(30));
        let mut stale = system.writer("account", patience).await.expect("a writer");
        stale.append(&payload, 2).await.expect("it is alone");
        let mut fresh = system.writer("account", patience).await.expect("another writer");
        assert_eq!(fresh.resume().await.expect("it is answered"), 2, "{name:?}");
        fresh.append(&payload, 1).await.expect("it goes on");
        assert!(stale.append(&payload, 1).await.is_err(), "{name:?}: the stale writer is refused");
        assert_eq!(system.highest("account").await.expect("it is answered"), 3, "{name:?}");
        assert_eq!(system.replay("account").await.expect("it is answered"), 3, "{name:?}");
        system.stop().await;
    }
}
