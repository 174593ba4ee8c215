//! One stream to one node that carries many requests in flight, for all journals of the process.
//!
//! What waits is gathered into one message without lingering; a request is encoded once, by its sender, and its bytes are laid
//! into the message as they are, so that sending it again costs nothing.
//!
//! Invariants
//! - Requests leave in the order in which they were submitted.
//! - Every submitted request is answered exactly once: by the server, as not sent, or as lost.
//! - A pipeline that broke stays closed; its successor is a new one.
//! - A command waits for a silent node no longer than that node may lead: if others say that it leads nothing, its pipeline ends.

mod frame;
mod waiting;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cairn_api::MESSAGE_BYTES_MAX;
use cairn_api::v1::pipeline_response::response;
use futures::Stream;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::attempt::Failed;
use crate::limits::{
    PIPELINE_MESSAGE_BYTES_TARGET, PIPELINE_MESSAGE_REQUESTS_MAX, PIPELINE_WAITING_MAX, PIPELINE_WATCH_INTERVAL, SILENCE_DOUBTED,
};
use frame::{Frame, PipelineCodec};
use waiting::Waiting;

/// What the server answered, or why there is no answer.
pub(crate) type Answer = Result<response::Kind, Failed>;

/// Which kind of request the bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestKind {
    Write,
    Claim,
    Highest,
}

impl RequestKind {
    /// Whether only a leader carries it out.
    fn is_for_leader(self) -> bool {
        match self {
            Self::Write | Self::Claim => true,
            Self::Highest => false,
        }
    }
}

/// Asks the other nodes whether this one leads nothing any more.
pub(crate) type IsDeposed = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Hears the answers to the requests that it numbered by itself.
pub(crate) trait Hears: Send + Sync {
    /// The answer to the request with this ticket. Must not block.
    fn hear(self: Arc<Self>, ticket: u64, answer: Answer);
}

/// Who waits for an answer.
pub(crate) enum Waiter {
    Once(oneshot::Sender<Answer>),
    Ticket(Arc<dyn Hears>, u64),
}

impl Waiter {
    /// Whether nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Once(sender) => sender.is_closed(),
            Self::Ticket(..) => false,
        }
    }

    fn answer(self, answer: Answer) {
        match self {
            // A caller that went away does not want it.
            Self::Once(sender) => drop(sender.send(answer)),
            Self::Ticket(hears, ticket) => hears.hear(ticket, answer),
        }
    }
}

/// One request on its way.
pub(crate) struct Submission {
    pub(crate) kind: RequestKind,
    /// The request as encoded.
    pub(crate) body: Bytes,
    pub(crate) waiter: Waiter,
}

/// A handle on the stream; cheap to clone.
#[derive(Clone)]
pub(crate) struct Pipeline {
    queue: mpsc::UnboundedSender<Submission>,
    /// Whether anything was submitted that only a leader carries out.
    wants_leader: Arc<AtomicBool>,
}

