//! What all actors of one kind share: how they are made, how their values become bytes, their bounds and times.

use std::sync::Arc;
use std::time::Duration;

use cairn_client::PersistenceId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::adapter::Format;
use crate::backoff::Backoff;
use crate::behavior::Behavior;
use crate::codec::Cbor;
use crate::format::{Codec, EventFormat};
use crate::mailbox::MailboxBound;
use crate::recovery::Recovery;
use crate::replay_filter::{Anomaly, Filtering, ReplayFilterSettings};
use crate::retention::Retention;

/// Commands that may wait for an actor by default (contract 3.5).
const ROOM_DEFAULT: usize = 4096;
/// How long recovery may be silent by default (contract 3.4).
const RECOVERY_IDLE_DEFAULT: Duration = Duration::from_secs(30);
/// How long a write is tried by default.
const WRITE_TIME_DEFAULT: Duration = Duration::from_secs(120);

/// The name of events that were given none. Persisted.
const EVENT_NAME: &str = "event";
/// The name of states that were given none. Persisted.
const STATE_NAME: &str = "state";

/// A kind of actor. Cheap to clone.
///
/// Akka: `EventSourcedBehavior.apply` and what changes what it gives, `Props`
pub struct ActorKind<B: Behavior> {
    shared: Arc<Shared<B>>,
}

pub(crate) struct Shared<B: Behavior> {
    make: Arc<dyn Fn(&PersistenceId) -> B + Send + Sync>,
    pub(crate) events: Arc<dyn EventFormat<B::Event>>,
    pub(crate) snapshots: Option<Arc<dyn Codec<B::State>>>,
    pub(crate) recovery: Recovery,
    pub(crate) recovery_idle: Duration,
    pub(crate) mailbox: MailboxBound,
    pub(crate) stash_room: usize,
    pub(crate) stash_overflow: StashOverflow,
    pub(crate) write_retry: WriteRetry,
    pub(crate) supervision: Supervision,
    pub(crate) passivate_after: Option<Duration>,
    pub(crate) retention: Retention<B::State, B::Event>,
    pub(crate) filtering: Filtering,
}

/// What becomes of a command for which a mailbox has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MailboxOverflow {
    /// Whoever sends it waits until there is room.
    #[default]
    Wait,
    /// It is refused at once, with [`TellError::Full`](crate::actor_ref::TellError::Full). Akka: `ReplyToStrategy`
    Refuse,
}

/// What becomes of a command that is put aside where no more have room.
///
/// Akka: `stash-overflow-strategy`, `StashOverflowStrategy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StashOverflow {
    /// It is dropped, with a warning; whoever asked is told that there is no answer. Akka: `DiscardToDeadLetterStrategy`
    #[default]
    Drop,
    /// The actor fails. Akka: `ThrowOverflowExceptionStrategy`
    Fail,
}

/// How long a write whose outcome is not known is handed in again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteRetry {
    /// Between the tries.
    pub backoff: Backoff,
    /// All tries together: then the outcome is called unknown, and the incarnation ends.
    pub time: Duration,
}

/// What becomes of an actor that failed.
///
/// Akka: `SupervisorStrategy`, `BackoffSupervisor`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Supervision {
    /// Before it is started again.
    pub backoff: Backoff,
    /// Failures in a row after which it is given up: then the commands that wait are dropped.
    pub restarts_max: u32,
    /// Who has run for so long after its recovery is well again: its failures are forgotten.
    pub stable_after: Duration,
}

impl Supervision {
    /// An actor that failed stays stopped.
    ///
    /// Akka: `SupervisorStrategy.stop`
    pub const STOP: Self = Self {
        backoff: Backoff { first: Duration::ZERO, longest: Duration::ZERO, jitter: 0.0 },
        restarts_max: 0,
        stable_after: Duration::ZERO,
    };

    /// Whether an incarnation, which ends now and had recovered then if ever, was well.
    pub(crate) fn is_stable(&self, recovered: Option<Instant>) -> bool {
        recovered.is_some_and(|recovered| recovered.elapsed() >= self.stable_after)
    }
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10), jitter: 0.2 },
            restarts_max: 16,
            stable_after: Duration::from_secs(10),
        }
    }
}

impl Default for WriteRetry {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2), jitter: 0.2 },
            time: WRITE_TIME_DEFAULT,
        }
    }
}

impl<B: Behavior> Clone for ActorKind<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<B: Behavior> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self {
            make: self.make.clone(),
            events: self.events.clone(),
            snapshots: self.snapshots.clone(),
            recovery: self.recovery,
            recovery_idle: self.recovery_idle,
            mailbox: self.mailbox,
            stash_room: self.stash_room,
            stash_overflow: self.stash_overflow,
            write_retry: self.write_retry,
            supervision: self.supervision,
            passivate_after: self.passivate_after,
            retention: self.retention.clone(),
            filtering: self.filtering.clone(),
        }
    }
}

