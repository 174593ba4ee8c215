//! What the import sent and what was acknowledged, and when: what the demo compares and reports.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_machine::{Event, PersistenceId, SequenceNumber, ShardId, Slice, Timestamp, WriteOutcome, WriteReply};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::import::{Group, Observer};

/// An event that was acknowledged, as it must be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The event.
    pub event: Event,
    /// The first number of its atomic write.
    pub write_first: SequenceNumber,
    /// Its position, as the acknowledgement told it.
    pub position: u64,
    /// Its time, as the acknowledgement told it.
    pub timestamp: Timestamp,
}

/// Every journal with its acknowledged events, in order.
pub type Journals = BTreeMap<PersistenceId, Vec<Acknowledged>>;

/// Watches an import; also the gate through which its requests go.
pub struct Record {
    shards: u16,
    state: Mutex<State>,
    permits: Semaphore,
    changed: Notify,
}

struct State {
    journals: Journals,
    events: u64,
    shards: Vec<ShardWatch>,
}

/// How one shard answers.
#[derive(Clone, Copy, Debug, Default)]
struct ShardWatch {
    in_flight: usize,
    /// Since when somebody waits without any acknowledgement on this shard.
    waiting_since: Option<Instant>,
    gap_longest: Duration,
    acknowledged: usize,
}

impl Record {
    /// A record of nothing yet, with a closed gate.
    pub fn new(shards: u16) -> Self {
        let state = State { journals: Journals::new(), events: 0, shards: vec![ShardWatch::default(); usize::from(shards)] };
        Self { shards, state: Mutex::new(state), permits: Semaphore::new(0), changed: Notify::new() }
    }

    /// Lets this many more requests through.
    pub fn let_through(&self, requests: usize) {
        self.permits.add_permits(requests);
    }

    /// Requests that may go and did not go yet.
    pub fn waiting_permits(&self) -> usize {
        self.permits.available_permits()
    }

    /// Events acknowledged so far.
    pub fn events(&self) -> u64 {
        self.state().events
    }

    /// Writes sent and not yet answered, on the given shards.
    pub fn in_flight(&self, shards: &[ShardId]) -> usize {
        let state = self.state();
        shards.iter().map(|shard| state.shards[usize::from(shard.0)].in_flight).sum()
    }

    /// Writes sent and not yet answered, on all shards.
    pub fn in_flight_everywhere(&self) -> usize {
        self.state().shards.iter().map(|shard| shard.in_flight).sum()
    }

    /// Begins to measure gaps anew. One that is open is measured from where it began.
    pub fn measure_gaps(&self) {
        for shard in &mut self.state().shards {
            shard.gap_longest = Duration::ZERO;
        }
    }

    /// Begins to count acknowledgements anew.
    pub fn count_acknowledgements(&self) {
        for shard in &mut self.state().shards {
            shard.acknowledged = 0;
        }
    }

    /// The longest time since then in which somebody waited on one of these shards and nothing was acknowledged there.
    pub fn gap_longest(&self, shards: &[ShardId]) -> Duration {
        let now = Instant::now();
        let state = self.state();
        let gap = |shard: &ShardId| {
            let watch = &state.shards[usize::from(shard.0)];
            watch.gap_longest.max(watch.waiting_since.map_or(Duration::ZERO, |since| now - since))
        };
        shards.iter().map(gap).max().unwrap_or_default()
    }

    /// Writes acknowledged since they are counted.
    pub fn acknowledged(&self) -> usize {
        self.state().shards.iter().map(|shard| shard.acknowledged).sum()
    }

    /// Whether each of these shards acknowledged something since they are counted.
    pub fn all_acknowledged(&self, shards: &[ShardId]) -> bool {
        let state = self.state();
        shards.iter().all(|shard| state.shards[usize::from(shard.0)].acknowledged > 0)
    }

    /// Waits until something holds; it is looked at after every change.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    /// Everything acknowledged.
    pub fn into_journals(self) -> Journals {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).journals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_of(&self, persistence_id: &PersistenceId) -> usize {
        usize::from(Slice::of(persistence_id).shard(self.shards).0)
    }

    /// One request less in flight on a shard.
    fn answered(&self, state: &mut State, groups: &[Group], acknowledged: bool) {
        let Some(group) = groups.first() else { return };
        let now = Instant::now();
        let watch = &mut state.shards[self.shard_of(&group.persistence_id)];
        watch.in_flight -= 1;
        if acknowledged {
            watch.acknowledged += 1;
            if let Some(since) = watch.waiting_since {
                watch.gap_longest = watch.gap_longest.max(now - since);
            }
            watch.waiting_since = (watch.in_flight > 0).then_some(now);
        }
    }
}

impl Observer for Record {
    async fn ready(&self) {
        self.permits.acquire().await.expect("the gate is never taken away").forget();
    }

    fn sent(&self, groups: &[Group]) {
        let Some(group) = groups.first() else { return };
        let mut state = self.state();
        let watch = &mut state.shards[self.shard_of(&group.persistence_id)];
        watch.in_flight += 1;
        watch.waiting_since.get_or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_waiters();
    }

    fn acknowledged(&self, groups: Vec<Group>, reply: &WriteReply) {
        let mut state = self.state();
        self.answered(&mut state, &groups, true);
        for (group, outcome) in groups.into_iter().zip(&reply.outcomes) {
            let WriteOutcome::Stored { position, timestamp, .. } = outcome else { continue };
            let write_first = group.atomic_write.first();
            state.events += group.events.len() as u64;
            let journal = state.journals.entry(group.persistence_id).or_default();
            journal.extend(group.events.into_iter().enumerate().map(|(ordinal, event)| Acknowledged {
                event,
                write_first,
                position: position.0 + ordinal as u64,
                timestamp: *timestamp,
            }));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn failed(&self, groups: &[Group]) {
        let mut state = self.state();
        self.answered(&mut state, groups, false);
        drop(state);
        self.changed.notify_waiters();
    }
}
