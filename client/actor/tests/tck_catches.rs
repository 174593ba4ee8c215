//! The test kit finds what is wrong: stores with one bug each, and the claim that each of them breaks.

#[path = "common/metered.rs"]
mod metered;

use std::ops::RangeInclusive;

use cairn_actor::store::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore, Store};
use cairn_actor::tck::{self, Outcome, Subject};
use cairn_client::memory::MemoryCairn;
use cairn_client::{
    Cairn, Criteria, Deletion, Error, NewSnapshot, Payload, PersistenceId, Position, SequenceNumber, Snapshot, Timestamp, Write,
    WriteOutcome, WriteReply, WriterEpoch,
};
use futures::StreamExt;
use metered::Metered;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// The highest number is that of the last event that is left.
    HighestOfWhatIsLeft,
    /// A count counts numbers, and not events.
    CountsNumbers,
    /// The upper bound is exclusive.
    ExclusiveBound,
    /// The last event of a replay is missing, and nothing says so.
    EndsEarly,
    /// A claim claims nothing.
    ClaimsNothing,
    /// A number that is taken is answered as stored.
    HidesConflicts,
    /// One refused atomic write takes the others of its call with it.
    RefusesTheWholeCall,
    /// What stands before an atomic write that is over a limit is stored, though the call is answered as invalid.
    StoresWhatStandsBefore,
    /// Replays are read to their end, whoever waits for them.
    ReadsAhead,
    /// Serializer manifests are lost.
    LosesManifests,
    /// The manifests of event adapters are lost.
    LosesAdapterManifests,
    /// Metadata is lost.
    LosesMetadata,
    /// Tags are lost.
    LosesTags,
    /// The first event that is followed is missing.
    FollowsLate,
    /// A deletion deletes one event less.
    DeletesLess,
    /// A deletion beyond what is there is an error.
    RefusesLargeDeletions,
    /// A save keeps what is there.
    KeepsTheFirstSave,
    /// Given timestamps are replaced.
    ReplacesTimestamps,
    /// A snapshot is deleted whatever its timestamp is.
    DeletesAtAnyTime,
    /// Bounds in time are ignored.
    IgnoresTime,
    /// The deletion of snapshots takes all.
    DeletesAllSnapshots,
}

struct Buggy {
    inner: Cairn,
    meter: Metered,
    bug: Bug,
}

impl Subject for Buggy {
    fn store(&self) -> &dyn Store {
        self
    }

    fn unstorable(&self) -> Option<Payload> {
        Some(Payload { bytes: vec![0; 5 * 1024 * 1024].into(), ..Payload::default() })
    }

    fn sent_bytes(&self) -> Option<u64> {
        Some(self.meter.bytes())
    }
}

impl JournalStore for Buggy {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        if self.bug != Bug::ClaimsNothing {
            return self.inner.recover(request);
        }
        let writer = request.writer.clone();
        let recovering = self.inner.recover(RecoverRequest { writer: None, ..request });
        Box::pin(async move {
            let claim = writer.map(|writer| Claim { writer, epoch: WriterEpoch(1) });
            Ok(Recovered { claim, ..recovering.await? })
        })
    }

    fn write<'a>(&'a self, write: &'a Write) -> Answer<'a, WriteReply> {
        let mut write = write.clone();
        for event in write.atomic_writes.iter_mut().flatten() {
            match self.bug {
                Bug::LosesManifests => event.payload.manifest.clear(),
                Bug::LosesAdapterManifests => event.adapter_manifest.clear(),
                Bug::LosesMetadata => event.metadata = None,
                Bug::LosesTags => event.tags.clear(),
                _ => {}
            }
        }
        if self.bug == Bug::ClaimsNothing {
            write.epoch = None;
        }
        Box::pin(async move {
            let written = JournalStore::write(&self.inner, &write).await;
            if self.bug == Bug::StoresWhatStandsBefore && written.is_err() {
                for atomic_write in &write.atomic_writes {
                    let alone = Write { atomic_writes: vec![atomic_write.clone()], ..write.clone() };
                    JournalStore::write(&self.inner, &alone).await?;
                }
            }
            let mut reply = written?;
            let refused = reply.outcomes.iter().find(|outcome| matches!(outcome, WriteOutcome::Refused(_)));
            if let (Bug::RefusesTheWholeCall, Some(refused)) = (self.bug, refused.cloned()) {
                reply.outcomes.fill(refused);
            }
            if self.bug == Bug::HidesConflicts {
                let (previous, position, timestamp) = (reply.highest, Position(1), Timestamp(1));
                reply.outcomes.fill(WriteOutcome::Stored { previous, position, timestamp });
            }
            Ok(reply)
        })
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        let (from, to) = numbers.into_inner();
        let to = match self.bug {
            Bug::CountsNumbers => to.min(from.saturating_add(max).saturating_sub(1)),
            Bug::ExclusiveBound if to < SequenceNumber::MAX.0 => to.saturating_sub(1),
            _ => to,
        };
        let events = self.inner.replay(persistence_id, from..=to, max);
        if !matches!(self.bug, Bug::EndsEarly | Bug::ReadsAhead) {
            return events;
        }
        let is_last_lost = self.bug == Bug::EndsEarly;
        let all = async move {
            let mut all: Vec<_> = events.collect().await;
            if is_last_lost {
                all.pop();
            }
            futures::stream::iter(all)
        };
        futures::stream::once(all).flatten().boxed()
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        let late = u64::from(self.bug == Bug::FollowsLate);
        self.inner.follow(persistence_id, SequenceNumber(from.0 + late))
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        if self.bug != Bug::HighestOfWhatIsLeft {
            return self.inner.highest(persistence_id);
        }
        let mut events = self.inner.replay(persistence_id, 1..=SequenceNumber::MAX.0, u64::MAX);
        Box::pin(async move {
            let mut highest = SequenceNumber(0);
            while let Some(stored) = events.next().await {
                highest = stored?.event.sequence_number;
            }
            Ok(highest)
        })
    }

    fn delete_to(&self, name: &PersistenceId, to: SequenceNumber, deletion: Deletion, claim: Option<&Claim>) -> Answer<'_, ()> {
        match self.bug {
            Bug::RefusesLargeDeletions if to > SequenceNumber(5) => {
                Box::pin(async { Err(Error::NotFound { message: "there is no such event".to_owned() }) })
            }
            Bug::DeletesLess => self.inner.delete_to(name, SequenceNumber(to.0 - 1), deletion, claim),
            _ => self.inner.delete_to(name, to, deletion, claim),
        }
    }
}