impl<B: Behavior> ActorKind<B> {
    /// A kind whose actors are made anew by `make` for each incarnation.
    pub fn new(make: impl Fn(&PersistenceId) -> B + Send + Sync + 'static, events: impl EventFormat<B::Event>) -> Self {
        let shared = Shared {
            make: Arc::new(make),
            events: Arc::new(events) as Arc<dyn EventFormat<B::Event>>,
            snapshots: None,
            recovery: Recovery::default(),
            recovery_idle: RECOVERY_IDLE_DEFAULT,
            mailbox: MailboxBound::waiting(ROOM_DEFAULT),
            stash_room: ROOM_DEFAULT,
            stash_overflow: StashOverflow::default(),
            write_retry: WriteRetry::default(),
            supervision: Supervision::default(),
            passivate_after: None,
            retention: Retention::disabled(),
            filtering: Filtering::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A kind whose events and snapshots are CBOR, each with a name and its first version: the manifests are `event#1` and `state#1`, as
    /// [`Versioned`](crate::codec::Versioned) writes them. What a bare [`Cbor`] has stored is read, too.
    ///
    /// When a type changes, [`new`](Self::new) with the same name and the next version takes over:
    /// `Format::new(Versioned::new("event", Cbor).then(upcast))`. A name of the user's own, from the first day, says more in the journal.
    pub fn cbor(make: impl Fn(&PersistenceId) -> B + Send + Sync + 'static) -> Self
    where
        B::Event: Serialize + DeserializeOwned,
        B::State: Serialize + DeserializeOwned,
    {
        Self::new(make, Format::new(Cbor::named(EVENT_NAME))).snapshots(Cbor::named(STATE_NAME))
    }

    /// How states become snapshots. Without it no snapshot is saved or read.
    ///
    /// Akka: `snapshotPluginId`, `snapshotAdapter`
    #[must_use]
    pub fn snapshots(self, snapshots: impl Codec<B::State>) -> Self {
        self.with(|shared| shared.snapshots = Some(Arc::new(snapshots)))
    }

    /// What is recovered at start.
    ///
    /// Akka: `withRecovery`, `recovery`, `Recovery`
    #[must_use]
    pub fn recovery(self, recovery: Recovery) -> Self {
        self.with(|shared| shared.recovery = recovery)
    }

    /// When snapshots are taken, and what is deleted behind them; none and nothing by default.
    ///
    /// Akka: `withRetention`, `snapshotWhen`
    #[must_use]
    pub fn retention(self, retention: Retention<B::State, B::Event>) -> Self {
        self.with(|shared| shared.retention = retention)
    }

    /// Filters what is recovered: for events that were imported from journals in which writers could overlap. A journal of Cairn
    /// needs none, and by default there is none.
    ///
    /// Akka: `replay-filter`
    #[must_use]
    pub fn replay_filter(self, settings: ReplayFilterSettings) -> Self {
        self.with(|shared| shared.filtering.set(settings))
    }

    /// Sees each anomaly that the [replay filter](Self::replay_filter) finds, beside the log, with the journal's name: to count them, say.
    #[must_use]
    pub fn watch_anomalies(self, watch: impl Fn(&PersistenceId, &Anomaly) + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.filtering.watch(watch))
    }

    /// How long recovery may be silent before it has failed; 30 s by default.
    ///
    /// Akka: `recovery-event-timeout`
    #[must_use]
    pub fn recovery_idle(self, recovery_idle: Duration) -> Self {
        self.with(|shared| shared.recovery_idle = recovery_idle)
    }

    /// How many commands may wait for an actor, also while it recovers or persists; 4096 by default. Who sends one more waits, or
    /// is refused with [`try_tell`](crate::actor_ref::ActorRef::try_tell).
    ///
    /// Akka: `stash-capacity`, `mailbox-capacity`
    #[must_use]
    pub fn mailbox_room(self, commands: usize) -> Self {
        self.with(|shared| shared.mailbox.room = commands)
    }

    /// What becomes of a command for which the mailbox has no room; by default whoever sends it waits.
    ///
    /// Akka: `stash-overflow-strategy`, `mailbox-push-timeout-time`
    #[must_use]
    pub fn mailbox_overflow(self, overflow: MailboxOverflow) -> Self {
        self.with(|shared| shared.mailbox.overflow = overflow)
    }

    /// How many commands an actor may put aside, and what becomes of one more; 4096 by default, and dropped.
    ///
    /// Akka: `stash-capacity`, `stash-overflow-strategy`
    #[must_use]
    pub fn stash_room(self, commands: usize, overflow: StashOverflow) -> Self {
        self.with(|shared| {
            shared.stash_room = commands;
            shared.stash_overflow = overflow;
        })
    }

    /// How long a write whose outcome is not known is handed in again.
    #[must_use]
    pub fn write_retry(self, write_retry: WriteRetry) -> Self {
        self.with(|shared| shared.write_retry = write_retry)
    }

    /// What becomes of an actor that failed.
    ///
    /// Akka: `onPersistFailure(backoffStrategy)`, `Behaviors.supervise`
    #[must_use]
    pub fn supervision(self, supervision: Supervision) -> Self {
        self.with(|shared| shared.supervision = supervision)
    }

    /// Lets actors of [`Entities`](crate::registry::Entities) rest that had nothing to do for so long; never by default.
    ///
    /// Akka: `setReceiveTimeout` with `Passivate`, `passivate-idle-entity-after`
    #[must_use]
    pub fn passivate_after(self, idle: Duration) -> Self {
        self.with(|shared| shared.passivate_after = Some(idle))
    }

    fn with(mut self, set: impl FnOnce(&mut Shared<B>)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        set(&mut shared);
        self.shared = Arc::new(shared);
        self
    }

    pub(crate) fn make(&self, persistence_id: &PersistenceId) -> B {
        (self.shared.make)(persistence_id)
    }

    pub(crate) fn shared(&self) -> &Shared<B> {
        &self.shared
    }
}
