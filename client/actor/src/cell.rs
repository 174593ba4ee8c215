//! One incarnation of an actor: it recovers, and then handles one thing after the other.
//!
//! Invariants
//! - One write is outstanding; all that is registered meanwhile goes in the next one, each atomic write all or none.
//! - An event takes its number when it is registered, after it has become bytes; numbers have no gaps.
//! - The state changes only by events that are stored, in the order of their numbers.
//! - Handlers run strictly in the order of registration.
//! - Between the registration of what keeps commands back and its handlers, no command is handled.

mod encoding;
mod pending;
mod redelivering;
mod retaining;
mod writing;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use cairn_client::{Error, SequenceNumber, Write, WriteOutcome, WriteReply};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::behavior::{Behavior, PersistFailure, PersistOutcome, PersistRejected};
use crate::context::Context;
use crate::effect::{Defer, Effect, Handler, Persist, Step};
use crate::kind::{ActorKind, StashOverflow, WriteRetry};
use crate::lazy_timer::LazyTimer;
use crate::mailbox::{Asked, Mailbox, Taken};
use crate::maintenance::{Maintenance, Origin, Stores};
use crate::recovery::{Recovery, RecoveryFailure, Restored, recover};
use crate::retention::{RetentionCycle, SnapshotDue};
use crate::signal::Signal;
use crate::stash::Stash;
use crate::store::Claim;
use crate::supervisor::panic_message;
use crate::system::ActorSystem;

use encoding::{Encoded, encode};
use pending::{Entry, Front, Pending, Persisted, Storing, Work};
use redelivering::Redelivering;
use writing::{WriteFailure, write_until_known};

/// Handlers that may be pending before commands are kept back, whatever kind they are.
const PENDING_MAX: usize = 4096;

/// How an incarnation ended.
pub(crate) enum Ending {
    /// It has nothing to do.
    Rests,
    /// By its own effect.
    Done,
    /// Its owner asked for it.
    Stopped,
    /// Another incarnation has taken the journal.
    Superseded,
    Failed(String),
}

pub(crate) struct Cell<B: Behavior> {
    system: ActorSystem,
    kind: ActorKind<B>,
    behavior: B,
    state: B::State,
    context: Context<B>,
    stores: Stores,
    claim: Claim,
    /// The highest number that an event has taken.
    numbered: SequenceNumber,
    /// The journal's highest number, as the next write expects it.
    highest: SequenceNumber,
    pending: Pending<B>,
    /// Whether handlers of pending entries are running: what they register goes behind all others.
    is_draining: bool,
    write: Option<InFlight>,
    /// Ends when a write has been in flight for too long.
    patience: LazyTimer,
    maintenance: Maintenance<B::State>,
    retention: RetentionCycle,
    redelivering: Redelivering,
    stash: Stash<B::Command>,
    idle: Idle,
    /// The store's answer to a save or a deletion, that others have taken the journal: what a write in flight comes to is still told,
    /// and then the incarnation ends.
    superseded: Option<Box<Error>>,
    ending: Option<Ending>,
}

struct InFlight {
    answer: BoxFuture<'static, Result<WriteReply, WriteFailure>>,
    /// The number of its last event.
    last: SequenceNumber,
    /// When its outcome is given up as unknown.
    deadline: Instant,
}

/// Since when there was nothing to do.
struct Idle {
    since: Instant,
    timer: LazyTimer,
}

/// What comes to an actor.
enum Input<B: Behavior> {
    Written(Result<WriteReply, WriteFailure>, SequenceNumber),
    Signal(Origin, Signal<B::State>),
    /// A delivery may be overdue.
    Redeliver,
    Command(B::Command),
    Asked(Asked),
    Idle,
}

