//! Nodes in one process, each on a runtime of its own over disks in memory, joined by a network whose links can be cut.
//!
//! A kill drops the node's runtime in the middle of whatever it does, and its disk keeps what was synced.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Batch, Command, Event, NodeId, Payload, PersistenceId, Reply, SequenceNumber, ShardId, StoredEvent, Timestamp,
    Write, WriteOutcome, WriterId,
};
use cairn_storage::blocking::InlineBlocking;
use cairn_storage::fs::{Fs, MemoryFs};
use cairn_storage::log::{Log, LogSettings};
use cairn_storage::tables::Replay;
use cairn_storage::{MemoryDisk, MemoryEngine, Tables, TablesSettings};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use uuid::Uuid;

use super::network::{Connector, Network};
use crate::{
    Founders, Group, GroupParts, GroupSettings, Groups, Identity, NodeCard, NodeInfo, Pace, PeerService, Peers, ProposeError,
    StartError, form,
};

/// The only shard of most tests.
pub const SHARD: ShardId = ShardId(0);
/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a node keeps when it is not running.
pub struct Node {
    pub info: NodeInfo,
    pub cluster_id: Uuid,
    pub founders: Founders,
    fs: MemoryFs,
    pub disk: MemoryDisk,
    pub settings: GroupSettings,
    pub memtable_bytes_max: usize,
    pub segment_bytes: u32,
    pub pace: Option<Arc<dyn Pace>>,
    pub seed: [u8; 32],
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    groups: Arc<Groups>,
    group: Group,
    peers: Arc<Peers>,
    log: Log,
}

impl Node {
    pub fn new(id: u64, cluster_id: Uuid) -> Self {
        let info = NodeInfo {
            node_id: NodeId(id),
            peer_address: format!("peer-{id}:1"),
            client_address: format!("client-{id}:1"),
            birth_id: Uuid::from_u128(0xb1 << 64 | u128::from(id)),
        };
        let settings = GroupSettings { upkeep_interval: Duration::from_millis(20), ..GroupSettings::new(SHARD) };
        Self {
            info,
            cluster_id,
            founders: Founders::default(),
            fs: MemoryFs::new(),
            disk: MemoryDisk::new(),
            settings,
            memtable_bytes_max: TablesSettings::default().memtable_bytes_max,
            segment_bytes: 1 << 20,
            pace: None,
            seed: [u8::try_from(id).unwrap(); 32],
            running: None,
        }
    }

    pub fn identity(&self) -> Identity {
        Identity { cluster_id: self.cluster_id, node_id: self.info.node_id, birth_id: self.info.birth_id }
    }

    pub async fn start(&mut self, network: &Network) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        match runtime.spawn(self.to_start(network).run()).await.unwrap() {
            Ok((groups, group, peers, log)) => {
                self.running = Some(Running { runtime, groups, group, peers, log });
                Ok(())
            }
            Err(error) => {
                drop_runtime(runtime);
                Err(error)
            }
        }
    }

    /// Starts it on the test's own runtime, whose clock may jump, and gives its only shard.
    pub async fn start_here(&self) -> Group {
        let (_, group, _, _) = self.to_start(&Network::default()).run().await.expect("it starts");
        group
    }

    fn to_start(&self, network: &Network) -> Start {
        Start {
            info: self.info.clone(),
            identity: self.identity(),
            founders: self.founders.clone(),
            fs: self.fs.clone(),
            disk: self.disk.clone(),
            settings: self.settings.clone(),
            memtable_bytes_max: self.memtable_bytes_max,
            segment_bytes: self.segment_bytes,
            pace: self.pace.clone(),
            seed: self.seed,
            network: network.clone(),
        }
    }

    /// Ends the node in the middle of whatever it does; what was not synced is gone.
    pub fn kill(&mut self) {
        let running = self.running.take().expect("it is running");
        let Running { runtime, groups, group, peers, log } = running;
        drop_runtime(runtime);
        drop((groups, group, peers, log));
        self.fs.crash(|| false);
        self.disk.restart();
    }

    /// Loses the tables, but not the log.
    pub fn lose_tables(&mut self) {
        assert!(self.running.is_none(), "tables are lost while a node is down");
        self.disk = MemoryDisk::new();
    }

    /// Loses everything, and comes back with another birth.
    /// The log's files as they are now.
    pub fn copy_log(&self) -> MemoryFs {
        self.fs.duplicate()
    }

    /// Puts a copy into the place of the log's files.
    pub fn put_log_back(&mut self, copy: MemoryFs) {
        assert!(!self.is_running());
        self.fs = copy;
    }

    pub fn wipe(&mut self, birth_id: Uuid) {
        assert!(self.running.is_none(), "a node is wiped while it is down");
        self.disk = MemoryDisk::new();
        self.fs = MemoryFs::new();
        self.info.birth_id = birth_id;
    }

    /// Its disk fails the next sync.
    pub fn fail_next_sync(&self) {
        self.fs.fail_sync_after(0);
    }

    /// Its disk is stuck in syncs, or goes on.
    pub fn hold_syncs(&self, held: bool) {
        self.fs.hold_syncs(held);
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn group(&self) -> &Group {
        &self.running.as_ref().expect("it is running").group
    }

    pub fn groups(&self) -> &Arc<Groups> {
        &self.running.as_ref().expect("it is running").groups
    }

    pub fn peers(&self) -> &Arc<Peers> {
        &self.running.as_ref().expect("it is running").peers
    }

    pub fn log(&self) -> &Log {
        &self.running.as_ref().expect("it is running").log
    }

    pub fn runtime(&self) -> &Runtime {
        &self.running.as_ref().expect("it is running").runtime
    }

    /// Every event of a journal on this node, whatever is applied.
    pub async fn events(&self, name: &str) -> Vec<StoredEvent> {
        replay(self.group().tables(), name).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            drop_runtime(running.runtime);
        }
    }
}

