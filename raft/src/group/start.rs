//! Opens a shard's group.

use std::sync::Arc;
use std::time::Duration;

use cairn_storage::Tables;
use cairn_storage::log::ShardLog;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal as RaftFatal;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Group, Inner, RaftGroup, pulse, read, upkeep};
use crate::checkpoint::{self, Transfers};
use crate::commit_news::CommitNews;
use crate::error::{Fatal, StartError};
use crate::limits::{APPEND_ENTRIES_MAX, PROPOSALS_IN_FLIGHT_MAX, READS_WAITING_MAX};
use crate::log_store::{LogMeter, LogStore};
use crate::network::PeerNetworks;
use crate::pace::Pace;
use crate::peers::Peers;
use crate::runtime::{Life, Ticks};
use crate::settings::GroupSettings;
use crate::state_machine::StateMachine;
use crate::status::{self, Leadership};
use crate::type_config::Types;

/// Messages that wait for a shard's core.
const CORE_QUEUE_MAX: u64 = 8192;
/// What the core is told by its own helpers, and by itself: it would wait for itself if this were full. Ticks come for as long as it
/// takes to see that it is silent (see [`pulse`]), some 700 of them; all else is bounded by what the core has begun. Room is taken as
/// it is used.
const NOTICES_MAX: u64 = 1 << 20;

/// What a shard's group works with.
pub struct GroupParts {
    /// The shard's log.
    pub log: ShardLog,
    /// Its tables.
    pub tables: Tables,
    /// The way to the other nodes.
    pub peers: Arc<Peers>,
    /// The node's time; none: the runtime's.
    pub pace: Option<Arc<dyn Pace>>,
    /// From here the node's ticks are counted, in its time: the same for all its shards, another one for each node, or their
    /// timers run out together.
    pub tick_origin: Instant,
    /// Where randomness comes from, differently for each shard of each node: nodes that draw alike campaign together for ever.
    pub seed: [u8; 32],
}

impl Group {
    /// Opens a shard: first makes good tables that were lost, by a checkpoint from a peer, then starts the core. The shard neither
    /// votes nor answers before this returns and the group is put into [`crate::Groups`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(settings: GroupSettings, parts: GroupParts) -> Result<Self, StartError> {
        let GroupParts { log, tables, peers, pace, tick_origin, seed } = parts;
        let life = Life::new(pace, seed).with_ticks(Ticks::new(tick_origin, settings.timing.heartbeat));
        let shard = settings.shard;
        let broken = |reason: String| StartError::Broken { shard, reason };
        let config = config(&settings)?;
        checkpoint::make_good(&settings, &log, &tables, &peers).await?;
        let meter = Arc::new(LogMeter::default());
        let state_machine = StateMachine::new(tables.clone()).map_err(|error| broken(format!("members: {error}")))?;
        let shared = state_machine.shared();
        let transfers = Arc::new(Transfers::default());
        let commit_news = Arc::<CommitNews>::default();
        let networks = PeerNetworks {
            peers: peers.clone(),
            shard,
            transfers: transfers.clone(),
            acknowledged: Arc::default(),
            commit_news: commit_news.clone(),
        };
        let store = LogStore::new(log.clone(), meter.clone());
        let id = peers.identity().node_id.0;
        let raft = life.scope(Raft::new(id, Arc::new(config), networks, store, state_machine)).await;
        let raft: RaftGroup = raft.map_err(|error| broken(error.to_string()))?;
        let (reads, reading) = mpsc::channel(READS_WAITING_MAX);
        let (leadership_sender, leadership) = watch::channel(leadership(&raft));
        let (failed_sender, failed) = watch::channel(None);
        let inner = Arc::new(Inner {
            settings,
            raft,
            log,
            tables,
            peers,
            shared,
            transfers,
            commit_news,
            room: Arc::new(Semaphore::new(PROPOSALS_IN_FLIGHT_MAX)),
            reads,
            leadership,
            failed,
            lost: watch::Sender::new(None),
            life,
            stop: CancellationToken::new(),
        });
        let life = &inner.life;
        life.spawn(read::serve(Arc::downgrade(&inner), reading));
        life.spawn(upkeep::run(Arc::downgrade(&inner), meter));
        life.spawn(follow(inner.raft.clone(), inner.stop.clone(), leadership_sender));
        life.spawn(watch_for_failure(Arc::downgrade(&inner), failed_sender));
        Ok(Self { inner })
    }
}

