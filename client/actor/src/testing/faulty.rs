//! A store that fails, delays, falls silent, or loses answers, on request.
//!
//! ```
//! use cairn_actor::store::JournalStore;
//! use cairn_actor::testing::faulty::{Call, Fault, FaultyStore};
//! use cairn_client::{Error, PersistenceId, memory::MemoryCairn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = FaultyStore::new(MemoryCairn::new().client());
//! store.next(Call::Highest, Fault::Fail(Error::Unavailable { message: "on purpose".to_owned() }));
//! let account = PersistenceId::new("account-1")?;
//! assert!(store.highest(&account).await.is_err());
//! assert!(store.highest(&account).await.is_ok());
//! # Ok(()) }
//! ```
//!
//! Invariants
//! - A fault that was asked for strikes one call, the next of its kind; after those, the rule that was set is asked.
//! - What a fault says is carried out is carried out whole, and what it says is not, never.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_client::{Criteria, Deletion, Error, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, WriteOutcome, WriteReply};
use cairn_machine::Refusal;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use crate::store::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`JournalStore::recover`].
    Recover,
    /// [`JournalStore::write`].
    Write,
    /// [`JournalStore::replay`].
    Replay,
    /// [`JournalStore::follow`].
    Follow,
    /// [`JournalStore::highest`].
    Highest,
    /// [`JournalStore::delete_to`].
    DeleteTo,
    /// [`SnapshotStore::load`].
    Load,
    /// [`SnapshotStore::save`].
    Save,
    /// [`SnapshotStore::delete`].
    Delete,
    /// [`SnapshotStore::delete_matching`].
    DeleteMatching,
}

/// What shall happen to a call.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// Nothing bad.
    #[default]
    None,
    /// It is not carried out; this is answered.
    Fail(Error),
    /// It is carried out, and [`Error::Unknown`] is answered.
    LoseAnswer,
    /// Neither carried out nor answered.
    Silence,
    /// It is carried out after this time.
    Delay(Duration),
    /// It is carried out, and answered after this time.
    DelayAnswer(Duration),
    /// Its events end with this error after so many; calls without events are carried out.
    BreakEvents(usize, Error),
    /// Nothing is stored, and each atomic write is refused so; calls other than writes are carried out.
    Refuse(Refusal),
}

/// What shall happen to a call to a journal.
type Rule = Box<dyn FnMut(Call, &PersistenceId) -> Fault + Send>;

#[derive(Default)]
struct Faults {
    next: BTreeMap<Call, VecDeque<Fault>>,
    rule: Option<Rule>,
    calls: BTreeMap<Call, u64>,
}

/// A store that goes wrong on request; clones share what was requested.
pub struct FaultyStore<S> {
    inner: Arc<S>,
    faults: Arc<Mutex<Faults>>,
}

impl<S> Clone for FaultyStore<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), faults: self.faults.clone() }
    }
}

impl<S> FaultyStore<S> {
    /// A store that behaves as the inner one, until something is requested.
    pub fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner), faults: Arc::default() }
    }

    /// Makes the next call of a kind go wrong; asked several times, the ones after it too, in this order.
    ///
    /// Akka: `PersistenceTestKit.failNextPersisted`, `rejectNextPersisted`, `failNextRead`, `failNextDelete`; `SnapshotTestKit`.
    pub fn next(&self, call: Call, fault: Fault) {
        self.lock().next.entry(call).or_default().push_back(fault);
    }

    /// Asks `choose` about each call that [`FaultyStore::next`] says nothing about.
    ///
    /// Akka: `PersistenceTestKit.withPolicy`.
    pub fn inject(&self, choose: impl FnMut(Call, &PersistenceId) -> Fault + Send + 'static) {
        self.lock().rule = Some(Box::new(choose));
    }

    /// Nothing goes wrong any more.
    ///
    /// Akka: `PersistenceTestKit.resetPolicy`.
    pub fn heal(&self) {
        let mut faults = self.lock();
        faults.next.clear();
        faults.rule = None;
    }

    /// How many calls of a kind there were.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().calls.get(&call).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What shall happen to this call.
    fn fault(&self, call: Call, persistence_id: &PersistenceId) -> Fault {
        let mut faults = self.lock();
        *faults.calls.entry(call).or_default() += 1;
        if let Some(fault) = faults.next.get_mut(&call).and_then(VecDeque::pop_front) {
            return fault;
        }
        match &mut faults.rule {
            Some(rule) => rule(call, persistence_id),
            None => Fault::None,
        }
    }
}

