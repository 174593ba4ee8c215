//! Nodes of one cluster inside the test's process, each on a runtime of its own, so that a crash is the end of that runtime.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_api::v1;
use cairn_api::v1::cluster_client::ClusterClient;
use cairn_api::v1::journal_client::JournalClient;
use cairn_api::v1::snapshots_client::SnapshotsClient;
use cairn_client::Cairn;
use cairn_machine::StoredEvent;
use cairn_node::{DuplexNetwork, FjallFactory, FounderSettings, Network, Node, Parts, Settings, StartError};
use cairn_storage::MemoryDisk;
use cairn_storage::blocking::{Blocking, Job, ThreadBlocking};
use cairn_storage::fs::{DirLock, DiskSpace, File, Fs, MemoryFs, OpenMode, OsFs};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};

/// Nothing that is waited for takes longer, unless something is wrong.
pub const WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What survives a node's crash.
#[derive(Clone)]
pub enum Disk {
    /// In memory.
    Memory { fs: MemoryFs, tables: MemoryDisk },
    /// In a folder of the test's directory.
    Files { dir: PathBuf },
}

/// One node of a test's cluster, running or not.
pub struct Member {
    pub settings: Settings,
    pub disk: Disk,
    /// Free bytes of its disk, as the node is told.
    pub room: Arc<AtomicU64>,
    running: Option<(Node, Runtime)>,
    /// Held by every job of its tables' threads: they outlive its runtime.
    jobs: Arc<()>,
}

/// A cluster inside the test's process.
pub struct Cluster {
    pub network: DuplexNetwork,
    pub members: BTreeMap<u64, Member>,
}

/// Where a node listens for clients.
pub fn client_address(id: u64) -> String {
    format!("node-{id}:1")
}

/// Where a node listens for peers.
pub fn peer_address(id: u64) -> String {
    format!("node-{id}:2")
}

/// Where a node listens for operators.
pub fn http_address(id: u64) -> String {
    format!("node-{id}:3")
}

/// Settings of a founder among `founders` nodes.
pub fn founder_settings(id: u64, founders: u64, shards: u16) -> Settings {
    let mut settings = Settings::default();
    settings.cluster.id = uuid::Uuid::from_u128(0xCA1);
    settings.cluster.shards = shards;
    settings.cluster.founders = (1..=founders)
        .map(|id| FounderSettings { node_id: id, peer_address: peer_address(id), client_address: client_address(id) })
        .collect();
    settings.node.id = id;
    settings.listen.client = client_address(id);
    settings.listen.peer = peer_address(id);
    settings.listen.http = http_address(id);
    settings.insecure = true;
    settings.storage.segment_bytes = 8 * 1024 * 1024;
    settings
}

/// Settings of a node that waits to be added.
pub fn joining_settings(id: u64, shards: u16) -> Settings {
    let mut settings = founder_settings(id, 1, shards);
    settings.cluster.founders.clear();
    settings.cluster.join = true;
    settings
}

impl Disk {
    pub fn memory() -> Self {
        Self::Memory { fs: MemoryFs::new(), tables: MemoryDisk::new() }
    }

    fn parts(&self, network: &DuplexNetwork, id: u64) -> Parts {
        let mut seed = [0; 32];
        // Each life draws another birth id, as in production.
        seed[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        seed[16] = id as u8;
        // What does not outlive a node is as for any node without ports.
        let parts = Parts { network: Arc::new(network.clone()), seed, ..Parts::memory().expect("randomness") };
        match self {
            Self::Memory { fs, tables } => {
                let (fs, engine) = (Arc::new(fs.clone()), Arc::new(tables.clone()));
                Parts { fs: fs.clone(), log_fs: fs, engine, ..parts }
            }
            Self::Files { .. } => Parts {
                fs: Arc::new(OsFs::inline()),
                log_fs: Arc::new(OsFs::inline()),
                engine: Arc::new(FjallFactory),
                blocking: Arc::new(ThreadBlocking::start("test-tables", 2).expect("threads")),
                ..parts
            },
        }
    }

    fn dir(&self) -> Option<PathBuf> {
        match self {
            Self::Memory { .. } => None,
            Self::Files { dir } => Some(dir.clone()),
        }
    }
}

/// Blocking work that can be waited for.
struct Counted {
    threads: Arc<dyn Blocking>,
    jobs: Arc<()>,
}

#[async_trait::async_trait]
impl Blocking for Counted {
    async fn run_boxed(&self, job: Job) {
        let running = Arc::clone(&self.jobs);
        let counted = move || {
            job();
            drop(running);
        };
        self.threads.run_boxed(Box::new(counted)).await;
    }
}

impl Cluster {
    /// A cluster of founders, started and ready.
    pub async fn of_founders(founders: u64, shards: u16) -> Self {
        Self::of_founders_on(founders, shards, |_| Disk::memory()).await
    }