struct Start {
    info: NodeInfo,
    identity: Identity,
    founders: Founders,
    fs: MemoryFs,
    disk: MemoryDisk,
    settings: GroupSettings,
    memtable_bytes_max: usize,
    segment_bytes: u32,
    pace: Option<Arc<dyn Pace>>,
    seed: [u8; 32],
    network: Network,
}

impl Start {
    async fn run(self) -> Result<(Arc<Groups>, Group, Arc<Peers>, Log), StartError> {
        let log_settings = LogSettings { segment_bytes: self.segment_bytes, ..LogSettings::default() };
        let dir = PathBuf::from("/log");
        if !self.fs.exists(&dir).await.expect("look") {
            Log::create(&self.fs, &dir).await.expect("the log is made");
        }
        let opened = Log::open(Arc::new(self.fs), dir, log_settings).await;
        let (log, writer, _report) = opened.expect("the log opens");
        tokio::spawn(writer.run());
        let shard_log = log.shard(SHARD);
        let tables_settings = TablesSettings { memtable_bytes_max: self.memtable_bytes_max, ..TablesSettings::default() };
        let engine = Arc::new(MemoryEngine::open(self.disk));
        let durable = Some(shard_log.durable());
        let tables = Tables::open(engine, SHARD, Arc::new(InlineBlocking), durable, tables_settings).await.expect("tables open");
        let card = NodeCard {
            cluster_id: self.identity.cluster_id,
            node: self.info.clone(),
            shards: 1,
            founders: self.founders.clone(),
        };
        let state = shard_log.state();
        let groups = Arc::new(Groups::new(card, state.last.is_some() || state.purged.is_some()));
        let connector = Connector { network: self.network.clone(), from: self.info.peer_address.clone() };
        let peers = Peers::new(self.identity, Arc::new(connector));
        let incoming = self.network.listen(&self.info.peer_address);
        tokio::spawn(PeerService::new(groups.clone()).serve(incoming, std::future::pending()));
        let now = self.pace.as_ref().map_or_else(Instant::now, |pace| pace.now());
        let tick_origin = now + Duration::from_millis(u64::from(self.seed[0]) % 30);
        let parts = GroupParts { log: shard_log, tables, peers: peers.clone(), pace: self.pace, tick_origin, seed: self.seed };
        let group = Group::start(self.settings, parts).await?;
        groups.insert(group.clone());
        if !self.founders.0.is_empty() {
            let (groups, peers) = (groups.clone(), peers.clone());
            tokio::spawn(async move { form(&groups, &peers).await });
        }
        Ok((groups, group, peers, log))
    }
}

#[expect(clippy::disallowed_methods, reason = "a runtime must not be dropped inside of another one")]
fn drop_runtime(runtime: Runtime) {
    std::thread::spawn(move || drop(runtime)).join().unwrap();
}

/// A cluster of some nodes.
pub struct World {
    pub network: Network,
    pub nodes: Vec<Node>,
}

impl World {
    /// Nodes 1 to `count`, not running.
    pub fn new(count: u64) -> Self {
        let cluster_id = Uuid::from_u128(0xca1);
        Self { network: Network::default(), nodes: (1..=count).map(|id| Node::new(id, cluster_id)).collect() }
    }

    /// A cluster that was born with all its nodes and has a leader.
    pub async fn born(count: u64) -> Self {
        let mut world = Self::new(count);
        world.come_up().await;
        world
    }

    /// As [`Self::born`], with a leader that stays one on a machine that is busy with other things.
    pub async fn born_calm(count: u64) -> Self {
        Self::born_slower(count, 4).await
    }

    /// As [`Self::born`], with timers so many times slower.
    pub async fn born_slower(count: u64, factor: u32) -> Self {
        let mut world = Self::new(count);
        for node in &mut world.nodes {
            node.settings.timing = node.settings.timing.slower(factor);
        }
        world.come_up().await;
        world
    }

    /// The cluster is born: it has a leader, and its first members are committed, so that others can follow.
    async fn come_up(&mut self) {
        self.found();
        self.start_all().await;
        let leader = self.leader().await;
        until("the birth is committed", || (self.nodes[leader].group().status().committed? > 0).then_some(())).await;
    }

