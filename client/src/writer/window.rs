//! The writes of one writer that have no final outcome yet, in order.
//!
//! A pure state machine: it is told what happens and says what to do; nothing waits here.
//!
//! Every write expects the one before it (`after`), so that when one of them does not get through, those behind it are refused.
//! Such a refusal says nothing of its own. So the window goes back: once nothing is in flight any more, everything without an
//! outcome is sent again, in order, from the first on. Only the first write's own refusal is final.
//!
//! A number alone does not tell whose event it is. Whoever assumes a highest number could meet a foreign event there: its first write is
//! refused, and the second fits. So the first write goes alone until it is stored.
//!
//! Invariants
//! - Numbers are given out without gaps, and a number is given out again only if no write with it can have been stored.
//! - A write is in flight at most once.
//! - Every write gets exactly one outcome; `Unknown` unless it is certain.
//! - Where a write may still be on its way, nothing more is written under its epoch: it could land behind a later one.

use std::collections::VecDeque;

use bytes::Bytes;
use cairn_machine::SequenceNumber;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::attempt::Failed;
use crate::error::Error;
use crate::write::Appended;

/// Where the atomic writes of one write were stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) first: Appended,
    /// Those after the first.
    pub(crate) rest: Vec<Appended>,
}

/// Hears the outcome of one write.
pub(crate) type Waiter = oneshot::Sender<Result<Receipt, Error>>;

/// Outcomes that are to be handed out.
pub(crate) type Outcomes = Vec<(Waiter, Result<Receipt, Error>)>;

/// One write.
pub(crate) struct Entry {
    pub(crate) ticket: u64,
    pub(crate) first: SequenceNumber,
    /// The last number of each of its atomic writes.
    pub(crate) lasts: Lasts,
    pub(crate) body: Bytes,
    pub(crate) deadline: Instant,
    pub(crate) waiter: Option<Waiter>,
    /// Held until there is an outcome: bounds what is in flight.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    is_sent: bool,
    is_stored: bool,
    may_be_applied: bool,
    failed: Option<Problem>,
}

/// The last numbers of a write's atomic writes; one in most cases.
#[derive(Clone, Debug)]
pub(crate) enum Lasts {
    One(SequenceNumber),
    Many(Vec<SequenceNumber>),
}

impl Lasts {
    pub(crate) fn last(&self) -> SequenceNumber {
        match self {
            Self::One(last) => *last,
            Self::Many(lasts) => *lasts.last().expect("a write has an atomic write"),
        }
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(lasts) => lasts.len(),
        }
    }
}

impl Entry {
    pub(crate) fn new(first: SequenceNumber, lasts: Lasts, body: Bytes, deadline: Instant, waiter: Waiter) -> Self {
        Self {
            ticket: 0,
            first,
            lasts,
            body,
            deadline,
            waiter: Some(waiter),
            permit: None,
            is_sent: false,
            is_stored: false,
            may_be_applied: false,
            failed: None,
        }
    }

    fn is_certainly_not_applied(&self) -> bool {
        !self.is_sent && !self.may_be_applied && !self.is_stored
    }
}

/// Why a try of a write brought no outcome.
#[derive(Clone, Debug)]
pub(crate) enum Problem {
    /// It may succeed when tried again.
    Passing(Failed),
    /// The rules or the limits refuse it, unless it was tried too early.
    Refused(Error),
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        let is_passing = failed.is_worth_retrying();
        match failed {
            Failed::Answered(failure) if !is_passing => Self::Refused(Error::from_failure(*failure)),
            failed => Self::Passing(failed),
        }
    }
}

/// What to do next, when nothing is in flight.
#[derive(Debug)]
pub(crate) enum Step {
    /// Everything has its outcome.
    Rest,
    /// Send again, after a wait that this failure calls for.
    Resend(Option<Failed>),
}

/// How sure it is that the journal's highest number is what it is said to be, and that nobody else writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// A claim found it, and keeps others away.
    Certain,
    /// The caller says so.
    Assumed,
}

/// The window.
pub(crate) struct Window {
    entries: VecDeque<Entry>,
    ticket_next: u64,
    /// The number that the next event gets.
    next: SequenceNumber,
    in_flight: usize,
    knowledge: Knowledge,
    /// Whether new writes wait, because earlier ones must be sent again before them.
    is_held: bool,
    /// Why nothing can be written any more.
    ended: Option<Error>,
}

impl Window {
    pub(crate) fn new(next: SequenceNumber, knowledge: Knowledge) -> Self {
        Self { entries: VecDeque::new(), ticket_next: 0, next, in_flight: 0, knowledge, is_held: true, ended: None }
    }

