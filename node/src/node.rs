//! The assembly of a node from settings and parts: the only one, for production, embedding, tests and simulation.
//!
//! Order of a start: data directory, identity, ports, log, engine, then shard by shard tables and group, then services. Peers are
//! answered as soon as the port is there, since a node that lost its tables needs them; a shard that is not open answers nobody.
//!
//! Order of a stop: not ready, hand leadership over, end streams, drain what is in flight, flush tables, close groups, close the
//! log. Each step is bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_machine::{NodeId, ShardId};
use cairn_raft::{Group, GroupStatus, Groups, Identity, Peers};
use cairn_storage::EntryId;
use cairn_storage::fs::make_dir;
use cairn_storage::log::Log;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::begun::Begun;
use crate::connector::NetworkConnector;
use crate::core::{Core, Shard};
use crate::failed::{DigestError, Failed, StartError};
use crate::metrics::Metrics;
use crate::monitor::Monitor;
use crate::network::{Guard, Network};
use crate::parts::Parts;
use crate::readiness::Reason;
use crate::recovery::Recovery;
use crate::settings::Settings;
use crate::{condemned, identity, monitor, open, server};

/// Between two looks whether what is in flight is answered, at a stop.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// A running node. Cheap to clone; all clones are the same node. Dropping the last one does not stop it: [`Node::shutdown`] does.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    groups: Arc<Groups>,
    network: Arc<dyn Network>,
    addresses: Addresses,
    readiness: watch::Receiver<Vec<Reason>>,
    failed: watch::Receiver<Option<Failed>>,
    begun: Arc<Begun>,
    shutdown: tokio::sync::Mutex<bool>,
}

/// Where a node really listens: ports that were 0 in the settings are known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For clients.
    pub client: String,
    /// For the other nodes.
    pub peer: String,
    /// For operators; none if there is no such port.
    pub http: Option<String>,
}

/// What a shard's tables hold on one node, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardDigest {
    /// The last entry that was applied; none: the shard is empty.
    pub applied: Option<EntryId>,
    /// Over everything stored then.
    pub hash: u128,
}

impl Node {
    /// Starts a node and returns when its shards are open and its ports are served; [`Node::ready`] says when it can serve.
    ///
    /// # Errors
    /// See [`StartError`]. What was started is stopped again.
    pub async fn start(settings: Settings, parts: Parts) -> Result<Self, StartError> {
        let begun = Arc::<Begun>::default();
        let deadline = Duration::from_millis(settings.shutdown_deadline_ms);
        let started = start(settings, parts, Arc::clone(&begun)).await;
        if started.is_err() {
            // Ports are free and the directory is unlocked when this returns, or as soon as its disk allows.
            begun.end(Instant::now() + deadline).await;
        }
        started
    }

    /// Where the node listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.inner.addresses
    }

    /// Who the node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.core.identity
    }

    /// How the node is reached: an embedded node's clients connect through this, to [`Addresses::client`].
    #[must_use]
    pub fn network(&self) -> Arc<dyn Network> {
        Arc::clone(&self.inner.network)
    }

    /// Resolves when the node can serve: every shard has a leader that this node knows, and this node has caught up.
    pub async fn ready(&self) {
        let mut readiness = self.inner.readiness.clone();
        // The monitor lives as long as the node; a node that has stopped never becomes ready.
        if readiness.wait_for(Vec::is_empty).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Why the node is not ready, for people; empty = it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        self.inner.readiness.borrow().iter().map(ToString::to_string).collect()
    }

    /// Resolves when something broke that cannot be repaired in the process: the process must end with an error, and be started
    /// again.
    pub async fn failed(&self) -> Failed {
        let mut failed = self.inner.failed.clone();
        let failure = failed.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        match failure {
            Some(failure) => failure,
            // A node that has stopped breaks no more.
            None => std::future::pending().await,
        }
    }

    /// Which shards this node leads, by their numbers.
    #[must_use]
    pub fn leads(&self) -> Vec<ShardId> {
        self.inner.core.shards.iter().filter(|shard| shard.group.is_leader()).map(|shard| shard.id).collect()
    }

    /// What this node knows of each shard, by their numbers.
    #[must_use]
    pub fn status(&self) -> Vec<GroupStatus> {
        self.inner.core.statuses()
    }

    /// One number over everything that this node stores of a shard: replicas that have applied the same entry have the same. It tells
    /// whether replicas really hold the same, beyond [`GroupStatus::state_hash`], which says that they decided the same.
    ///
    /// As costly as a checkpoint: it flushes the tables and reads them as a whole. Comparable between nodes of one version of Cairn.
    ///
    /// # Errors
    /// See [`DigestError`].
    pub async fn shard_digest(&self, shard: ShardId) -> Result<ShardDigest, DigestError> {
        let found = self.inner.core.shards.get(usize::from(shard.0)).ok_or(DigestError::NoSuchShard(shard))?;
        let (applied, hash) = found.tables().digest().await?;
        Ok(ShardDigest { applied, hash })
    }

    /// Stops the node: hands leadership over, finishes what is in flight, flushes and closes. Bounded by the settings' deadline.
    /// A second call waits for the first one.
    pub async fn shutdown(&self) {
        let mut is_done = self.inner.shutdown.lock().await;
        if !*is_done {
            self.inner.shutdown().await;
            *is_done = true;
        }
    }
}

