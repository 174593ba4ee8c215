//! The read side: the events of one journal, of a tag, of slices, or of all journals, and which journals there are.
//!
//! [`ReadJournal`] asks; each question comes in two forms: *current* ends at the state of its start, the other one goes on with what
//! is stored later, pushed by the cluster. Events of several journals carry an [`Offset`]; asking after the offset of an event gives
//! what comes after it, without gap or duplicate.
//!
//! ```
//! use cairn_actor::query::{Offset, ReadJournal};
//! use cairn_client::{NewEvent, memory::MemoryCairn};
//! use futures::TryStreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cairn_client::Error> {
//! let cairn = MemoryCairn::new().client();
//! let mut account = cairn.journal("account-1")?.claim().await?;
//! account.append(NewEvent::from("deposited 100").tagged("deposit")).await?;
//! let deposits = ReadJournal::new(cairn).current_events_by_tag("deposit", &Offset::START).await?;
//! assert_eq!(deposits.try_collect::<Vec<_>>().await?.len(), 1);
//! # Ok(()) }
//! ```
//!
//! Invariants
//! - Within a shard events come in commit order; so do those of one journal. Between shards there is no order.
//! - Offsets are exclusive; numbers of one journal are inclusive.
//! - Nothing is fetched beyond a page of each shard that nobody has taken yet: a slow reader holds nothing up and fills nothing.
//! - A broken connection is mended by itself; an outage longer than the client's deadline ends the stream with its error.
//!
//! A current question whose connection breaks on its way ends at the state of the moment when it is opened again: it may show
//! events that were stored after its start, in their place, and never leaves one out.

mod envelope;
mod merged;
mod offset;
mod persistence_ids;

use std::ops::RangeInclusive;

use cairn_client::{Cairn, Error, PersistenceId, SequenceNumber, ShardId, Slice, StoredEvent};
use cairn_machine::SLICES;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

pub use envelope::{Envelope, QueryError, typed};
pub use offset::{Offset, OffsetError};

use merged::Selection;

/// Events with where they stand; ends after its first error.
pub type Envelopes = BoxStream<'static, Result<Envelope<StoredEvent>, Error>>;

/// Names of journals; ends after its first error.
pub type Names = BoxStream<'static, Result<PersistenceId, Error>>;

/// Asks a cluster what is stored.
///
/// Not here, of what Akka has: slices that start from snapshots (`eventsBySlicesStartingFromSnapshots`), the firehose, and queries of
/// durable state, which Cairn does not hold. Offsets are commit positions, so that nothing has to be read backwards for what became
/// visible late (`TimestampOffset`, backtracking).
///
/// Akka: `PersistenceQuery.readJournalFor`, `ReadJournal`.
#[derive(Clone, Debug)]
pub struct ReadJournal {
    cairn: Cairn,
}

impl ReadJournal {
    /// Asks through this client.
    #[must_use]
    pub fn new(cairn: Cairn) -> Self {
        Self { cairn }
    }

    /// The events of a journal with these numbers, and those to come; ends when the last number is reached.
    ///
    /// Akka: `EventsByPersistenceIdQuery.eventsByPersistenceId`.
    #[must_use]
    pub fn events_by_persistence_id(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>) -> Envelopes {
        let (from, to) = numbers.into_inner();
        if to == 0 || from > to {
            return stream::empty().boxed();
        }
        let name = persistence_id.clone();
        let followed = self.cairn.journal_of(name.clone()).follow(from);
        // Ends with the last number itself, and does not wait for the one after it.
        let bounded = stream::try_unfold(Some(followed), move |followed| async move {
            let Some(mut followed) = followed else { return Ok(None) };
            let Some(stored) = followed.next().await? else { return Ok(None) };
            let number = stored.event.sequence_number.0;
            if number > to {
                return Ok(None);
            }
            Ok(Some((stored, (number < to).then_some(followed))))
        });
        bounded.map_ok(move |stored| Envelope::of_journal(name.clone(), stored)).boxed()
    }

    /// The events of a journal with these numbers that are stored now.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// Akka: `CurrentEventsByPersistenceIdQuery.currentEventsByPersistenceId`.
    pub async fn current_events_by_persistence_id(
        &self,
        persistence_id: &PersistenceId,
        numbers: RangeInclusive<u64>,
    ) -> Result<Envelopes, Error> {
        let name = persistence_id.clone();
        let journal = self.cairn.journal_of(name.clone());
        let (from, to) = numbers.into_inner();
        let highest = journal.highest().await?.highest.0;
        let replayed = journal.replay(from..=to.min(highest)).start();
        Ok(replayed.map_ok(move |stored| Envelope::of_journal(name.clone(), stored)).boxed())
    }

    /// The events with a tag after an offset, and those to come.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an offset of another cluster's form; [`Error::Unavailable`] if no node answers.
    ///
    /// Akka: `EventsByTagQuery.eventsByTag`.
    pub async fn events_by_tag(&self, tag: impl Into<String>, offset: &Offset) -> Result<Envelopes, Error> {
        Selection::of_tag(tag).live(&self.cairn, offset).await
    }