    /// The same on disks of the test's choice.
    pub async fn of_founders_on(founders: u64, shards: u16, disk: impl Fn(u64) -> Disk) -> Self {
        let mut cluster = Self::of_nobody();
        for id in 1..=founders {
            cluster.enlist(founder_settings(id, founders, shards), disk(id));
        }
        for id in 1..=founders {
            cluster.start(id).await;
        }
        cluster.all_ready().await;
        cluster
    }

    pub fn of_nobody() -> Self {
        // `RUST_LOG=info` shows what the nodes say.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        Self { network: DuplexNetwork::new(), members: BTreeMap::new() }
    }

    /// Makes a node known; it is not started yet.
    pub fn enlist(&mut self, settings: Settings, disk: Disk) {
        let id = settings.node.id;
        let settings = Settings { data_dir: disk.dir(), ..settings };
        self.members
            .insert(id, Member { settings, disk, room: Arc::new(AtomicU64::new(u64::MAX)), running: None, jobs: Arc::default() });
    }

    pub async fn start(&mut self, id: u64) {
        self.try_start(id).await.unwrap_or_else(|error| panic!("node {id} starts: {error}"));
    }

    pub async fn try_start(&mut self, id: u64) -> Result<(), StartError> {
        let member = self.members.get_mut(&id).expect("is enlisted");
        let mut parts = member.disk.parts(&self.network, id);
        parts.blocking = Arc::new(Counted { threads: parts.blocking, jobs: Arc::clone(&member.jobs) });
        parts.fs = Arc::new(LimitedFs { inner: parts.fs, room: Arc::clone(&member.room) });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("node-{id}"))
            .enable_all()
            .build()
            .expect("a runtime");
        let started = runtime.spawn(Node::start(member.settings.clone(), parts)).await.expect("the start does not panic");
        match started {
            Ok(node) => {
                member.running = Some((node, runtime));
                Ok(())
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    pub fn node(&self, id: u64) -> &Node {
        &self.members[&id].running.as_ref().expect("is running").0
    }

    pub fn running(&self) -> Vec<u64> {
        self.members.iter().filter(|(_, member)| member.running.is_some()).map(|(id, _)| *id).collect()
    }

    pub async fn all_ready(&self) {
        for id in self.running() {
            let node = self.node(id);
            if tokio::time::timeout(WAIT_MAX, node.ready()).await.is_err() {
                panic!("node {id} is not ready: {:?}", node.not_ready());
            }
        }
    }

    /// A node dies without a word, as by SIGKILL: what it had synced stays.
    pub fn kill(&mut self, id: u64) {
        let (node, runtime) = self.members.get_mut(&id).expect("is enlisted").running.take().expect("is running");
        end(runtime);
        drop(node);
        self.await_jobs(id);
        if let Disk::Memory { fs, .. } = &self.members[&id].disk {
            fs.crash(|| false);
        }
    }

    /// A node stops as by SIGTERM.
    pub async fn stop(&mut self, id: u64) {
        let (node, runtime) = self.members.get_mut(&id).expect("is enlisted").running.take().expect("is running");
        runtime.spawn(async move { node.shutdown().await }).await.expect("the stop does not panic");
        end(runtime);
        self.await_jobs(id);
    }

    /// With a process, its threads are gone too: nothing touches the node's files any more.
    #[allow(clippy::disallowed_methods, reason = "a kill is not asynchronous")]
    fn await_jobs(&self, id: u64) {
        let end = std::time::Instant::now() + WAIT_MAX;
        while Arc::strong_count(&self.members[&id].jobs) > 1 {
            assert!(std::time::Instant::now() < end, "jobs of node {id} do not end");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Who leads a shard, when all running nodes know.
    pub async fn leader(&self, shard: u16) -> u64 {
        let running = self.running();
        eventually("one leader", async || {
            let leaders: Vec<_> = running.iter().filter(|id| self.node(**id).leads().iter().any(|led| led.0 == shard)).collect();
            (leaders.len() == 1).then(|| *leaders[0])
        })
        .await
    }

    pub async fn follower(&self, shard: u16) -> u64 {
        let leader = self.leader(shard).await;
        self.running().into_iter().find(|id| *id != leader).expect("there is another node")
    }

    pub fn channel(&self, id: u64) -> Channel {
        channel(&self.network, &client_address(id))
    }

    pub fn journal(&self, id: u64) -> JournalClient<Channel> {
        JournalClient::new(self.channel(id)).max_decoding_message_size(16 * 1024 * 1024)
    }

    pub fn snapshots(&self, id: u64) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel(id))
    }

    pub fn admin(&self, id: u64) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel(id))
    }