    /// All nodes become founders.
    pub fn found(&mut self) {
        let founders = self.nodes.iter().map(|node| (node.info.node_id, node.info.peer_address.clone())).collect();
        let founders = Founders(founders);
        for node in &mut self.nodes {
            node.founders = founders.clone();
            node.settings.recovery_peers =
                founders.0.iter().filter(|(id, _)| **id != node.info.node_id).map(|(_, address)| address.clone()).collect();
        }
    }

    pub async fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start(&self.network).await.expect("it starts");
        }
    }

    pub async fn start(&mut self, index: usize) {
        self.nodes[index].start(&self.network).await.expect("it starts");
    }

    /// Which node leads, when one does that a quorum follows.
    pub async fn leader(&self) -> usize {
        until("a leader", || {
            let running: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_running()).collect();
            let leader = running.iter().copied().find(|index| self.nodes[*index].group().is_leader())?;
            let id = self.nodes[leader].info.node_id;
            let followed = |index: &&usize| self.nodes[**index].group().leader().is_some_and(|leader| leader.node_id == id);
            let voters = self.nodes[leader].group().status().members.voters.len();
            (running.iter().filter(followed).count() * 2 > voters).then_some(leader)
        })
        .await
    }

    /// Writes one event, at whichever node leads, until it is acknowledged.
    pub async fn write(&self, name: &str, number: u64) {
        self.write_bytes(name, number, Bytes::from(format!("{name}/{number}"))).await;
    }

    /// Writes one event with a payload, at whichever node leads, until it is acknowledged.
    pub async fn write_bytes(&self, name: &str, number: u64, bytes: Bytes) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_running()).collect();
        self.write_among(&running, name, number, bytes).await;
    }

    /// As [`Self::write_bytes`], at whichever of these nodes leads.
    pub async fn write_among(&self, indexes: &[usize], name: &str, number: u64, bytes: Bytes) {
        let end = Instant::now() + PATIENCE;
        loop {
            for index in indexes {
                match self.nodes[*index].group().propose(batch(name, number, bytes.clone())).await {
                    Ok(replies) => return assert_stored(&replies),
                    Err(ProposeError::NotLeader { .. } | ProposeError::Unknown | ProposeError::Overloaded { .. }) => {}
                    Err(ProposeError::Stopped) => panic!("a running shard is stopped"),
                }
            }
            assert!(Instant::now() < end, "nobody took event {number} of {name}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every running node has these events, and no others, and states that are equal.
    pub async fn converge(&self, name: &str, numbers: &[u64]) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_running()).collect();
        self.converge_on(&running, name, numbers).await;
    }

    /// As [`Self::converge`], of some nodes.
    pub async fn converge_on(&self, indexes: &[usize], name: &str, numbers: &[u64]) {
        let end = Instant::now() + PATIENCE;
        for node in indexes.iter().map(|index| &self.nodes[*index]) {
            loop {
                let events = node.events(name).await;
                let found: Vec<u64> = events.iter().map(|event| event.event.sequence_number.0).collect();
                if found == numbers {
                    break;
                }
                assert!(Instant::now() < end, "node {} has {found:?}, not {numbers:?}", node.info.node_id);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let same = || {
            let hashes: BTreeSet<_> = indexes.iter().map(|index| self.nodes[*index].group().status().state_hash).collect();
            (hashes.len() == 1).then_some(())
        };
        until("equal states", same).await;
    }
}

/// Looks again and again until there is something.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A batch with one event.
pub fn write(name: &str, number: u64) -> Batch {
    batch(name, number, Bytes::from(format!("{name}/{number}")))
}

/// A batch with one event with a payload.
pub fn batch(name: &str, number: u64, bytes: Bytes) -> Batch {
    let event = Event {
        sequence_number: SequenceNumber(number),
        payload: Payload { serializer_id: 1, manifest: String::new(), bytes },
        adapter_manifest: String::new(),
        metadata: None,
        tags: Vec::new(),
    };
    let command = Command::Write(Write {
        persistence_id: PersistenceId::new(name.to_owned()).unwrap(),
        writer: WriterId::new("test").unwrap(),
        epoch: None,
        after: None,
        atomic_writes: vec![AtomicWrite::new(&[event]).unwrap()],
    });
    Batch { moment: Timestamp(1), commands: vec![command] }
}

pub fn assert_stored(replies: &[Reply]) {
    let [Reply::Write(reply)] = replies else { panic!("one reply to one write: {replies:?}") };
    assert!(reply.outcomes.iter().all(|outcome| matches!(outcome, WriteOutcome::Stored { .. })), "{reply:?}");
}

pub async fn replay(tables: &Tables, name: &str) -> Vec<StoredEvent> {
    let name = PersistenceId::new(name.to_owned()).unwrap();
    let (mut events, mut from, mut captured) = (Vec::new(), SequenceNumber(1), None);
    loop {
        let replay =
            Replay { from, to: SequenceNumber::MAX, events_max: 1000, bytes_max: 1 << 20, include_deleted: true, captured };
        let page = tables.read_events(&name, replay).await.unwrap();
        events.extend(page.events);
        captured = Some(page.watermarks);
        match page.next {
            Some(next) => from = next,
            None => return events,
        }
    }
}
