//! The writer of one journal: it numbers events, keeps many writes in flight, and keeps their order through every failure.

mod window;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cairn_api::v1::pipeline_response::response;
use cairn_machine::{PersistenceId, SequenceNumber, WriteOutcome, WriterEpoch, WriterId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, Sleep};

use crate::attempt::Failed;
use crate::error::Error;
use crate::journal::Journal;
use crate::node::Node;
use crate::pipeline::{Answer, Hears, Pipeline, RequestKind, Submission, Waiter};
use crate::retry::Retry;
use crate::router::Target;
use crate::write::{Appended, NewEvent, appended, encode_write, prefix, write_reply};
use window::{Entry, Lasts, Outcomes, Problem, Receipt, Step, Window};

pub(crate) use window::Knowledge;

/// The writer of one journal: got by [`Journal::claim`], or by recovery.
///
/// There is one at a time: a later claim fences this one for ever. Every write expects the one before it, so that however many
/// are in flight, no write is ever stored after a gap that an earlier, failed one left.
///
/// After an [`Error`] that is not [`Error::is_definite`], or a refusal, it writes no more until [`JournalWriter::resume`].
pub struct JournalWriter {
    core: Arc<Core>,
    /// The name under which it will begin anew: the same in each try, so that one that got through is known.
    resuming: WriterId,
}

struct Core {
    journal: Journal,
    writer: WriterId,
    epoch: Option<WriterEpoch>,
    target: Target,
    /// The fields that every write of this writer shares, encoded.
    prefix: Bytes,
    state: Mutex<State>,
}

struct State {
    window: Window,
    /// Where writes go while nothing fails.
    route: Option<(Arc<Node>, Pipeline)>,
    /// Whether a task is bringing the window back on its way.
    is_recovering: bool,
    retry: Option<Retry>,
}

impl JournalWriter {
    pub(crate) fn new(
        journal: Journal,
        writer: WriterId,
        epoch: Option<WriterEpoch>,
        highest: SequenceNumber,
        knowledge: Knowledge,
    ) -> Self {
        let target = journal.target();
        let prefix = prefix(journal.persistence_id(), &writer, epoch);
        let window = Window::new(SequenceNumber(highest.min(SequenceNumber::MAX).0 + 1), knowledge);
        let state = Mutex::new(State { window, route: None, is_recovering: false, retry: None });
        let resuming = journal.new_writer_id();
        Self { core: Arc::new(Core { journal, writer, epoch, target, prefix, state }), resuming }
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.core.journal
    }

    /// The journal's name.
    #[must_use]
    pub fn persistence_id(&self) -> &PersistenceId {
        self.core.journal.persistence_id()
    }

    /// Who writes.
    #[must_use]
    pub fn writer_id(&self) -> &WriterId {
        &self.core.writer
    }

    /// The epoch of the claim; none if the writer was made without one.
    #[must_use]
    pub fn epoch(&self) -> Option<WriterEpoch> {
        self.core.epoch
    }

    /// The number of the last event that was submitted: the journal's highest once all writes in flight are stored.
    #[must_use]
    pub fn submitted(&self) -> SequenceNumber {
        self.core.lock().window.submitted()
    }

    /// Stores one event and waits until it is synced on a quorum.
    ///
    /// # Errors
    /// See [`Error`]. [`Error::Invalid`] and [`Error::Unavailable`] leave the writer as it was.
    pub async fn append(&mut self, event: impl Into<NewEvent>) -> Result<Appended, Error> {
        self.submit(event).await?.await
    }

    /// Stores events as one atomic write, all or none, and waits until it is synced on a quorum.
    ///
    /// # Errors
    /// As [`JournalWriter::append`].
    pub async fn append_all<E: Into<NewEvent>>(&mut self, events: impl IntoIterator<Item = E>) -> Result<Appended, Error> {
        self.submit_all(events).await?.await
    }

    /// Sends one event without waiting for the answer; many may be in flight. Waits only while the client has as much in flight
    /// as it may have.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is over a limit; the error with which the writer ended, if it did.
    pub async fn submit(&mut self, event: impl Into<NewEvent>) -> Result<Submitted, Error> {
        self.submit_one(vec![event.into()]).await
    }

