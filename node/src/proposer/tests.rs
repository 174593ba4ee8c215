//! Proposals against a target that answers when the test says so.

use std::sync::Mutex;

use cairn_machine::{Claim, ClaimReply, PersistenceId, SequenceNumber, Timestamp, WriterEpoch, WriterId};
use futures::FutureExt;

use super::*;
use crate::admission::Admission;
use crate::metrics::Metrics;

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(7)
    }
}

type Pending = (Batch, oneshot::Sender<Result<Vec<Reply>, Failure>>);

#[derive(Default)]
struct HeldTarget {
    pending: Mutex<VecDeque<Pending>>,
    proposed: tokio::sync::Notify,
}

impl Target for HeldTarget {
    fn propose(&self, batch: Batch) -> BoxFuture<'static, Result<Vec<Reply>, Failure>> {
        let (sender, reply) = oneshot::channel();
        self.pending.lock().expect("not poisoned").push_back((batch, sender));
        self.proposed.notify_one();
        async move { reply.await.unwrap_or_else(|_| Err(Failure::unknown("dropped"))) }.boxed()
    }
}

impl HeldTarget {
    async fn next(&self) -> Pending {
        loop {
            if let Some(pending) = self.pending.lock().expect("not poisoned").pop_front() {
                return pending;
            }
            self.proposed.notified().await;
        }
    }

    fn waiting(&self) -> usize {
        self.pending.lock().expect("not poisoned").len()
    }
}

struct World {
    target: Arc<HeldTarget>,
    proposer: Proposer,
    admission: Arc<Admission>,
    answers: mpsc::UnboundedReceiver<Answers>,
    answers_sender: mpsc::UnboundedSender<Answers>,
}

fn world(in_flight_max: usize) -> World {
    let target = Arc::new(HeldTarget::default());
    let settings = ProposerSettings { in_flight_max, deadline: Duration::from_secs(10) };
    let metrics = Metrics::new().shard(cairn_machine::ShardId(0));
    let (proposer, task) = Proposer::start(target.clone(), Arc::new(FixedClock), metrics, settings, CancellationToken::new());
    tokio::spawn(task);
    let (answers_sender, answers) = mpsc::unbounded_channel();
    World { target, proposer, admission: Admission::new(100_000, usize::MAX / 2), answers, answers_sender }
}

fn claim(number: u64) -> Command {
    let persistence_id = PersistenceId::new(format!("journal-{number}")).expect("valid");
    Command::Claim(Claim { persistence_id, writer: WriterId::new("w").expect("valid"), epoch_read: WriterEpoch(0) })
}

impl World {
    fn submit(&self, numbers: std::ops::Range<u64>, bytes: usize) {
        let items: VecDeque<_> = numbers.map(|number| Item { request_id: number, bytes, command: claim(number) }).collect();
        let admitted = self.admission.admit(items.len(), items.len() * bytes).expect("there is room");
        self.proposer.submit(Submission::of_stream(items, admitted, self.answers_sender.clone()));
    }
}

/// A reply by which a command is known again.
fn reply_to(command: &Command) -> Reply {
    let Command::Claim(claim) = command else { panic!("only claims are sent") };
    let number = claim.persistence_id.as_str().trim_start_matches("journal-").parse().expect("a number");
    Reply::Claim(Ok(ClaimReply { epoch: WriterEpoch(number), highest: SequenceNumber(0) }))
}

fn replies(batch: &Batch) -> Vec<Reply> {
    batch.commands.iter().map(reply_to).collect()
}

#[tokio::test(start_paused = true)]
async fn everything_that_waits_goes_into_the_next_batch_and_each_gets_its_own_reply() {
    let mut world = world(1);
    world.submit(0..1, 10);
    let (first, answer_first) = world.target.next().await;
    assert_eq!((first.commands.len(), first.moment), (1, Timestamp(7)));
    for number in 1..=20 {
        world.submit(number * 10..number * 10 + 3, 10);
    }
    answer_first.send(Ok(replies(&first))).expect("is awaited");
    let (second, answer_second) = world.target.next().await;
    assert_eq!(second.commands.len(), 60, "all that waited");
    answer_second.send(Ok(replies(&second))).expect("is awaited");
    for _ in 0..21 {
        let answers = world.answers.recv().await.expect("is answered");
        let replies = answers.outcome.expect("was applied");
        assert_eq!(replies.len(), answers.request_ids.len());
        for (request_id, reply) in answers.request_ids.iter().zip(replies) {
            assert_eq!(reply, reply_to(&claim(*request_id)));
        }
    }
    assert_eq!(world.admission.commands(), 0);
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded_by_commands_and_bytes_and_keep_their_order() {
    let world = world(64);
    world.submit(0..2500, 10);
    world.submit(2500..2510, BATCH_BYTES_TARGET / 4);
    let mut sizes = Vec::new();
    let mut seen = Vec::new();
    while seen.len() < 2510 {
        let (batch, _) = world.target.next().await;
        sizes.push(batch.commands.len());
        seen.extend(batch.commands);
    }
    assert_eq!(sizes, [1024, 1024, 452 + 3, 4, 3]);
    assert_eq!(seen, (0..2510).map(claim).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_command_larger_than_a_batch_goes_alone() {
    let world = world(64);
    world.submit(0..1, 10);
    world.submit(1..2, BATCH_BYTES_TARGET * 4);
    world.submit(2..3, 10);
    for size in [1, 1, 1] {
        assert_eq!(world.target.next().await.0.commands.len(), size);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_batches_are_in_flight_than_allowed() {
    let world = world(2);
    for number in 0..5 {
        world.submit(number..number + 1, BATCH_BYTES_TARGET);
    }
    let held = (world.target.next().await, world.target.next().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.target.waiting(), 0, "the third waits");
    drop(held);
    world.target.next().await;
}

#[tokio::test(start_paused = true)]
async fn a_proposal_without_a_reply_is_unknown_and_what_was_never_proposed_is_not() {
    let mut world = world(1);
    world.submit(0..1, 10);
    let held = world.target.next().await;
    world.submit(1..2, 10);
    let first = world.answers.recv().await.expect("is answered");
    let second = world.answers.recv().await.expect("is answered");
    assert_eq!(first.request_ids, [0]);
    assert_eq!(first.outcome.expect_err("has no reply").reason(), Reason::Unknown);
    assert_eq!(second.request_ids, [1]);
    assert!(second.outcome.expect_err("was not proposed").reason().is_not_applied());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_caller_is_gone_is_still_proposed() {
    let world = world(1);
    let admitted = world.admission.admit(1, 10).expect("there is room");
    let (submission, answer) = Submission::of_one(claim(1), 10, admitted);
    world.proposer.submit(submission);
    drop(answer);
    let (batch, reply) = world.target.next().await;
    reply.send(Ok(replies(&batch))).expect("is awaited");
    world.submit(2..3, 10);
    assert_eq!(world.target.next().await.0.commands, [claim(2)], "it goes on");
}
