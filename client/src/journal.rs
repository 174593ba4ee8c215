//! One journal.

use std::ops::RangeBounds;
use std::time::Duration;

use bytes::Bytes;
use cairn_api::v1::{self, pipeline_response::response};
use cairn_api::{Freshness, HighestReply};
use cairn_machine::{Claim, ClaimReply, DeleteReply, DeleteTo, PersistenceId, SequenceNumber, Slice, WriterEpoch, WriterId};
use prost::Message;
use tokio::time::Instant;

use crate::attempt::Failed;
use crate::cairn::Cairn;
use crate::error::Error;
use crate::follow::Follow;
use crate::limits::CLAIM_TRIES_MAX;
use crate::pipeline::RequestKind;
use crate::recover::RecoverRequest;
use crate::replay::ReplayRequest;
use crate::router::{Effect, Target};
use crate::writer::{JournalWriter, Knowledge};

/// A handle on one journal, which need not exist yet; cheap to clone.
///
/// Reads are linearizable unless [`Journal::with_freshness`] says otherwise. Deletions and saves of snapshots carry the writer
/// whose handle it is ([`JournalWriter::journal`]), so that they are fenced like its writes; a handle from
/// [`Cairn::journal`](crate::Cairn::journal) carries none.
#[derive(Clone, Debug)]
pub struct Journal {
    client: Cairn,
    persistence_id: PersistenceId,
    slice: Slice,
    freshness: Freshness,
    read_at: Option<String>,
    writer: WriterId,
    epoch: Option<WriterEpoch>,
}

/// Which deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Hidden from replay, kept on disk, readable by those who ask for deleted events.
    Logical,
    /// Hidden at once, and the space is given back: no longer readable in any way.
    Permanent,
}

impl Journal {
    pub(crate) fn new(client: Cairn, persistence_id: PersistenceId) -> Self {
        Self {
            client,
            slice: Slice::of(&persistence_id),
            persistence_id,
            freshness: Freshness::Strong,
            read_at: None,
            writer: WriterId::default(),
            epoch: None,
        }
    }

    /// The journal's name.
    #[must_use]
    pub fn persistence_id(&self) -> &PersistenceId {
        &self.persistence_id
    }

    /// The slice in which it lives.
    #[must_use]
    pub fn slice(&self) -> Slice {
        self.slice
    }