    /// As [`JournalWriter::submit`], for events that are stored all or none.
    ///
    /// # Errors
    /// As [`JournalWriter::submit`].
    pub async fn submit_all<E: Into<NewEvent>>(&mut self, events: impl IntoIterator<Item = E>) -> Result<Submitted, Error> {
        self.submit_one(events.into_iter().map(Into::into).collect()).await
    }

    /// Stores several atomic writes in one request: each of them all or none, in order.
    ///
    /// # Errors
    /// As [`JournalWriter::append`].
    pub async fn write(&mut self, atomic_writes: Vec<Vec<NewEvent>>) -> Result<Vec<Appended>, Error> {
        if atomic_writes.is_empty() {
            return Ok(Vec::new());
        }
        let submitted = self.submit_many(atomic_writes).await?;
        let receipt = submitted.receipt().await?;
        Ok(std::iter::once(receipt.first).chain(receipt.rest).collect())
    }

    /// Begins anew after an error that ended the writer: claims the journal again, under a new name, if nobody else has claimed
    /// it, and goes on behind its highest number. Returns that number.
    ///
    /// The caller finds out what became of its writes by reading up to that number: the new claim fences those that are still on
    /// their way, so that none of them is stored any more.
    ///
    /// # Errors
    /// [`Error::Fenced`] if the journal belongs to another writer by now; [`Error::Unavailable`]; [`Error::Unknown`], after which
    /// it may be tried again.
    pub async fn resume(&mut self) -> Result<SequenceNumber, Error> {
        let mut outcomes = Vec::new();
        self.core.lock().window.abandon(&mut outcomes);
        hand_out(outcomes);
        let resumed = self.core.journal.claim_after(&self.core.writer, self.core.epoch, self.resuming.clone()).await?;
        let highest = resumed.submitted();
        self.core = resumed.core;
        self.resuming = self.core.journal.new_writer_id();
        Ok(highest)
    }

    async fn submit_one(&mut self, events: Vec<NewEvent>) -> Result<Submitted, Error> {
        let deadline = self.core.journal.deadline();
        let permit = self.core.journal.client().admit(size_of(&events), deadline).await?;
        self.core.submit(permit, deadline, |first, prefix| {
            let mut next = first;
            let events = number(events, &mut next)?;
            let body = encode_write(prefix, Some(before(first)), &[events])?;
            Ok((body, Lasts::One(before(next))))
        })
    }

    async fn submit_many(&mut self, atomic_writes: Vec<Vec<NewEvent>>) -> Result<Submitted, Error> {
        let size = atomic_writes.iter().map(|events| size_of(events)).sum();
        let deadline = self.core.journal.deadline();
        let permit = self.core.journal.client().admit(size, deadline).await?;
        self.core.submit(permit, deadline, |first, prefix| {
            let mut next = first;
            let (mut numbered, mut lasts) = (Vec::with_capacity(atomic_writes.len()), Vec::with_capacity(atomic_writes.len()));
            for events in atomic_writes {
                numbered.push(number(events, &mut next)?);
                lasts.push(before(next));
            }
            Ok((encode_write(prefix, Some(before(first)), &numbered)?, Lasts::Many(lasts)))
        })
    }
}

/// About how many bytes events take: what they are admitted by.
fn size_of(events: &[NewEvent]) -> usize {
    let metadata = |event: &NewEvent| event.metadata.as_ref().map_or(0, |metadata| metadata.bytes.len());
    events.iter().map(|event| event.payload.bytes.len() + metadata(event)).sum()
}

fn before(number: SequenceNumber) -> SequenceNumber {
    SequenceNumber(number.0 - 1)
}

fn number(events: Vec<NewEvent>, next: &mut SequenceNumber) -> Result<Vec<cairn_machine::Event>, Error> {
    if next.0 + events.len() as u64 > SequenceNumber::MAX.0 {
        return Err(Error::Invalid { message: "the journal has used up its sequence numbers".to_owned() });
    }
    let numbered = events.into_iter().map(|event| {
        let event = event.numbered(*next);
        *next = SequenceNumber(next.0 + 1);
        event
    });
    Ok(numbered.collect())
}

