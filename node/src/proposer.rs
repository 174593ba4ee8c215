//! The proposer of one shard: gathers the commands that wait into batches, proposes them in order, and brings each caller its
//! answers.
//!
//! A Raft entry costs a sync on every replica, whether it holds one command or a thousand; gathering is most of our throughput.
//! Nothing lingers: a batch is what waits when a place in flight is free.
//!
//! Invariants
//! - Commands are proposed in the order in which they were submitted, and a command is never split.
//! - Each command is answered exactly once, also if its caller is gone; the answer is awaited for a bounded time.
//! - What was never proposed is never answered as unknown, and what was proposed and has no reply always is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1::{Failure, Reason};
use cairn_machine::limits::{BATCH_BYTES_TARGET, BATCH_COMMANDS_MAX};
use cairn_machine::{Batch, Command, Refusal, Reply, WriteOutcome};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Admitted;
use crate::clock::Clock;
use crate::metrics::ShardMetrics;

#[cfg(test)]
mod tests;

/// What a proposer proposes to: a shard's Raft group.
pub(crate) trait Target: Send + Sync + 'static {
    /// Puts a batch into the log behind those before it, and answers when it is applied here.
    fn propose(&self, batch: Batch) -> BoxFuture<'static, Result<Vec<Reply>, Failure>>;
}

/// How a proposer works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProposerSettings {
    /// Batches that are proposed and not yet answered.
    pub in_flight_max: usize,
    /// How long a command waits to be proposed, and then for its reply.
    pub deadline: Duration,
}

/// The way to a shard's proposer.
#[derive(Clone, Debug)]
pub(crate) struct Proposer {
    submissions: mpsc::UnboundedSender<Submission>,
}

/// Commands of one caller for one shard, in order.
#[derive(Debug)]
pub(crate) struct Submission {
    items: VecDeque<Item>,
    admitted: Admitted,
    route: Route,
    arrived: Instant,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Item {
    /// What its caller knows it by.
    pub request_id: u64,
    /// Its size as encoded, in bytes.
    pub bytes: usize,
    /// The command.
    pub command: Command,
}

/// Where answers go.
#[derive(Debug)]
enum Route {
    One(Option<oneshot::Sender<Result<Reply, Failure>>>),
    Stream(mpsc::UnboundedSender<Answers>),
}

/// Answers to commands of one submission, in order.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The commands' request ids.
    pub request_ids: Vec<u64>,
    /// One reply for each, or why none of them has one.
    pub outcome: Result<Vec<Reply>, Failure>,
}

impl Submission {
    /// Commands whose answers go to a stream of answers.
    pub(crate) fn of_stream(items: VecDeque<Item>, admitted: Admitted, answers: mpsc::UnboundedSender<Answers>) -> Self {
        Self { items, admitted, route: Route::Stream(answers), arrived: Instant::now() }
    }

    /// One command, and where its answer comes.
    pub(crate) fn of_one(
        command: Command,
        bytes: usize,
        admitted: Admitted,
    ) -> (Self, oneshot::Receiver<Result<Reply, Failure>>) {
        let (sender, answer) = oneshot::channel();
        let items = VecDeque::from([Item { request_id: 0, bytes, command }]);
        (Self { items, admitted, route: Route::One(Some(sender)), arrived: Instant::now() }, answer)
    }
}

impl Proposer {
    /// Starts a shard's proposer: the task ends when `stop` is cancelled, or the last handle is gone, and everything is answered.
    pub(crate) fn start(
        target: Arc<dyn Target>,
        clock: Arc<dyn Clock>,
        metrics: ShardMetrics,
        settings: ProposerSettings,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, submissions) = mpsc::unbounded_channel();
        let task = Gatherer { submissions, waiting: VecDeque::new(), target, clock, metrics, settings, stop };
        (Self { submissions: sender }, task.run())
    }

    /// Hands commands over. The queue needs no bound of its own: what is in it has been admitted.
    pub(crate) fn submit(&self, submission: Submission) {
        if let Err(mpsc::error::SendError(mut submission)) = self.submissions.send(submission) {
            let part = submission.take(usize::MAX, usize::MAX, &mut Vec::new());
            part.answer(Err(Failure::new(Reason::Unavailable, "the node is stopping")));
        }
    }
}

/// The part of one submission that went into one batch.
#[derive(Debug)]
struct Part {
    request_ids: Vec<u64>,
    route: Route,
    arrived: Instant,
    _admitted: Admitted,
}

impl Part {
    fn answer(self, outcome: Result<Vec<Reply>, Failure>) {
        // Whoever asked may be gone: then nobody is told.
        match self.route {
            Route::One(Some(sender)) => {
                let reply = outcome
                    .and_then(|replies| replies.into_iter().next().ok_or_else(|| Failure::unknown("the command has no reply")));
                let _ = sender.send(reply);
            }
            Route::One(None) => {}
            Route::Stream(answers) => {
                let _ = answers.send(Answers { request_ids: self.request_ids, outcome });
            }
        }
    }
}

