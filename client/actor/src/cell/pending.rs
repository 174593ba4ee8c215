//! What is registered and has not run yet, in its order.

use std::collections::VecDeque;

use cairn_client::SequenceNumber;
use cairn_machine::Event;
use cairn_machine::limits::{ATOMIC_WRITE_BYTES_MAX, WRITE_ATOMIC_WRITES_MAX};

use crate::behavior::{Behavior, PersistRejected};
use crate::effect::{EachHandler, Handler};

/// All that is pending. Those that wait for the write in flight come first, then those that wait for the next one; between them
/// stands what needs no write.
pub(super) struct Pending<B: Behavior> {
    entries: VecDeque<Entry<B>>,
    /// How many of them keep commands back.
    stashing: usize,
}

pub(super) struct Entry<B: Behavior> {
    /// Whether commands wait until it has run.
    pub(super) stashes: bool,
    pub(super) work: Work<B>,
}

pub(super) enum Work<B: Behavior> {
    Persist(Persisted<B>),
    Rejected(PersistRejected<B::Event>),
    Defer(Vec<Handler<B>>),
    Stop,
}

/// Events that have their numbers.
pub(super) struct Persisted<B: Behavior> {
    /// Each with the number of the last event that it is stored as.
    pub(super) events: Vec<(B::Event, SequenceNumber)>,
    pub(super) storing: Storing,
    pub(super) each: Option<EachHandler<B>>,
    pub(super) then: Vec<Handler<B>>,
}

pub(super) enum Storing {
    /// Nothing is to be stored.
    Nothing,
    /// In the next write.
    Waits { stored: Vec<Event>, bytes: usize },
    /// In the write in flight.
    InFlight,
}

/// What the front waits for.
pub(super) enum Front {
    Empty,
    /// For a write that is not sent.
    Waits,
    /// For the write in flight.
    InFlight,
    /// To stop.
    Stop,
    /// For nothing.
    Ready,
}

/// Atomic writes that go in one request.
pub(super) struct Batch {
    pub(super) atomic_writes: Vec<Vec<Event>>,
    /// The number of the last event.
    pub(super) last: SequenceNumber,
}

impl<B: Behavior> Pending<B> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), stashing: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn keeps_commands_back(&self) -> bool {
        self.stashing > 0
    }

    pub(super) fn push(&mut self, entry: Entry<B>) {
        self.stashing += usize::from(entry.stashes);
        self.entries.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry<B>> {
        let entry = self.entries.pop_front()?;
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
        Some(entry)
    }

    /// The handlers of an entry that was taken have run.
    pub(super) fn ran(&mut self, stashes: bool) {
        self.stashing -= usize::from(stashes);
    }

    pub(super) fn front(&self) -> Front {
        match self.entries.front().map(|entry| &entry.work) {
            None => Front::Empty,
            Some(Work::Persist(persisted)) => match persisted.storing {
                Storing::Nothing => Front::Ready,
                Storing::Waits { .. } => Front::Waits,
                Storing::InFlight => Front::InFlight,
            },
            Some(Work::Stop) => Front::Stop,
            Some(Work::Rejected(_) | Work::Defer(_)) => Front::Ready,
        }
    }

    /// Takes what the next write holds: all that waits for it, within the bounds of a write, but nothing from behind a stop.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch { atomic_writes: Vec::new(), last: SequenceNumber(0) };
        let mut bytes_total = 0;
        for entry in &mut self.entries {
            let persisted = match &mut entry.work {
                Work::Persist(persisted) => persisted,
                Work::Stop => break,
                Work::Rejected(_) | Work::Defer(_) => continue,
            };
            let Storing::Waits { stored, bytes } = &mut persisted.storing else { continue };
            bytes_total += *bytes;
            if batch.atomic_writes.len() == WRITE_ATOMIC_WRITES_MAX || bytes_total > ATOMIC_WRITE_BYTES_MAX {
                break;
            }
            batch.last = stored.last().map_or(batch.last, |event| event.sequence_number);
            batch.atomic_writes.push(std::mem::take(stored));
            persisted.storing = Storing::InFlight;
        }
        (!batch.atomic_writes.is_empty()).then_some(batch)
    }

    /// All events that have not been stored, in order.
    pub(super) fn events(&self) -> Vec<&B::Event> {
        let persisted = self.entries.iter().filter_map(|entry| match &entry.work {
            Work::Persist(persisted) => Some(persisted),
            Work::Rejected(_) | Work::Defer(_) | Work::Stop => None,
        });
        persisted.flat_map(|persisted| persisted.events.iter().map(|(event, _)| event)).collect()
    }
}

/// A queue that held more than so many gives its memory back when it is empty.
const KEPT: usize = 16;
