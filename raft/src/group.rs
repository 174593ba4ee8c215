//! One shard's Raft group on this node: the handle that everything else holds.
//!
//! Invariants
//! - Proposals stand in the log in the order in which they were handed over.
//! - What may have happened is never told as failed.
//! - After [`Group::failed`] tells a fatal error nothing works any more: the node exits and is started again.

mod members;
mod pulse;
mod read;
mod start;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use cairn_machine::{Batch, NodeId, Reply, ShardId};
use cairn_storage::Tables;
use cairn_storage::log::ShardLog;
use futures::FutureExt;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::acknowledged;
use crate::checkpoint::Transfers;
use crate::commit_news::CommitNews;
use crate::entry::Record;
use crate::error::{Fatal, ProposeError};
use crate::identity::NodeInfo;
use crate::limits::RETRY_AFTER;
use crate::peers::Peers;
use crate::runtime::Life;
use crate::settings::GroupSettings;
use crate::state_machine::{Shared, StateMachine};
use crate::status::{self, GroupStatus, Leadership};
use crate::type_config::{Ballot, RaftLogId, Replies, Types};

pub use start::GroupParts;

pub(crate) use members::{put_members_error, take_change};

/// Between two tries to hand leadership over.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(20);

pub(crate) type RaftGroup = Raft<Types, StateMachine>;

