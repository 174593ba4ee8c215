//! What cases work with: the subject, and journals of the case's own with short words for what is done to them.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use cairn_client::{
    Criteria, Deletion, Error, Event, NewSnapshot, Payload, PersistenceId, SequenceNumber, Snapshot, StoredEvent, Write,
    WriteOutcome, WriteReply, WriterId,
};
use futures::StreamExt;

use super::report::Measured;
use super::subject::{Effort, Subject};
use super::violation::{Verdict, Violation, holds, same};
use crate::store::{Answer, Claim, RecoverRequest, Recovered, Store};

/// How often what was not served is tried again.
const TRIES_MAX: u32 = 60;
/// Between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(500);
/// Both ways to delete.
pub(super) const DELETIONS: [Deletion; 2] = [Deletion::Logical, Deletion::Permanent];
/// No bound of numbers.
pub(super) const NO_BOUND: u64 = SequenceNumber::MAX.0;

/// A store in a case.
pub(super) struct Examined<'a> {
    pub(super) subject: &'a dyn Subject,
    case: &'static str,
    measured: RefCell<Vec<Measured>>,
}

impl<'a> Examined<'a> {
    pub(super) fn new(subject: &'a dyn Subject, case: &'static str) -> Self {
        Self { subject, case, measured: RefCell::default() }
    }

    /// Notes what was measured, for the report.
    pub(super) fn measured(&self, measured: Measured) {
        self.measured.borrow_mut().push(measured);
    }

    pub(super) fn into_measured(self) -> Vec<Measured> {
        self.measured.into_inner()
    }

    pub(super) fn store(&self) -> &'a dyn Store {
        self.subject.store()
    }

    pub(super) fn effort(&self) -> Effort {
        self.subject.effort()
    }

    /// A journal of the case's own, not written yet.
    pub(super) fn journal(&self, name: &str) -> Sample<'a> {
        let text = format!("{}{}-{name}", self.subject.prefix(), self.case);
        self.journal_named(text)
    }

    /// A journal with just this name.
    pub(super) fn journal_named(&self, name: impl Into<String>) -> Sample<'a> {
        let persistence_id = PersistenceId::new(name.into()).expect("names of cases are names");
        Sample { store: self.store(), persistence_id, writer: WriterId::new("writer-1").expect("a name") }
    }

    /// A journal with the events 1 to 5, "a-1" to "a-5": three atomic writes of one, and one of two if the store can do that.
    pub(super) async fn five_events(&self) -> Result<Sample<'a>, Violation> {
        let sample = self.journal("1");
        sample.store_five().await?;
        self.between().await;
        Ok(sample)
    }

    /// What may go wrong between a case's beginning and what it is about.
    pub(super) async fn between(&self) {
        self.subject.between(self.case).await;
    }
}

/// One journal and its snapshots.
pub(super) struct Sample<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) persistence_id: PersistenceId,
    pub(super) writer: WriterId,
}

/// An event that holds a text.
pub(super) fn event(number: u64, text: impl Into<Bytes>) -> Event {
    Event { sequence_number: SequenceNumber(number), payload: text_payload(text), ..Event::default() }
}

/// The bytes of a text.
pub(super) fn text_payload(text: impl Into<Bytes>) -> Payload {
    Payload { bytes: text.into(), ..Payload::default() }
}

/// The n-th of the events that journals begin with.
pub(super) fn first_event(number: u64) -> Event {
    event(number, format!("a-{number}"))
}

/// Tries until the store has served the call, as whoever depends on the outcome must.
pub(super) async fn settled<'a, T>(mut attempt: impl FnMut() -> Answer<'a, T>) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match attempt().await {
            Err(Error::Unknown { .. } | Error::Unavailable { .. }) if tries < TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(TRY_INTERVAL).await;
            }
            outcome => return outcome,
        }
    }
}

impl<'a> Sample<'a> {
    /// The same journal by another way, or with another writer.
    pub(super) fn by(&self, store: &'a dyn Store, writer: &str) -> Self {
        let writer = WriterId::new(writer.to_owned()).expect("a name");
        Self { store, persistence_id: self.persistence_id.clone(), writer }
    }

    /// A write of this journal's writer.
    pub(super) fn request(&self, atomic_writes: Vec<Vec<Event>>) -> Write {
        let persistence_id = self.persistence_id.clone();
        Write { persistence_id, writer: self.writer.clone(), epoch: None, after: None, atomic_writes }
    }

    /// Writes until the outcome is known.
    pub(super) async fn write(&self, write: &Write) -> Result<WriteReply, Error> {
        settled(|| self.store.write(write)).await
    }

    /// Writes events, each by itself, which must be stored.
    pub(super) async fn store_each(&self, events: impl IntoIterator<Item = Event>) -> Result<SequenceNumber, Violation> {
        self.store_all(events.into_iter().map(|event| vec![event]).collect()).await
    }