    /// The events with a tag after an offset that are stored now.
    ///
    /// # Errors
    /// As [`ReadJournal::events_by_tag`].
    ///
    /// Akka: `CurrentEventsByTagQuery.currentEventsByTag`.
    pub async fn current_events_by_tag(&self, tag: impl Into<String>, offset: &Offset) -> Result<Envelopes, Error> {
        Selection::of_tag(tag).current(&self.cairn, offset).await
    }

    /// The events of the journals of an entity type (what stands before the first `|` of a name; none = all) in slices, both
    /// inclusive, after an offset, and those to come.
    ///
    /// # Errors
    /// As [`ReadJournal::events_by_tag`]; [`Error::Invalid`] for slices that are none.
    ///
    /// Akka: `EventsBySliceQuery.eventsBySlices`.
    pub async fn events_by_slices(
        &self,
        entity_type: Option<&str>,
        slices: RangeInclusive<u16>,
        offset: &Offset,
    ) -> Result<Envelopes, Error> {
        Selection::of_slices(entity_type, slices)?.live(&self.cairn, offset).await
    }

    /// As [`ReadJournal::events_by_slices`], of those that are stored now.
    ///
    /// # Errors
    /// As [`ReadJournal::events_by_slices`].
    ///
    /// Akka: `CurrentEventsBySliceQuery.currentEventsBySlices`.
    pub async fn current_events_by_slices(
        &self,
        entity_type: Option<&str>,
        slices: RangeInclusive<u16>,
        offset: &Offset,
    ) -> Result<Envelopes, Error> {
        Selection::of_slices(entity_type, slices)?.current(&self.cairn, offset).await
    }

    /// All events after an offset, and those to come.
    ///
    /// # Errors
    /// As [`ReadJournal::events_by_tag`].
    ///
    /// Akka: `AllEventsQuery.AllEvents` (.NET).
    pub async fn all_events(&self, offset: &Offset) -> Result<Envelopes, Error> {
        Selection::default().live(&self.cairn, offset).await
    }

    /// All events after an offset that are stored now.
    ///
    /// # Errors
    /// As [`ReadJournal::events_by_tag`].
    ///
    /// Akka: `CurrentAllEventsQuery.CurrentAllEvents` (.NET).
    pub async fn current_all_events(&self, offset: &Offset) -> Result<Envelopes, Error> {
        Selection::default().current(&self.cairn, offset).await
    }

    /// The names of all journals that ever held an event, each once, and of those to come. Remembers what it has named.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node answers.
    ///
    /// Akka: `PersistenceIdsQuery.persistenceIds`.
    pub async fn persistence_ids(&self) -> Result<Names, Error> {
        persistence_ids::live(&self.cairn).await
    }

    /// The names of all journals that hold or held an event now, each once, in bytewise order, after a name if one is given. Read
    /// page by page, as they are taken.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node answers.
    ///
    /// Akka: `CurrentPersistenceIdsQuery.currentPersistenceIds`, `PagedPersistenceIdsQuery`: take as many as a page shall have.
    pub async fn current_persistence_ids(&self, after: Option<&PersistenceId>) -> Result<Names, Error> {
        persistence_ids::current(&self.cairn, after).await
    }

    /// The highest number of a journal; none if it never held an event.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    ///
    /// Akka: `CurrentLastSequenceNumberByPersistenceIdQuery`.
    pub async fn current_last_sequence_number(&self, persistence_id: &PersistenceId) -> Result<Option<SequenceNumber>, Error> {
        let highest = self.cairn.journal_of(persistence_id.clone()).highest().await?.highest;
        Ok((highest.0 > 0).then_some(highest))
    }

    /// One event; none if there is none with this number, or it is deleted.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// Akka: `LoadEventQuery.loadEnvelope`, `EventTimestampQuery.timestampOf`.
    pub async fn load(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
    ) -> Result<Option<Envelope<StoredEvent>>, Error> {
        let mut replayed = self.cairn.journal_of(persistence_id.clone()).replay(number.0..=number.0).start();
        Ok(replayed.next().await?.map(|stored| Envelope::of_journal(persistence_id.clone(), stored)))
    }

    /// The slice of a journal.
    ///
    /// Akka: `sliceForPersistenceId`.
    #[must_use]
    pub fn slice_of(persistence_id: &PersistenceId) -> u16 {
        Slice::of(persistence_id).number()
    }

    /// All slices in so many ranges of equal size; none if there are no such.
    ///
    /// Akka: `sliceRanges`.
    #[must_use]
    pub fn slice_ranges(ranges: u16) -> Vec<RangeInclusive<u16>> {
        if ranges == 0 || !SLICES.is_multiple_of(ranges) {
            return Vec::new();
        }
        let size = SLICES / ranges;
        (0..ranges).map(|index| index * size..=index * size + size - 1).collect()
    }
}

/// All shards of a cluster.
async fn shards(cairn: &Cairn) -> Result<impl Iterator<Item = ShardId> + use<>, Error> {
    Ok((0..cairn.shards().await?).map(ShardId))
}