/// A write on its way: resolves once it is stored, or once it is certain that it is not, or at its deadline.
///
/// Dropping it does not take the write back.
#[must_use = "a write may fail"]
pub struct Submitted {
    core: Arc<Core>,
    ticket: u64,
    outcome: oneshot::Receiver<Result<Receipt, Error>>,
    /// Woken at the deadline; made when the outcome is not there at once.
    sleep: Pin<Box<Sleep>>,
}

impl Submitted {
    /// The outcome of every atomic write of the request.
    async fn receipt(mut self) -> Result<Receipt, Error> {
        poll_fn(|context| self.poll_receipt(context)).await
    }

    fn poll_receipt(&mut self, context: &mut Context<'_>) -> Poll<Result<Receipt, Error>> {
        if let Poll::Ready(outcome) = Pin::new(&mut self.outcome).poll(context) {
            let gone = || Err(Error::Unknown { message: "the writer is gone".to_owned() });
            return Poll::Ready(outcome.unwrap_or_else(|_| gone()));
        }
        match self.sleep.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => match self.core.expire(self.ticket) {
                Some(error) => Poll::Ready(Err(error)),
                // It got its outcome at this very moment.
                None => Pin::new(&mut self.outcome)
                    .poll(context)
                    .map(|outcome| outcome.unwrap_or_else(|_| Err(Error::Unknown { message: "the writer is gone".to_owned() }))),
            },
        }
    }
}

impl Future for Submitted {
    type Output = Result<Appended, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_receipt(context).map_ok(|receipt| receipt.first)
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers, encodes and sends a write: all at once, so that the order of numbers is the order on the wire.
    fn submit(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
        encode: impl FnOnce(SequenceNumber, &Bytes) -> Result<(Bytes, Lasts), Error>,
    ) -> Result<Submitted, Error> {
        let (waiter, outcome) = oneshot::channel();
        let mut state = self.lock();
        let first = state.window.next()?;
        let (body, lasts) = encode(first, &self.prefix)?;
        let mut entry = Entry::new(first, lasts, body.clone(), deadline, waiter);
        entry.permit = Some(permit);
        let ticket = state.window.push(entry);
        if !state.window.is_held() {
            self.send(&mut state, ticket, body);
        }
        self.recover_if_stalled(&mut state);
        drop(state);
        Ok(Submitted { core: self.clone(), ticket, outcome, sleep: Box::pin(tokio::time::sleep_until(deadline)) })
    }

    fn send(self: &Arc<Self>, state: &mut State, ticket: u64, body: Bytes) {
        let Some((_, pipeline)) = &state.route else { return state.window.hold() };
        let waiter = Waiter::Ticket(self.clone(), ticket);
        match pipeline.submit(Submission { kind: RequestKind::Write, body, waiter }) {
            Ok(()) => state.window.sent(ticket),
            // The pipeline has ended, and answers those that it took; this one it did not take.
            Err(_) => state.window.hold(),
        }
    }

    fn recover_if_stalled(self: &Arc<Self>, state: &mut State) {
        if state.window.is_stalled() && !state.is_recovering {
            state.is_recovering = true;
            tokio::spawn(self.clone().recover());
        }
    }

    /// Brings everything without an outcome on its way again.
    async fn recover(self: Arc<Self>) {
        loop {
            let Some((failed, deadline)) = self.step() else { return };
            if let Some(failed) = failed {
                let delay = self.retry_delay(&failed);
                // Beyond the deadline only the outcome is left to be handed out.
                tokio::time::sleep_until((Instant::now() + delay).min(deadline)).await;
            }
            match self.journal.client().router().locate(&self.target, deadline).await {
                Err(failed) => self.lock().window.not_tried(failed),
                Ok(node) => {
                    if self.resend(node) {
                        return;
                    }
                }
            }
        }
    }