/// A shard's Raft group on this node. Cheap to clone; all clones are the same group.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    settings: GroupSettings,
    raft: RaftGroup,
    log: ShardLog,
    tables: Tables,
    peers: Arc<Peers>,
    shared: Arc<Shared>,
    transfers: Arc<Transfers>,
    commit_news: Arc<CommitNews>,
    /// Room for proposals that are in flight.
    room: Arc<Semaphore>,
    reads: mpsc::Sender<read::Waiter>,
    leadership: watch::Receiver<Leadership>,
    failed: watch::Receiver<Option<Fatal>>,
    /// What this node has acknowledged and does not hold any more: it must not vote or answer again.
    lost: watch::Sender<Option<String>>,
    life: Life,
    /// Ends the group's tasks.
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Group {
    /// Which shard it is.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.settings.shard
    }

    /// The shard's tables on this node, for reads.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.inner.tables
    }

    /// Proposes a batch and waits for its replies.
    ///
    /// # Errors
    /// See [`ProposeError`]; a deadline is the caller's, and what was dropped may still happen.
    pub async fn propose(&self, batch: Batch) -> Result<Vec<Reply>, ProposeError> {
        self.propose_start(batch).await
    }

    /// Hands a batch over at once and gives a future of its replies: batches stand in the log in the order of these calls.
    ///
    /// The future gives what [`Self::propose`] does. Dropping it does not take the proposal back.
    pub fn propose_start(&self, batch: Batch) -> impl Future<Output = Result<Vec<Reply>, ProposeError>> + Send + use<> {
        let handed_over = self.hand_over_batch(&batch);
        async move {
            let (answered, _room) = handed_over?;
            match answered.await {
                Ok(Ok(response)) => {
                    let Replies(replies) = response.data;
                    Ok(replies)
                }
                Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                    Err(ProposeError::NotLeader { leader: forward.leader_node })
                }
                // Cut from this log by another leader, or the core went away: it may be on a quorum, or come there yet.
                Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
            }
        }
    }

    fn hand_over_batch(&self, batch: &Batch) -> Result<(Answered, tokio::sync::OwnedSemaphorePermit), ProposeError> {
        let overloaded = ProposeError::Overloaded { retry_after: RETRY_AFTER };
        let room = self.inner.room.clone().try_acquire_owned().map_err(|_| overloaded.clone())?;
        let (responder, answered) = ProgressResponder::complete_only();
        let write = self.inner.raft.client_write_ff(Record::new(batch), Some(responder));
        // Handing over waits only when the core's queue is full. Polled once, outside of the task's budget: the order of the log is
        // the order of these calls. It asks for neither time nor tasks, hence needs no scope.
        match tokio::task::unconstrained(write).now_or_never() {
            Some(Ok(())) => Ok((answered, room)),
            Some(Err(_)) => Err(ProposeError::Stopped),
            None => Err(overloaded),
        }
    }

    /// Who leads, if known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeInfo> {
        self.inner.leadership.borrow().leader.clone()
    }

    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.inner.raft.is_leader()
    }

    /// Whether the shard was ever part of a cluster on this node.
    #[must_use]
    pub fn is_initialised(&self) -> bool {
        let state = self.inner.log.state();
        state.last.is_some() || state.purged.is_some()
    }

    /// Follows who leads and who the members are.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Tells a fatal error: the node must exit.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<Fatal>> {
        self.inner.failed.clone()
    }

    /// The core at this moment.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        // First: what is applied then is in the log now. The core tells later what the log holds, as while it waits for the disk.
        let applied = self.inner.tables.applied().map(|id| id.index);
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let in_log = self.inner.log.state().last.map(|id| id.index);
        let index = |id: &Option<RaftLogId>| id.as_ref().map(|id| id.index);
        let stored = &metrics.membership_config;
        GroupStatus {
            shard: self.shard(),
            term: metrics.current_term,
            vote: status::voted(&metrics.vote),
            role: match metrics.running_state {
                Ok(()) => status::role(metrics.state),
                Err(_) => status::Role::Stopped,
            },
            leader: metrics.current_leader.and_then(|id| stored.get_node(&id).cloned()),
            last: metrics.last_log_index.max(in_log),
            committed: index(&metrics.local_committed),
            applied,
            flushed: self.inner.tables.flushed().map(|id| id.index),
            purged: index(&metrics.purged),
            checkpoint: index(&metrics.snapshot),
            members: status::members(stored),
            replication: self.life().enter(|| status::replication(&metrics)),
            state_hash: match self.inner.tables.state_hash() {
                (Some(applied), hash) => Some((applied.index, hash)),
                (None, _) => None,
            },
        }
    }

    /// Hands leadership to the most up-to-date healthy follower, if this node leads and there is one, and waits until it took over.
    /// After a pause of this process all followers look silent: those that live answer within two leases, and are waited for.
    ///
    /// Gives whether this node does not lead any more.
    pub async fn hand_over(&self, deadline: Duration) -> bool {
        let end = tokio::time::Instant::now() + deadline;
        let answered = end.min(tokio::time::Instant::now() + self.silent_max());
        while self.is_leader() && tokio::time::Instant::now() < end {
            let Some(target) = self.best_successor() else {
                if tokio::time::Instant::now() >= answered || !self.has_other_voters() {
                    return false;
                }
                tokio::time::sleep(HAND_OVER_PAUSE).await;
                continue;
            };
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            if self.transfer_leader_here(target, left.min(self.inner.settings.timing.election_max * 4)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(HAND_OVER_PAUSE).await;
        }
        !self.is_leader()
    }

    /// Ends the group on this node: the core and its tasks stop, the log and tables stay usable. Clean only after [`Self::hand_over`].
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Err(error) = self.life().scope(self.inner.raft.shutdown()).await {
            tracing::warn!(shard = %self.shard(), %error, "a shard's core ended badly");
        }
    }

    /// Flushes the tables and lets every flushed entry leave the log: used when this shard holds back old segments.
    ///
    /// # Errors
    /// A text if tables or core have failed.
    pub async fn compact_log(&self) -> Result<(), String> {
        upkeep::compact(&self.inner).await
    }

    /// openraft's handle, to be called within [`Self::life`].
    pub(crate) fn raft(&self) -> &RaftGroup {
        &self.inner.raft
    }

    /// Stops the shard on this node if it does not hold what it has acknowledged to the leader of `ballot`.
    pub(crate) fn check_holds(&self, ballot: &Ballot, acknowledged: &RaftLogId) -> Result<(), Status> {
        match acknowledged::missing(&self.inner.log, &self.inner.tables, ballot, acknowledged) {
            None => Ok(()),
            Some(missing) => {
                self.inner.lost.send_if_modified(|lost| lost.replace(missing).is_none());
                self.check_sound()
            }
        }
    }

    /// Refuses once something that was acknowledged is found to be lost.
    pub(crate) fn check_sound(&self) -> Result<(), Status> {
        match &*self.inner.lost.borrow() {
            None => Ok(()),
            Some(lost) => Err(Status::data_loss(lost.clone())),
        }
    }

    /// The node's time and dice, as this shard has them.
    pub(crate) fn life(&self) -> &Life {
        &self.inner.life
    }

    pub(crate) fn settings(&self) -> &GroupSettings {
        &self.inner.settings
    }

    /// The term that this node has voted in.
    pub(crate) fn term(&self) -> u64 {
        self.inner.leadership.borrow().term
    }

    /// The birth that the membership knows for a node id.
    pub(crate) fn known_birth(&self, node_id: NodeId) -> Option<uuid::Uuid> {
        self.inner.leadership.borrow().members.get(node_id).map(|node| node.birth_id)
    }

    fn has_other_voters(&self) -> bool {
        let me = self.inner.peers.identity().node_id;
        self.inner.leadership.borrow().members.voters.iter().any(|node| node.node_id != me)
    }

    /// The voter that has most of the log, among those heard of within a lease.
    fn best_successor(&self) -> Option<NodeId> {
        let status = self.status();
        let lease = self.inner.settings.timing.election_max;
        status
            .replication
            .iter()
            .filter(|(id, follower)| status.members.is_voter(**id) && follower.silent.is_some_and(|silent| silent < lease))
            .max_by_key(|(_, follower)| follower.matched)
            .map(|(id, _)| *id)
    }
}

type Answered = openraft::alias::OneshotReceiverOf<Types, openraft::raft::ClientWriteResult<Types>>;
