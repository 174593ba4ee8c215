//! How an actor comes back: the journal is claimed, the newest snapshot that reads is taken, and the events after it are applied.
//!
//! Invariants
//! - The claim comes first: what is replayed is all that any earlier incarnation has stored or ever will.
//! - A number that the claim does not know of fails the recovery: someone else writes.
//! - A snapshot that cannot be used is never the reason for a state with a hole: more events are replayed instead, from an older
//!   snapshot or from the first, and if the first of these are gone, the recovery fails.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cairn_client::{Criteria, Error, SequenceNumber, StoredEvent};
use futures::StreamExt;
use tokio::time::timeout;

use crate::behavior::Behavior;
use crate::context::Context;
use crate::format::FormatError;
use crate::kind::ActorKind;
use crate::newest_snapshot::{Found, Newest, Search, SearchFailure, Unusable};
use crate::store::{Claim, Events, RecoverRequest, Recovered, Store};
use crate::system::ActorSystem;

/// What an actor recovers at start.
///
/// Akka: `Recovery`, `Recover`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Which snapshot may be taken; none takes none. One that does not read gives way to an older one, and at last to all events.
    /// Akka: `fromSnapshot`, `SnapshotSelectionCriteria`, `SnapshotSelectionCriteria.latest`, `snapshot-is-optional`,
    /// `withSnapshotSelectionCriteria`
    pub criteria: Option<Criteria>,
    /// The last event to replay, inclusive. Akka: `toSequenceNr`
    pub to: SequenceNumber,
    /// How many stored events to replay at most. Akka: `replayMax`
    pub max: u64,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { criteria: Some(Criteria::LATEST), to: SequenceNumber::MAX, max: u64::MAX }
    }
}

impl From<SearchFailure> for RecoveryFailure {
    fn from(failure: SearchFailure) -> Self {
        match failure {
            SearchFailure::Store(error) => Self::Store(error),
            SearchFailure::TimedOut(idle) => Self::TimedOut(idle),
        }
    }
}

impl From<Unusable> for RecoveryFailure {
    /// What becomes of a recovery that needs it.
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Refused { number: snapshot, reason } => Self::SnapshotNeeded { snapshot, reason },
            Unusable::Damaged(error) => Self::Store(error),
        }
    }
}

impl Recovery {
    /// Neither snapshot nor events: the actor starts empty, and goes on above the journal's highest number.
    ///
    /// Akka: `Recovery.none`, `Recovery.disabled`
    #[must_use]
    pub fn none() -> Self {
        Self { criteria: None, to: SequenceNumber(0), max: 0 }
    }

    /// Without a snapshot: all events.
    ///
    /// Akka: `SnapshotSelectionCriteria.None`, `SnapshotSelectionCriteria.none`
    #[must_use]
    pub fn without_snapshot() -> Self {
        Self { criteria: None, ..Self::default() }
    }

    fn replays(&self) -> bool {
        self.to.0 > 0 && self.max > 0
    }
}