    /// The number that the next event gets; an error if nothing can be written any more.
    pub(crate) fn next(&self) -> Result<SequenceNumber, Error> {
        match &self.ended {
            None => Ok(self.next),
            Some(error) => Err(error.clone()),
        }
    }

    /// Whether new writes wait.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Takes a write in; the caller sends it if the window is not held. Returns its ticket.
    pub(crate) fn push(&mut self, mut entry: Entry) -> u64 {
        assert_eq!(entry.first, self.next, "numbers are given out by the window");
        self.next = SequenceNumber(entry.lasts.last().0 + 1);
        entry.ticket = self.ticket_next;
        self.ticket_next += 1;
        let ticket = entry.ticket;
        self.entries.push_back(entry);
        ticket
    }

    /// The numbers of a write; none if it was given up.
    pub(crate) fn span(&self, ticket: u64) -> Option<(SequenceNumber, Lasts)> {
        let entry = &self.entries[self.index(ticket)?];
        Some((entry.first, entry.lasts.clone()))
    }

    /// A write left for the server.
    pub(crate) fn sent(&mut self, ticket: u64) {
        if let Some(index) = self.index(ticket) {
            debug_assert!(!self.entries[index].is_sent, "in flight at most once");
            self.entries[index].is_sent = true;
            self.in_flight += 1;
        }
    }

    /// A write is stored.
    pub(crate) fn stored(&mut self, ticket: u64, receipt: Receipt) -> Outcomes {
        let Some(index) = self.landed(ticket) else { return Vec::new() };
        self.knowledge = Knowledge::Certain;
        let entry = &mut self.entries[index];
        entry.is_stored = true;
        entry.permit = None;
        let waiter = entry.waiter.take();
        self.drop_stored();
        waiter.map(|waiter| (waiter, Ok(receipt))).into_iter().collect()
    }

    /// A try of a write brought nothing: hold back what comes, to send again from the first one on.
    pub(crate) fn failed(&mut self, ticket: u64, problem: Problem) {
        let Some(index) = self.landed(ticket) else { return };
        let entry = &mut self.entries[index];
        entry.may_be_applied |= match &problem {
            Problem::Passing(failed) => !failed.is_not_applied(),
            Problem::Refused(error) => !error.is_definite(),
        };
        entry.failed = Some(problem);
        self.is_held = true;
    }

    /// Holds back what comes, as there is no connection to send on.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Whether it is time for [`Window::step`].
    pub(crate) fn is_stalled(&self) -> bool {
        self.is_held && self.in_flight == 0 && !self.entries.is_empty()
    }

    /// What to do, when it is stalled; first the outcomes that are certain by now.
    pub(crate) fn step(&mut self, now: Instant, outcomes: &mut Outcomes) -> Step {
        debug_assert_eq!(self.in_flight, 0, "waits for what is in flight");
        self.drop_stored();
        let Some(front) = self.entries.front() else { return Step::Rest };
        let deadline = self.entries.back().expect("not empty").deadline;
        match &front.failed {
            Some(Problem::Refused(error)) => {
                let error = error.clone();
                self.refuse(&error, outcomes);
                Step::Rest
            }
            Some(Problem::Passing(failed)) if now >= deadline || (now >= front.deadline && front.is_certainly_not_applied()) => {
                let message = failed.message().to_owned();
                self.give_up_from(0, &message, outcomes);
                Step::Rest
            }
            Some(Problem::Passing(failed)) => Step::Resend(Some(failed.clone())),
            None => Step::Resend(None),
        }
    }

    /// The writes to send again, in order; from now on new ones follow them at once, unless the first one has to prove something.
    pub(crate) fn resend(&mut self) -> Vec<(u64, Bytes)> {
        let is_alone = self.knowledge == Knowledge::Assumed;
        self.is_held = is_alone;
        for entry in &mut self.entries {
            // It was refused as one before it was missing: that says nothing once it stands first without having been sent again.
            entry.failed = entry.failed.take().filter(|problem| matches!(problem, Problem::Passing(_)));
        }
        let left = self.entries.iter().filter(|entry| !entry.is_stored).map(|entry| (entry.ticket, entry.body.clone()));
        left.take(if is_alone { 1 } else { usize::MAX }).collect()
    }

    /// The last try could not even be made.
    pub(crate) fn not_tried(&mut self, failed: Failed) {
        self.is_held = true;
        if let Some(front) = self.entries.iter_mut().find(|entry| !entry.is_stored) {
            front.failed = Some(Problem::Passing(failed));
        }
    }

