//! The pipeline: many requests in flight over one stream, for many journals.
//!
//! Requests of one message for one shard travel to its proposer as a group; reads of one message for one shard share a barrier;
//! answers that are ready at the same time leave in one message.
//!
//! Invariants
//! - Commands for one shard are submitted in the order in which they came.
//! - Each request is answered once; no more than `pipeline_requests_max` wait for their answer and one message more, then no
//!   more is read. A message with too many ends the stream, once everything before it is answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_api::reply::{answer, write_response};
use cairn_api::v1::{self, Failure, Reason, pipeline_request, pipeline_response};
use cairn_api::{Freshness, HighestReply, PIPELINE_MESSAGE_REQUESTS_MAX, ReadHighest};
use cairn_machine::{Claim, Command, Head, Reply, ShardId, Write};
use futures::StreamExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::stream::Answers;
use crate::core::{Core, Shard};
use crate::failure::unexpected;
use crate::proposer::{self, Item, Submission};

/// Most responses in one message.
const RESPONSES_MAX: usize = 1024;
/// Most outcomes of atomic writes in one message: each may carry a text.
const OUTCOMES_MAX: usize = 4096;

type Kind = pipeline_request::request::Kind;
type ResponseKind = pipeline_response::response::Kind;

/// Opens a pipeline.
pub(super) fn open(core: &Arc<Core>, requests: Streaming<v1::PipelineRequest>) -> Answers<v1::PipelineResponse> {
    let (answers, answered) = mpsc::unbounded_channel();
    let (reads, read) = mpsc::unbounded_channel();
    let window = Arc::new(Window::default());
    let (end, ended) = oneshot::channel();
    let inbound = Inbound { core: Arc::clone(core), requests, answers, reads, window: Arc::clone(&window) };
    tokio::spawn(async move {
        // Whoever asked may be gone.
        if let Err(failure) = inbound.run().await {
            let _ = end.send(failure);
        }
    });
    let outbound = Outbound { answered, read, window, ready: VecDeque::new(), buffer: Vec::new() };
    let responses = futures::stream::unfold(outbound, |mut outbound| async move {
        let response = outbound.next().await?;
        Some((Ok(response), outbound))
    });
    let end = futures::stream::once(ended).filter_map(async |end| end.ok().map(|failure: Failure| Err(Status::from(failure))));
    Box::pin(responses.chain(end))
}

/// Requests of one stream that wait for their answer.
#[derive(Default)]
struct Window {
    requests: AtomicUsize,
    shrunk: Notify,
}

impl Window {
    async fn wait_below(&self, requests_max: usize) {
        while self.requests.load(Ordering::Relaxed) >= requests_max {
            self.shrunk.notified().await;
        }
    }

    fn grow(&self, requests: usize) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }

    fn shrink(&self, requests: usize) {
        self.requests.fetch_sub(requests, Ordering::Relaxed);
        self.shrunk.notify_one();
    }
}

/// Answers to reads, and to requests that were refused before they reached a shard.
type Ready = Vec<(u64, ResponseKind)>;

/// The half that reads requests.
struct Inbound {
    core: Arc<Core>,
    requests: Streaming<v1::PipelineRequest>,
    answers: mpsc::UnboundedSender<proposer::Answers>,
    reads: mpsc::UnboundedSender<Ready>,
    window: Arc<Window>,
}

/// What one message holds, sorted by shard.
#[derive(Default)]
struct Sorted {
    commands: BTreeMap<ShardId, VecDeque<Item>>,
    reads: BTreeMap<ShardId, Vec<(u64, ReadHighest)>>,
    refused: Ready,
}

