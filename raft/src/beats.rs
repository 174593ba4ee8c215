//! Heartbeats of all shards to one peer, over one stream.
//!
//! openraft makes a call for each heartbeat of each shard; a call costs ten times a message on a stream that is open already, and
//! an idle cluster does little else. A read barrier is a heartbeat too.
//!
//! Invariants
//! - Nothing waits here longer than its sender does: a stream that is stuck fails everything that waits on it.
//! - The stream is opened by a heartbeat that wants to be sent, never by itself: an unreachable peer is not called in a loop.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use openraft::raft::AppendEntriesRequest;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::identity::Party;
use crate::limits::{
    BEAT_MESSAGES_QUEUED_MAX, BEATS_IN_FLIGHT_MAX, BEATS_PER_MESSAGE_MAX, BEATS_QUEUED_MAX, STREAM_OPEN_MAX, STREAM_STALL_MAX,
};
use crate::peers::{PeerLink, Peers};
use crate::proto;
use crate::runtime;
use crate::type_config::{RaftLogId, Types};
use crate::wire::{AppendResult, put_append, take_append_result};

/// One heartbeat on its way.
struct Beat {
    append: proto::AppendRequest,
    answer: oneshot::Sender<Result<AppendResult, Status>>,
}

/// Hands heartbeats to the task that owns the stream.
#[derive(Clone)]
pub(crate) struct BeatLine {
    queue: mpsc::Sender<Beat>,
}

impl BeatLine {
    /// The task lives as long as a handle of it, in the time of the node whose task opens it.
    pub fn open(peers: Arc<Peers>, link: Weak<PeerLink>, to: Party) -> Self {
        let (queue, beats) = mpsc::channel(BEATS_QUEUED_MAX);
        runtime::spawn(carry(peers, link, to, beats));
        Self { queue }
    }

    pub fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Sends one heartbeat. The caller bounds how long it waits.
    pub async fn send(
        &self,
        shard: cairn_machine::ShardId,
        request: AppendEntriesRequest<Types>,
        acknowledged: Option<RaftLogId>,
    ) -> Result<AppendResult, Status> {
        let (answer, answered) = oneshot::channel();
        let beat = Beat { append: put_append(shard, request, acknowledged), answer };
        self.queue.try_send(beat).map_err(|_| Status::unavailable("too many heartbeats are waiting for this peer"))?;
        answered.await.unwrap_or_else(|_| Err(Status::unavailable("the heartbeat stream ended")))
    }
}

/// Opens a stream when there is something to send, and again after it broke.
async fn carry(peers: Arc<Peers>, link: Weak<PeerLink>, to: Party, mut beats: mpsc::Receiver<Beat>) {
    while let Some(first) = beats.recv().await {
        let Some(link) = link.upgrade() else { return };
        if let Err(status) = link.check_open() {
            let _ = first.answer.send(Err(status));
            continue;
        }
        let (outgoing, stream) = mpsc::channel(BEAT_MESSAGES_QUEUED_MAX);
        let mut session = Session { outgoing, waiting: BTreeMap::new(), next_ticket: 0 };
        if session.send(first, &mut beats).is_err() {
            continue;
        }
        let request = peers.request(ReceiverStream::new(stream), Some(to));
        let mut client = link.client();
        let opened = tokio::time::timeout(STREAM_OPEN_MAX, client.beat(request)).await;
        let status = match opened {
            Ok(Ok(incoming)) => session.run(&mut beats, incoming.into_inner()).await,
            Ok(Err(status)) => Some(status),
            Err(_) => Some(Status::unavailable("the heartbeat stream did not open in time")),
        };
        let Some(status) = status else { return };
        link.note(&status);
        for (_, answer) in session.waiting {
            let _ = answer.send(Err(status.clone()));
        }
    }
}

/// One stream, from opening to breaking.
struct Session {
    outgoing: mpsc::Sender<proto::Beats>,
    waiting: BTreeMap<u64, oneshot::Sender<Result<AppendResult, Status>>>,
    next_ticket: u64,
}

impl Session {
    /// Runs until the stream breaks, which it tells, or until nobody can send any more, which is none.
    async fn run(&mut self, beats: &mut mpsc::Receiver<Beat>, mut incoming: Streaming<proto::BeatReplies>) -> Option<Status> {
        let mut stalled = tokio::time::interval(STREAM_STALL_MAX);
        stalled.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = true;
        loop {
            tokio::select! {
                biased;
                replies = incoming.message() => match replies {
                    Ok(Some(replies)) => {
                        heard = true;
                        self.answer(replies);
                    }
                    Ok(None) => return Some(Status::unavailable("the peer ended the heartbeat stream")),
                    Err(status) => return Some(status),
                },
                beat = beats.recv() => match self.send(beat?, beats) {
                    Ok(()) => {}
                    Err(status) => return Some(status),
                },
                _ = stalled.tick() => {
                    self.waiting.retain(|_, answer| !answer.is_closed());
                    if !heard && !self.waiting.is_empty() {
                        return Some(Status::unavailable("the peer does not answer heartbeats"));
                    }
                    heard = self.waiting.is_empty();
                }
            }
        }
    }

    /// Sends one heartbeat and those that wait behind it in one message.
    fn send(&mut self, first: Beat, beats: &mut mpsc::Receiver<Beat>) -> Result<(), Status> {
        let mut message = vec![self.ticket(first)];
        while message.len() < BEATS_PER_MESSAGE_MAX {
            match beats.try_recv() {
                Ok(beat) => message.push(self.ticket(beat)),
                Err(_) => break,
            }
        }
        if self.waiting.len() > BEATS_IN_FLIGHT_MAX {
            return Err(Status::unavailable("too many heartbeats are unanswered"));
        }
        // A full channel means that the peer does not read: its heartbeats are lost, as on any broken line.
        match self.outgoing.try_send(proto::Beats { beats: message }) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Status::unavailable("the heartbeat stream ended")),
        }
    }

    fn ticket(&mut self, beat: Beat) -> proto::Beat {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, beat.answer);
        proto::Beat { ticket, append: Some(beat.append) }
    }

    fn answer(&mut self, replies: proto::BeatReplies) {
        for reply in replies.replies {
            let Some(answer) = self.waiting.remove(&reply.ticket) else { continue };
            let result = match &reply.append {
                Some(append) => take_append_result(append),
                None => Err(Status::unavailable("the shard is not open on the peer")),
            };
            let _ = answer.send(result);
        }
    }
}
