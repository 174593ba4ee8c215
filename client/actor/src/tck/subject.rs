//! What is examined: a store, what it can do, and what is done to it around each case.

use std::time::Duration;

use cairn_client::Payload;
use futures::future::LocalBoxFuture;

use crate::store::Store;

/// What some stores cannot do; the cases that need it are skipped for them.
///
/// Akka: `CapabilityFlag`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Keeps serializer id, manifest and bytes of a payload apart.
    ///
    /// Akka: `supportsSerialization`.
    Serialization,
    /// Keeps an event's and a snapshot's metadata.
    ///
    /// Akka: `supportsMetadata`.
    Metadata,
    /// Stores several events all or none.
    ///
    /// Akka: `supportsAtomicPersistAllOfSeveralEvents`.
    AtomicWrites,
    /// Refuses what it cannot store ([`Subject::unstorable`]), for ever: the atomic write alone, or the whole call with all that stands
    /// beside it in there. Cairn refuses the whole call where an atomic write is over a limit: the call is invalid, nothing of it was
    /// sent or stored, and its caller can write the others by themselves.
    ///
    /// Akka: `supportsRejectingNonSerializableObjects`.
    Rejection,
    /// A range that begins in a deleted prefix gives what is left of it.
    ///
    /// Akka: `supportsReplayWindowSpanningDeletedPrefix`.
    DeletedPrefix,
    /// Refuses a number that is taken, and takes the same write of the same writer again as the one that it is.
    Duplicates,
    /// A claim fences the writers before it.
    Claims,
    /// Shows events as they are stored.
    Follow,
    /// Keeps more than the newest snapshot.
    ///
    /// Akka: the negation of `only-one-snapshot`.
    ManySnapshots,
    /// Saves at one number that are under way together are applied in the order in which they were begun.
    ///
    /// Akka: `SupportsConcurrentSaves`.
    OrderedSaves,
    /// [`Subject::restart`] starts everything anew.
    Restart,
    /// [`Subject::disturb`] breaks something that the store must survive.
    Disturbance,
    /// What it sends is counted ([`Subject::sent_bytes`]).
    Metered,
    /// Is worth being measured.
    Performance,
}

/// How much is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Events of a round that is measured.
    ///
    /// Akka: `eventsCount`.
    pub events: u64,
    /// How often it is measured.
    ///
    /// Akka: `measurementIterations`.
    pub rounds: u32,
    /// How long a round may take.
    ///
    /// Akka: `awaitDurationMillis`.
    pub round_time_max: Duration,
    /// Deleted events behind which a replay is measured.
    pub prefix_events: u64,
    /// How much may be sent to a reader that takes nothing more, in bytes.
    pub read_ahead_bytes_max: u64,
    /// How many times something is broken.
    pub disturbances: u32,
    /// The longest payload that is tried, in bytes.
    pub payload_bytes_max: usize,
    /// The longest snapshot that is tried, in bytes.
    ///
    /// Akka: `snapshotByteSizeLimit`.
    pub snapshot_bytes_max: usize,
    /// How long a case may take.
    pub case_time_max: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            events: 10_000,
            rounds: 10,
            round_time_max: Duration::from_secs(10),
            prefix_events: 1_000_000,
            read_ahead_bytes_max: 4 * 1024 * 1024,
            disturbances: 3,
            payload_bytes_max: 3 * 1024 * 1024,
            snapshot_bytes_max: 2 * 1024 * 1024,
            case_time_max: Duration::from_secs(600),
        }
    }
}

/// What a hook does.
pub type Hook<'a> = LocalBoxFuture<'a, ()>;

/// A store that is examined.
pub trait Subject {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// The same data by another way: another connection, or another node. The same store unless it is told.
    fn second_store(&self) -> &dyn Store {
        self.store()
    }

    /// Whether it can do something; by default all but what needs a hook, and [`Capability::OrderedSaves`].
    ///
    /// Akka: `supportsSerialization` and the other questions; `CapabilityFlag.on`, `CapabilityFlag.off`
    fn can(&self, capability: Capability) -> bool {
        match capability {
            Capability::Rejection => self.unstorable().is_some(),
            Capability::Metered => self.sent_bytes().is_some(),
            Capability::OrderedSaves | Capability::Restart | Capability::Disturbance => false,
            _ => true,
        }
    }

    /// What the names of its journals begin with: something of its own for each run, if the store is not empty at the start.
    fn prefix(&self) -> String {
        "tck-".to_owned()
    }

    /// How much is asked of it.
    fn effort(&self) -> Effort {
        Effort::default()
    }

    /// A payload that it must refuse; none if it takes everything.
    fn unstorable(&self) -> Option<Payload> {
        None
    }

    /// How many bytes the store has sent so far; none if nobody counts.
    fn sent_bytes(&self) -> Option<u64> {
        None
    }

    /// Called before a case.
    ///
    /// Akka: `beforeAll`, `preparePersistenceId`.
    fn before<'a>(&'a self, _case: &'a str) -> Hook<'a> {
        Box::pin(std::future::ready(()))
    }

    /// Called once in a case at most, when it has written what it begins with, before it does what it is about: the place to kill a leader.
    fn between<'a>(&'a self, _case: &'a str) -> Hook<'a> {
        Box::pin(std::future::ready(()))
    }

    /// Called after a case.
    ///
    /// Akka: `afterAll`.
    fn after<'a>(&'a self, _case: &'a str) -> Hook<'a> {
        Box::pin(std::future::ready(()))
    }

    /// Breaks something that the store must survive, and gives back when it is broken and mended: a leader that is killed and comes
    /// back, say.
    fn disturb(&self) -> Hook<'_> {
        Box::pin(std::future::ready(()))
    }

    /// Stops everything and starts it again, with what it had stored.
    fn restart(&self) -> Hook<'_> {
        Box::pin(std::future::ready(()))
    }
}
