//! A store that several hold: the actors, and whoever looks at it beside them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use cairn_client::{Criteria, Deletion, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, Write, WriteReply};

use super::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};

impl<S: JournalStore + ?Sized> JournalStore for Arc<S> {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        (**self).recover(request)
    }

    fn write<'a>(&'a self, write: &'a Write) -> Answer<'a, WriteReply> {
        (**self).write(write)
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        (**self).replay(persistence_id, numbers, max)
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        (**self).follow(persistence_id, from)
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        (**self).highest(persistence_id)
    }

    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        (**self).delete_to(persistence_id, to, deletion, claim)
    }
}

impl<S: SnapshotStore + ?Sized> SnapshotStore for Arc<S> {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        (**self).load(persistence_id, criteria)
    }

    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        (**self).save(persistence_id, snapshot, claim)
    }

    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        (**self).delete(persistence_id, number, timestamp, claim)
    }

    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        (**self).delete_matching(persistence_id, criteria, claim)
    }
}