impl SnapshotStore for Buggy {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        let is_timeless = self.bug == Bug::IgnoresTime;
        let timeless = Criteria { timestamp_min: i64::MIN, timestamp_max: i64::MAX, ..criteria };
        self.inner.load(persistence_id, if is_timeless { timeless } else { criteria })
    }

    fn save(&self, name: &PersistenceId, mut snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        let at = snapshot.sequence_number;
        if self.bug == Bug::ReplacesTimestamps {
            snapshot.timestamp = None;
        }
        if self.bug != Bug::KeepsTheFirstSave {
            return self.inner.save(name, snapshot, claim);
        }
        let (name, claim) = (name.clone(), claim.cloned());
        Box::pin(async move {
            let there = self.inner.load(&name, Criteria { sequence_number_min: at, sequence_number_max: at, ..Criteria::LATEST });
            match there.await? {
                Some(there) => Ok(there.info.timestamp),
                None => self.inner.save(&name, snapshot, claim.as_ref()).await,
            }
        })
    }

    fn delete(
        &self,
        name: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        let timestamp = timestamp.filter(|_| self.bug != Bug::DeletesAtAnyTime);
        self.inner.delete(name, number, timestamp, claim)
    }

    fn delete_matching(&self, name: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        let criteria = if self.bug == Bug::DeletesAllSnapshots { Criteria::LATEST } else { criteria };
        self.inner.delete_matching(name, criteria, claim)
    }
}

#[tokio::test]
async fn each_bug_breaks_the_claim_that_it_must() {
    let bugs = [
        (Bug::HighestOfWhatIsLeft, "the_highest_number_outlives_the_deletion_of_all_events"),
        (Bug::CountsNumbers, "a_deleted_prefix_takes_nothing_from_the_count_of_a_replay"),
        (Bug::ExclusiveBound, "a_replay_ends_at_its_upper_bound"),
        (Bug::EndsEarly, "a_replay_without_bounds_gives_every_event"),
        (Bug::ClaimsNothing, "a_superseded_writer_is_fenced_whatever_its_number_is"),
        (Bug::HidesConflicts, "a_taken_number_is_refused_to_another_writer_and_what_is_stored_stays"),
        (Bug::RefusesTheWholeCall, "an_atomic_write_that_is_refused_takes_none_of_the_same_call_with_it"),
        (Bug::StoresWhatStandsBefore, "what_cannot_be_stored_is_refused_for_ever_and_what_comes_beside_it_is_stored"),
        (Bug::ReadsAhead, "a_replay_whose_reader_waits_is_not_sent_ahead_of_it_and_ends_when_it_is_dropped"),
        (Bug::LosesManifests, "serializer_manifest_and_bytes_come_back_as_they_were_written"),
        (Bug::LosesAdapterManifests, "the_manifest_of_an_event_adapter_is_kept_beside_that_of_the_serializer"),
        (Bug::LosesMetadata, "metadata_of_an_event_comes_back_as_it_was_written"),
        (Bug::LosesTags, "tags_are_kept_apart_from_the_payload"),
        (Bug::FollowsLate, "a_replay_that_is_followed_shows_what_is_there_and_then_what_comes"),
        (Bug::DeletesLess, "a_deletion_takes_the_events_up_to_its_number_and_can_be_repeated"),
        (Bug::RefusesLargeDeletions, "a_deletion_beyond_the_highest_number_does_not_raise_it"),
        (Bug::KeepsTheFirstSave, "a_save_replaces_the_one_at_the_same_number"),
        (Bug::ReplacesTimestamps, "a_given_timestamp_is_kept_as_it_is"),
        (Bug::DeletesAtAnyTime, "a_deletion_at_another_time_succeeds_and_deletes_nothing"),
        (Bug::IgnoresTime, "no_snapshot_is_given_when_all_are_newer_than_the_bound_in_time"),
        (Bug::DeletesAllSnapshots, "all_snapshots_within_the_bounds_are_deleted"),
    ];
    for (bug, claim) in bugs {
        let cluster = MemoryCairn::new();
        let meter = Metered::new(cluster.clone());
        let store = Buggy { inner: cluster.builder().connector(meter.clone()).build().expect("builds"), meter, bug };
        let case = tck::cases().into_iter().find(|case| case.name == claim).unwrap_or_else(|| panic!("no case {claim}"));
        let report = tck::examine(&store, &case).await;
        assert!(matches!(report.outcome, Outcome::Failed(_)), "{bug:?} is not found: {report}");
    }
}