impl<B: Behavior> Cell<B> {
    /// Recovers, as soon as one more may.
    pub(crate) async fn start(
        system: &ActorSystem,
        kind: &ActorKind<B>,
        mailbox: &Arc<Mailbox<B::Command>>,
        recovery: Recovery,
    ) -> Result<Box<Self>, Ending> {
        let permit = system.recovery_permit().await;
        let mut behavior = kind.make(mailbox.persistence_id());
        let mut context = Context::new(mailbox.clone());
        let recovered = AssertUnwindSafe(recover(system, kind, recovery, &mut behavior, &mut context)).catch_unwind().await;
        let recovered = recovered.unwrap_or_else(|panic| Err(RecoveryFailure::Panicked(panic_message(panic.as_ref()))));
        let restored = match recovered {
            Ok(restored) => restored,
            Err(failure) => {
                behavior.recovery_failed(&failure, mailbox.persistence_id());
                return Err(Ending::Failed(failure.to_string()));
            }
        };
        let Restored { state, claim, highest, replayed } = restored;
        context.is_recovering = false;
        let persistence_id = mailbox.persistence_id().clone();
        let stores = Stores { store: system.store().clone(), persistence_id, claim: Some(claim.clone()) };
        let mut cell = Box::new(Self {
            system: system.clone(),
            kind: kind.clone(),
            behavior,
            state,
            numbered: context.last_sequence_number,
            context,
            stores,
            claim,
            highest,
            pending: Pending::new(),
            is_draining: false,
            write: None,
            patience: LazyTimer::default(),
            maintenance: Maintenance::new(),
            retention: RetentionCycle::default(),
            redelivering: Redelivering::default(),
            stash: Stash::new(mailbox.clone()),
            idle: Idle { since: Instant::now(), timer: LazyTimer::default() },
            superseded: None,
            ending: None,
        });
        cell.on_recovered(replayed);
        drop(permit);
        Ok(cell)
    }

    /// Handles what comes, until the incarnation ends.
    pub(crate) async fn run(mut self: Box<Self>) -> Ending {
        loop {
            if let Some(ending) = self.ending.take() {
                return ending;
            }
            let input = std::future::poll_fn(|cx| self.poll_input(cx)).await;
            self.on_input(input);
            // A busy actor lets others have their turn.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn on_recovered(&mut self, replayed: u64) {
        self.snapshot_if(self.kind.shared().retention.due_after_recovery(replayed));
        if let Some(outbox) = self.behavior.outbox() {
            self.stash.bring(outbox.recovered(Instant::now()));
        }
        let effect = self.behavior.recovery_completed(&self.state, &mut self.context);
        self.carry_out(effect);
        self.flush();
    }

    fn poll_input(&mut self, cx: &mut TaskContext<'_>) -> Poll<Input<B>> {
        if let Poll::Ready((answer, last)) = self.poll_write(cx) {
            self.write = None;
            return Poll::Ready(Input::Written(answer, last));
        }
        if self.superseded.is_some() {
            return Poll::Pending;
        }
        if let Poll::Ready((origin, signal)) = self.maintenance.poll(cx) {
            return Poll::Ready(Input::Signal(origin, signal));
        }
        if self.redelivering.poll(self.behavior.outbox(), cx).is_ready() {
            return Poll::Ready(Input::Redeliver);
        }
        if self.pending.keeps_commands_back() || self.pending.len() >= PENDING_MAX {
            return Poll::Pending;
        }
        match self.stash.poll_take(cx) {
            Poll::Ready(Taken::Command(command)) => Poll::Ready(Input::Command(command)),
            Poll::Ready(Taken::Asked(asked)) if self.can_obey(asked) => Poll::Ready(Input::Asked(asked)),
            Poll::Ready(Taken::Asked(_)) | Poll::Pending => self.poll_idle(cx),
        }
    }

    fn poll_write(&mut self, cx: &mut TaskContext<'_>) -> Poll<(Result<WriteReply, WriteFailure>, SequenceNumber)> {
        let Some(InFlight { answer, last, deadline }) = &mut self.write else { return Poll::Pending };
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready((answer, *last));
        }
        self.patience.poll_until(*deadline, cx).map(|()| (Err(WriteFailure::out_of_time()), *last))
    }

    fn is_at_leisure(&self) -> bool {
        self.pending.is_empty() && self.maintenance.is_idle()
    }

    /// An actor that has put commands aside, or waits for confirmations, does not rest.
    fn can_rest(&mut self) -> bool {
        let confirmed = self.behavior.outbox().is_none_or(|outbox| outbox.next_tick().is_none());
        confirmed && self.stash.is_empty() && self.is_at_leisure()
    }

    fn can_obey(&mut self, asked: Asked) -> bool {
        if asked == Asked::Stop { self.is_at_leisure() } else { self.can_rest() }
    }

