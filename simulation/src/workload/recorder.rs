//! Writes down what one client asks and is told.

use std::time::Duration;

use cairn_client::{Appended, Error, HighestReply, StoredEvent, WriteOutcome};
use cairn_machine::PersistenceId;

use crate::history::{Answer, Call, History, OperationId, Outcome, ReadEvent, Written};
use crate::stamp::Stamp;

/// The record as one client writes it.
#[derive(Clone, Debug)]
pub struct Recorder {
    client: u16,
    history: History,
}

impl Recorder {
    /// For a client.
    #[must_use]
    pub fn new(client: u16, history: History) -> Self {
        Self { client, history }
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
        self.history.end(id, outcome_of(outcome));
    }

    /// It is told what cannot be right.
    pub fn end_wrong(&self, id: OperationId, what: String) {
        self.history.end(id, Outcome::Wrong(what));
    }
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

pub(crate) fn highest(reply: &HighestReply) -> Answer {
    Answer::Highest { highest: reply.highest.0, deleted_to: reply.deleted_to.0, epoch: reply.epoch.0 }
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