impl Inner {
    async fn shutdown(&self) {
        let deadline = Instant::now() + Duration::from_millis(self.core.settings.shutdown_deadline_ms);
        tracing::info!("stopping");
        self.core.draining.cancel();
        self.hand_over(deadline).await;
        self.core.stopping.cancel();
        while self.core.admission.commands() > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
        self.flush(deadline).await;
        self.begun.end(deadline).await;
        tracing::info!("stopped");
    }

    async fn hand_over(&self, deadline: Instant) {
        let half = deadline.saturating_duration_since(Instant::now()) / 2;
        let groups = self.groups.all();
        let handed_over = groups.iter().filter(|group| group.is_leader()).map(|group| group.hand_over(half));
        futures::future::join_all(handed_over).await;
    }

    async fn flush(&self, deadline: Instant) {
        for group in self.groups.all() {
            match tokio::time::timeout_at(deadline, group.tables().flush()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(shard = %group.shard(), %error, "flush the tables"),
                // Nothing is lost: the log has it.
                Err(_) => tracing::warn!(shard = %group.shard(), "the tables were not flushed in time"),
            }
        }
    }
}

async fn start(settings: Settings, parts: Parts, begun: Arc<Begun>) -> Result<Node, StartError> {
    let started = Instant::now();
    let problems = settings.validate();
    if !problems.is_empty() {
        return Err(StartError::Settings { problems });
    }
    let dir = settings.data_dir.clone().unwrap_or_else(|| PathBuf::from("memory"));
    let mut random = StdRng::from_seed(parts.seed);
    let identity = take_directory(&settings, &parts, &dir, &mut random, &begun).await?;
    let metrics = Metrics::new();
    let (failed_sender, failed) = watch::channel(None);
    let (readiness_sender, readiness) = watch::channel(vec![Reason::Recovering(0)]);
    let Begun { stop, cut, tasks, .. } = &*begun;

    let ports = Ports::listen(&settings, &parts, cut).await?;
    let addresses = ports.addresses();
    if let Some(http) = ports.http {
        let headers_deadline = Duration::from_millis(settings.limits.handshake_deadline_ms);
        tasks.spawn(crate::http::serve(
            http,
            metrics.clone(),
            readiness.clone(),
            headers_deadline,
            stop.clone().cancelled_owned(),
        ));
    }
    let peers = Peers::new(identity, Arc::new(NetworkConnector(Arc::clone(&parts.network))));
    let recovery = Recovery::default();
    let opening = open::Opening {
        settings: &settings,
        parts: &parts,
        dir: &dir,
        identity,
        peers: Arc::clone(&peers),
        metrics: metrics.clone(),
        begun: &begun,
        failed: failed_sender.clone(),
        addresses: &addresses,
        recovery: &recovery,
    };
    let opening = open::open(opening, ports.peer, random);
    let opened = recovery.told_during(opening, &readiness_sender).await?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a start")]
    metrics.recovery_duration.set(started.elapsed().as_millis() as f64 / 1000.0);

    let (disk_sender, disk) = watch::channel(crate::disk::DiskState::default());
    let core = Arc::new(Core {
        shards: open::shards(&opened.groups, &settings, &parts, &metrics, stop, tasks),
        admission: Admission::new(settings.limits.in_flight_commands_max, settings.limits.in_flight_bytes_max),
        replays: Arc::new(Semaphore::new(settings.limits.replays_max)),
        follows: Arc::new(Semaphore::new(settings.limits.follows_max)),
        identity,
        peers: Arc::clone(&peers),
        metrics: metrics.clone(),
        disk,
        readiness: readiness.clone(),
        process: Arc::clone(&parts.process),
        draining: CancellationToken::new(),
        stopping: CancellationToken::new(),
        started,
        settings,
    });
    let monitor = Monitor::new(Arc::clone(&core), readiness_sender, failed.clone());
    monitor::spawn_all(monitor, &opened, &parts, &dir, disk_sender, stop, tasks, &failed_sender);
    server::spawn(ports.client, Arc::clone(&core), readiness.clone(), tasks, &failed_sender);
    tracing::info!(node = %identity.node_id, client = addresses.client, peer = addresses.peer, "started");
    let inner = Inner {
        core,
        groups: opened.groups,
        network: parts.network,
        addresses,
        readiness,
        failed,
        begun,
        shutdown: tokio::sync::Mutex::new(false),
    };
    Ok(Node { inner: Arc::new(inner) })
}