impl Submission {
    /// Moves commands into a batch, within what it may still take; the first is taken in any case.
    fn take(&mut self, commands_max: usize, bytes_max: usize, commands: &mut Vec<Command>) -> Part {
        let mut request_ids = Vec::with_capacity(self.items.len().min(commands_max));
        let mut bytes = 0;
        while let Some(item) = self.items.front() {
            let full = request_ids.len() >= commands_max || bytes + item.bytes > bytes_max;
            if full && !request_ids.is_empty() {
                break;
            }
            let item = self.items.pop_front().expect("there is a first one");
            bytes += item.bytes;
            request_ids.push(item.request_id);
            commands.push(item.command);
        }
        let route = match &mut self.route {
            Route::One(sender) => Route::One(sender.take()),
            Route::Stream(answers) => Route::Stream(answers.clone()),
        };
        let admitted = self.admitted.split(request_ids.len(), bytes);
        Part { request_ids, route, arrived: self.arrived, _admitted: admitted }
    }

    fn first_bytes(&self) -> usize {
        self.items.front().map_or(0, |item| item.bytes)
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// A batch that was proposed, with everybody who waits for it.
struct Proposed {
    parts: Vec<Part>,
    outcome: Result<Vec<Reply>, Failure>,
}

struct Gatherer {
    submissions: mpsc::UnboundedReceiver<Submission>,
    waiting: VecDeque<Submission>,
    target: Arc<dyn Target>,
    clock: Arc<dyn Clock>,
    metrics: ShardMetrics,
    settings: ProposerSettings,
    stop: CancellationToken,
}

impl Gatherer {
    async fn run(mut self) {
        let mut in_flight = FuturesOrdered::new();
        let mut open = true;
        loop {
            while let Ok(submission) = self.submissions.try_recv() {
                self.waiting.push_back(submission);
            }
            self.refuse_stale();
            let room = in_flight.len() < self.settings.in_flight_max;
            if room && !self.waiting.is_empty() {
                in_flight.push_back(self.propose());
                continue;
            }
            if !open && in_flight.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                Some(proposed) = in_flight.next(), if !in_flight.is_empty() => self.answer(proposed),
                submission = self.submissions.recv(), if room && open => match submission {
                    Some(submission) => {
                        self.waiting.push_back(submission);
                        // Whoever is about to submit in this round of the runtime comes along: it costs no time.
                        tokio::task::yield_now().await;
                    }
                    None => open = false,
                },
                () = self.stop.cancelled(), if !self.submissions.is_closed() => self.submissions.close(),
            }
        }
    }

    /// What waited too long to be proposed was certainly not applied.
    fn refuse_stale(&mut self) {
        let deadline = self.settings.deadline;
        while self.waiting.front().is_some_and(|submission| submission.arrived.elapsed() >= deadline) {
            let mut submission = self.waiting.pop_front().expect("there is a first one");
            let part = submission.take(usize::MAX, usize::MAX, &mut Vec::new());
            part.answer(Err(Failure::overloaded("the shard did not take the command in time", Duration::from_millis(100))));
        }
    }

    fn propose(&mut self) -> impl Future<Output = Proposed> + Send + use<> {
        let (commands, parts) = gather(&mut self.waiting);
        #[expect(clippy::cast_precision_loss, reason = "at most 1024")]
        self.metrics.batch_commands.record(commands.len() as f64);
        let reply = self.target.propose(Batch { moment: self.clock.now(), commands });
        let deadline = self.settings.deadline;
        async move {
            let outcome = tokio::time::timeout(deadline, reply).await;
            let outcome = outcome.unwrap_or_else(|_| Err(Failure::unknown("the command has no reply within its deadline")));
            Proposed { parts, outcome }
        }
    }

    fn answer(&self, proposed: Proposed) {
        match proposed.outcome {
            Ok(replies) => {
                self.count(&replies);
                let mut replies = replies.into_iter();
                for part in proposed.parts {
                    self.metrics.append_duration.record(part.arrived.elapsed().as_secs_f64());
                    let of_part = replies.by_ref().take(part.request_ids.len()).collect();
                    part.answer(Ok(of_part));
                }
            }
            Err(failure) => {
                for part in proposed.parts {
                    part.answer(Err(failure.clone()));
                }
            }
        }
    }

    fn count(&self, replies: &[Reply]) {
        let outcomes = replies.iter().filter_map(|reply| match reply {
            Reply::Write(reply) => Some(&reply.outcomes),
            _ => None,
        });
        for outcome in outcomes.flatten() {
            match outcome {
                WriteOutcome::Refused(Refusal::Conflict { .. }) => self.metrics.append_conflicts.increment(1),
                WriteOutcome::Refused(Refusal::Fenced { .. }) => self.metrics.fenced_writes.increment(1),
                WriteOutcome::Refused(_) | WriteOutcome::Stored { .. } => {}
            }
        }
    }
}

/// Takes from what waits as much as one batch may hold.
fn gather(waiting: &mut VecDeque<Submission>) -> (Vec<Command>, Vec<Part>) {
    let mut commands = Vec::new();
    let mut parts = Vec::new();
    let mut bytes = 0;
    while let Some(submission) = waiting.front_mut() {
        let commands_left = BATCH_COMMANDS_MAX.saturating_sub(commands.len());
        let bytes_left = BATCH_BYTES_TARGET.saturating_sub(bytes);
        if !commands.is_empty() && (commands_left == 0 || submission.first_bytes() > bytes_left) {
            break;
        }
        let before = submission.bytes();
        parts.push(submission.take(commands_left, bytes_left, &mut commands));
        bytes += before - submission.bytes();
        if submission.items.is_empty() {
            waiting.pop_front();
        } else {
            break;
        }
    }
    (commands, parts)
}
