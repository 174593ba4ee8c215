//! Changes of the cluster's members, shard by shard. Whatever node is asked, each shard's change is made by that shard's leader,
//! which checks it again.
//!
//! Invariants
//! - Every step can be made again: a change that was interrupted goes on when it is asked for again.
//! - A node is taken in only if it waits for that: of this cluster, never part of any, set up with as many shards, and under a
//!   node id that was never used.
//! - One change at a time on a node; the leaders refuse a second one made elsewhere.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1::{ChangeResponse, Failure, Reason};
use cairn_machine::{NodeId, ShardId};
use cairn_raft::{Hello, MembersError, NodeInfo};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::core::{Core, Shard};
use crate::failure;

/// A change is given up after this time; asked for again it goes on.
const CHANGE_MAX: Duration = Duration::from_secs(600);
/// Between two tries of a step that is not possible yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long a step may be without a leader before the change is given up.
const NO_LEADER_MAX: Duration = Duration::from_secs(10);

/// Makes changes, one at a time.
pub(crate) struct Changes {
    core: Arc<Core>,
    turn: Arc<Mutex<()>>,
}

/// What was done, for people.
struct Steps {
    done: Vec<String>,
    /// Whether the members of any shard were changed.
    is_begun: bool,
    end: Instant,
}

impl Steps {
    fn begin() -> Self {
        Self { done: Vec::new(), is_begun: false, end: Instant::now() + CHANGE_MAX }
    }

    fn did(&mut self, step: String) {
        tracing::info!(step, "change the cluster");
        self.done.push(step);
    }