    /// Hands out what is certain; says after which failure to send the rest again, and until when; none if there is no rest.
    fn step(&self) -> Option<(Option<Failed>, Instant)> {
        let mut outcomes = Vec::new();
        let next = {
            let mut state = self.lock();
            let step = state.window.step(Instant::now(), &mut outcomes);
            match (step, state.window.deadline()) {
                (Step::Resend(failed), Some(deadline)) => Some((failed, deadline)),
                _ => {
                    state.is_recovering = false;
                    state.retry = None;
                    None
                }
            }
        };
        hand_out(outcomes);
        next
    }

    fn retry_delay(&self, failed: &Failed) -> Duration {
        let seed = self.journal.client().router().random_u64();
        self.lock().retry.get_or_insert_with(|| Retry::new(seed)).delay(failed)
    }

    /// Whether everything is on its way.
    fn resend(self: &Arc<Self>, node: Arc<Node>) -> bool {
        let pipeline = node.pipeline();
        let mut state = self.lock();
        state.route = Some((node, pipeline));
        for (ticket, body) in state.window.resend() {
            self.send(&mut state, ticket, body);
            if state.window.is_held() {
                break;
            }
        }
        // What went out before the pipeline ended will be answered by it, and then it goes on.
        let is_stalled = state.window.is_stalled();
        if is_stalled {
            state.window.not_tried(Failed::NotSent("the connection ended".to_owned()));
        } else {
            state.is_recovering = false;
        }
        !is_stalled
    }

    fn expire(self: &Arc<Self>, ticket: u64) -> Option<Error> {
        let mut outcomes = Vec::new();
        let error = {
            let mut state = self.lock();
            let error = state.window.expire(ticket, &mut outcomes);
            // What was given up may have been all that was in flight.
            self.recover_if_stalled(&mut state);
            error
        };
        hand_out(outcomes);
        error
    }
}

impl Hears for Core {
    fn hear(self: Arc<Self>, ticket: u64, answer: Answer) {
        let outcomes = {
            let mut state = self.lock();
            let State { window, route, retry, .. } = &mut *state;
            // Given up meanwhile: whatever it says, nobody asks.
            let Some(span) = window.span(ticket) else { return };
            let outcomes = match read(answer, span) {
                Ok(receipt) => {
                    *retry = None;
                    window.stored(ticket, receipt)
                }
                Err(problem) => {
                    if let (Problem::Passing(failed), Some((node, _))) = (&problem, route) {
                        self.journal.client().router().note(&self.target, node.address(), failed);
                    }
                    window.failed(ticket, problem);
                    Vec::new()
                }
            };
            self.recover_if_stalled(&mut state);
            outcomes
        };
        hand_out(outcomes);
    }
}

/// Reads an answer to the write with these numbers.
fn read(answer: Answer, (first, lasts): (SequenceNumber, Lasts)) -> Result<Receipt, Problem> {
    let response = match answer? {
        response::Kind::Write(response) => response,
        _ => return Err(Problem::Refused(Error::protocol("an answer of another kind"))),
    };
    let reply = write_reply(response, lasts.count()).map_err(Problem::Refused)?;
    let mut outcomes = reply.outcomes.into_iter();
    let mut next = |first, last| {
        let outcome: WriteOutcome = outcomes.next().expect("as many outcomes as atomic writes");
        appended(outcome, first, last).map_err(Problem::Refused)
    };
    match lasts {
        Lasts::One(last) => Ok(Receipt { first: next(first, last)?, rest: Vec::new() }),
        Lasts::Many(lasts) => {
            let firsts = std::iter::once(first).chain(lasts.iter().map(|last| SequenceNumber(last.0 + 1)));
            let mut all = firsts.zip(&lasts).map(|(first, last)| next(first, *last)).collect::<Result<Vec<_>, _>>()?;
            let first = all.remove(0);
            Ok(Receipt { first, rest: all })
        }
    }
}

fn hand_out(outcomes: Outcomes) {
    for (waiter, outcome) in outcomes {
        // Nobody waits for it any more: that is the caller's right.
        drop(waiter.send(outcome));
    }
}