impl Inbound {
    /// Reads until the stream ends; an error ends it from this side.
    async fn run(mut self) -> Result<(), Failure> {
        let requests_max = self.core.settings.limits.pipeline_requests_max;
        loop {
            let message = tokio::select! {
                biased;
                () = self.answers.closed() => return Ok(()),
                () = self.core.stopping.cancelled() => return Ok(()),
                message = async {
                    self.window.wait_below(requests_max).await;
                    self.requests.message().await
                } => message,
            };
            // A broken stream needs no words: its other half is broken too.
            let Ok(Some(message)) = message else { return Ok(()) };
            let found = message.requests.len();
            if found > PIPELINE_MESSAGE_REQUESTS_MAX {
                let reason = format!("requests: {found} in one message, at most {PIPELINE_MESSAGE_REQUESTS_MAX}");
                return Err(Failure::new(Reason::TooLarge, reason));
            }
            self.window.grow(message.requests.len());
            let sorted = self.sort(message);
            self.hand_over(sorted);
        }
    }

    fn sort(&self, message: v1::PipelineRequest) -> Sorted {
        let mut sorted = Sorted::default();
        for request in message.requests {
            let request_id = request.request_id;
            if let Err(failure) = self.sort_one(request_id, request.kind, &mut sorted) {
                sorted.refused.push((request_id, ResponseKind::Failure(failure)));
            }
        }
        sorted
    }

    fn sort_one(&self, request_id: u64, kind: Option<Kind>, sorted: &mut Sorted) -> Result<(), Failure> {
        let command = match kind {
            Some(Kind::Write(write)) => Command::Write(Write::try_from(write)?),
            Some(Kind::Claim(claim)) => Command::Claim(Claim::try_from(claim)?),
            Some(Kind::Highest(highest)) => {
                let read = ReadHighest::try_from(highest)?;
                let shard = self.core.shard_of(&read.persistence_id).id;
                sorted.reads.entry(shard).or_default().push((request_id, read));
                return Ok(());
            }
            None => return Err(Failure::new(Reason::Invalid, "kind: missing or unknown to this node")),
        };
        let shard = self.core.shard_of(command.persistence_id());
        self.core.may_take(shard, &command)?;
        let shard = shard.id;
        let bytes = command.encoded_len();
        sorted.commands.entry(shard).or_default().push_back(Item { request_id, bytes, command });
        Ok(())
    }

    fn hand_over(&self, sorted: Sorted) {
        if !sorted.refused.is_empty() {
            // Whoever asked may be gone.
            let _ = self.reads.send(sorted.refused);
        }
        for (shard, items) in sorted.commands {
            self.submit(&self.core.shards[usize::from(shard.0)], items);
        }
        for (shard, reads) in sorted.reads {
            let waits = |(_, read): &(u64, ReadHighest)| matches!(read.freshness, Freshness::AtLeast(_));
            let (waiting, reads): (Vec<_>, Vec<_>) = reads.into_iter().partition(waits);
            // One that waits for its number must not hold up the others.
            for read in waiting {
                self.read(shard, vec![read]);
            }
            if !reads.is_empty() {
                self.read(shard, reads);
            }
        }
    }

    fn read(&self, shard: ShardId, reads: Vec<(u64, ReadHighest)>) {
        let (core, answers) = (Arc::clone(&self.core), self.reads.clone());
        tokio::spawn(async move {
            let ready = read_all(&core, &core.shards[usize::from(shard.0)], reads).await;
            let _ = answers.send(ready);
        });
    }

    fn submit(&self, shard: &Shard, items: VecDeque<Item>) {
        let bytes = items.iter().map(|item| item.bytes).sum();
        let admitted = self.core.may_propose(shard).and_then(|()| self.core.admit(items.len(), bytes));
        match admitted {
            Ok(admitted) => shard.proposer.submit(Submission::of_stream(items, admitted, self.answers.clone())),
            Err(failure) => {
                let refused = items.iter().map(|item| (item.request_id, ResponseKind::Failure(failure.clone())));
                let _ = self.reads.send(refused.collect());
            }
        }
    }
}

