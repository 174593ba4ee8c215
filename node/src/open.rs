//! Opens what a node keeps: the log, the engine, and shard by shard the tables and the group.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1::Failure;
use cairn_machine::{Batch, NodeId, Reply, ShardId};
use cairn_raft::{Founders, Group, GroupParts, GroupSettings, Groups, Identity, NodeCard, NodeInfo, PeerService, Peers, Timing};
use cairn_storage::blocking::BlockingExt;
use cairn_storage::log::{Log, LogObserver, LogSettings};
use cairn_storage::{Engine, Tables, TablesSettings};
use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::begun::Begun;
use crate::core::Shard;
use crate::failed::{Failed, StartError};
use crate::failure;
use crate::known_peers;
use crate::metrics::Metrics;
use crate::network::Guard;
use crate::node::{Addresses, Opened, in_order};
use crate::parts::Parts;
use crate::proposer::{Proposer, ProposerSettings, Target};
use crate::recovery::Recovery;
use crate::settings::Settings;

/// What is needed to open a node.
pub(crate) struct Opening<'a> {
    pub settings: &'a Settings,
    pub parts: &'a Parts,
    pub dir: &'a Path,
    pub identity: Identity,
    pub peers: Arc<Peers>,
    pub metrics: Metrics,
    pub begun: &'a Begun,
    pub failed: watch::Sender<Option<Failed>>,
    pub addresses: &'a Addresses,
    pub recovery: &'a Recovery,
}

/// Opens everything, drawing what it needs from `random`. Peers are answered from early on, since a node that lost its tables may
/// need others that start with it.
pub(crate) async fn open(opening: Opening<'_>, peer_port: Guard, mut random: StdRng) -> Result<Opened, StartError> {
    let Opening { settings, parts, begun, .. } = opening;
    let log_settings = LogSettings {
        segment_bytes: settings.storage.segment_bytes,
        cache_bytes_max: settings.storage.log_cache_bytes_max,
        shards_max: settings.cluster.shards,
        salt: random.next_u64(),
        observer: Arc::new(SyncMeter(opening.metrics.clone())),
        read_fs: Some(Arc::clone(&parts.fs)),
        ..LogSettings::default()
    };
    let (log, writer, report) = Log::open(Arc::clone(&parts.log_fs), log_dir(opening.dir), log_settings).await?;
    tracing::info!(?report, "opened the log");
    parts.log_runner.run(writer).map_err(StartError::LogWriter)?;
    begun.log.get_or_init(|| log.clone());
    let engine = open_engine(settings, parts, opening.dir).await?;

    let shards: Vec<ShardId> = (0..settings.cluster.shards).map(ShardId).collect();
    let born = shards.iter().any(|shard| {
        let state = log.shard(*shard).state();
        state.last.is_some() || state.purged.is_some()
    });
    let card = card(&opening);
    let own = card.node.node_id;
    let groups = Arc::clone(begun.groups.get_or_init(|| Arc::new(Groups::new(card, born))));
    serve_peers(peer_port, &groups, &begun.stop, &begun.tasks, opening.failed.clone());

    let known_peers = known_peers::read(&*parts.fs, opening.dir).await;
    let tick_origin = tick_origin(settings, parts, &mut random);
    // Side by side: one shard that waits for a checkpoint must not keep the others closed.
    let opened = shards.iter().map(|shard| {
        let (log, engine) = (log.shard(*shard), Arc::clone(&engine));
        let seeds = ShardSeeds { hash: random.next_u64(), dice: random.random(), tick_origin };
        let group_settings = group_settings(settings, *shard, &known_peers);
        open_shard(&opening, group_settings, log, engine, seeds, &groups)
    });
    let opened: Vec<_> = opened.collect();
    futures::future::try_join_all(opened).await?;
    Ok(Opened { groups, log, own })
}

/// Where the log is in a data directory.
pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}

async fn open_engine(settings: &Settings, parts: &Parts, dir: &Path) -> Result<Arc<dyn Engine>, StartError> {
    let factory = Arc::clone(&parts.engine);
    let (dir, settings) = (dir.join("tables"), settings.storage.clone());
    Ok(parts.blocking.run(move || factory.open(&dir, &settings)).await?)
}

/// What one shard gets of the node's dice.
struct ShardSeeds {
    hash: u64,
    dice: [u8; 32],
    /// The same for all shards.
    tick_origin: Instant,
}

/// Nodes that were started together tick at moments of their own.
fn tick_origin(settings: &Settings, parts: &Parts, random: &mut StdRng) -> Instant {
    let now = parts.pace.as_ref().map_or_else(Instant::now, |pace| pace.now());
    now + Duration::from_millis(settings.raft.heartbeat_interval_ms).mul_f64(random.random())
}

