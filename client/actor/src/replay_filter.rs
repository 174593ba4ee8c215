//! The replay filter: finds where several incarnations of an actor wrote over each other, and repairs what they left if it can.
//!
//! A journal of Cairn holds no such places: it fences the older writer, and takes no number twice. They come with events that were
//! imported from journals that let them happen, and with other stores.
//!
//! The filter holds back a window of events, as a newer writer proves the numbers of an older one wrong only afterwards. What has
//! left the window cannot be repaired any more.
//!
//! Invariants
//! - Events leave in the order in which they came; the filter only leaves some out.
//! - It holds at most a window of events, and knows at most so many old writers.
//! - Every anomaly is told, whatever the mode.

mod stream;

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use cairn_client::{SequenceNumber, StoredEvent, WriterId};

pub(crate) use stream::Filtering;

pub use stream::FilteredEvents;

/// What is done about an anomaly.
///
/// Akka: `replay-filter.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReplayFilterMode {
    /// Events of older writers that a newer one wrote over are left out. Akka: `replay-filter.mode = repair-by-discard-old`
    #[default]
    RepairByDiscardOld,
    /// The replay fails. Akka: `replay-filter.mode = fail`
    Fail,
    /// All events are delivered as they are stored. Akka: `replay-filter.mode = warn`
    Warn,
    /// Nothing is looked at, and nothing held back. Akka: `replay-filter.mode = off`
    Off,
}

/// No such mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mode of the replay filter: {0:?}; there are repair-by-discard-old, fail, warn and off")]
pub struct UnknownMode(pub String);

impl FromStr for ReplayFilterMode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        [Self::RepairByDiscardOld, Self::Fail, Self::Warn, Self::Off]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownMode(name.to_owned()))
    }
}

impl fmt::Display for ReplayFilterMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl ReplayFilterMode {
    fn name(self) -> &'static str {
        match self {
            Self::RepairByDiscardOld => "repair-by-discard-old",
            Self::Fail => "fail",
            Self::Warn => "warn",
            Self::Off => "off",
        }
    }
}

/// How a replay is filtered.
///
/// Akka: `replay-filter`; `replay-filter.debug` is the level TRACE of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayFilterSettings {
    /// What is done about an anomaly.
    pub mode: ReplayFilterMode,
    /// How many events are held back; 100 by default. The first one is delivered when one more is there, or at the end.
    ///
    /// Akka: `replay-filter.window-size`.
    pub window: NonZeroUsize,
    /// How many writers before the newest are remembered; 10 by default.
    ///
    /// Akka: `replay-filter.max-old-writers`.
    pub old_writers_max: NonZeroUsize,
}

impl Default for ReplayFilterSettings {
    fn default() -> Self {
        const WINDOW: NonZeroUsize = NonZeroUsize::new(100).unwrap();
        const OLD_WRITERS_MAX: NonZeroUsize = NonZeroUsize::new(10).unwrap();
        Self { mode: ReplayFilterMode::default(), window: WINDOW, old_writers_max: OLD_WRITERS_MAX }
    }
}

/// How one event contradicts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnomalyKind {
    /// The writer had written a higher number before it.
    OutOfSequence,
    /// A newer writer had written before it.
    OldWriter,
    /// A newer writer wrote the same or a lower number after it.
    Overwritten,
}

/// An event that contradicts another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {number} of writer {writer:?}: {}, the newest being {newest_number} of {newest_writer:?}", self.text())]
pub struct Anomaly {
    /// How.
    pub kind: AnomalyKind,
    /// The number of the event in question.
    pub number: SequenceNumber,
    /// Its writer.
    pub writer: WriterId,
    /// The number of the event that it contradicts.
    pub newest_number: SequenceNumber,
    /// The writer of that one.
    pub newest_writer: WriterId,
}

impl Anomaly {
    fn text(&self) -> &'static str {
        match self.kind {
            AnomalyKind::OutOfSequence => "out of sequence from the same writer",
            AnomalyKind::OldWriter => "from an older writer, after a newer one wrote",
            AnomalyKind::Overwritten => "a newer writer wrote the same or a lower number after it",
        }
    }
}