    /// Makes one shard's step, again while it is not possible yet.
    async fn make<F, Fut>(&mut self, step: F) -> Result<(), Failure>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(), MembersError>>,
    {
        match repeat(self, step).await {
            Ok(()) => self.is_begun = true,
            // Where one shard has changed it is not true any more that nothing happened.
            Err(failure) if self.is_begun => {
                let done = self.done.join("; ");
                return Err(Failure::unknown(format!("half done, ask again to go on: {}; done: {done}", failure.message)));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn response(self) -> ChangeResponse {
        ChangeResponse { steps: self.done }
    }
}

impl Changes {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, turn: Arc::new(Mutex::new(())) }
    }

    /// Takes a waiting node in.
    pub(crate) async fn add(&self, peer_address: String) -> Result<ChangeResponse, Failure> {
        self.in_turn(move |core| async move {
            let node = waiting_node(&core, &peer_address).await?;
            let mut steps = Steps::begin();
            for shard in &core.shards {
                steps.make(|| shard.group.add_learner(node.clone())).await?;
            }
            steps.did(format!("{node} follows every shard"));
            for shard in &core.shards {
                steps.make(|| shard.group.promote([node.node_id])).await?;
                steps.did(format!("{node} votes in shard {}", shard.id));
            }
            Ok(steps.response())
        })
        .await
    }

    /// Takes a node out.
    pub(crate) async fn remove(&self, node_id: NodeId) -> Result<ChangeResponse, Failure> {
        self.in_turn(move |core| async move {
            // What this node has applied may be old: who was added a moment ago must be seen.
            for shard in &core.shards {
                core.barrier(shard, Instant::now() + core.settings.request_deadline()).await?;
            }
            if core.shards.iter().all(|shard| shard.group.status().members.get(node_id).is_none()) {
                let text = format!("node {node_id} is not a member: nothing to do");
                return Ok(ChangeResponse { steps: vec![text] });
            }
            let mut steps = Steps::begin();
            for shard in &core.shards {
                step_down(shard, node_id, &mut steps).await?;
            }
            let_silence_show(&core).await;
            for shard in &core.shards {
                steps.make(|| shard.group.remove(node_id)).await?;
                steps.did(format!("node {node_id} left shard {}", shard.id));
            }
            Ok(steps.response())
        })
        .await
    }

    /// Puts a waiting node into the place of another.
    pub(crate) async fn replace(&self, old: NodeId, peer_address: String) -> Result<ChangeResponse, Failure> {
        self.in_turn(move |core| async move {
            let node = waiting_node(&core, &peer_address).await?;
            let mut steps = Steps::begin();
            let_silence_show(&core).await;
            for shard in &core.shards {
                steps.make(|| shard.group.replace(old, node.clone())).await?;
                steps.did(format!("{node} votes in shard {} in the place of node {old}", shard.id));
            }
            Ok(steps.response())
        })
        .await
    }

    /// Hands leadership over.
    pub(crate) async fn transfer_leader(&self, shard: Option<u32>, to: Option<NodeId>) -> Result<ChangeResponse, Failure> {
        self.in_turn(move |core| async move {
            let shards = match shard {
                Some(number) => {
                    let number = u16::try_from(number)
                        .map_err(|_| Failure::new(Reason::Invalid, format!("shard: there is no shard {number}")))?;
                    std::slice::from_ref(core.shard(ShardId(number))?)
                }
                None => &core.shards,
            };
            let mut steps = Steps::begin();
            for shard in shards {
                transfer(shard, to, &mut steps).await?;
            }
            Ok(steps.response())
        })
        .await
    }

    /// Makes a change when no other is in progress here. It goes on if its caller leaves.
    async fn in_turn<F, Fut>(&self, change: F) -> Result<ChangeResponse, Failure>
    where
        F: FnOnce(Arc<Core>) -> Fut,
        Fut: Future<Output = Result<ChangeResponse, Failure>> + Send + 'static,
    {
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else {
            let mut failure = Failure::new(Reason::Unavailable, "another change of the cluster is in progress here");
            failure.retry_after_millis = 1_000;
            return Err(failure);
        };
        let (change, stopping) = (change(Arc::clone(&self.core)), self.core.stopping.clone());
        let made = tokio::spawn(async move {
            let _turn = turn;
            tokio::select! {
                biased;
                () = stopping.cancelled() => Err(Failure::unknown("the node is stopping; ask again at another one to go on")),
                outcome = change => outcome,
            }
        });
        made.await.unwrap_or_else(|error| Err(Failure::unknown(format!("the change ended badly: {error}"))))
    }
}

/// The node at an address, if it may be taken in, or is being taken in already.
async fn waiting_node(core: &Core, peer_address: &str) -> Result<NodeInfo, Failure> {
    let hello = core.peers.hello(peer_address, &[]).await.map_err(|status| match status.code() {
        tonic::Code::PermissionDenied => unsafe_change(format!("the node at {peer_address}: {}", status.message())),
        tonic::Code::Unimplemented => {
            let message = format!("peer_address: {peer_address} does not speak to peers; is it a node's client port?");
            Failure::new(Reason::Invalid, message)
        }
        tonic::Code::InvalidArgument => Failure::new(Reason::Invalid, format!("peer_address: {}", status.message())),
        _ => Failure::new(Reason::Unavailable, format!("the node at {peer_address} does not answer: {}", status.message())),
    })?;
    check_waiting(core, peer_address, &hello)?;
    Ok(hello.node)
}

fn check_waiting(core: &Core, peer_address: &str, hello: &Hello) -> Result<(), Failure> {
    let node = &hello.node;
    if hello.cluster_id != core.identity.cluster_id {
        return Err(unsafe_change(format!("the node at {peer_address} is set up for cluster {}", hello.cluster_id)));
    }
    if hello.shards != core.settings.cluster.shards {
        let shards = core.settings.cluster.shards;
        return Err(unsafe_change(format!("{node} is set up with {} shards, the cluster has {shards}", hello.shards)));
    }
    let known: Vec<_> = core.shards.iter().filter_map(|shard| shard.group.status().members.get(node.node_id).cloned()).collect();
    if let Some(other) = known.iter().find(|known| *known != node) {
        return Err(unsafe_change(format!("node id {} is taken by another node, {other}", node.node_id)));
    }
    // It is being taken in: this goes on with it.
    if !known.is_empty() {
        return Ok(());
    }
    if hello.born {
        return Err(unsafe_change(format!("{node} was part of a cluster already; a node comes empty")));
    }
    if !hello.founders.is_empty() {
        return Err(unsafe_change(format!("{node} is set up to found a cluster: set cluster.join")));
    }
    Ok(())
}

/// Waits so long that whoever died a moment ago counts as silent, and that a new leader has heard of everybody alive: a leader that
/// still counted the dead among the living would begin a change that cannot be finished.
async fn let_silence_show(core: &Core) {
    let raft = &core.settings.raft;
    tokio::time::sleep(Duration::from_millis(2 * raft.election_timeout_ms_max + 2 * raft.heartbeat_interval_ms)).await;
}

/// Has a shard led by another node than the one that is to leave.
async fn step_down(shard: &Shard, node_id: NodeId, steps: &mut Steps) -> Result<(), Failure> {
    let leads = shard.group.leader().is_some_and(|leader| leader.node_id == node_id);
    let others = shard.group.status().members.voters.iter().any(|node| node.node_id != node_id);
    if leads && others { transfer(shard, None, steps).await } else { Ok(()) }
}

/// Hands one shard over: to a node, or to any other voter.
async fn transfer(shard: &Shard, to: Option<NodeId>, steps: &mut Steps) -> Result<(), Failure> {
    let Some(leader) = shard.group.leader() else { return Err(failure::not_leader(None)) };
    if to == Some(leader.node_id) {
        steps.did(format!("shard {} is led by node {} already", shard.id, leader.node_id));
        return Ok(());
    }
    let voters = shard.group.status().members.voters;
    let candidates: Vec<_> = match to {
        Some(to) => vec![to],
        None => voters.iter().map(|node| node.node_id).filter(|id| *id != leader.node_id).collect(),
    };
    let mut last = unsafe_change(format!("shard {} has no other voter", shard.id));
    for candidate in candidates {
        match shard.group.transfer_leader(candidate).await {
            Ok(()) => {
                steps.did(format!("shard {} is led by node {candidate}", shard.id));
                return Ok(());
            }
            Err(error) => last = failure::of_members(error),
        }
    }
    Err(last)
}

/// Makes one step, again while it is not possible yet.
async fn repeat<F, Fut>(steps: &Steps, mut step: F) -> Result<(), Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), MembersError>>,
{
    let mut leaderless_since = None;
    // A later try that was not made says nothing of an earlier one that may have been.
    let mut maybe_made = None;
    let given_up = |error: MembersError, maybe_made: Option<String>| match maybe_made {
        Some(reason) => Failure::unknown(reason),
        None => failure::of_members(error),
    };
    loop {
        let error = match step().await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if let MembersError::Unknown { reason } = &error {
            maybe_made = Some(reason.clone());
        }
        match &error {
            MembersError::Busy { .. } => leaderless_since = None,
            // Every step can be made again, so that an unknown outcome is found out by the next try.
            MembersError::NotLeader { .. } | MembersError::Unknown { .. } => {
                let since = *leaderless_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= NO_LEADER_MAX {
                    return Err(given_up(error, maybe_made));
                }
            }
            MembersError::Refused { .. } | MembersError::Stopped => return Err(given_up(error, maybe_made)),
        }
        if Instant::now() >= steps.end {
            return Err(given_up(error, maybe_made));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

fn unsafe_change(message: String) -> Failure {
    Failure::new(Reason::Unsafe, message)
}