fn config(settings: &GroupSettings) -> Result<Config, StartError> {
    let timing = settings.timing;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: format!("shard-{}", settings.shard),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        max_payload_entries: APPEND_ENTRIES_MAX,
        // Checkpoints and purges are told by `upkeep`, which knows what is flushed and who needs the log.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        api_channel_size: Some(CORE_QUEUE_MAX),
        notification_channel_size: Some(NOTICES_MAX),
        enable_pre_vote: Some(true),
        // What is applied is younger than what is committed after a restart: only an election makes a leader sure of it.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Settings { shard: settings.shard, reason: error.to_string() })
}

fn leadership(raft: &RaftGroup) -> Leadership {
    let metrics = raft.server_metrics().borrow_watched().clone();
    let members = &metrics.membership_config;
    Leadership {
        term: metrics.vote.leader_id.term,
        leader: metrics.current_leader.and_then(|id| members.get_node(&id).cloned()),
        is_leader: metrics.current_leader == Some(metrics.id),
        members: status::members(members),
    }
}

/// Tells who leads until the core ends.
async fn follow(raft: RaftGroup, stop: CancellationToken, sender: watch::Sender<Leadership>) {
    let mut metrics = raft.server_metrics();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = metrics.changed() => if changed.is_err() { break },
        }
        // Said once seen, so that a change in between is not missed.
        drop(metrics.borrow_and_update());
        let now = leadership(&raft);
        sender.send_if_modified(|told| {
            let changed = *told != now;
            *told = now;
            changed
        });
    }
    sender.send_modify(|told| {
        told.leader = None;
        told.is_leader = false;
    });
}

/// Tells when the core or the tables have stopped although nobody stopped them: openraft leaves a dead core in a living process.
/// A core that is silent for a minute beside a disk that works has stopped too.
async fn watch_for_failure(group: std::sync::Weak<Inner>, sender: watch::Sender<Option<Fatal>>) {
    let Some(inner) = group.upgrade() else { return };
    let (stop, shard, raft) = (inner.stop.clone(), inner.settings.shard, inner.raft.clone());
    let mut metrics = raft.server_metrics();
    let mut tables = inner.tables.failed();
    let mut lost = inner.lost.subscribe();
    let pulse_stopped = pulse::stopped(raft.clone(), inner.log.clone(), inner.tables.clone());
    drop(inner);
    let mut is_lasting = false;
    let reason = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        failed = tables.wait_for(Option::is_some) => match failed {
            Ok(error) => error.as_ref().map_or_else(|| "tables failed".to_owned(), ToString::to_string),
            Err(_) => return,
        },
        lost = lost.wait_for(Option::is_some) => match lost {
            Ok(lost) => {
                is_lasting = true;
                lost.clone().unwrap_or_default()
            }
            Err(_) => return,
        },
        () = async { while metrics.changed().await.is_ok() {} } => core_failure(&raft),
        reason = pulse_stopped => reason,
    };
    if stop.is_cancelled() {
        return;
    }
    tracing::error!(%shard, reason, "a shard's core has stopped: the node must exit");
    sender.send_replace(Some(Fatal { shard, reason, is_lasting }));
}

fn core_failure(raft: &RaftGroup) -> String {
    match &raft.metrics().borrow_watched().running_state {
        Err(RaftFatal::StorageError(error)) => error.to_string(),
        Err(RaftFatal::Panicked) | Ok(()) => "the core panicked".to_owned(),
        Err(RaftFatal::Stopped) => "the core stopped".to_owned(),
    }
}

const _: fn() = || {
    fn is_send<T: Send + Sync>() {}
    is_send::<Group>();
    is_send::<Types>();
};