    /// The same journal with another deadline for its calls.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.client = self.client.with_deadline(deadline);
        self
    }

    /// The same journal with another freshness of its reads.
    #[must_use]
    pub fn with_freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// The same journal, read from this node alone: `host:port`.
    #[must_use]
    pub fn read_at(mut self, address: impl Into<String>) -> Self {
        self.read_at = Some(address.into());
        self
    }

    /// The same journal, read as the leader has it.
    pub(crate) fn at_the_leader(self) -> Self {
        Self { freshness: Freshness::Strong, read_at: None, ..self }
    }

    /// What is known of the journal: highest number, delete watermark, writer. All zero if it was never written.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn highest(&self) -> Result<HighestReply, Error> {
        self.read_highest(&self.read_target(), self.freshness, self.deadline()).await
    }

    /// Makes the caller the journal's writer, under a new random name: everybody before is fenced for ever.
    ///
    /// # Errors
    /// [`Error::EpochMoved`] if others claim it again and again at the same time; [`Error::Unknown`], after which it is best to
    /// claim again.
    pub async fn claim(&self) -> Result<JournalWriter, Error> {
        self.claim_as(self.new_writer_id()).await
    }

    /// As [`Journal::claim`], under a name of the caller's, which must be new for each incarnation.
    ///
    /// # Errors
    /// As [`Journal::claim`]; [`Error::Invalid`] for an empty name.
    pub async fn claim_as(&self, writer: WriterId) -> Result<JournalWriter, Error> {
        let deadline = self.deadline();
        let mut tries = 0;
        loop {
            let known = self.read_highest(&self.target(), Freshness::Strong, deadline).await?;
            let claim = Claim { persistence_id: self.persistence_id.clone(), writer: writer.clone(), epoch_read: known.epoch };
            match self.send_claim(claim, deadline).await {
                Ok(reply) => return Ok(self.claimed_writer(writer, reply.epoch, reply.highest)),
                Err(Error::EpochMoved { .. }) if tries < CLAIM_TRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Claims the journal under a new name, only if it still belongs to a writer.
    pub(crate) async fn claim_after(
        &self,
        former: &WriterId,
        epoch: Option<WriterEpoch>,
        writer: WriterId,
    ) -> Result<JournalWriter, Error> {
        let deadline = self.deadline();
        let known = self.read_highest(&self.target(), Freshness::Strong, deadline).await?;
        // An earlier try may have got through: then the journal is the new name's already.
        let is_ours = known.writer == *former || known.writer == writer;
        // Without a claim the journal may be one that was never written.
        let is_untouched = epoch.is_none() && known.epoch == WriterEpoch(0);
        if !is_ours && !is_untouched || known.writer == *former && epoch.is_some_and(|epoch| epoch != known.epoch) {
            return Err(Error::Fenced { epoch: known.epoch, writer: known.writer, highest: known.highest });
        }
        let claim = Claim { persistence_id: self.persistence_id.clone(), writer: writer.clone(), epoch_read: known.epoch };
        match self.send_claim(claim, deadline).await {
            Ok(reply) => Ok(self.claimed_writer(writer, reply.epoch, reply.highest)),
            Err(Error::EpochMoved { epoch, writer }) => Err(Error::Fenced { epoch, writer, highest: known.highest }),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn new_writer_id(&self) -> WriterId {
        self.client.router().random_uuid().into()
    }

    /// A writer without a claim: for those who keep writer, epoch and highest number themselves. Without an epoch the writer is
    /// held to the last 16 writers.
    ///
    /// Its first write goes alone: only when that is stored the number that it goes on from has proved right, and many may be in flight.
    #[must_use]
    pub fn writer(&self, writer: WriterId, epoch: Option<WriterEpoch>, highest: SequenceNumber) -> JournalWriter {
        JournalWriter::new(self.in_the_name_of(&writer, epoch), writer, epoch, highest, Knowledge::Assumed)
    }

    /// The writer that a claim made.
    pub(crate) fn claimed_writer(&self, writer: WriterId, epoch: WriterEpoch, highest: SequenceNumber) -> JournalWriter {
        JournalWriter::new(self.in_the_name_of(&writer, Some(epoch)), writer, Some(epoch), highest, Knowledge::Certain)
    }

    fn in_the_name_of(&self, writer: &WriterId, epoch: Option<WriterEpoch>) -> Self {
        Self { writer: writer.clone(), epoch, ..self.clone() }
    }

    /// The events with these numbers, in order: `replay(..)` for all of them.
    pub fn replay(&self, numbers: impl RangeBounds<u64>) -> ReplayRequest {
        ReplayRequest::new(self.clone(), numbers)
    }

    /// The events from a number on, and then those to come, until the stream is dropped.
    #[must_use]
    pub fn follow(&self, from: u64) -> Follow {
        Follow::new(self.clone(), from)
    }

    /// Everything that an actor needs at start in one call: claim, newest snapshot, the events after it.
    pub fn recover(&self) -> RecoverRequest {
        RecoverRequest::new(self.clone())
    }

    /// Deletes the events up to a number, inclusive. What is written while the call runs is never deleted, also not with
    /// [`SequenceNumber::MAX`]. The highest number stays.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_to(&self, to: SequenceNumber, deletion: Deletion) -> Result<DeleteReply, Error> {
        let deadline = self.deadline();
        // A number that exists now: sent again after a foreign write came in between, it means the same.
        let known = self.read_highest(&self.target(), Freshness::Strong, deadline).await?;
        let delete = DeleteTo {
            persistence_id: self.persistence_id.clone(),
            to: to.min(known.highest),
            permanent: deletion == Deletion::Permanent,
            writer: self.writer.clone(),
            epoch: self.epoch,
        };
        let request = v1::DeleteToRequest::from(delete);
        let attempt = |node: std::sync::Arc<crate::node::Node>| {
            let request = request.clone();
            async move {
                let deleted = node.journal().delete_to(node.request(request)).await;
                Ok(deleted.map_err(|status| Failed::from_status(&status))?.into_inner())
            }
        };
        let deleted = self.client.router().call(&self.target(), Effect::Command, deadline, attempt).await?;
        DeleteReply::try_from(deleted).map_err(|invalid| Error::protocol(invalid.to_string()))
    }

    async fn send_claim(&self, claim: Claim, deadline: Instant) -> Result<ClaimReply, Error> {
        let body = Bytes::from(v1::ClaimRequest::from(claim).encode_to_vec());
        match self.client.pipelined(&self.target(), Effect::Command, deadline, RequestKind::Claim, body).await? {
            response::Kind::Claim(response) => {
                ClaimReply::try_from(response).map_err(|invalid| Error::protocol(invalid.to_string()))
            }
            _ => Err(Error::protocol("an answer of another kind")),
        }
    }

    pub(crate) async fn read_highest(
        &self,
        target: &Target,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<HighestReply, Error> {
        let request = v1::HighestRequest {
            persistence_id: self.persistence_id.as_str().to_owned(),
            freshness: (freshness != Freshness::Strong).then(|| freshness.into()),
        };
        let body = Bytes::from(request.encode_to_vec());
        match self.client.pipelined(target, Effect::Read, deadline, RequestKind::Highest, body).await? {
            response::Kind::Highest(response) => {
                HighestReply::try_from(response).map_err(|invalid| Error::protocol(invalid.to_string()))
            }
            _ => Err(Error::protocol("an answer of another kind")),
        }
    }

    pub(crate) fn client(&self) -> &Cairn {
        &self.client
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.client.deadline()
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Who carries out its commands.
    pub(crate) fn target(&self) -> Target {
        Target::Slice(self.slice)
    }

    /// Who answers its reads.
    pub(crate) fn read_target(&self) -> Target {
        self.read_at.clone().map_or(Target::Slice(self.slice), Target::Address)
    }

    /// In whose name deletions and saves are made.
    pub(crate) fn identity(&self) -> (WriterId, Option<WriterEpoch>) {
        (self.writer.clone(), self.epoch)
    }
}