    pub async fn status(&self, id: u64) -> v1::StatusResponse {
        self.admin(id).status(v1::StatusRequest {}).await.expect("status").into_inner()
    }

    /// Writes an event at the leader, wherever that is, with the same request again until its outcome is known.
    pub async fn write(&self, persistence_id: &str, number: i64, data: &[u8]) -> v1::WriteResponse {
        let request = write_request(persistence_id, number, data);
        eventually("the write is acknowledged", async || {
            for id in self.running() {
                match self.journal(id).write(timed(request.clone())).await {
                    Ok(response) => return Some(response.into_inner()),
                    Err(status) if is_passing(&status) => {}
                    Err(status) => panic!("write {persistence_id} {number}: {status}"),
                }
            }
            None
        })
        .await
    }

    /// Everything of a journal as one node replays it.
    pub async fn replay(&self, id: u64, persistence_id: &str, freshness: v1::Freshness) -> (Vec<v1::StoredEvent>, v1::ReplayEnd) {
        let request = replay_request(persistence_id, freshness);
        let mut stream = self.journal(id).replay(request).await.expect("replay").into_inner();
        let mut events = Vec::new();
        loop {
            let message = stream.message().await.expect("replay goes on").expect("replay ends with an end");
            events.extend(message.events);
            if let Some(end) = message.end {
                assert!(stream.message().await.expect("the end").is_none());
                return (events, end);
            }
        }
    }

    pub async fn payloads(&self, id: u64, persistence_id: &str) -> Vec<Vec<u8>> {
        let (events, _) = self.replay(id, persistence_id, strong()).await;
        events.iter().map(payload).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.values_mut() {
            if let Some((node, runtime)) = member.running.take() {
                drop(node);
                runtime.shutdown_background();
            }
        }
    }
}

/// Ends a runtime and waits until its threads are gone: nothing of the node goes on after that.
#[allow(clippy::disallowed_methods, reason = "a runtime cannot be ended from within another one")]
fn end(runtime: Runtime) {
    std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5))).join().expect("the runtime ends");
}

/// The client of an embedded node: its connector is the node's network.
pub async fn client_of(node: &Node) -> Cairn {
    let network = node.network();
    let connector = move |address: String| {
        let network: Arc<dyn Network> = Arc::clone(&network);
        async move { network.connect(&address).await }
    };
    let address = node.addresses().client.clone();
    Cairn::builder().endpoints([address]).connector(connector).connect().await.expect("connects")
}

pub async fn payloads(cairn: &Cairn, persistence_id: &str) -> Vec<Vec<u8>> {
    let journal = cairn.journal(persistence_id).expect("a name");
    let mut events = journal.replay(..).start();
    let mut payloads = Vec::new();
    while let Some(stored) = events.next().await.expect("is replayed") {
        payloads.push(stored.event.payload.bytes.to_vec());
    }
    payloads
}

/// A channel over the network of one process.
pub fn channel(network: &DuplexNetwork, address: &str) -> Channel {
    let network = network.clone();
    let address = address.to_owned();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let (network, address) = (network.clone(), address.clone());
        async move { network.connect(&address).await.map(TokioIo::new) }
    }))
}

