//! Recovery: everything that an actor needs at start, in one call.

use std::sync::Arc;

use cairn_api::v1::{self, Reason, recover_response};
use cairn_machine::{ClaimReply, Criteria, SequenceNumber, WriterId};
use futures::StreamExt;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::attempt::Failed;
use crate::error::Error;
use crate::flow::{Flow, Messages};
use crate::journal::Journal;
use crate::node::Node;
use crate::replay::{Replay, ReplayCursor};
use crate::retry::Retry;
use crate::router::Effect;
use crate::snapshot::{Arriving, Snapshot, snapshot_info};
use crate::writer::JournalWriter;

/// What to recover.
#[derive(Clone, Debug)]
#[must_use = "nothing is claimed or read before it is started"]
pub struct RecoverRequest {
    journal: Journal,
    writer: Option<WriterId>,
    criteria: Option<Criteria>,
    to: SequenceNumber,
    max: u64,
}

/// What an actor needs at start.
pub struct Recovered {
    /// The journal's writer from now on; none if no claim was asked for.
    pub writer: Option<JournalWriter>,
    /// The newest snapshot that was allowed, if there is one.
    pub snapshot: Option<Snapshot>,
    /// The events after it. Their end tells the journal's highest number.
    pub events: Replay,
}

impl RecoverRequest {
    pub(crate) fn new(journal: Journal) -> Self {
        let writer = Some(journal.new_writer_id());
        Self { journal, writer, criteria: Some(Criteria::LATEST), to: SequenceNumber::MAX, max: SequenceNumber::MAX.0 }
    }

    /// Claims the journal under this name instead of a random one.
    pub fn claim_as(mut self, writer: WriterId) -> Self {
        self.writer = Some(writer);
        self
    }

    /// Claims nothing: reads only.
    pub fn without_claim(mut self) -> Self {
        self.writer = None;
        self
    }

    /// Which snapshot may be offered.
    pub fn criteria(mut self, criteria: Criteria) -> Self {
        self.criteria = Some(criteria);
        self
    }

    /// No snapshot: all events.
    pub fn without_snapshot(mut self) -> Self {
        self.criteria = None;
        self
    }

    /// The last event to replay, inclusive.
    pub fn to(mut self, to: SequenceNumber) -> Self {
        self.to = to;
        self
    }

    /// How many events at most.
    pub fn max(mut self, events: u64) -> Self {
        self.max = events.min(SequenceNumber::MAX.0);
        self
    }

