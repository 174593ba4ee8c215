//! Cairn's client as a store.

use std::ops::RangeInclusive;

use cairn_client::{
    Cairn, Criteria, Deletion, Error, Journal, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, StoredEvent, Write,
    WriteReply,
};
use futures::StreamExt;

use super::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};

/// The journal in the name of a claim, if there is one.
fn claimed(cairn: &Cairn, persistence_id: &PersistenceId, claim: Option<&Claim>) -> Journal {
    let journal = cairn.journal_of(persistence_id.clone());
    match claim {
        None => journal,
        // The number counts only for writes.
        Some(claim) => journal.writer(claim.writer.clone(), Some(claim.epoch), SequenceNumber(0)).journal().clone(),
    }
}

fn events(stream: impl futures::Stream<Item = Result<StoredEvent, Error>> + Send + 'static) -> Events {
    stream.boxed()
}

impl JournalStore for Cairn {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        let journal = self.journal_of(request.persistence_id);
        let recover = journal.recover().to(request.to).max(request.max);
        let recover = match request.writer {
            Some(writer) => recover.claim_as(writer),
            None => recover.without_claim(),
        };
        let recover = match request.criteria {
            Some(criteria) => recover.criteria(criteria),
            None => recover.without_snapshot(),
        };
        Box::pin(async move {
            let recovered = recover.start().await?;
            let (claim, highest) = match &recovered.writer {
                Some(writer) => {
                    let epoch =
                        writer.epoch().ok_or_else(|| Error::Protocol { message: "a claim without an epoch".to_owned() })?;
                    (Some(Claim { writer: writer.writer_id().clone(), epoch }), writer.submitted())
                }
                None => (None, journal.highest().await?.highest),
            };
            Ok(Recovered { claim, snapshot: recovered.snapshot, events: events(recovered.events), highest })
        })
    }

    fn write<'a>(&'a self, write: &'a Write) -> Answer<'a, WriteReply> {
        Box::pin(Cairn::write(self, write))
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        events(self.journal_of(persistence_id.clone()).replay(numbers).max(max).start())
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        events(self.journal_of(persistence_id.clone()).follow(from.0))
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        let journal = self.journal_of(persistence_id.clone());
        Box::pin(async move { Ok(journal.highest().await?.highest) })
    }

    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        let journal = claimed(self, persistence_id, claim);
        Box::pin(async move { journal.delete_to(to, deletion).await.map(drop) })
    }
}

impl SnapshotStore for Cairn {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        let journal = self.journal_of(persistence_id.clone());
        Box::pin(async move { journal.load_snapshot(criteria).await })
    }

    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        let journal = claimed(self, persistence_id, claim);
        Box::pin(async move { Ok(journal.save_snapshot(snapshot).await?.timestamp) })
    }

    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        let journal = claimed(self, persistence_id, claim);
        Box::pin(async move { journal.delete_snapshot(number, timestamp).await.map(drop) })
    }

    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        let journal = claimed(self, persistence_id, claim);
        Box::pin(async move { journal.delete_snapshots(criteria).await.map(drop) })
    }
}
