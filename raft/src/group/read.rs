//! Linearizable reads: one question to the quorum serves everybody who asked before it was put.
//!
//! Invariants
//! - A read is served only by a round that began after the read asked.
//! - On a follower the round asks the leader for its read index, and the read waits until that is applied here.

use std::sync::Weak;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Group, Inner};
use crate::error::ReadError;
use crate::identity::{NodeInfo, Party};
use crate::limits::{QUESTION_MAX, RETRY_AFTER};
use crate::proto;

/// After a round that found no leader the next one waits at least this long.
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// Somebody who waits for a round.
pub(super) struct Waiter {
    answer: oneshot::Sender<Result<u64, ReadError>>,
}

impl Group {
    /// Waits until what is applied here includes everything that was acknowledged before this call, and gives the log index that is
    /// applied at least. While there is no leader it goes on asking until the deadline.
    ///
    /// # Errors
    /// See [`ReadError`]; nothing happened in any case.
    pub async fn read_barrier(&self, deadline: Duration) -> Result<u64, ReadError> {
        let end = Instant::now() + deadline;
        let index = self.read_index(end).await?;
        self.wait_applied(index, end).await?;
        Ok(index)
    }

    /// How many entries that were committed before this call are not applied here, as a leader with a quorum says. While there is no
    /// leader it goes on asking until the deadline.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn lag(&self, deadline: Duration) -> Result<u64, ReadError> {
        let index = self.read_index(Instant::now() + deadline).await?;
        let applied = self.inner.tables.applied().map_or(0, |entry| entry.index);
        Ok(index.saturating_sub(applied))
    }

    /// Waits until an index is applied here.
    pub(crate) async fn wait_applied(&self, index: u64, end: Instant) -> Result<(), ReadError> {
        let mut progress = self.inner.tables.progress();
        let reached = progress.wait_for(|progress| progress.applied.is_some_and(|id| id.index >= index));
        match timeout_at(end, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Deadline),
        }
    }

    /// The index that must be applied before a linearizable read that begins now.
    async fn read_index(&self, end: Instant) -> Result<u64, ReadError> {
        loop {
            let (answer, answered) = oneshot::channel();
            match self.inner.reads.try_send(Waiter { answer }) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return Err(ReadError::Overloaded { retry_after: RETRY_AFTER }),
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(ReadError::Stopped),
            }
            let no_leader = match timeout_at(end, answered).await {
                Ok(Ok(Err(error @ ReadError::NoLeader { .. }))) => error,
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) => return Err(ReadError::Stopped),
                Err(_) => return Err(ReadError::Deadline),
            };
            if timeout_at(end, tokio::time::sleep(ROUND_PAUSE)).await.is_err() {
                return Err(no_leader);
            }
        }
    }

    /// The read index of this node as the leader, for a follower that asks.
    pub(crate) async fn leader_read_index(&self) -> Result<u64, ReadError> {
        if !self.is_leader() {
            return Err(ReadError::NoLeader { leader: self.leader() });
        }
        let index = self.read_index(Instant::now() + QUESTION_MAX).await;
        // The follower waits until it has applied that.
        self.inner.commit_news.hurry();
        index
    }
}

/// Serves rounds until the group ends.
pub(super) async fn serve(group: Weak<Inner>, mut reads: mpsc::Receiver<Waiter>) {
    let mut waiting = Vec::new();
    loop {
        waiting.clear();
        if reads.recv_many(&mut waiting, usize::MAX).await == 0 {
            return;
        }
        let Some(inner) = group.upgrade() else { return };
        let stop = inner.stop.clone();
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Err(ReadError::Stopped),
            outcome = round(&inner) => outcome,
        };
        drop(inner);
        for waiter in waiting.drain(..) {
            let _ = waiter.answer.send(outcome.clone());
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

/// Asks the quorum once, or the leader.
async fn round(inner: &Inner) -> Result<u64, ReadError> {
    if !inner.raft.is_leader() {
        let leader = inner.leadership.borrow().leader.clone();
        return ask_leader(inner, leader).await;
    }
    match inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _applied)) => Ok(read.index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => ask_leader(inner, forward.leader_node).await,
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoLeader { leader: None }),
        Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
    }
}

async fn ask_leader(inner: &Inner, leader: Option<NodeInfo>) -> Result<u64, ReadError> {
    let Some(leader) = leader.filter(|leader| leader.node_id != inner.peers.identity().node_id) else {
        return Err(ReadError::NoLeader { leader: None });
    };
    let question = async {
        let link = inner.peers.link(&leader.peer_address)?;
        let message = proto::ReadIndexRequest { shard: u32::from(inner.settings.shard.0) };
        let request = inner.peers.request(message, Some(Party::from(&leader)));
        link.unary(QUESTION_MAX, |mut client| async move { client.read_index(request).await }).await
    };
    match question.await {
        Ok(reply) => Ok(reply.index),
        Err(status) => {
            tracing::debug!(shard = %inner.settings.shard, %leader, %status, "the leader gave no read index");
            Err(ReadError::NoLeader { leader: Some(leader) })
        }
    }
}
