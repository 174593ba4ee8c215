//! A store that does to writes and recoveries what a test wants, and notes what it was handed.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_actor::store::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};
use cairn_client::{
    Cairn, Criteria, Deletion, Error, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, StoredEvent, Write, WriteReply,
};
use futures::StreamExt;
use tokio::sync::Semaphore;

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Fate {
    Pass,
    /// It fails, and is not carried out.
    Fail(Error),
    /// It is carried out, and fails.
    FailAfter(Error),
    /// Nothing comes.
    Hang,
}

type Choose<T> = Box<dyn FnMut(&T) -> Fate + Send>;

#[derive(Clone)]
pub struct Meddled {
    inner: Cairn,
    shared: Arc<Shared>,
}

struct Shared {
    write: Mutex<Choose<Write>>,
    recover: Mutex<Choose<RecoverRequest>>,
    writes: Mutex<Vec<Write>>,
    /// A permit for each write that may begin.
    gate: Semaphore,
    recovering: Mutex<Recovering>,
    /// What recoveries call the highest number.
    highest: Mutex<Option<SequenceNumber>>,
    /// What becomes of the events of a recovery.
    events: Mutex<Box<dyn Fn(Events) -> Events + Send>>,
}

/// How many recoveries were under way at once.
#[derive(Clone, Debug, Default)]
pub struct Recovering {
    pub now: usize,
    pub most: usize,
    pub order: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn unknown() -> Error {
    Error::Unknown { message: "lost".to_owned() }
}

pub fn unavailable() -> Error {
    Error::Unavailable { message: "away".to_owned() }
}

impl Meddled {
    pub fn new(inner: Cairn) -> Self {
        let shared = Shared {
            write: Mutex::new(Box::new(|_| Fate::Pass)),
            recover: Mutex::new(Box::new(|_| Fate::Pass)),
            writes: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            recovering: Mutex::default(),
            highest: Mutex::default(),
            events: Mutex::new(Box::new(|events| events)),
        };
        Self { inner, shared: Arc::new(shared) }
    }

    pub fn on_write(&self, choose: impl FnMut(&Write) -> Fate + Send + 'static) {
        *lock(&self.shared.write) = Box::new(choose);
    }

    pub fn on_recover(&self, choose: impl FnMut(&RecoverRequest) -> Fate + Send + 'static) {
        *lock(&self.shared.recover) = Box::new(choose);
    }

    /// Fails the next writes with these, and lets the others pass.
    pub fn fail_writes(&self, fates: impl IntoIterator<Item = Fate>) {
        let mut fates: Vec<_> = fates.into_iter().collect();
        fates.reverse();
        self.on_write(move |_| fates.pop().unwrap_or(Fate::Pass));
    }

    /// Holds writes back, until they are [let go](Self::let_go).
    pub fn hold(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets so many writes begin.
    pub fn let_go(&self, writes: usize) {
        self.shared.gate.add_permits(writes);
    }

    /// The numbers of the events in each atomic write of each write.
    pub fn writes(&self) -> Vec<Vec<Vec<u64>>> {
        let number = |write: &Vec<cairn_client::Event>| write.iter().map(|event| event.sequence_number.0).collect();
        lock(&self.shared.writes).iter().map(|write| write.atomic_writes.iter().map(number).collect()).collect()
    }

    pub fn raw_writes(&self) -> Vec<Write> {
        lock(&self.shared.writes).clone()
    }

    /// Makes recoveries claim that this is the highest number.
    pub fn pretend_highest(&self, highest: u64) {
        *lock(&self.shared.highest) = Some(SequenceNumber(highest));
    }

    /// Makes recoveries replay these.
    pub fn pretend_events(&self, events: Vec<StoredEvent>) {
        self.on_events(move |_| futures::stream::iter(events.clone().into_iter().map(Ok)).boxed());
    }

    /// Makes something else of the events of recoveries.
    pub fn on_events(&self, change: impl Fn(Events) -> Events + Send + 'static) {
        *lock(&self.shared.events) = Box::new(change);
    }

    pub fn recovering(&self) -> Recovering {
        lock(&self.shared.recovering).clone()
    }
}

/// Counts a recovery while its events are read.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        lock(&self.0.recovering).now -= 1;
    }
}

async fn meet<T>(fate: Fate, carry_out: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match fate {
        Fate::Pass => carry_out.await,
        Fate::Fail(error) => Err(error),
        Fate::FailAfter(error) => carry_out.await.and(Err(error)),
        Fate::Hang => std::future::pending().await,
    }
}

impl JournalStore for Meddled {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        let fate = lock(&self.shared.recover)(&request);
        let counted = Counted(self.shared.clone());
        {
            let mut recovering = lock(&self.shared.recovering);
            recovering.now += 1;
            recovering.most = recovering.most.max(recovering.now);
            recovering.order.push(request.persistence_id.as_str().to_owned());
        }
        Box::pin(async move {
            // A recovery takes a moment.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            let mut recovered = meet(fate, self.inner.recover(request)).await?;
            let events = recovered.events.inspect(move |_| {
                let _ = &counted;
            });
            recovered.events = lock(&self.shared.events)(events.boxed());
            recovered.highest = lock(&self.shared.highest).unwrap_or(recovered.highest);
            Ok(recovered)
        })
    }

    fn write<'a>(&'a self, write: &'a Write) -> Answer<'a, WriteReply> {
        lock(&self.shared.writes).push(write.clone());
        let fate = lock(&self.shared.write)(write);
        Box::pin(async move {
            self.shared.gate.acquire().await.expect("never closed").forget();
            meet(fate, JournalStore::write(&self.inner, write)).await
        })
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        self.inner.replay(persistence_id, numbers, max)
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        self.inner.follow(persistence_id, from)
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        JournalStore::highest(&self.inner, persistence_id)
    }

    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        self.inner.delete_to(persistence_id, to, deletion, claim)
    }
}

impl SnapshotStore for Meddled {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        self.inner.load(persistence_id, criteria)
    }

    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        self.inner.save(persistence_id, snapshot, claim)
    }

    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        self.inner.delete(persistence_id, number, timestamp, claim)
    }

    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        self.inner.delete_matching(persistence_id, criteria, claim)
    }
}