/// Reads of one shard: one barrier for all strong ones.
async fn read_all(core: &Arc<Core>, shard: &Shard, reads: Vec<(u64, ReadHighest)>) -> Ready {
    let deadline = Instant::now() + core.settings.request_deadline();
    let strong = reads.iter().any(|(_, read)| read.freshness == Freshness::Strong);
    let barrier = if strong { core.barrier(shard, deadline).await } else { Ok(()) };
    let mut ready = Vec::with_capacity(reads.len());
    for (request_id, read) in reads {
        let head: Result<Head, Failure> = match read.freshness {
            Freshness::Strong => match &barrier {
                Ok(()) => core.head(shard, &read.persistence_id).await,
                Err(failure) => Err(failure.clone()),
            },
            Freshness::Local => core.head(shard, &read.persistence_id).await,
            Freshness::AtLeast(_) => match core.freshen(shard, &read.persistence_id, read.freshness, deadline).await {
                Ok(()) => core.head(shard, &read.persistence_id).await,
                Err(failure) => Err(failure),
            },
        };
        let kind = match head {
            Ok(head) => ResponseKind::Highest(HighestReply::from(&head).into()),
            Err(failure) => ResponseKind::Failure(failure),
        };
        ready.push((request_id, kind));
    }
    ready
}

/// The half that writes answers: it is asked whenever the connection has room.
struct Outbound {
    answered: mpsc::UnboundedReceiver<proposer::Answers>,
    read: mpsc::UnboundedReceiver<Ready>,
    window: Arc<Window>,
    ready: VecDeque<(u64, ResponseKind)>,
    buffer: Vec<proposer::Answers>,
}

impl Outbound {
    /// The next message: everything that is ready, within bounds. None when the stream has ended and everything is answered.
    async fn next(&mut self) -> Option<v1::PipelineResponse> {
        if self.ready.is_empty() && !self.wait().await {
            return None;
        }
        while let Ok(answers) = self.answered.try_recv() {
            self.buffer.push(answers);
            if self.buffer.len() >= RESPONSES_MAX {
                break;
            }
        }
        while let Ok(ready) = self.read.try_recv() {
            self.ready.extend(ready);
        }
        for answers in self.buffer.drain(..) {
            spread(answers, &mut self.ready);
        }
        Some(self.take())
    }

    /// Waits for answers; false if there will be none any more.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            biased;
            Some(answers) = self.answered.recv() => {
                self.buffer.push(answers);
                true
            }
            Some(ready) = self.read.recv() => {
                self.ready.extend(ready);
                true
            }
            else => false,
        }
    }

    fn take(&mut self) -> v1::PipelineResponse {
        let mut outcomes = 0;
        let fitting = self.ready.iter().take(RESPONSES_MAX).take_while(|(_, kind)| {
            outcomes += match kind {
                ResponseKind::Write(write) => write.outcomes.len(),
                _ => 1,
            };
            outcomes <= OUTCOMES_MAX
        });
        let count = fitting.count().max(1);
        let responses = self.ready.drain(..count);
        let responses = responses.map(|(request_id, kind)| pipeline_response::Response { request_id, kind: Some(kind) });
        let responses: Vec<_> = responses.collect();
        self.window.shrink(responses.len());
        v1::PipelineResponse { responses }
    }
}

/// Answers of a proposer, each for its request.
fn spread(answers: proposer::Answers, ready: &mut VecDeque<(u64, ResponseKind)>) {
    match answers.outcome {
        Ok(replies) => {
            let kinds = replies.into_iter().map(|reply| kind_of(reply).unwrap_or_else(ResponseKind::Failure));
            ready.extend(answers.request_ids.into_iter().zip(kinds));
        }
        Err(failure) => {
            ready.extend(answers.request_ids.into_iter().map(|id| (id, ResponseKind::Failure(failure.clone()))));
        }
    }
}

fn kind_of(reply: Reply) -> Result<ResponseKind, Failure> {
    match reply {
        Reply::Write(reply) => Ok(ResponseKind::Write(write_response(reply)?)),
        Reply::Claim(reply) => Ok(ResponseKind::Claim(answer(reply)?)),
        other => Err(unexpected(&other)),
    }
}
