//! Retention: when a snapshot is taken, and what is deleted once it is saved.
//!
//! Invariants
//! - Nothing is deleted before the snapshot that makes it superfluous is saved.
//! - Events are deleted only if that was asked for, and before the snapshots that precede them: what is left can always be recovered.
//! - One cycle of snapshot and deletions at a time; one that falls into another is left out. Nothing is tried again before the next.

use std::fmt;
use std::sync::Arc;

use cairn_client::{Criteria, SequenceNumber};

type Predicate<S, E> = Arc<dyn Fn(&S, &E, SequenceNumber) -> bool + Send + Sync>;

/// Whether a snapshot is due; the greater of several counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotDue {
    /// None.
    #[default]
    No,
    /// One, after which nothing is deleted.
    Alone,
    /// One, after which the retention deletes what it makes superfluous.
    WithRetention,
}

/// When snapshots are taken, and how many are kept. By default none are taken, and nothing is deleted.
///
/// ```
/// use cairn_actor::retention::{Retention, SnapshotDue};
/// use cairn_client::SequenceNumber;
///
/// let retention = Retention::<u64, &str>::snapshot_every(100, 2).snapshot_when(|_, event, _| *event == "closed");
/// assert_eq!(retention.due(&7, &"paid", SequenceNumber(101)), SnapshotDue::No);
/// assert_eq!(retention.due(&7, &"closed", SequenceNumber(101)), SnapshotDue::Alone);
/// assert_eq!(retention.due(&7, &"paid", SequenceNumber(200)), SnapshotDue::WithRetention);
/// ```
///
/// Akka: `RetentionCriteria`, `EventSourcedBehavior.withRetention`.
pub struct Retention<S, E> {
    every: Option<Every>,
    when: Option<Predicate<S, E>>,
}

#[derive(Clone, Copy, Debug)]
struct Every {
    events: u64,
    keep: u64,
    deletes_events: bool,
}

impl Every {
    /// The last number that the snapshots which are kept make superfluous; none if there is nothing below them yet.
    fn superfluous_to(self, saved: SequenceNumber) -> Option<SequenceNumber> {
        let kept = self.keep.saturating_mul(self.events);
        saved.0.checked_sub(kept).filter(|to| *to > 0).map(SequenceNumber)
    }
}

impl<S, E> Clone for Retention<S, E> {
    fn clone(&self) -> Self {
        Self { every: self.every, when: self.when.clone() }
    }
}

impl<S, E> Default for Retention<S, E> {
    fn default() -> Self {
        Self::disabled()
    }
}

impl<S, E> fmt::Debug for Retention<S, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Retention").field("every", &self.every).field("when", &self.when.is_some()).finish()
    }
}

impl<S, E> Retention<S, E> {
    /// No snapshots, no deletions.
    ///
    /// Akka: `RetentionCriteria.disabled`.
    #[must_use]
    pub fn disabled() -> Self {
        Self { every: None, when: None }
    }

    /// A snapshot at every number that so many divide, of which so many are kept.
    ///
    /// Akka: `RetentionCriteria.snapshotEvery`.
    ///
    /// # Panics
    /// If either is 0.
    #[must_use]
    pub fn snapshot_every(events: u64, keep: u64) -> Self {
        assert!(events > 0, "a snapshot covers events");
        assert!(keep > 0, "the newest snapshot is kept");
        Self { every: Some(Every { events, keep, deletes_events: false }), when: None }
    }

    /// Deletes the events, too, that the snapshots which are kept make superfluous.
    ///
    /// Akka: `SnapshotCountRetentionCriteria.withDeleteEventsOnSnapshot`.
    ///
    /// # Panics
    /// Without [`snapshot_every`](Self::snapshot_every): there is nothing that events could be deleted behind.
    #[must_use]
    pub fn deleting_events(mut self) -> Self {
        let every = self.every.as_mut().expect("events are deleted behind snapshots that are taken regularly");
        every.deletes_events = true;
        self
    }

    /// A snapshot, too, whenever this holds of the state after an event, the event and its number. Nothing is deleted after one.
    ///
    /// Akka: `EventSourcedBehavior.snapshotWhen`.
    #[must_use]
    pub fn snapshot_when(mut self, predicate: impl Fn(&S, &E, SequenceNumber) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    /// Whether events are ever deleted: together with snapshots that may fail to read, this loses them.
    #[must_use]
    pub fn deletes_events(&self) -> bool {
        self.every.is_some_and(|every| every.deletes_events)
    }

    /// Whether one event makes a snapshot due. Of those of an atomic write the greatest counts, once, after all of them.
    #[must_use]
    pub fn due(&self, state: &S, event: &E, number: SequenceNumber) -> SnapshotDue {
        if self.every.is_some_and(|every| number.0.is_multiple_of(every.events)) {
            return SnapshotDue::WithRetention;
        }
        match &self.when {
            Some(predicate) if predicate(state, event, number) => SnapshotDue::Alone,
            _ => SnapshotDue::No,
        }
    }

    /// Whether a recovery that replayed so many events makes a snapshot due: the next one shall be shorter.
    #[must_use]
    pub fn due_after_recovery(&self, replayed: u64) -> SnapshotDue {
        if self.every.is_some_and(|every| replayed >= every.events) { SnapshotDue::Alone } else { SnapshotDue::No }
    }
}

/// What is to be done next in a cycle of retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetentionStep {
    /// Delete the events up to this number, inclusive.
    DeleteEvents {
        /// The last one.
        to: SequenceNumber,
    },
    /// Delete the snapshots that match.
    DeleteSnapshots(Criteria),
    /// Nothing: the cycle is over.
    Done,
}

/// One cycle after another: a pure state machine, told what happened and answering with what is next.
///
/// Akka: the retention progress of `EventSourcedBehavior`.
#[derive(Clone, Debug, Default)]
pub struct RetentionCycle {
    is_running: bool,
}

impl RetentionCycle {
    /// A snapshot is due: whether it shall be taken.
    pub fn begin(&mut self, due: SnapshotDue) -> bool {
        match due {
            SnapshotDue::No => false,
            SnapshotDue::Alone => true,
            SnapshotDue::WithRetention => !std::mem::replace(&mut self.is_running, true),
        }
    }

    /// The snapshot of the cycle is saved. Not to be told of snapshots that stand alone.
    pub fn snapshot_saved<S, E>(&mut self, retention: &Retention<S, E>, number: SequenceNumber) -> RetentionStep {
        match retention.every.and_then(|every| Some((every, every.superfluous_to(number)?))) {
            Some((every, to)) if every.deletes_events => RetentionStep::DeleteEvents { to },
            Some((_, to)) => RetentionStep::DeleteSnapshots(snapshots_to(to)),
            None => self.end(),
        }
    }

    /// The events up to this number are deleted.
    pub fn events_deleted(&mut self, to: SequenceNumber) -> RetentionStep {
        // A snapshot at that very number is still of use: the events after it are there.
        match to.0.checked_sub(1).filter(|to| *to > 0) {
            Some(to) => RetentionStep::DeleteSnapshots(snapshots_to(SequenceNumber(to))),
            None => self.end(),
        }
    }

    /// The snapshots are deleted, or a step failed: until the next cycle nothing is tried again.
    pub fn end(&mut self) -> RetentionStep {
        self.is_running = false;
        RetentionStep::Done
    }

    /// Whether a cycle is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_running
    }
}

fn snapshots_to(number: SequenceNumber) -> Criteria {
    Criteria { sequence_number_max: number, ..Criteria::LATEST }
}

#[cfg(test)]
mod tests;