    /// Claims, and reads up to where the events begin; they are read as they are taken.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(self) -> Result<Recovered, Error> {
        let deadline = self.journal.deadline();
        let router = self.journal.client().router();
        let target = self.journal.target();
        let mut retry = Retry::new(router.random_u64());
        let effect = if self.writer.is_some() { Effect::Command } else { Effect::Read };
        let mut may_be_claimed = false;
        loop {
            let (stream, address) = match router.call(&target, effect, deadline, |node| self.open(node)).await {
                Ok(opened) => opened,
                // That nobody took this call says nothing about the claim of the one before.
                Err(Error::Unavailable { message }) if may_be_claimed => return Err(Error::Unknown { message }),
                Err(error) => return Err(error),
            };
            // A stream is opened once the claim is made.
            may_be_claimed = effect == Effect::Command;
            let failed = match self.head(stream, &address, deadline).await {
                Ok(recovered) => return Ok(recovered),
                Err(HeadError::Error(error)) => return Err(error),
                Err(HeadError::Failed(failed)) => failed,
            };
            // What is gone was superseded while it travelled, and nothing of it was handed out: there is a newer snapshot.
            if let Some(failure) = failed.final_answer().filter(|failure| failure.reason() != Reason::Gone) {
                return Err(Error::from_failure(failure.clone()));
            }
            router.note(&target, &address, &failed);
            if !retry.wait(&failed, deadline).await {
                let message = failed.message().to_owned();
                return Err(if may_be_claimed { Error::Unknown { message } } else { Error::Unavailable { message } });
            }
        }
    }

    fn open(&self, node: Arc<Node>) -> impl Future<Output = Result<(Streaming<v1::RecoverResponse>, String), Failed>> + use<> {
        // The same writer in every try: its claim is made once.
        let request = cairn_api::Recover {
            persistence_id: self.journal.persistence_id().clone(),
            writer: self.writer.clone(),
            criteria: self.criteria,
            to: self.to,
            max: self.max,
        };
        async move {
            let recovering = node.journal_streams().recover(node.request(v1::RecoverRequest::from(request))).await;
            Ok((recovering.map_err(|status| Failed::from_status(&status))?.into_inner(), node.address().to_owned()))
        }
    }

    /// Reads what comes before the events.
    async fn head(
        &self,
        mut stream: Streaming<v1::RecoverResponse>,
        address: &str,
        deadline: Instant,
    ) -> Result<Recovered, HeadError> {
        let mut claimed: Option<ClaimReply> = None;
        let mut arriving: Option<Arriving> = None;
        let events = loop {
            let message = match tokio::time::timeout_at(deadline, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Err(Failed::Lost("the recovery ended early".to_owned()).into()),
                Ok(Err(status)) => return Err(Failed::from_status(&status).into()),
                Err(_) => return Err(Failed::Lost("the recovery did not come in time".to_owned()).into()),
            };
            match (message.kind, &mut arriving) {
                (Some(recover_response::Kind::Claimed(reply)), None) if claimed.is_none() => {
                    claimed = Some(ClaimReply::try_from(reply).map_err(|invalid| Error::protocol(invalid.to_string()))?);
                }
                (Some(recover_response::Kind::Snapshot(info)), None) => arriving = Some(Arriving::new(snapshot_info(info)?)),
                (Some(recover_response::Kind::SnapshotData(data)), Some(arriving)) => arriving.push(&data)?,
                (Some(recover_response::Kind::Events(events)), _) => break events,
                _ => return Err(Error::protocol("a recovery out of order").into()),
            }
        };
        if arriving.as_ref().is_some_and(|arriving| !arriving.is_whole()) {
            return Err(Failed::Lost("the snapshot ended early".to_owned()).into());
        }
        let writer = match (&self.writer, claimed) {
            (None, None) => None,
            (Some(writer), Some(claimed)) => Some(self.journal.claimed_writer(writer.clone(), claimed.epoch, claimed.highest)),
            _ => return Err(Error::protocol("a recovery without the claim that was asked for").into()),
        };
        let snapshot = arriving.map(Arriving::finish);
        let after = snapshot.as_ref().map_or(SequenceNumber(0), |snapshot| snapshot.info.sequence_number);
        // Whatever other reads of the journal may make do with, the rest of this one is as fresh as its beginning.
        let replay = self.journal.clone().at_the_leader().replay(after.0 + 1..=self.to.0).max(self.max);
        let cursor = ReplayCursor::new(replay);
        let cursor = if snapshot.is_some() { cursor.behind_snapshot() } else { cursor };
        let rest: Messages<v1::ReplayResponse> =
            futures::stream::iter([Ok(events)]).chain(stream.map(|message| replayed(message?))).boxed();
        let events = Replay { flow: Flow::opened(cursor, rest, address.to_owned()) };
        Ok(Recovered { writer, snapshot, events })
    }
}

/// After the head of a recovery there are only events.
fn replayed(message: v1::RecoverResponse) -> Result<v1::ReplayResponse, Status> {
    match message.kind {
        Some(recover_response::Kind::Events(events)) => Ok(events),
        _ => Err(Status::internal("a recovery out of order")),
    }
}

enum HeadError {
    /// The stream broke.
    Failed(Failed),
    Error(Error),
}

impl From<Failed> for HeadError {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<Error> for HeadError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
