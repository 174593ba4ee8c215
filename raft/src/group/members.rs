//! Changes of a shard's members. Every check is made by the leader, whoever asks.
//!
//! Invariants
//! - A node id that was ever used is never given to another node.
//! - No change is begun that would leave the new voters without a healthy quorum, and nobody silent becomes a voter or leader.
//! - A change is said to be made only when it is committed, and no joint membership is left behind it.
//! - A change is forwarded to the leader once and never further; what may have happened, or was half made, is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_machine::NodeId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::Group;
use crate::error::MembersError;
use crate::identity::NodeInfo;
use crate::limits::MEMBERS_CHANGE_MAX;
use crate::peers::NOT_NOW;
use crate::proto;
use crate::proto::change_members_request::Change as WireChange;
use crate::status::{self, GroupMembers};
use crate::type_config::Types;
use crate::wire::{put_node, take_node};

/// A learner that lacks at most so many entries has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// What a node answers that does not lead: a code that no transport makes up.
const NOT_LEADER: Code = Code::NotFound;
type WriteError = RaftError<Types, ClientWriteError<Types>>;

/// How often progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    AddLearner(NodeInfo),
    Promote(BTreeSet<NodeId>),
    Remove(NodeId),
    Replace { old: NodeId, new: NodeInfo },
    TransferLeader(NodeId),
}