    /// Writes atomic writes, which must all be stored.
    pub(super) async fn store_all(&self, atomic_writes: Vec<Vec<Event>>) -> Result<SequenceNumber, Violation> {
        stored(self.write(&self.request(atomic_writes)).await?)
    }

    pub(super) async fn store_five(&self) -> Verdict {
        let atomic_writes =
            vec![vec![first_event(1)], vec![first_event(2)], vec![first_event(3)], vec![first_event(4), first_event(5)]];
        let highest = self.store_all(atomic_writes).await?;
        same("the highest number after five events", &highest.0, &5)
    }

    /// Claims the journal in the name of a writer.
    pub(super) async fn claim(&self) -> Result<Claim, Violation> {
        let recovered = self.recover(Some(self.writer.clone()), None, NO_BOUND, NO_BOUND).await?;
        recovered.claim.ok_or_else(|| Violation::new("a recovery that claims gives no claim"))
    }

    pub(super) async fn recover(
        &self,
        writer: Option<WriterId>,
        criteria: Option<Criteria>,
        to: u64,
        max: u64,
    ) -> Result<Recovered, Error> {
        let persistence_id = self.persistence_id.clone();
        let request = RecoverRequest { persistence_id, writer, criteria, to: SequenceNumber(to), max };
        settled(|| self.store.recover(request.clone())).await
    }

    pub(super) async fn highest(&self) -> Result<u64, Violation> {
        Ok(settled(|| self.store.highest(&self.persistence_id)).await?.0)
    }

    /// The events that a replay gives.
    pub(super) async fn replay(&self, from: u64, to: u64, max: u64) -> Result<Vec<StoredEvent>, Violation> {
        let mut events = self.store.replay(&self.persistence_id, from..=to, max);
        let mut replayed = Vec::new();
        while let Some(stored) = events.next().await {
            replayed.push(stored?);
        }
        Ok(replayed)
    }

    /// A replay that gives just these events of the first five, and a highest number of 5.
    pub(super) async fn replays(&self, from: u64, to: u64, max: u64, expected: &[u64]) -> Verdict {
        let expected: Vec<_> = expected.iter().map(|number| first_event(*number)).collect();
        self.replays_events(from, to, max, &expected, 5).await
    }

    /// A replay that gives just these events, of this writer, and this highest number, both by itself and in a recovery.
    pub(super) async fn replays_events(&self, from: u64, to: u64, max: u64, expected: &[Event], highest: u64) -> Verdict {
        let what = format!("replay of {from}..={to}, at most {max}");
        let replayed = self.replay(from, to, max).await?;
        self.are(&what, &replayed, expected)?;
        same(&format!("{what}: the highest number"), &self.highest().await?, &highest)?;
        let recovered = self.recover(None, None, to, max).await?;
        same(&format!("{what}: the highest number in a recovery"), &recovered.highest.0, &highest)?;
        if from <= 1 {
            let replayed: Vec<_> = recovered.events.collect().await;
            let replayed = replayed.into_iter().collect::<Result<Vec<_>, _>>()?;
            self.are(&format!("recovery up to {to}, at most {max}"), &replayed, expected)?;
        }
        Ok(())
    }

    /// Whether stored events are those of this writer.
    pub(super) fn are(&self, what: &str, stored: &[StoredEvent], expected: &[Event]) -> Verdict {
        let found: Vec<_> = stored.iter().map(|stored| stored.event.clone()).collect();
        same(what, &found, &expected.to_vec())?;
        for stored in stored {
            same(&format!("{what}: the writer of {}", stored.event.sequence_number), &stored.writer, &self.writer)?;
            holds(!stored.deleted, || format!("{what}: {} is marked as deleted", stored.event.sequence_number))?;
            holds(stored.timestamp.0 > 0, || format!("{what}: {} has no timestamp", stored.event.sequence_number))?;
        }
        Ok(())
    }

    pub(super) async fn delete_to(&self, to: u64, deletion: Deletion) -> Verdict {
        Ok(settled(|| self.store.delete_to(&self.persistence_id, SequenceNumber(to), deletion, None)).await?)
    }

    pub(super) async fn save(&self, snapshot: NewSnapshot) -> Result<i64, Violation> {
        Ok(settled(|| self.store.save(&self.persistence_id, snapshot.clone(), None)).await?)
    }

    pub(super) async fn load(&self, criteria: Criteria) -> Result<Option<Snapshot>, Violation> {
        Ok(settled(|| self.store.load(&self.persistence_id, criteria)).await?)
    }
}

/// The highest number after a write whose atomic writes must all be stored.
pub(super) fn stored(reply: WriteReply) -> Result<SequenceNumber, Violation> {
    for (index, outcome) in reply.outcomes.iter().enumerate() {
        if let WriteOutcome::Refused(refusal) = outcome {
            return Err(Violation::new(format!("atomic write {index} was refused: {refusal:?}")));
        }
    }
    Ok(reply.highest)
}