    /// The deadline of a write has come. Returns its outcome; none if it has one already.
    pub(crate) fn expire(&mut self, ticket: u64, outcomes: &mut Outcomes) -> Option<Error> {
        let index = self.index(ticket)?;
        let entry = &mut self.entries[index];
        entry.waiter.take()?;
        let message = match &entry.failed {
            Some(Problem::Passing(failed)) => failed.message().to_owned(),
            Some(Problem::Refused(error)) => error.to_string(),
            None => "no answer before the deadline".to_owned(),
        };
        if !entry.is_certainly_not_applied() {
            // It stays, as those behind it expect it; nothing follows them, as whoever writes must look first.
            let error = Error::Unknown { message };
            self.ended.get_or_insert_with(|| error.clone());
            return Some(error);
        }
        self.give_up_from(index, &message, outcomes);
        Some(Error::Unavailable { message })
    }

    /// Gives up whatever has no outcome yet: the window is not used any more.
    pub(crate) fn abandon(&mut self, outcomes: &mut Outcomes) {
        if !self.entries.is_empty() {
            self.give_up_from(0, "abandoned by its writer", outcomes);
        }
    }

    /// The last number that was given out.
    pub(crate) fn submitted(&self) -> SequenceNumber {
        SequenceNumber(self.next.0 - 1)
    }

    /// The furthest deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.entries.back().map(|entry| entry.deadline)
    }

    /// The first write is refused for good, and with it all that expect it.
    fn refuse(&mut self, error: &Error, outcomes: &mut Outcomes) {
        let first = self.entries.front().expect("refused is the front").first;
        // An answer such as "read-only" is about one try, a refusal by the rules is about the write.
        let is_of_one_try = matches!(error, Error::ReadOnly { .. } | Error::Invalid { .. } | Error::Unsafe { .. });
        if is_of_one_try {
            let mut is_certain = true;
            for (index, entry) in self.entries.drain(..).enumerate() {
                is_certain &= entry.is_certainly_not_applied();
                let outcome = match error {
                    Error::ReadOnly { .. } | Error::Unsafe { .. } => error.clone(),
                    error if index == 0 => error.clone(),
                    error => Error::Unavailable { message: format!("a write before it was refused: {error}") },
                };
                let outcome = if is_certain { outcome } else { Error::Unknown { message: error.to_string() } };
                outcomes.extend(entry.waiter.map(|waiter| (waiter, Err(outcome))));
            }
            if is_certain {
                self.next = first;
            } else {
                self.ended = Some(Error::Unknown { message: error.to_string() });
            }
            return;
        }
        for (index, entry) in self.entries.drain(..).enumerate() {
            // The refusal is the first one's; an earlier try of a later one may have got through.
            let is_certain = index == 0 || entry.is_certainly_not_applied();
            let outcome = if is_certain { error.clone() } else { Error::Unknown { message: error.to_string() } };
            outcomes.extend(entry.waiter.map(|waiter| (waiter, Err(outcome))));
        }
        self.ended = Some(error.clone());
    }

    /// Nothing more is tried for the writes from this one on.
    fn give_up_from(&mut self, index: usize, message: &str, outcomes: &mut Outcomes) {
        let first = self.entries[index].first;
        let mut is_certain = true;
        for entry in self.entries.drain(index..) {
            if entry.is_sent {
                self.in_flight -= 1;
            }
            is_certain &= entry.is_certainly_not_applied();
            let message = message.to_owned();
            let outcome = if is_certain { Error::Unavailable { message } } else { Error::Unknown { message } };
            outcomes.extend(entry.waiter.map(|waiter| (waiter, Err(outcome))));
        }
        if is_certain {
            self.next = first;
        } else {
            self.ended = Some(Error::Unknown { message: message.to_owned() });
        }
    }

    /// A write that was in flight has come back.
    fn landed(&mut self, ticket: u64) -> Option<usize> {
        let index = self.index(ticket)?;
        let entry = &mut self.entries[index];
        if !entry.is_sent {
            return None;
        }
        entry.is_sent = false;
        self.in_flight -= 1;
        Some(index)
    }

    fn drop_stored(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.is_stored) {
            self.entries.pop_front();
        }
    }

    /// Tickets rise, but not densely once writes were given up.
    fn index(&self, ticket: u64) -> Option<usize> {
        let front = self.entries.front()?.ticket;
        let guess = usize::try_from(ticket.checked_sub(front)?).ok()?;
        if self.entries.get(guess).is_some_and(|entry| entry.ticket == ticket) {
            return Some(guess);
        }
        self.entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()
    }
}

#[cfg(test)]
mod tests;