impl Group {
    /// Makes this shard part of a new cluster with these voters. Once: by one of them, on a node that has never been in a cluster.
    ///
    /// # Errors
    /// Refused if it has been, or if this node is not among the members.
    pub async fn initialize(&self, members: Vec<NodeInfo>) -> Result<(), MembersError> {
        let nodes: BTreeMap<u64, NodeInfo> = members.into_iter().map(|node| (node.node_id.0, node)).collect();
        self.life().scope(self.inner.raft.initialize(nodes)).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => refused("the shard is part of a cluster already"),
            RaftError::APIError(InitializeError::NotInMembers(_)) => refused("this node is not among the members"),
            RaftError::Fatal(_) => MembersError::Stopped,
        })
    }

    /// Adds a node that follows without a vote. A node that is there already, with the same birth, is left as it is.
    ///
    /// # Errors
    /// See [`MembersError`].
    pub async fn add_learner(&self, node: NodeInfo) -> Result<(), MembersError> {
        self.change(Change::AddLearner(node)).await
    }

    /// Makes learners voters, when they have caught up.
    ///
    /// # Errors
    /// See [`MembersError`]; busy while one is far behind.
    pub async fn promote(&self, node_ids: impl IntoIterator<Item = NodeId>) -> Result<(), MembersError> {
        self.change(Change::Promote(node_ids.into_iter().collect())).await
    }

    /// Removes a voter or learner for good: its node id is never given again.
    ///
    /// # Errors
    /// See [`MembersError`].
    pub async fn remove(&self, node_id: NodeId) -> Result<(), MembersError> {
        self.change(Change::Remove(node_id)).await
    }

    /// Puts a new node in the place of an old one, which may be lost: the new one catches up, then one joint change swaps them.
    ///
    /// # Errors
    /// See [`MembersError`].
    pub async fn replace(&self, old: NodeId, new: NodeInfo) -> Result<(), MembersError> {
        self.change(Change::Replace { old, new }).await
    }

    /// Makes a voter the leader, and waits until it is.
    ///
    /// # Errors
    /// See [`MembersError`].
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), MembersError> {
        self.change(Change::TransferLeader(to)).await
    }

    async fn change(&self, change: Change) -> Result<(), MembersError> {
        if self.is_leader() {
            return self.change_here(change).await;
        }
        let Some(leader) = self.leader() else { return Err(MembersError::NotLeader { leader: None }) };
        let message = put_change(self.shard(), change);
        self.inner.peers.change_members(&leader, message, MEMBERS_CHANGE_MAX).await.map_err(|status| match status.code() {
            Code::FailedPrecondition => refused(status.message()),
            NOT_NOW => MembersError::Busy { reason: status.message().to_owned() },
            NOT_LEADER | Code::PermissionDenied => MembersError::NotLeader { leader: Some(leader) },
            // Also unavailable: a connection that broke may have carried the change before.
            _ => MembersError::Unknown { reason: status.message().to_owned() },
        })
    }

    /// Makes a change as the leader. One that was begun goes on when its caller goes away: it is in the log.
    pub(crate) async fn change_here(&self, change: Change) -> Result<(), MembersError> {
        let group = self.clone();
        let made = tokio::spawn(async move { tokio::time::timeout(MEMBERS_CHANGE_MAX, group.make_change(change)).await });
        let unknown = |reason: &str| MembersError::Unknown { reason: reason.to_owned() };
        match made.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(unknown("the change was not done in time; look at the members")),
            Err(_) => Err(unknown("the change ended badly; look at the members")),
        }
    }

    pub(crate) async fn make_change(&self, change: Change) -> Result<(), MembersError> {
        if !self.is_leader() {
            return Err(MembersError::NotLeader { leader: self.leader() });
        }
        match change {
            Change::AddLearner(node) => self.add_learner_here(node).await,
            Change::Promote(ids) => self.promote_here(ids).await,
            Change::Remove(id) => self.remove_here(id).await,
            Change::Replace { old, new } => self.replace_here(old, new).await,
            Change::TransferLeader(to) => self.transfer_leader_here(to, MEMBERS_CHANGE_MAX / 4).await,
        }
    }

    /// The members as they are now, not as the watch told last.
    fn members_now(&self) -> GroupMembers {
        status::members(&self.inner.raft.metrics().borrow_watched().membership_config)
    }

    async fn add_learner_here(&self, node: NodeInfo) -> Result<(), MembersError> {
        if let Some(known) = self.members_now().get(node.node_id) {
            return if *known == node {
                self.settle().await
            } else {
                Err(refused(format!("node id {} belongs to another node: {known}", node.node_id)))
            };
        }
        if self.inner.shared.seen().contains(&node.node_id.0) {
            return Err(refused(format!("node id {} was used before; a node id is never given again", node.node_id)));
        }
        self.check_votes()?;
        self.unless_begun(self.life().scope(self.inner.raft.add_learner(node.node_id.0, node, false))).await
    }

    async fn promote_here(&self, ids: BTreeSet<NodeId>) -> Result<(), MembersError> {
        let members = self.members_now();
        let ids: BTreeSet<NodeId> = ids.into_iter().filter(|id| !members.is_voter(*id)).collect();
        if ids.is_empty() {
            return self.settle().await;
        }
        for id in &ids {
            if members.get(*id).is_none() {
                return Err(refused(format!("node {id} is not a member: add it first")));
            }
            self.check_caught_up(*id)?;
        }
        let voters = members.voters.iter().map(|node| node.node_id);
        self.check_quorum(&voters.chain(ids.iter().copied()).collect())?;
        let raft_ids = ids.iter().map(|id| id.0).collect();
        self.change_voters(ChangeMembers::AddVoterIds(raft_ids)).await
    }

    async fn remove_here(&self, id: NodeId) -> Result<(), MembersError> {
        let members = self.members_now();
        if members.get(id).is_none() {
            self.check_was_member(id)?;
            return self.settle().await;
        }
        let raft_id = BTreeSet::from([id.0]);
        if !members.is_voter(id) {
            return self.change_voters(ChangeMembers::RemoveNodes(raft_id)).await;
        }
        let rest = members.voters.iter().map(|node| node.node_id).filter(|voter| *voter != id).collect();
        self.check_quorum(&rest)?;
        self.change_voters(ChangeMembers::RemoveVoters(raft_id)).await
    }

    async fn replace_here(&self, old: NodeId, new: NodeInfo) -> Result<(), MembersError> {
        let new_id = new.node_id;
        if old == new_id {
            return Err(refused("a wiped node comes back under a new node id"));
        }
        if self.members_now().get(old).is_some() {
            self.add_learner_here(new).await?;
            self.wait_caught_up(new_id, MEMBERS_CHANGE_MAX * 3 / 4).await?;
        }
        // Looked at only now: what waited may have brought an earlier try of this to its end.
        let members = self.members_now();
        if members.get(old).is_none() {
            self.check_was_member(old)?;
            return match members.is_voter(new_id) {
                true => self.settle().await,
                false => Err(refused(format!("node {old} is not a member any more"))),
            };
        }
        let voters = members.voters.iter().map(|node| node.node_id).filter(|voter| *voter != old);
        self.check_quorum(&voters.chain([new_id]).collect())?;
        self.change_voters(ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds(BTreeSet::from([new_id.0])),
            ChangeMembers::RemoveVoters(BTreeSet::from([old.0])),
        ]))
        .await
    }

    /// Hands leadership over and waits until somebody else has it.
    pub(super) async fn transfer_leader_here(&self, to: NodeId, deadline: Duration) -> Result<(), MembersError> {
        let me = self.inner.peers.identity().node_id;
        if to == me {
            return Ok(());
        }
        if !self.members_now().is_voter(to) {
            return Err(refused(format!("node {to} does not vote in shard {}", self.shard())));
        }
        // From the trigger until somebody else leads nothing is taken: not for one who will not. A new leader has yet to hear of it.
        self.wait_caught_up(to, deadline.min(self.silent_max())).await?;
        self.inner.raft.trigger().transfer_leader(to.0).await.map_err(|_| MembersError::Stopped)?;
        let mut leadership = self.watch();
        let taken = leadership.wait_for(|now| now.leader.as_ref().is_some_and(|leader| leader.node_id != me));
        match tokio::time::timeout(deadline, taken).await {
            Ok(Ok(now)) if now.leader.as_ref().is_some_and(|leader| leader.node_id == to) => Ok(()),
            Ok(Ok(_)) => Err(MembersError::Busy { reason: format!("another node than {to} was elected") }),
            Ok(Err(_)) => Err(MembersError::Stopped),
            Err(_) => Err(MembersError::Busy { reason: format!("node {to} did not take over in time") }),
        }
    }

    async fn change_voters(&self, change: ChangeMembers<u64, NodeInfo>) -> Result<(), MembersError> {
        self.check_votes()?;
        self.unless_begun(self.life().scope(self.inner.raft.change_membership(change, false))).await
    }

    /// Makes a change, and says that it was not made only if no other membership came into the log meanwhile. openraft tells the
    /// failure of the second step as that of the whole, and the joint membership of the first one may be committed.
    async fn unless_begun<T>(&self, change: impl Future<Output = Result<T, WriteError>>) -> Result<(), MembersError> {
        let members_at = || *self.inner.raft.metrics().borrow_watched().membership_config.log_id();
        let before = members_at();
        match change.await.map_err(members_error) {
            Ok(_) => Ok(()),
            Err(error @ (MembersError::NotLeader { .. } | MembersError::Busy { .. })) if members_at() != before => {
                Err(MembersError::Unknown { reason: format!("the members have changed, and then: {error}") })
            }
            Err(error) => Err(error),
        }
    }

    /// A leader that was removed leads on until that is committed, and a little longer; openraft takes no other membership from it.
    fn check_votes(&self) -> Result<(), MembersError> {
        match self.members_now().is_voter(self.inner.peers.identity().node_id) {
            true => Ok(()),
            false => Err(MembersError::Busy { reason: "the leader has just left the shard; another one takes over".to_owned() }),
        }
    }

    /// A change that was made before is done; one that names a node that never was is a mistake.
    fn check_was_member(&self, id: NodeId) -> Result<(), MembersError> {
        match self.inner.shared.seen().contains(&id.0) {
            true => Ok(()),
            false => Err(refused(format!("node {id} was never a member"))),
        }
    }

    /// The members are as they should be: waits until that is for good, and leaves a joint membership that somebody left behind.
    async fn settle(&self) -> Result<(), MembersError> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let stored = &metrics.membership_config;
        if stored.get_joint_config().len() > 1 {
            return self.change_voters(leave_joint()).await;
        }
        if *stored.log_id() > metrics.local_committed {
            return Err(MembersError::Busy { reason: "the change before is not committed yet".to_owned() });
        }
        Ok(())
    }

    /// Whether a node was heard of lately and has nearly everything.
    fn check_caught_up(&self, id: NodeId) -> Result<(), MembersError> {
        let busy = |reason: String| Err(MembersError::Busy { reason });
        let Some(follower) = self.status().replication.get(&id).copied() else {
            return busy(format!("nothing is known of node {id} yet"));
        };
        if follower.matched.is_none() || follower.lag_entries > CAUGHT_UP_ENTRIES {
            return busy(format!("node {id} still lacks {} entries", follower.lag_entries));
        }
        if follower.silent.is_none_or(|silent| silent >= self.silent_max()) {
            return busy(format!("node {id} does not answer"));
        }
        Ok(())
    }

    /// Who was not heard of for longer does not count as alive.
    pub(crate) fn silent_max(&self) -> Duration {
        self.inner.settings.timing.election_max * 2
    }

    async fn wait_caught_up(&self, id: NodeId, deadline: Duration) -> Result<(), MembersError> {
        let end = Instant::now() + deadline;
        loop {
            match self.check_caught_up(id) {
                Err(MembersError::Busy { .. }) if Instant::now() < end && self.is_leader() => {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether enough of the voters-to-be were heard of lately.
    fn check_quorum(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembersError> {
        if voters.is_empty() {
            return Err(refused("the last voter cannot be removed"));
        }
        let me = self.inner.peers.identity().node_id;
        let silent_max = self.silent_max();
        let replication = self.status().replication;
        let healthy = |id: &&NodeId| {
            **id == me || replication.get(*id).and_then(|follower| follower.silent).is_some_and(|silent| silent < silent_max)
        };
        let healthy = voters.iter().filter(healthy).count();
        if healthy * 2 > voters.len() {
            return Ok(());
        }
        Err(refused(format!("only {healthy} of the {} voters that would be left answer: the shard would stop", voters.len())))
    }
}

fn refused(reason: impl Into<String>) -> MembersError {
    MembersError::Refused { reason: reason.into() }
}

/// The step from a joint membership to the one that was aimed at.
pub(super) fn leave_joint() -> ChangeMembers<u64, NodeInfo> {
    ChangeMembers::AddVoterIds(BTreeSet::new())
}

fn members_error(error: WriteError) -> MembersError {
    match error {
        // The core may have put it into the log before it stopped.
        RaftError::Fatal(error) => MembersError::Unknown { reason: error.to_string() },
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MembersError::NotLeader { leader: forward.leader_node }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            error @ (ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)),
        )) => MembersError::Busy { reason: error.to_string() },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => refused(error.to_string()),
        RaftError::APIError(error) => MembersError::Unknown { reason: error.to_string() },
    }
}

fn put_change(shard: cairn_machine::ShardId, change: Change) -> proto::ChangeMembersRequest {
    let change = match change {
        Change::AddLearner(node) => WireChange::AddLearner(put_node(&node)),
        Change::Promote(ids) => WireChange::Promote(proto::NodeIds { node_ids: ids.into_iter().map(|id| id.0).collect() }),
        Change::Remove(id) => WireChange::Remove(id.0),
        Change::Replace { old, new } => WireChange::Replace(proto::Replace { old: old.0, new: Some(put_node(&new)) }),
        Change::TransferLeader(to) => WireChange::TransferLeader(to.0),
    };
    proto::ChangeMembersRequest { shard: u32::from(shard.0), change: Some(change) }
}

pub(crate) fn take_change(request: proto::ChangeMembersRequest) -> Result<Change, Status> {
    Ok(match request.change.ok_or_else(|| Status::invalid_argument("change is missing"))? {
        WireChange::AddLearner(node) => Change::AddLearner(take_node(Some(node))?),
        WireChange::Promote(ids) => Change::Promote(ids.node_ids.into_iter().map(NodeId).collect()),
        WireChange::Remove(id) => Change::Remove(NodeId(id)),
        WireChange::Replace(replace) => Change::Replace { old: NodeId(replace.old), new: take_node(replace.new)? },
        WireChange::TransferLeader(to) => Change::TransferLeader(NodeId(to)),
    })
}

/// What a forwarded change comes back as.
pub(crate) fn put_members_error(error: &MembersError) -> Status {
    let text = error.to_string();
    match error {
        MembersError::Refused { .. } => Status::failed_precondition(text),
        MembersError::Busy { .. } => Status::new(NOT_NOW, text),
        MembersError::NotLeader { .. } => Status::new(NOT_LEADER, text),
        MembersError::Stopped | MembersError::Unknown { .. } => Status::unknown(text),
    }
}
