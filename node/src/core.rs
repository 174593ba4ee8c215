//! What all services of a node share: its shards, what it admits, and how a command or a read reaches its shard.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::Freshness;
use cairn_api::v1::{Failure, Reason};
use cairn_machine::{Command, Head, PersistenceId, Position, Reply, SequenceNumber, ShardId, Slice};
use cairn_raft::{Group, GroupStatus, Identity, Peers};
use cairn_storage::Tables;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Admitted};
use crate::disk::DiskState;
use crate::failure;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::proposer::{Proposer, Submission};
use crate::readiness;
use crate::settings::Settings;

/// What a caller is told to wait when the node is full.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// One shard on this node.
#[derive(Clone)]
pub(crate) struct Shard {
    pub id: ShardId,
    pub group: Group,
    pub proposer: Proposer,
}

/// What all services of a node share.
pub(crate) struct Core {
    pub settings: Settings,
    pub identity: Identity,
    pub peers: Arc<Peers>,
    pub shards: Vec<Shard>,
    pub admission: Arc<Admission>,
    pub metrics: Metrics,
    pub replays: Arc<Semaphore>,
    pub follows: Arc<Semaphore>,
    pub disk: watch::Receiver<DiskState>,
    pub readiness: watch::Receiver<Vec<readiness::Reason>>,
    pub process: Arc<dyn Process>,
    /// The node is about to stop: it is not ready, and hands leadership over.
    pub draining: CancellationToken,
    /// The node stops: streams end.
    pub stopping: CancellationToken,
    pub started: Instant,
}

impl Shard {
    /// The shard's tables on this node.
    pub(crate) fn tables(&self) -> &Tables {
        self.group.tables()
    }

    /// The newest position on this node.
    pub(crate) fn newest_position(&self) -> Position {
        *self.tables().newest_position().borrow()
    }
}

impl Core {
    /// The shard that owns a journal.
    pub(crate) fn shard_of(&self, persistence_id: &PersistenceId) -> &Shard {
        let shard = Slice::of(persistence_id).shard(self.settings.cluster.shards);
        &self.shards[usize::from(shard.0)]
    }

    /// A shard by its number.
    pub(crate) fn shard(&self, shard: ShardId) -> Result<&Shard, Failure> {
        self.shards.get(usize::from(shard.0)).ok_or_else(|| {
            Failure::new(Reason::Invalid, format!("shard: {shard} is not one of the cluster's {}", self.shards.len()))
        })
    }

    /// What this node knows of each shard, by their numbers.
    pub(crate) fn statuses(&self) -> Vec<GroupStatus> {
        self.shards.iter().map(|shard| shard.group.status()).collect()
    }

    /// An early no to commands for a shard: nothing here decides what the rules or the log will not decide again.
    pub(crate) fn may_propose(&self, shard: &Shard) -> Result<(), Failure> {
        if shard.group.is_leader() {
            return Ok(());
        }
        if self.stopping.is_cancelled() && shard.group.leader().is_none_or(|leader| leader.node_id == self.identity.node_id) {
            return Err(Failure::new(Reason::Unavailable, "the node is stopping"));
        }
        Err(failure::not_leader(shard.group.leader()))
    }

    /// Whether a command may be proposed: it is within its limits, and the disk has room for it. Deletions and claims need next to
    /// nothing and lead out of a full disk: for them there is always room.
    pub(crate) fn may_take(&self, shard: &Shard, command: &Command) -> Result<(), Failure> {
        // A command that is committed is applied: its limits are held here and never later.
        command.check()?;
        let grows = match command {
            Command::Write(write) => !write.atomic_writes.is_empty(),
            Command::SnapshotChunk(_) | Command::SaveSnapshot(_) => true,
            Command::Claim(_) | Command::DeleteTo(_) | Command::DeleteSnapshot(_) | Command::DeleteSnapshots(_) => false,
        };
        if grows && self.disk.borrow().read_only.contains(&shard.id) {
            let mut failure = Failure::new(Reason::ReadOnly, "the disk is nearly full: deletions and reads still work");
            failure.retry_after_millis = self.settings.disk.check_interval_ms;
            return Err(failure);
        }
        Ok(())
    }

    /// Room for commands that wait for their answer.
    pub(crate) fn admit(&self, commands: usize, bytes: usize) -> Result<Admitted, Failure> {
        self.admission.admit(commands, bytes).ok_or_else(|| {
            self.metrics.overloaded.increment(commands as u64);
            Failure::overloaded("commands that wait for their answer", RETRY_AFTER)
        })
    }

    /// Proposes one command and waits for its reply.
    pub(crate) async fn command(&self, command: Command, deadline: Instant) -> Result<Reply, Failure> {
        let shard = self.shard_of(command.persistence_id());
        self.may_propose(shard)?;
        self.may_take(shard, &command)?;
        let bytes = command.encoded_len();
        let admitted = self.admit(1, bytes)?;
        let (submission, answer) = Submission::of_one(command, bytes, admitted);
        shard.proposer.submit(submission);
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::unknown("the node is stopping")),
            Err(_) => Err(Failure::unknown("the command has no reply within its deadline")),
        }
    }

    /// Waits until this replica is as fresh as a read of one journal asks.
    pub(crate) async fn freshen(
        &self,
        shard: &Shard,
        persistence_id: &PersistenceId,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<(), Failure> {
        match freshness {
            Freshness::Local => Ok(()),
            Freshness::Strong => self.barrier(shard, deadline).await,
            Freshness::AtLeast(number) => self.wait_for_number(shard, persistence_id, number, deadline).await,
        }
    }

    /// Waits until this replica has applied everything that was acknowledged before the call.
    pub(crate) async fn barrier(&self, shard: &Shard, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        shard.group.read_barrier(left).await.map(|_| ()).map_err(failure::of_read)
    }

    async fn wait_for_number(
        &self,
        shard: &Shard,
        persistence_id: &PersistenceId,
        number: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if self.head(shard, persistence_id).await?.highest.0 >= number {
            return Ok(());
        }
        let mut subscription = shard.tables().subscribe(persistence_id).await.map_err(|error| self.tables_failure(&error))?;
        // At least 1: number 0 is reached by every journal.
        let below = SequenceNumber(number - 1);
        match tokio::time::timeout_at(deadline, subscription.wait_above(below)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(Reason::Unavailable, "the node is stopping")),
            Err(_) => {
                Err(Failure::new(Reason::Behind, format!("the replica has not reached number {number} within the deadline")))
            }
        }
    }

    /// What is known of a journal; the default for one that was never written.
    pub(crate) async fn head(&self, shard: &Shard, persistence_id: &PersistenceId) -> Result<Head, Failure> {
        let head = shard.tables().head(persistence_id).await.map_err(|error| self.tables_failure(&error))?;
        Ok(head.unwrap_or_default())
    }

    /// A place among the streams that read stored data.
    pub(crate) fn replay_place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        place(&self.replays, "replays")
    }

    /// A place among the streams that follow.
    pub(crate) fn follow_place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        place(&self.follows, "follows")
    }

    /// A failure of the tables as the caller is told.
    pub(crate) fn tables_failure(&self, error: &cairn_storage::TablesError) -> Failure {
        failure::of_tables(error)
    }
}

fn place(places: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Failure> {
    Arc::clone(places).try_acquire_owned().map_err(|_| Failure::overloaded(what, Duration::from_millis(200)))
}
