//! A node ends within its time, whatever hangs, and a start that fails leaves nothing behind.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_node::{EngineFactory, Node, Parts, StartError, StorageSettings};
use cairn_storage::blocking::{Blocking, Job};
use cairn_storage::{Engine, EngineError, MemoryDisk, MemoryEngine, Table};
use common::{Cluster, Disk, client_of, eventually, founder_settings, payloads};
use tokio::time::Instant;

/// Enough that those whose cores hang would take long one after the other.
const SHARDS: u16 = 16;

#[tokio::test]
async fn a_node_whose_disk_hangs_stops_within_its_time() {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let mut settings = founder_settings(id, 3, SHARDS);
        settings.shutdown_deadline_ms = 500;
        cluster.enlist(settings, Disk::memory());
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    let Disk::Memory { fs, .. } = cluster.members[&3].disk.clone() else { unreachable!("as it was made") };
    eventually("node 1 leads its share", async || (cluster.node(1).leads().len() > 4).then_some(())).await;
    fs.hold_syncs(true);
    cluster.kill(1);
    // Several elections, of which none succeeds: in what the dead one led node 3 votes, for itself or for node 2, and waits for its disk.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let begun = Instant::now();
    tokio::time::timeout(common::WAIT_MAX, cluster.stop(3)).await.expect("it stops");
    // The deadline, a second each for cores, log and tasks, and what the end of a runtime takes.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// An engine that does not open one shard's tables, and is slow to say so: the other shard is open by then.
#[derive(Clone)]
struct Torn {
    disk: MemoryDisk,
    refused: Arc<AtomicBool>,
}

impl EngineFactory for Torn {
    fn open(&self, _: &std::path::Path, _: &StorageSettings) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(TornEngine { engine: MemoryEngine::open(self.disk.clone()), refused: Arc::clone(&self.refused) }))
    }
}

struct TornEngine {
    engine: MemoryEngine,
    refused: Arc<AtomicBool>,
}

impl Engine for TornEngine {
    fn tables(&self) -> Result<Vec<String>, EngineError> {
        self.engine.tables()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Table>, EngineError> {
        if name.starts_with("shard-1-") {
            self.refused.store(true, Ordering::Relaxed);
            return Err(EngineError::Failed { operation: "open", reason: "torn".to_owned() });
        }
        self.engine.open(name)
    }

    fn drop_table(&self, name: &str) -> Result<(), EngineError> {
        self.engine.drop_table(name)
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.engine.disk_bytes()
    }
}

#[async_trait::async_trait]
impl Blocking for Torn {
    async fn run_boxed(&self, job: Job) {
        job();
        if self.refused.swap(false, Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_voter_and_no_writer_behind() {
    let settings = founder_settings(1, 1, 2);
    let disk = MemoryDisk::new();
    let parts = Parts { engine: Arc::new(disk.clone()), ..Parts::memory().expect("randomness") };
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let node = Node::start(settings.clone(), parts.clone()).await.expect("starts");
    node.ready().await;
    let mut writer = client_of(&node).await.journal("account-1").expect("a name").claim().await.expect("is claimed");
    writer.append("opened").await.expect("is stored");
    drop(writer);
    node.shutdown().await;
    drop(node);
    eventually("everything of the first one ends", async || (alive() == 0).then_some(())).await;

    let torn = Arc::new(Torn { disk, refused: Arc::default() });
    let refused = Node::start(settings.clone(), Parts { engine: torn.clone(), blocking: torn, ..parts.clone() }).await;
    assert!(matches!(refused, Err(StartError::Tables(_))), "{:?}", refused.err());
    // The core of the other shard, the log's writer, the peer port.
    eventually("everything that was begun ends", async || (alive() == 0).then_some(())).await;

    let node = Node::start(settings, parts).await.expect("starts in the same process");
    assert_eq!(payloads(&client_of(&node).await, "account-1").await, [b"opened"]);
    node.shutdown().await;
}