/// Why an actor did not come back.
///
/// Akka: `RecoveryFailure`, `RecoveryTimedOut`, the cause of `RecoveryFailed`
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryFailure {
    /// The store failed; also if a snapshot is damaged there, and not all events before it are there any more.
    #[error(transparent)]
    Store(#[from] Error),
    /// Nothing came for so long.
    #[error("nothing came for {0:?}")]
    TimedOut(Duration),
    /// A stored event does not become an event.
    #[error("event {number}: {error}")]
    Format {
        /// Which.
        number: SequenceNumber,
        /// Why.
        error: FormatError,
    },
    /// The actor refused an event that was applied.
    #[error("event {number}: {reason}")]
    Refused {
        /// Which.
        number: SequenceNumber,
        /// What it said.
        reason: String,
    },
    /// An event came out of order, or one that was stored after the claim.
    #[error("event {number} after {last}, where the highest is {highest}")]
    Order {
        /// The number that came.
        number: SequenceNumber,
        /// The number before it.
        last: SequenceNumber,
        /// The journal's highest number when it was claimed.
        highest: SequenceNumber,
    },
    /// The snapshot cannot be used, and not all events before it are there any more.
    #[error("the snapshot at {snapshot} cannot be used, and the events before it are deleted: {reason}")]
    SnapshotNeeded {
        /// The number of the snapshot.
        snapshot: SequenceNumber,
        /// Why it cannot be used.
        reason: String,
    },
    /// The store gave no claim.
    #[error("the store gave no claim")]
    NoClaim,
    /// A handler panicked.
    #[error("panicked: {0}")]
    Panicked(String),
}

/// A state that has come back.
pub(crate) struct Restored<S> {
    pub(crate) state: S,
    pub(crate) claim: Claim,
    /// The journal's highest number at the claim.
    pub(crate) highest: SequenceNumber,
    /// How many stored events were replayed.
    pub(crate) replayed: u64,
}

/// Claims the journal and brings the state back.
pub(crate) async fn recover<B: Behavior>(
    system: &ActorSystem,
    kind: &ActorKind<B>,
    recovery: Recovery,
    behavior: &mut B,
    context: &mut Context<B>,
) -> Result<Restored<B::State>, RecoveryFailure> {
    let settings = kind.shared();
    let idle = settings.recovery_idle;
    let max = recovery.max.min(SequenceNumber::MAX.0);
    let persistence_id = context.persistence_id().clone();
    let criteria = recovery.criteria.filter(|_| settings.snapshots.is_some());
    let criteria = criteria.map(|bounds| Criteria { sequence_number_max: bounds.sequence_number_max.min(recovery.to), ..bounds });
    let request = RecoverRequest {
        persistence_id: persistence_id.clone(),
        writer: Some(system.new_writer()),
        criteria,
        to: recovery.to,
        max,
    };
    let (Recovered { claim, snapshot, mut events, highest }, damage) = start(system.store(), request, idle).await?;
    let claim = claim.ok_or(RecoveryFailure::NoClaim)?;
    events = settings.filtering.filtered(&persistence_id, events);
    let mut replay = Replay { kind, highest, last: SequenceNumber(0), count: 0, needed: None };
    let mut state = None;
    if let (Some(criteria), Some(codec)) = (criteria, &settings.snapshots) {
        let (journal, snapshots) = (&persistence_id, &persistence_id);
        let search = Search { store: system.store(), journal, snapshots, criteria, idle, codec: &**codec };
        // A behavior can be sent to another thread and not shared with one: hence borrowed alone.
        let asked = &mut *behavior;
        let is_replayed_from_first = damage.is_some();
        let newest = damage.map_or_else(|| snapshot.into(), Newest::Damaged);
        let Found { taken, unusable } = search.run(newest, move |state, number| asked.accepts_snapshot(state, number)).await?;
        if let Some((number, mut usable)) = taken {
            behavior.after_snapshot(&mut usable);
            state = Some(usable);
            replay.last = number;
            context.last_sequence_number = number;
            context.snapshot_sequence_number = number;
        }
        if unusable.is_some() && !is_replayed_from_first {
            let more = system.store().replay(&persistence_id, replay.last.0 + 1..=recovery.to.0, max);
            events = settings.filtering.filtered(&persistence_id, more);
        }
        replay.needed = unusable.filter(Unusable::is_of_events);
    }
    let mut state = state.unwrap_or_else(|| behavior.empty_state());
    if recovery.replays() {
        replay.run(&mut events, idle, &mut state, behavior, context).await?;
    }
    replay.check_end(recovery)?;
    context.last_sequence_number = replay.last.max(highest);
    Ok(Restored { state, claim, highest, replayed: replay.count })
}

/// Claims and reads. A snapshot that the store cannot read fails all of it: then again without one, and with what was wrong with it.
async fn start(
    store: &Arc<dyn Store>,
    request: RecoverRequest,
    idle: Duration,
) -> Result<(Recovered, Option<Error>), RecoveryFailure> {
    let try_once = async |request| match timeout(idle, store.recover(request)).await {
        Ok(outcome) => outcome.map_err(RecoveryFailure::Store),
        Err(_) => Err(RecoveryFailure::TimedOut(idle)),
    };
    // The claim of the same incarnation is the same claim. If something else is damaged, this finds it, too.
    let without_snapshot = request.criteria.map(|_| RecoverRequest { criteria: None, ..request.clone() });
    match (try_once(request).await, without_snapshot) {
        (Err(RecoveryFailure::Store(damage @ Error::Damaged { .. })), Some(request)) => {
            Ok((try_once(request).await?, Some(damage)))
        }
        (outcome, _) => Ok((outcome?, None)),
    }
}

/// The next event. Most are there already, and need no timer.
async fn next_within(events: &mut Events, idle: Duration) -> Result<Option<StoredEvent>, RecoveryFailure> {
    let next = match futures::poll!(events.next()) {
        Poll::Ready(next) => next,
        Poll::Pending => timeout(idle, events.next()).await.map_err(|_| RecoveryFailure::TimedOut(idle))?,
    };
    Ok(next.transpose()?)
}

struct Replay<'a, B: Behavior> {
    kind: &'a ActorKind<B>,
    highest: SequenceNumber,
    last: SequenceNumber,
    /// Stored events so far.
    count: u64,
    /// The newest snapshot, if it cannot be used: then the events must be there from the first, or from the one taken.
    needed: Option<Unusable>,
}

impl<B: Behavior> Replay<'_, B> {
    async fn run(
        &mut self,
        events: &mut Events,
        idle: Duration,
        state: &mut B::State,
        behavior: &mut B,
        context: &mut Context<B>,
    ) -> Result<(), RecoveryFailure> {
        while let Some(stored) = next_within(events, idle).await? {
            let number = stored.event.sequence_number;
            self.check(number)?;
            self.last = number.max(self.last);
            self.count += 1;
            context.last_sequence_number = self.last;
            self.apply(&stored, state, behavior, context)?;
        }
        Ok(())
    }

    fn check(&self, number: SequenceNumber) -> Result<(), RecoveryFailure> {
        // A filter has an opinion of its own about the order.
        let is_in_order = number > self.last || self.kind.shared().filtering.is_set();
        if !is_in_order || number > self.highest {
            return Err(RecoveryFailure::Order { number, last: self.last, highest: self.highest });
        }
        if self.count == 0 && number.0 > self.last.0 + 1 {
            self.snapshot_needed()?;
        }
        Ok(())
    }

    /// A replay in the place of a snapshot has given at least one event, unless it was not to give any.
    fn check_end(&self, recovery: Recovery) -> Result<(), RecoveryFailure> {
        if self.count == 0 && recovery.replays() { self.snapshot_needed() } else { Ok(()) }
    }

    fn snapshot_needed(&self) -> Result<(), RecoveryFailure> {
        self.needed.clone().map_or(Ok(()), |needed| Err(needed.into()))
    }

    fn apply(
        &self,
        stored: &StoredEvent,
        state: &mut B::State,
        behavior: &mut B,
        context: &mut Context<B>,
    ) -> Result<(), RecoveryFailure> {
        let events = self.kind.shared().events.from_journal(stored);
        let number = stored.event.sequence_number;
        for event in events.map_err(|error| RecoveryFailure::Format { number, error })? {
            B::apply(state, &event);
            let applied = behavior.applied(state, &event, context);
            applied.map_err(|refusal| RecoveryFailure::Refused { number, reason: refusal.to_string() })?;
        }
        Ok(())
    }
}
