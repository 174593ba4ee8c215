//! One batch through a shard's group: what consensus adds to the log, the rules and the tables.
//!
//! The bytes of a log record are private to this crate, and so is openraft around them. The smallest public thing is a proposal to
//! a group of one node: its record is encoded, appended, committed, decoded, decided and answered. Disk and engine are in memory, so
//! that no device is in the figures, and the log's writer has its own thread as in production. `storage` benches the log and the
//! tables alone. Bytes are those of the encoded batches.

#[path = "../../raft/machine/benches/sample/mod.rs"]
mod sample;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_machine::{Batch, NodeId, ShardId};
use cairn_raft::{Group, GroupParts, GroupSettings, Identity, NodeInfo, PeerConnector, Peers};
use cairn_storage::blocking::InlineBlocking;
use cairn_storage::fs::MemoryFs;
use cairn_storage::log::{Log, LogSettings, spawn_log_thread};
use cairn_storage::{MemoryDisk, MemoryEngine, Tables, TablesSettings};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tonic::transport::Channel;
use uuid::Uuid;

use sample::{BATCH_WRITES, assert_stored, batch, each, throughput};

const SHARD: ShardId = ShardId(0);

/// The way to peers of a node that has none.
struct NoPeers;

impl PeerConnector for NoPeers {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        Err(format!("there is no peer at {address}"))
    }
}

/// A shard of one node, which leads it.
struct Shard {
    group: Group,
    log: Log,
    log_thread: JoinHandle<()>,
}

impl Shard {
    async fn start() -> Self {
        let (fs, dir) = (MemoryFs::new(), PathBuf::from("/log"));
        Log::create(&fs, &dir).await.expect("a log is made");
        let (log, writer, _) = Log::open(Arc::new(fs), dir, LogSettings::default()).await.expect("it opens");
        let log_thread = spawn_log_thread(writer).expect("threads");
        let shard_log = log.shard(SHARD);
        let engine = Arc::new(MemoryEngine::open(MemoryDisk::new()));
        let (blocking, durable) = (Arc::new(InlineBlocking), Some(shard_log.durable()));
        let tables = Tables::open(engine, SHARD, blocking, durable, TablesSettings::default()).await.expect("they open");
        let identity = Identity { cluster_id: Uuid::from_u128(1), node_id: NodeId(1), birth_id: Uuid::from_u128(2) };
        let (pace, tick_origin, seed) = (None, Instant::now(), [7; 32]);
        let peers = Peers::new(identity, Arc::new(NoPeers));
        let parts = GroupParts { log: shard_log, tables, peers, pace, tick_origin, seed };
        let group = Group::start(GroupSettings::new(SHARD), parts).await.expect("it starts");
        let node = NodeInfo { node_id: identity.node_id, birth_id: identity.birth_id, ..NodeInfo::default() };
        group.initialize(vec![node]).await.expect("it is born");
        group.watch().wait_for(|now| now.is_leader).await.expect("it runs");
        Self { group, log, log_thread }
    }

    /// Hands all batches over at once, and waits until each is answered.
    async fn propose(&self, batches: Vec<Batch>) {
        let answers: Vec<_> = batches.into_iter().map(|batch| self.group.propose_start(batch)).collect();
        for answer in answers {
            assert_stored(&answer.await.expect("the only node takes it"));
        }
    }

    /// How long `rounds` take, each of `count` batches with `writes` writes; goes on behind event `number` of every journal.
    async fn measure(&self, rounds: u64, count: u64, writes: u64, number: &mut u64) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..rounds {
            let batches = (1..=count).map(|next| batch(each(0..writes, *number + next))).collect();
            *number += count;
            let began = Instant::now();
            self.propose(batches).await;
            took += began.elapsed();
        }
        took
    }

    async fn stop(self) {
        self.group.shutdown().await;
        self.log.shutdown().await.expect("it ends");
        self.log_thread.join().expect("nothing panics");
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn proposing(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("propose");
    for (batches, writes) in [(1, 1), (1, BATCH_WRITES), (64, 1), (64, BATCH_WRITES)] {
        let shard = runtime.block_on(Shard::start());
        let bytes = batch(each(0..writes, 2)).encode().len();
        group.throughput(throughput(batches * writes, bytes * batches as usize));
        let mut number = 0;
        group.bench_function(BenchmarkId::new("memory", format!("{batches}x{writes}")), |bencher| {
            bencher.iter_custom(|rounds| runtime.block_on(shard.measure(rounds, batches, writes, &mut number)));
        });
        runtime.block_on(shard.stop());
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = proposing
}
criterion_main!(benches);