    fn poll_idle(&mut self, cx: &mut TaskContext<'_>) -> Poll<Input<B>> {
        let Some(after) = self.kind.shared().passivate_after else { return Poll::Pending };
        if !self.context.can_rest() || !self.can_rest() {
            return Poll::Pending;
        }
        let Idle { since, timer } = &mut self.idle;
        timer.poll_until(*since + after, cx).map(|()| Input::Idle)
    }

    fn on_input(&mut self, input: Input<B>) {
        if self.kind.shared().passivate_after.is_some() && !matches!(input, Input::Redeliver) {
            self.idle.since = Instant::now();
        }
        match input {
            Input::Written(answer, last) => self.on_written(answer, last),
            Input::Signal(origin, signal) => {
                self.on_signal(origin, signal);
                self.drain();
            }
            Input::Redeliver => {
                if let Some(outbox) = self.behavior.outbox() {
                    self.stash.bring(outbox.tick(Instant::now()));
                }
            }
            Input::Command(command) => {
                let effect = self.behavior.handle(&self.state, command, &mut self.context);
                self.carry_out(effect);
            }
            Input::Asked(Asked::Stop) => self.ending = Some(Ending::Stopped),
            Input::Asked(Asked::Rest | Asked::Nothing) | Input::Idle => self.ending = Some(Ending::Rests),
        }
        self.flush();
    }

    /// Carries out the steps of an effect, in order.
    fn carry_out(&mut self, effect: Effect<B>) {
        for step in effect.steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step<B>) {
        match step {
            Step::Persist(persist) => self.register_events(persist),
            Step::Defer(Defer { stashes, then }) => self.register(Entry { stashes, work: Work::Defer(then) }),
            Step::Run(handler) => self.run_handler(handler),
            Step::Stash(command) => self.put_aside(command),
            Step::Unstash(count) => self.stash.bring_back(count),
            Step::Maintain(maintain) => self.maintain(maintain),
            Step::Stop => self.register(Entry { stashes: true, work: Work::Stop }),
            Step::Fail(reason) => self.end(Ending::Failed(reason)),
        }
    }