/// Carries out a call as its fault says.
fn faulted<'a, T: Send + 'a>(
    fault: Fault,
    call: impl FnOnce() -> BoxFuture<'a, Result<T, Error>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    async move {
        match fault {
            Fault::None | Fault::BreakEvents(..) | Fault::Refuse(_) => call().await,
            Fault::Fail(error) => Err(error),
            Fault::LoseAnswer => {
                call().await?;
                Err(Error::Unknown { message: "the answer was lost on purpose".to_owned() })
            }
            Fault::Silence => std::future::pending().await,
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                call().await
            }
            Fault::DelayAnswer(time) => {
                let answer = call().await;
                tokio::time::sleep(time).await;
                answer
            }
        }
    }
    .boxed()
}

/// Events that end as a fault says.
fn faulted_events(fault: Fault, events: impl FnOnce() -> Events + Send + 'static) -> Events {
    match fault {
        Fault::BreakEvents(count, error) => broken_after(events(), count, error),
        Fault::LoseAnswer => {
            broken_after(events(), 0, Error::Unavailable { message: "the events were lost on purpose".to_owned() })
        }
        fault => {
            let opened = faulted(fault, || std::future::ready(Ok(events())).boxed());
            opened
                .map(|opened| opened.unwrap_or_else(|error| stream::once(std::future::ready(Err(error))).boxed()))
                .flatten_stream()
                .boxed()
        }
    }
}

fn broken_after(events: Events, count: usize, error: Error) -> Events {
    events.take(count).chain(stream::once(std::future::ready(Err(error)))).boxed()
}

impl<S: JournalStore> JournalStore for FaultyStore<S> {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        let fault = self.fault(Call::Recover, &request.persistence_id);
        let breaking = if let Fault::BreakEvents(count, error) = &fault { Some((*count, error.clone())) } else { None };
        let recovering = faulted(fault, || self.inner.recover(request));
        Box::pin(async move {
            let recovered = recovering.await?;
            match breaking {
                None => Ok(recovered),
                Some((count, error)) => Ok(Recovered { events: broken_after(recovered.events, count, error), ..recovered }),
            }
        })
    }

    fn write<'a>(&'a self, write: &'a cairn_client::Write) -> Answer<'a, WriteReply> {
        match self.fault(Call::Write, &write.persistence_id) {
            Fault::Refuse(refusal) => Box::pin(async move {
                let highest = self.inner.highest(&write.persistence_id).await?;
                let outcomes = write.atomic_writes.iter().map(|_| WriteOutcome::Refused(refusal.clone())).collect();
                Ok(WriteReply { highest, check: None, outcomes })
            }),
            fault => faulted(fault, || self.inner.write(write)),
        }
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        let (inner, name) = (self.inner.clone(), persistence_id.clone());
        faulted_events(self.fault(Call::Replay, persistence_id), move || inner.replay(&name, numbers, max))
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        let (inner, name) = (self.inner.clone(), persistence_id.clone());
        faulted_events(self.fault(Call::Follow, persistence_id), move || inner.follow(&name, from))
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        let name = persistence_id.clone();
        faulted(self.fault(Call::Highest, persistence_id), move || self.inner.highest(&name))
    }

    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        let (name, claim) = (persistence_id.clone(), claim.cloned());
        let call = move || self.inner.delete_to(&name, to, deletion, claim.as_ref());
        faulted(self.fault(Call::DeleteTo, persistence_id), call)
    }
}

impl<S: SnapshotStore> SnapshotStore for FaultyStore<S> {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        let name = persistence_id.clone();
        faulted(self.fault(Call::Load, persistence_id), move || self.inner.load(&name, criteria))
    }

    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        let (name, claim) = (persistence_id.clone(), claim.cloned());
        faulted(self.fault(Call::Save, persistence_id), move || self.inner.save(&name, snapshot, claim.as_ref()))
    }

    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        let (name, claim) = (persistence_id.clone(), claim.cloned());
        let call = move || self.inner.delete(&name, number, timestamp, claim.as_ref());
        faulted(self.fault(Call::Delete, persistence_id), call)
    }

    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        let (name, claim) = (persistence_id.clone(), claim.cloned());
        let call = move || self.inner.delete_matching(&name, criteria, claim.as_ref());
        faulted(self.fault(Call::DeleteMatching, persistence_id), call)
    }
}