/// What an event brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be delivered now.
    pub released: Option<StoredEvent>,
    /// What was found. In the mode [`Fail`](ReplayFilterMode::Fail) the replay has failed if there is any.
    pub anomalies: Vec<Anomaly>,
}

/// The filter of one replay: a pure state machine.
///
/// Akka: `ReplayFilter`.
#[derive(Debug)]
pub struct ReplayFilter {
    settings: ReplayFilterSettings,
    /// Held back, in order.
    buffer: VecDeque<StoredEvent>,
    /// Those before the newest writer, in the order of their going.
    old_writers: VecDeque<WriterId>,
    newest: WriterId,
    newest_number: SequenceNumber,
    failed: bool,
}

impl ReplayFilter {
    /// A filter for one replay.
    #[must_use]
    pub fn new(settings: ReplayFilterSettings) -> Self {
        Self {
            settings,
            buffer: VecDeque::new(),
            old_writers: VecDeque::new(),
            newest: WriterId::default(),
            newest_number: SequenceNumber(0),
            failed: false,
        }
    }

    /// Takes the next event of the replay.
    pub fn offer(&mut self, event: StoredEvent) -> Step {
        if self.failed {
            return Step::default();
        }
        if self.settings.mode == ReplayFilterMode::Off {
            return Step { released: Some(event), anomalies: Vec::new() };
        }
        let is_full = self.buffer.len() == self.settings.window.get();
        let released = if is_full { self.buffer.pop_front() } else { None };
        let anomalies = self.take(event);
        if self.settings.mode == ReplayFilterMode::Fail && !anomalies.is_empty() {
            self.failed = true;
            self.buffer.clear();
        }
        Step { released, anomalies }
    }

    /// What is still held back, when the replay has ended, well or not. Empty after it has failed here.
    pub fn finish(self) -> impl Iterator<Item = StoredEvent> {
        self.buffer.into_iter()
    }

    /// Whether an anomaly has failed the replay.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn take(&mut self, event: StoredEvent) -> Vec<Anomaly> {
        let number = event.event.sequence_number;
        // What is before every writer was written by nobody known, and is followed by anyone.
        if event.writer == self.newest {
            // The same number twice is one stored event that an adapter made two of.
            if number < self.newest_number {
                return self.refuse(event, AnomalyKind::OutOfSequence);
            }
            self.newest_number = number;
            self.buffer.push_back(event);
            return Vec::new();
        }
        if self.old_writers.contains(&event.writer) {
            return self.refuse(event, AnomalyKind::OldWriter);
        }
        self.succeed(event.writer.clone(), number);
        let overwritten = self.buffer.iter().filter(|older| older.event.sequence_number >= number);
        let anomalies = overwritten.map(|older| self.anomaly(older, AnomalyKind::Overwritten)).collect();
        if self.settings.mode == ReplayFilterMode::RepairByDiscardOld {
            self.buffer.retain(|older| older.event.sequence_number < number);
        }
        self.buffer.push_back(event);
        anomalies
    }

    /// An event that comes too late: a repair leaves it out.
    fn refuse(&mut self, event: StoredEvent, kind: AnomalyKind) -> Vec<Anomaly> {
        let anomaly = self.anomaly(&event, kind);
        if self.settings.mode == ReplayFilterMode::Warn {
            self.buffer.push_back(event);
        }
        vec![anomaly]
    }

    /// A writer that was not there before is the newest.
    fn succeed(&mut self, writer: WriterId, number: SequenceNumber) {
        let previous = std::mem::replace(&mut self.newest, writer);
        self.newest_number = number;
        if previous == WriterId::default() {
            return;
        }
        self.old_writers.push_back(previous);
        if self.old_writers.len() > self.settings.old_writers_max.get() {
            self.old_writers.pop_front();
        }
    }

    fn anomaly(&self, event: &StoredEvent, kind: AnomalyKind) -> Anomaly {
        Anomaly {
            kind,
            number: event.event.sequence_number,
            writer: event.writer.clone(),
            newest_number: self.newest_number,
            newest_writer: self.newest.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