    /// The first reason to end is the one that counts, but none counts more than that others have taken the journal.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(if self.superseded.is_some() { Ending::Superseded } else { ending });
    }

    fn run_handler(&mut self, handler: Handler<B>) {
        let effect = handler(&self.state, &mut self.context);
        self.carry_out(effect);
    }

    fn put_aside(&mut self, command: B::Command) {
        let settings = self.kind.shared();
        if self.stash.put_aside(command, settings.stash_room).is_ok() {
            return;
        }
        match settings.stash_overflow {
            StashOverflow::Drop => {
                tracing::warn!(persistence_id = %self.context.persistence_id(), "a command is dropped: the stash is full");
            }
            StashOverflow::Fail => self.end(Ending::Failed("the stash is full".to_owned())),
        }
    }

    /// Makes events bytes, and gives them their numbers.
    fn register_events(&mut self, persist: Persist<B>) {
        let Persist { events, stashes, each, then } = persist;
        let encoded = match encode(self.kind.shared().events.as_ref(), &events, self.numbered) {
            Ok(encoded) => encoded,
            Err(error) => return self.register(Entry { stashes, work: Work::Rejected(PersistRejected { events, error }) }),
        };
        let Encoded { stored, numbers, bytes } = encoded;
        self.numbered = numbers.last().copied().unwrap_or(self.numbered);
        let events = events.into_iter().zip(numbers).collect();
        let storing = if stored.is_empty() { Storing::Nothing } else { Storing::Waits { stored, bytes } };
        self.register(Entry { stashes, work: Work::Persist(Persisted { events, storing, each, then }) });
    }

    /// Puts an entry behind all others. One that waits for nothing runs at once.
    fn register(&mut self, entry: Entry<B>) {
        self.pending.push(entry);
        self.drain();
    }

    /// Runs what waits for nothing, from the front on.
    fn drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        while self.ending.is_none() {
            match self.pending.front() {
                Front::Ready => self.complete_front(),
                Front::Stop if self.maintenance.is_idle() => self.end(Ending::Done),
                Front::Stop | Front::Empty | Front::Waits | Front::InFlight => break,
            }
        }
        self.is_draining = false;
    }

    /// Takes the front, and runs its handlers.
    fn complete_front(&mut self) {
        let Some(Entry { stashes, work }) = self.pending.pop() else { return };
        match work {
            Work::Persist(persisted) => self.apply(persisted),
            Work::Rejected(rejected) => {
                let effect = self.behavior.on_persist_rejected(&rejected, &self.state, &mut self.context);
                self.carry_out(effect);
            }
            Work::Defer(then) => then.into_iter().for_each(|handler| self.run_handler(handler)),
            Work::Stop => {}
        }
        self.pending.ran(stashes);
    }

    /// Applies events that are stored, and runs their handlers.
    fn apply(&mut self, persisted: Persisted<B>) {
        let Persisted { events, mut each, then, .. } = persisted;
        let mut due = SnapshotDue::No;
        for (event, number) in events {
            let last = std::mem::replace(&mut self.context.last_sequence_number, number);
            B::apply(&mut self.state, &event);
            if let Err(refusal) = self.behavior.applied(&self.state, &event, &mut self.context) {
                return self.end(Ending::Failed(refusal.to_string()));
            }
            due = due.max(self.due(&event, last, number));
            if let Some(each) = &mut each {
                let effect = each(&event, &self.state, &mut self.context);
                self.carry_out(effect);
            }
        }
        self.snapshot_if(due);
        then.into_iter().for_each(|handler| self.run_handler(handler));
    }

    /// Sends all that waits in one write, if none is outstanding.
    fn flush(&mut self) {
        if self.write.is_some() || self.superseded.is_some() || self.ending.is_some() {
            return;
        }
        let Some(batch) = self.pending.next_batch() else { return };
        let write = Write {
            persistence_id: self.stores.persistence_id.clone(),
            writer: self.claim.writer.clone(),
            epoch: Some(self.claim.epoch),
            after: Some(self.highest),
            atomic_writes: batch.atomic_writes,
        };
        let WriteRetry { time, backoff } = self.kind.shared().write_retry;
        let deadline = Instant::now() + time;
        let answer = write_until_known(self.stores.store.clone(), write, backoff, deadline, self.system.random()).boxed();
        self.write = Some(InFlight { answer, last: batch.last, deadline });
    }

    fn on_written(&mut self, answer: Result<WriteReply, WriteFailure>, last: SequenceNumber) {
        match answer {
            Ok(reply) => self.on_outcomes(reply.outcomes.into()),
            Err(failure) => self.on_write_failure(&failure),
        }
        self.highest = last;
        self.drain();
        self.end_if_superseded();
    }

    /// Completes what the outcomes are of, and what stands between.
    fn on_outcomes(&mut self, mut outcomes: VecDeque<WriteOutcome>) {
        self.is_draining = true;
        while self.ending.is_none() {
            match self.pending.front() {
                Front::Ready => self.complete_front(),
                Front::InFlight => match outcomes.pop_front() {
                    Some(WriteOutcome::Stored { .. }) => self.complete_front(),
                    Some(WriteOutcome::Refused(refusal)) => {
                        self.on_write_failure(&WriteFailure::from(Error::from(refusal)));
                    }
                    None => self.on_write_failure(&missing_outcome()),
                },
                Front::Stop | Front::Empty | Front::Waits => break,
            }
        }
        self.is_draining = false;
    }

    /// Ends after a save or a deletion was fenced. A write in flight may have come before the other claim: it is answered first.
    fn end_if_superseded(&mut self) {
        if self.write.is_some() || self.ending.is_some() {
            return;
        }
        let Some(error) = self.superseded.clone() else { return };
        if self.pending.events().is_empty() {
            self.end(Ending::Superseded);
        } else {
            self.on_write_failure(&WriteFailure::superseded(*error));
        }
    }

    fn on_write_failure(&mut self, failure: &WriteFailure) {
        let first = SequenceNumber(self.context.last_sequence_number.0 + 1);
        let events = self.pending.events();
        let told = PersistFailure { outcome: failure.outcome, error: &failure.error, events, first };
        self.behavior.on_persist_failure(&told, &mut self.context);
        self.end(match failure.outcome {
            PersistOutcome::Superseded => Ending::Superseded,
            PersistOutcome::NotStored | PersistOutcome::Unknown => Ending::Failed(failure.error.to_string()),
        });
    }
}

/// An answer that leaves out an atomic write says nothing of it.
fn missing_outcome() -> WriteFailure {
    let message = "the answer has too few outcomes".to_owned();
    Error::Protocol { message }.into()
}