impl Pipeline {
    /// Opens the stream in the background. A request that has no answer after `attempt_timeout` breaks it, and so does a silent node
    /// that leads nothing any more: it is not waited for, its requests go elsewhere.
    pub(crate) fn open(channel: Channel, attempt_timeout: Duration, is_deposed: IsDeposed) -> Self {
        // Bounded by the bytes in flight of the client, which every sender is admitted by.
        let (queue, submissions) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (ended, end) = oneshot::channel();
        let unsent = Arc::new(Mutex::new(Unsent { submissions, spilled: VecDeque::new() }));
        let outbound = Outbound { unsent: unsent.clone(), waiting: waiting.clone(), end: Some(end) };
        let wants_leader = Arc::new(AtomicBool::new(false));
        let patience = Patience { attempt_timeout, is_deposed, wants_leader: wants_leader.clone() };
        tokio::spawn(run(channel, outbound, unsent, waiting, ended, patience));
        Self { queue, wants_leader }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Submits a request; gives it back if the pipeline is closed.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Submission> {
        if submission.kind.is_for_leader() {
            self.wants_leader.store(true, Ordering::Relaxed);
        }
        self.queue.send(submission).map_err(|refused| refused.0)
    }

    /// Submits a request and waits for its answer.
    pub(crate) async fn call(&self, kind: RequestKind, body: Bytes) -> Answer {
        let (sender, answer) = oneshot::channel();
        if self.submit(Submission { kind, body, waiter: Waiter::Once(sender) }).is_err() {
            return Err(Failed::NotSent("the connection is closed".to_owned()));
        }
        answer.await.unwrap_or_else(|_| Err(Failed::Lost("the connection ended".to_owned())))
    }
}

/// How long a node is waited for.
struct Patience {
    attempt_timeout: Duration,
    is_deposed: IsDeposed,
    /// See [`Pipeline`].
    wants_leader: Arc<AtomicBool>,
}

/// Carries the stream from its opening to its end.
async fn run(
    channel: Channel,
    outbound: Outbound,
    unsent: Arc<Mutex<Unsent>>,
    waiting: Arc<Mutex<Waiting>>,
    ended: oneshot::Sender<()>,
    patience: Patience,
) {
    let failed = converse(channel, outbound, &waiting, patience).await;
    // From here on nothing is sent any more: the outbound half ends first, then those who wait hear of it.
    drop(ended);
    tracing::debug!(reason = failed.message(), "pipeline ended");
    let left = lock(&waiting).close();
    for waiter in left {
        waiter.answer(Err(failed.clone()));
    }
    // A connection that has no room does not ask for the next message, and would not learn that there is none.
    end(&unsent);
}

/// Opens the stream and hands out answers until it breaks; says why it did.
async fn converse(channel: Channel, outbound: Outbound, waiting: &Mutex<Waiting>, patience: Patience) -> Failed {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    if let Err(error) = client.ready().await {
        return Failed::NotSent(error.to_string());
    }
    let path = PathAndQuery::from_static("/cairn.v1.Journal/Pipeline");
    let opening = client.streaming(tonic::Request::new(outbound), path, PipelineCodec);
    let mut watch = Watch::new(waiting, patience);
    let mut answers = match watch.over(opening).await {
        Ok(Ok(response)) => response.into_inner(),
        // Requests may have left before the answer's head came.
        Ok(Err(status)) => return lost(&Failed::from_status(&status)),
        Err(GivenUp(why)) => return Failed::Lost(why.to_owned()),
    };
    watch.is_open = true;
    loop {
        match watch.over(answers.message()).await {
            Ok(Ok(Some(message))) => {
                for response in message.responses {
                    let Ok(waiter) = lock(waiting).take(response.request_id) else {
                        return Failed::Lost(format!("an answer to request {} which is not there", response.request_id));
                    };
                    // Nobody: it was given up as late.
                    let Some(waiter) = waiter else { continue };
                    waiter.answer(match response.kind {
                        Some(response::Kind::Failure(failure)) => Err(Failed::Answered(Box::new(failure))),
                        Some(kind) => Ok(kind),
                        None => Err(Failed::Lost("an answer of a kind that this version does not know".to_owned())),
                    });
                }
            }
            Ok(Ok(None)) => return Failed::Lost("the node ended the stream".to_owned()),
            Ok(Err(status)) => return lost(&Failed::from_status(&status)),
            Err(GivenUp(why)) => return Failed::Lost(why.to_owned()),
        }
    }
}

/// A stream's end says nothing definite about each of its requests, unless there was no connection at all.
fn lost(failed: &Failed) -> Failed {
    match failed {
        Failed::NotSent(message) => Failed::NotSent(message.clone()),
        other => Failed::Lost(other.message().to_owned()),
    }
}

/// Gives up requests that wait too long for an answer, and the stream if it is silent altogether.
struct Watch<'a> {
    waiting: &'a Mutex<Waiting>,
    patience: Patience,
    /// Whether the node has answered at all; before that its requests may wait for a connection.
    is_open: bool,
    look_at: Instant,
    heard_at: Instant,
    /// The question under way whether the node leads nothing any more.
    doubt: Option<BoxFuture<'static, bool>>,
}