async fn open_shard(
    opening: &Opening<'_>,
    group_settings: GroupSettings,
    log: cairn_storage::log::ShardLog,
    engine: Arc<dyn Engine>,
    seeds: ShardSeeds,
    groups: &Groups,
) -> Result<(), StartError> {
    let Opening { settings, parts, .. } = opening;
    let shard = group_settings.shard;
    let tables_settings = TablesSettings {
        memtable_bytes_max: settings.storage.memtable_bytes,
        cached_heads_max: settings.storage.heads_cached_max,
        subscriptions_max: settings.limits.follows_max + settings.limits.in_flight_commands_max,
        hash_seed: seeds.hash,
        rules: Arc::clone(&parts.rules),
        applied: parts.applied.clone(),
        ..TablesSettings::default()
    };
    let tables = Tables::open(engine, shard, Arc::clone(&parts.blocking), Some(log.durable()), tables_settings).await?;
    opening.recovery.begin(&tables, &log);
    let (peers, pace) = (Arc::clone(&opening.peers), parts.pace.clone());
    let ShardSeeds { dice: seed, tick_origin, .. } = seeds;
    let parts = GroupParts { log, tables, peers, pace, tick_origin, seed };
    let group = Group::start(group_settings, parts).await?;
    groups.insert(group);
    Ok(())
}

fn group_settings(settings: &Settings, shard: ShardId, known_peers: &BTreeSet<String>) -> GroupSettings {
    let own = settings.peer_address();
    let mut recovery_peers = known_peers.clone();
    recovery_peers.extend(settings.cluster.founders.iter().map(|founder| founder.peer_address.clone()));
    recovery_peers.remove(own);
    GroupSettings {
        timing: Timing {
            heartbeat: Duration::from_millis(settings.raft.heartbeat_interval_ms),
            election_min: Duration::from_millis(settings.raft.election_timeout_ms_min),
            election_max: Duration::from_millis(settings.raft.election_timeout_ms_max),
        },
        log_keep_entries: settings.raft.log_keep_entries,
        log_keep_bytes: settings.raft.log_keep_bytes,
        recovery_peers: recovery_peers.into_iter().collect(),
        ..GroupSettings::new(shard)
    }
}

/// What the node says of itself. A port 0 in the settings is advertised as the one that was chosen.
fn card(opening: &Opening<'_>) -> NodeCard {
    let settings = opening.settings;
    let advertised = |set: &Option<String>, real: &String| set.clone().unwrap_or_else(|| real.clone());
    let founders = settings.cluster.founders.iter();
    NodeCard {
        cluster_id: opening.identity.cluster_id,
        node: NodeInfo {
            node_id: opening.identity.node_id,
            peer_address: advertised(&settings.advertise.peer, &opening.addresses.peer),
            client_address: advertised(&settings.advertise.client, &opening.addresses.client),
            birth_id: opening.identity.birth_id,
        },
        shards: settings.cluster.shards,
        founders: Founders(founders.map(|founder| (NodeId(founder.node_id), founder.peer_address.clone())).collect()),
    }
}

fn serve_peers(
    port: Guard,
    groups: &Arc<Groups>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
    failed: watch::Sender<Option<Failed>>,
) {
    let service = PeerService::new(Arc::clone(groups));
    let stop = stop.clone();
    tasks.spawn(async move {
        let served = service.serve(port.into_stream(), stop.clone().cancelled_owned()).await;
        if !stop.is_cancelled() {
            let reason = served.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            failed.send_replace(Some(Failed::Port { port: "peer", reason }));
        }
    });
}

/// The shards with their proposers, in order.
pub(crate) fn shards(
    groups: &Groups,
    settings: &Settings,
    parts: &Parts,
    metrics: &Metrics,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Vec<Shard> {
    let proposer_settings =
        ProposerSettings { in_flight_max: settings.limits.proposals_in_flight_max, deadline: settings.request_deadline() };
    let shards: Vec<_> = groups
        .all()
        .into_iter()
        .map(|group| {
            let target = Arc::new(GroupTarget(group.clone()));
            let metrics = metrics.shard(group.shard());
            let (proposer, task) = Proposer::start(target, Arc::clone(&parts.clock), metrics, proposer_settings, stop.clone());
            tasks.spawn(task);
            Shard { id: group.shard(), group, proposer }
        })
        .collect();
    assert!(in_order(&shards), "all shards are open, in the order of their numbers");
    shards
}

/// A shard's group, as its proposer sees it.
struct GroupTarget(Group);

impl Target for GroupTarget {
    fn propose(&self, batch: Batch) -> BoxFuture<'static, Result<Vec<Reply>, Failure>> {
        let replies = self.0.propose_start(batch);
        async move { replies.await.map_err(failure::of_propose) }.boxed()
    }
}

struct SyncMeter(Metrics);

impl LogObserver for SyncMeter {
    fn synced(&self, took: Duration, bytes: usize, _records: usize) {
        self.0.sync_duration.record(took.as_secs_f64());
        self.0.sync_bytes.increment(bytes as u64);
    }
}