/// Waits for a condition.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// A request with a deadline of its own.
pub fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_secs(2));
    request
}

/// Whether a failure is one after which the same request is sent again.
pub fn is_passing(status: &tonic::Status) -> bool {
    use v1::Reason;
    match v1::Failure::from_status(status) {
        Some(failure) => matches!(
            failure.reason(),
            Reason::NotLeader | Reason::NoLeader | Reason::Unavailable | Reason::Overloaded | Reason::Unknown | Reason::Behind
        ),
        // The connection broke.
        None => true,
    }
}

/// The reason of a failure that a node gave.
pub fn reason<T: std::fmt::Debug>(outcome: Result<T, tonic::Status>) -> v1::Reason {
    let status = outcome.expect_err("is refused");
    let failure = v1::Failure::from_status(&status).unwrap_or_else(|| panic!("a failure of ours: {status:?}"));
    failure.reason()
}

pub fn event(number: i64, data: &[u8]) -> v1::Event {
    let payload = v1::Payload { serializer_id: 1, manifest: "m".into(), data: bytes::Bytes::copy_from_slice(data) };
    v1::Event { sequence_number: number, payload: Some(payload), ..v1::Event::default() }
}

/// One event, stored only behind the one before it.
pub fn write_request(persistence_id: &str, number: i64, data: &[u8]) -> v1::WriteRequest {
    v1::WriteRequest {
        persistence_id: persistence_id.to_owned(),
        writer_id: "writer".to_owned(),
        epoch: None,
        after: Some(number - 1),
        atomic_writes: vec![v1::AtomicWrite { events: vec![event(number, data)] }],
    }
}

pub fn replay_request(persistence_id: &str, freshness: v1::Freshness) -> v1::ReplayRequest {
    v1::ReplayRequest {
        persistence_id: persistence_id.to_owned(),
        from: 1,
        to: i64::MAX,
        max: i64::MAX,
        include_deleted: false,
        freshness: Some(freshness),
    }
}

pub fn strong() -> v1::Freshness {
    v1::Freshness { kind: Some(v1::freshness::Kind::Strong(v1::freshness::Strong {})) }
}

pub fn local() -> v1::Freshness {
    v1::Freshness { kind: Some(v1::freshness::Kind::Local(v1::freshness::Local {})) }
}

pub fn at_least(number: i64) -> v1::Freshness {
    v1::Freshness { kind: Some(v1::freshness::Kind::AtLeast(number)) }
}

pub fn payload(event: &v1::StoredEvent) -> Vec<u8> {
    stored_event(event).event.payload.bytes.to_vec()
}

pub fn stored_event(event: &v1::StoredEvent) -> StoredEvent {
    event.clone().try_into().expect("a legal event")
}

/// The first atomic write's outcome, which must be that it was stored.
pub fn stored(response: &v1::WriteResponse) -> v1::write_outcome::Stored {
    match response.outcomes.first().and_then(|outcome| outcome.kind.clone()) {
        Some(v1::write_outcome::Kind::Stored(stored)) => stored,
        other => panic!("stored: {other:?}"),
    }
}

/// Files on a disk whose free space the test sets.
#[derive(Debug)]
struct LimitedFs {
    inner: Arc<dyn Fs>,
    room: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl Fs for LimitedFs {
    async fn create_dir_all(&self, dir: &Path) -> std::io::Result<()> {
        self.inner.create_dir_all(dir).await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<Arc<dyn File>> {
        self.inner.open(path, mode).await
    }

    async fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.inner.list(dir).await
    }

    async fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.inner.remove(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.inner.rename(from, to).await
    }

    async fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.inner.sync_dir(dir).await
    }

    async fn exists(&self, path: &Path) -> std::io::Result<bool> {
        self.inner.exists(path).await
    }

    async fn free_bytes(&self, path: &Path) -> std::io::Result<DiskSpace> {
        let space = self.inner.free_bytes(path).await?;
        Ok(DiskSpace { available: space.available.min(self.room.load(Ordering::Relaxed)), ..space })
    }

    async fn lock_dir(&self, dir: &Path) -> std::io::Result<Box<dyn DirLock>> {
        self.inner.lock_dir(dir).await
    }
}