/// A stream is not waited for any more: why.
struct GivenUp(&'static str);

impl<'a> Watch<'a> {
    fn new(waiting: &'a Mutex<Waiting>, patience: Patience) -> Self {
        let now = Instant::now();
        Self { waiting, patience, is_open: false, look_at: now + PIPELINE_WATCH_INTERVAL, heard_at: now, doubt: None }
    }

    /// Waits for the next step of the stream, unless the stream is given up.
    async fn over<T>(&mut self, step: impl Future<Output = T>) -> Result<T, GivenUp> {
        let mut step = std::pin::pin!(step);
        loop {
            let done = tokio::select! {
                biased;
                done = &mut step => Some(done),
                is_deposed = answer(&mut self.doubt) => {
                    self.doubt = None;
                    if is_deposed {
                        return Err(GivenUp("the node says nothing, and others lead by now"));
                    }
                    None
                }
                () = tokio::time::sleep_until(self.look_at) => None,
            };
            let now = Instant::now();
            if done.is_some() {
                self.heard_at = now;
                self.doubt = None;
            }
            if now >= self.look_at {
                self.look_at = now + PIPELINE_WATCH_INTERVAL;
                self.look(now)?;
            }
            if let Some(done) = done {
                return Ok(done);
            }
        }
    }

    /// Gives up what is late; an error if the stream is good for no more.
    fn look(&mut self, now: Instant) -> Result<(), GivenUp> {
        let silent_for = now.duration_since(self.heard_at);
        let before = |time: Duration| now.checked_sub(time);
        let (late, count, is_doubtful) = {
            let mut waiting = lock(self.waiting);
            let late = before(self.patience.attempt_timeout).map(|since| waiting.give_up_before(since)).unwrap_or_default();
            let waits_for_leader = if self.is_open {
                before(SILENCE_DOUBTED).is_some_and(|since| waiting.has_one_for_leader_before(since))
            } else {
                self.patience.wants_leader.load(Ordering::Relaxed)
            };
            (late, waiting.count(), waits_for_leader && silent_for >= SILENCE_DOUBTED)
        };
        // A node whose other shards answer is not silent: only what is late goes elsewhere.
        let is_silent = !late.is_empty() && silent_for >= self.patience.attempt_timeout;
        for waiter in late {
            waiter.answer(Err(Failed::Lost("no answer in time".to_owned())));
        }
        if is_silent {
            return Err(GivenUp("no answer in time"));
        }
        if count > PIPELINE_WAITING_MAX {
            return Err(GivenUp("too much has no answer"));
        }
        if is_doubtful && self.doubt.is_none() {
            self.doubt = Some((self.patience.is_deposed)());
        }
        Ok(())
    }
}

/// The answer to a question; none comes if none is asked.
async fn answer(doubt: &mut Option<BoxFuture<'static, bool>>) -> bool {
    match doubt {
        Some(doubt) => doubt.await,
        None => std::future::pending().await,
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests that did not leave yet.
struct Unsent {
    submissions: mpsc::UnboundedReceiver<Submission>,
    /// Taken from the queue, but too much for the message before.
    spilled: VecDeque<Submission>,
}

/// Closes the queue: what is in it never leaves.
fn end(unsent: &Mutex<Unsent>) {
    let left = {
        let mut unsent = unsent.lock().unwrap_or_else(PoisonError::into_inner);
        unsent.submissions.close();
        let mut left = std::mem::take(&mut unsent.spilled);
        while let Ok(submission) = unsent.submissions.try_recv() {
            left.push_back(submission);
        }
        left
    };
    for submission in left {
        submission.waiter.answer(Err(Failed::NotSent("the connection ended before the request left".to_owned())));
    }
}

/// The requests as a stream of messages: each takes what waits at the moment when the connection can send.
struct Outbound {
    unsent: Arc<Mutex<Unsent>>,
    waiting: Arc<Mutex<Waiting>>,
    /// Ends the stream when its other half has ended; none once it has.
    end: Option<oneshot::Receiver<()>>,
}

impl Stream for Outbound {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let outbound = self.get_mut();
        let Some(end) = &mut outbound.end else { return Poll::Ready(None) };
        if Pin::new(end).poll(context).is_ready() {
            outbound.end = None;
            return Poll::Ready(None);
        }
        let mut unsent = outbound.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        let Unsent { submissions, spilled } = &mut *unsent;
        if spilled.is_empty() {
            let mut gathered = Vec::new();
            match submissions.poll_recv_many(context, &mut gathered, PIPELINE_MESSAGE_REQUESTS_MAX) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(0) => return Poll::Ready(None),
                Poll::Ready(_) => spilled.extend(gathered),
            }
        }
        Poll::Ready(gather(spilled, &outbound.waiting))
    }
}

/// The next message; none if the other half has ended, as nobody would hear the answers.
fn gather(spilled: &mut VecDeque<Submission>, waiting: &Mutex<Waiting>) -> Option<Frame> {
    let mut frame = Frame::default();
    let mut waiting = lock(waiting);
    if waiting.is_closed() {
        return None;
    }
    let now = Instant::now();
    while let Some(submission) = spilled.pop_front() {
        if !frame.is_empty() && frame.encoded_len() + submission.body.len() > PIPELINE_MESSAGE_BYTES_TARGET {
            spilled.push_front(submission);
            break;
        }
        let request_id = waiting.put(submission.waiter, submission.kind.is_for_leader(), now);
        frame.push(request_id, submission.kind, submission.body);
    }
    Some(frame)
}

impl Drop for Outbound {
    /// What was not taken into a message never left.
    fn drop(&mut self) {
        end(&self.unsent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pipeline_that_has_ended_takes_nothing_though_its_connection_has_not_noticed() {
        let (queue, submissions) = mpsc::unbounded_channel();
        let pipeline = Pipeline { queue, wants_leader: Arc::default() };
        let unsent = Arc::new(Mutex::new(Unsent { submissions, spilled: VecDeque::new() }));
        let (_ended, end_of_stream) = oneshot::channel();
        let _outbound = Outbound { unsent: unsent.clone(), waiting: Arc::default(), end: Some(end_of_stream) };
        let waiting = tokio::spawn({
            let pipeline = pipeline.clone();
            async move { pipeline.call(RequestKind::Write, Bytes::new()).await }
        });
        tokio::task::yield_now().await;
        end(&unsent);
        assert!(matches!(waiting.await, Ok(Err(Failed::NotSent(_)))));
        assert!(pipeline.is_closed());
        assert!(matches!(pipeline.call(RequestKind::Write, Bytes::new()).await, Err(Failed::NotSent(_))));
    }
}
