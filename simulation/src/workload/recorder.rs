//! Writes down what one client asks and is told.

use std::time::Duration;

use cairn_client::{
    Appended, Criteria, Error, HighestReply, Journal, JournalWriter, Replay, Snapshot, StoredEvent, WriteOutcome,
};
use cairn_machine::PersistenceId;

use crate::broken::{self, Bug};
use crate::history::{Answer, Bounds, Call, Fresh, History, Numbered, OperationId, Outcome, ReadEvent, ReadSnapshot, Written};
use crate::stamp::Stamp;

/// The record as one client writes it.
#[derive(Clone, Debug)]
pub struct Recorder {
    client: u16,
    history: History,
    bug: Option<Bug>,
}

impl Recorder {
    /// For a client.
    #[must_use]
    pub fn new(client: u16, history: History, bug: Option<Bug>) -> Self {
        Self { client, history, bug }
    }

    /// Since the record began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.history.now()
    }

    /// The client asks.
    pub fn begin(&self, persistence_id: &str, call: Call) -> OperationId {
        self.history.begin(self.client, persistence_id, call)
    }

    /// The client asked at a moment that is over.
    pub fn begin_at(&self, began: Duration, persistence_id: &str, call: Call) -> OperationId {
        self.history.begin_at(began, self.client, persistence_id, call)
    }

    /// It is told.
    pub fn end(&self, id: OperationId, outcome: Result<Answer, Error>) {
        self.history.end(id, broken::told(self.bug, outcome_of(outcome)));
    }

    /// It is told what cannot be right.
    pub fn end_wrong(&self, id: OperationId, what: String) {
        self.history.end(id, Outcome::Wrong(what));
    }

    /// The client is about to write behind everything that this writer has submitted.
    pub(crate) fn begin_write(&self, writer: &JournalWriter, atomic_writes: Vec<Vec<Numbered>>) -> OperationId {
        let call = Call::Write {
            writer: writer.writer_id().as_str().to_owned(),
            epoch: writer.epoch().map(|epoch| epoch.0),
            after: Some(writer.submitted().0),
            atomic_writes,
        };
        self.begin(writer.persistence_id().as_str(), call)
    }

    /// Reads the highest number.
    pub(crate) async fn highest(&self, journal: &Journal, fresh: Fresh, node: Option<u64>) -> Result<HighestReply, Error> {
        let id = self.begin(journal.persistence_id().as_str(), Call::Highest { fresh, node });
        let outcome = journal.highest().await;
        let answer = outcome.as_ref().map(|reply| Answer::Highest {
            highest: reply.highest.0,
            deleted_to: reply.deleted_to.0,
            epoch: reply.epoch.0,
        });
        self.end(id, answer.map_err(Clone::clone));
        outcome
    }

    /// Loads the newest snapshot within bounds.
    pub(crate) async fn load(&self, journal: &Journal, criteria: Criteria) {
        let id = self.begin(journal.persistence_id().as_str(), Call::LoadSnapshot(bounds(&criteria)));
        let loaded = match journal.load_snapshot(criteria).await {
            Err(error) => return self.end(id, Err(error)),
            Ok(loaded) => loaded,
        };
        self.end_load(id, journal.persistence_id(), loaded.as_ref());
    }

    /// It is told which snapshot there is; that one as it was read, if it can be right.
    pub(crate) fn end_load(
        &self,
        id: OperationId,
        persistence_id: &PersistenceId,
        loaded: Option<&Snapshot>,
    ) -> Option<ReadSnapshot> {
        let read = loaded.map(|snapshot| {
            let number = snapshot.info.sequence_number;
            let stamp = Stamp::of_snapshot(persistence_id, number, &snapshot.bytes)?;
            Ok::<_, String>(ReadSnapshot { number: number.0, timestamp: snapshot.info.timestamp, stamp })
        });
        match read.transpose() {
            Ok(read) => {
                self.end(id, Ok(Answer::Loaded(read)));
                read
            }
            Err(wrong) => {
                self.end_wrong(id, wrong);
                None
            }
        }
    }
}

/// What a claim was told.
pub(crate) fn claimed(writer: &JournalWriter) -> Answer {
    Answer::Claimed { epoch: writer.epoch().expect("claimed").0, highest: writer.submitted().0 }
}

pub(crate) fn bounds(criteria: &Criteria) -> Bounds {
    Bounds {
        numbers: (criteria.sequence_number_min.0, criteria.sequence_number_max.0),
        timestamps: (criteria.timestamp_min, criteria.timestamp_max),
    }
}

/// Events as they were read, and the error with which the stream ended if it did not come to its end.
pub(crate) type Drained = (Vec<ReadEvent>, Option<Error>);

/// Reads a replay to its end, with a pause of the reader's choice after each event.
///
/// # Errors
/// What is wrong with an event.
pub(crate) async fn drain(
    persistence_id: &PersistenceId,
    replay: &mut Replay,
    mut pause: impl AsyncFnMut(),
) -> Result<Drained, String> {
    let mut events = Vec::new();
    loop {
        match replay.next().await {
            Ok(Some(event)) => events.push(read_event(persistence_id, &event)?),
            Ok(None) => return Ok((events, None)),
            Err(error) => return Ok((events, Some(error))),
        }
        pause().await;
    }
}

/// What a replay showed, in whole or in part.
pub(crate) fn replayed(events: Vec<ReadEvent>, replay: &Replay) -> Answer {
    Answer::Replayed { events, end: replay.end().map(|end| (end.highest.0, end.deleted_to.0)) }
}

/// What an answer or an error of the client library says.
#[must_use]
pub fn outcome_of(outcome: Result<Answer, Error>) -> Outcome {
    match outcome {
        Ok(answer) => Outcome::Ok(answer),
        // Neither the server nor the client may ever produce what the other does not understand.
        Err(error @ (Error::Protocol { .. } | Error::Invalid { .. })) => Outcome::Wrong(error.to_string()),
        Err(error) if error.is_definite() => Outcome::NotApplied(error.to_string()),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

pub(crate) fn stored(appended: Appended) -> Written {
    Written::Stored { previous: appended.previous.0, position: appended.position.0, timestamp: appended.timestamp.0 }
}

pub(crate) fn written(outcome: WriteOutcome) -> Written {
    match outcome {
        WriteOutcome::Stored { previous, position, timestamp } => {
            Written::Stored { previous: previous.0, position: position.0, timestamp: timestamp.0 }
        }
        WriteOutcome::Refused(refusal) => Written::Refused(format!("{refusal:?}")),
    }
}

/// What was read back, if it is what was written.
pub(crate) fn read_event(persistence_id: &PersistenceId, stored: &StoredEvent) -> Result<ReadEvent, String> {
    let stamp = Stamp::of_event(persistence_id, &stored.event)?;
    Ok(ReadEvent {
        number: stored.event.sequence_number.0,
        stamp,
        position: stored.position.0,
        write_first: stored.write_first.0,
        writer: stored.writer.as_str().to_owned(),
        timestamp: stored.timestamp.0,
        deleted: stored.deleted,
    })
}
