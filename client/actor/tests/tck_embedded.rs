//! The test kit against a node inside the program: on files, and stopped and started again where a case asks for it.

#[path = "common/metered.rs"]
mod metered;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_actor::store::Store;
use cairn_actor::tck::{self, Capability, Effort, Hook, Subject};
use cairn_client::{Cairn, Payload};
use cairn_node::{Network, Node};
use metered::Metered;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// More than an atomic write may have, and more than metadata may have.
const TOO_MANY_BYTES: usize = 5 * 1024 * 1024;

/// A node on files, with two clients of it.
struct Embedded {
    folder: TempDir,
    node: Arc<Mutex<Option<Node>>>,
    first: Cairn,
    second: Cairn,
    meter: Metered,
}

impl Embedded {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let started = start(&folder).await;
        let address = started.addresses().client.clone();
        let node = Arc::new(Mutex::new(Some(started)));
        let lives = Arc::clone(&node);
        // Whichever node lives in the folder now.
        let meter = Metered::new(move |address: String| {
            let node = Arc::clone(&lives);
            async move {
                let network = node.lock().await.as_ref().map(Node::network);
                let network: Arc<dyn Network> = network.ok_or_else(|| std::io::Error::other("no node is running"))?;
                network.connect(&address).await
            }
        });
        let client = |seed| {
            let builder = Cairn::builder().endpoints([address.clone()]).connector(meter.clone());
            builder.seed(seed).build().expect("builds")
        };
        let (first, second) = (client(1), client(2));
        Self { folder, node, first, second, meter }
    }
}

async fn start(folder: &TempDir) -> Node {
    let dir: PathBuf = folder.path().join("data");
    Node::embedded(Some(dir)).await.expect("starts")
}

impl Subject for Embedded {
    fn store(&self) -> &dyn Store {
        &self.first
    }

    fn second_store(&self) -> &dyn Store {
        &self.second
    }

    fn can(&self, capability: Capability) -> bool {
        !matches!(capability, Capability::OrderedSaves)
    }

    fn unstorable(&self) -> Option<Payload> {
        Some(Payload { bytes: vec![0; TOO_MANY_BYTES].into(), ..Payload::default() })
    }

    fn effort(&self) -> Effort {
        // A fifth of the events in the time that is meant for all: each write is synced, and a build for tests on a shared disk needs 1 ms.
        Effort { events: 2_000, rounds: 2, ..Effort::default() }
    }

    fn sent_bytes(&self) -> Option<u64> {
        Some(self.meter.bytes())
    }

    fn disturb(&self) -> Hook<'_> {
        self.restart()
    }

    fn restart(&self) -> Hook<'_> {
        Box::pin(async {
            let mut node = self.node.lock().await;
            if let Some(running) = node.take() {
                running.shutdown().await;
            }
            *node = Some(start(&self.folder).await);
        })
    }
}

mod in_an_embedded_node {
    use super::*;

    cairn_actor::store_tests!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        Embedded::new().await
    );
}

/// Replays that are given up: more than the node does of anything else.
const GIVEN_UP: usize = 100;

/// A replay that nobody reads to its end costs its node a task while it is open, and none when it is dropped (contract 7.12).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_that_are_given_up_leave_no_work_behind_on_the_node() {
    let embedded = Embedded::new().await;
    let mut writer = embedded.first.journal("long").expect("a name").claim().await.expect("is claimed");
    for _ in 0..8 {
        writer.append_all((0..256).map(|_| vec![7; 8 * 1024])).await.expect("is stored");
    }
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let journal = embedded.second.journal("long").expect("a name");
    let read_some = async || {
        let mut replay = journal.replay(..).start();
        for number in 1..=10 {
            let stored = replay.next().await.expect("is read").expect("is there");
            assert_eq!(stored.event.sequence_number.0, number);
        }
        replay
    };
    // The connection and all that comes with the first replay is there before it is counted.
    drop(read_some().await);
    let settled = async |bound: usize| {
        for _ in 0..1_000 {
            if tasks() <= bound {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = tasks();
    let mut open = Vec::new();
    for _ in 0..GIVEN_UP {
        open.push(read_some().await);
    }
    let during = tasks();
    assert!(during >= before + GIVEN_UP, "{during} tasks with {GIVEN_UP} replays, {before} without: they are not counted");
    drop(open);
    // The node's own tasks come and go by some.
    assert!(settled(before + GIVEN_UP / 10).await, "{} tasks are left, of {during}; there were {before}", tasks());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_performance_cases_come_in_time() {
    let report = tck::run(&Embedded::new().await, &tck::performance_cases()).await;
    assert!(report.is_passed(), "{report}");
    println!("{report}");
}