async fn take_directory(
    settings: &Settings,
    parts: &Parts,
    dir: &Path,
    random: &mut StdRng,
    begun: &Begun,
) -> Result<Identity, StartError> {
    let unusable = |error| StartError::Directory { dir: dir.to_owned(), error };
    make_dir(&*parts.fs, dir).await.map_err(unusable)?;
    let lock = parts.fs.lock_dir(dir).await.map_err(unusable)?;
    begun.lock.get_or_init(|| lock.into());
    condemned::check(&*parts.fs, dir).await?;
    if let Some(identity) = identity::read(&*parts.fs, dir, settings).await? {
        return Ok(identity);
    }
    // The log first: a directory with an identity and without a log has lost what it voted and acknowledged.
    Log::create(&*parts.log_fs, &open::log_dir(dir)).await?;
    let birth_id = uuid::Builder::from_random_bytes(rand::Rng::random(random)).into_uuid();
    Ok(identity::create(&*parts.fs, dir, settings, birth_id).await?)
}

/// The ports, taken before anything else is done, so that a start that cannot succeed fails at once.
struct Ports {
    client: Guard,
    peer: Guard,
    http: Option<Guard>,
}

impl Ports {
    async fn listen(settings: &Settings, parts: &Parts, cut: &CancellationToken) -> Result<Self, StartError> {
        let listen = async |address: &str| {
            let listener = parts.network.listen(address).await;
            let listener = listener.map_err(|error| StartError::Listen { address: address.to_owned(), error })?;
            Ok::<_, StartError>(Guard::new(listener, server::guard_settings(&settings.limits, cut)))
        };
        let client = listen(&settings.listen.client).await?;
        let peer = listen(&settings.listen.peer).await?;
        let http = if settings.listen.http.is_empty() { None } else { Some(listen(&settings.listen.http).await?) };
        Ok(Self { client, peer, http })
    }

    fn addresses(&self) -> Addresses {
        Addresses { client: self.client.address(), peer: self.peer.address(), http: self.http.as_ref().map(Guard::address) }
    }
}

/// The groups of a node, with their node's id: what tasks work on.
pub(crate) struct Opened {
    pub groups: Arc<Groups>,
    pub log: Log,
    pub own: NodeId,
}

impl Opened {
    pub(crate) fn all(&self) -> Vec<Group> {
        self.groups.all()
    }
}

/// A shard is found by its number: all are open, in order.
pub(crate) fn in_order(shards: &[Shard]) -> bool {
    shards.iter().enumerate().all(|(index, shard)| usize::from(shard.id.0) == index)
}
