//! What all views of one kind share: how they are made, how values become bytes, how they update themselves, their bounds and times.

use std::sync::Arc;
use std::time::Duration;

use cairn_client::{Error, PersistenceId};

use super::cell::Cell;
use super::{View, ViewIds, ViewRef};
use crate::format::{Codec, EventFormat};
use crate::kind::Supervision;
use crate::recovery::Recovery;
use crate::replay_filter::{Anomaly, Filtering, ReplayFilterSettings};
use crate::system::{ActorSystem, parse_persistence_id};

/// Between looks at the journal, or tries to follow it again, by default (contract 3.8).
const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// Messages that may wait for a view by default.
const ROOM_DEFAULT: usize = 4096;
/// How long the journal may be silent while it replays, by default (contract 3.4).
const UPDATE_IDLE_DEFAULT: Duration = Duration::from_secs(30);

/// How a view updates itself.
///
/// Akka: `view.auto-update`, `PersistentView.autoUpdate`, `IsAutoUpdate`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoUpdate {
    /// Not: only at start, and when it is told to.
    Off,
    /// It looks for new events again and again.
    Every {
        /// From one look to the next, the first one after the start.
        ///
        /// Akka: `view.auto-update-interval`, `autoUpdateInterval`, `AutoUpdateInterval`, `ScheduledUpdate`
        interval: Duration,
        /// How many stored events to apply at most each time, also at start.
        ///
        /// Akka: `view.auto-update-replay-max`, `autoUpdateReplayMax`, `AutoUpdateReplayMax`
        max: u64,
    },
    /// The journal tells it of events as they are stored, where it can; while it does not, the view looks for them again and again.
    Pushed {
        /// How long to wait, after being told has failed, before it looks and asks to be told again.
        retry: Duration,
    },
}

impl Default for AutoUpdate {
    fn default() -> Self {
        Self::Pushed { retry: INTERVAL_DEFAULT }
    }
}

impl AutoUpdate {
    /// It looks for all new events every so often.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self::Every { interval, max: u64::MAX }
    }

    /// After which time it does something by itself.
    pub(super) fn interval(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Every { interval, .. } => Some(interval),
            Self::Pushed { retry } => Some(retry),
        }
    }

    /// How many stored events to apply at most in an update that it does by itself.
    pub(super) fn max(self) -> u64 {
        match self {
            Self::Every { max, .. } => max,
            Self::Off | Self::Pushed { .. } => u64::MAX,
        }
    }
}

/// A kind of view. Cheap to clone.
///
/// Akka: `Props` of a `PersistentView`, and `akka.persistence.view`
pub struct ViewKind<V: View> {
    shared: Arc<Shared<V>>,
}

pub(super) struct Shared<V: View> {
    make: Arc<dyn Fn(&ViewIds) -> V + Send + Sync>,
    pub(super) events: Arc<dyn EventFormat<V::Event>>,
    pub(super) snapshots: Option<Arc<dyn Codec<V::State>>>,
    pub(super) auto_update: AutoUpdate,
    pub(super) recovery: Recovery,
    pub(super) filtering: Filtering,
    pub(super) update_idle: Duration,
    mailbox_room: usize,
    pub(super) stash_room: usize,
    pub(super) supervision: Supervision,
}

impl<V: View> Clone for ViewKind<V> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<V: View> Clone for Shared<V> {
    fn clone(&self) -> Self {
        Self {
            make: self.make.clone(),
            events: self.events.clone(),
            snapshots: self.snapshots.clone(),
            auto_update: self.auto_update,
            recovery: self.recovery,
            filtering: self.filtering.clone(),
            update_idle: self.update_idle,
            mailbox_room: self.mailbox_room,
            stash_room: self.stash_room,
            supervision: self.supervision,
        }
    }
}

impl<V: View> ViewKind<V> {
    /// A kind whose views are made anew by `make` for each incarnation.
    pub fn new(make: impl Fn(&ViewIds) -> V + Send + Sync + 'static, events: impl EventFormat<V::Event>) -> Self {
        let shared = Shared {
            make: Arc::new(make),
            events: Arc::new(events) as Arc<dyn EventFormat<V::Event>>,
            snapshots: None,
            auto_update: AutoUpdate::default(),
            recovery: Recovery::default(),
            filtering: Filtering::default(),
            update_idle: UPDATE_IDLE_DEFAULT,
            mailbox_room: ROOM_DEFAULT,
            stash_room: ROOM_DEFAULT,
            supervision: Supervision::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How states become snapshots. Without it no snapshot is saved or read.
    #[must_use]
    pub fn snapshots(self, snapshots: impl Codec<V::State>) -> Self {
        self.with(|shared| shared.snapshots = Some(Arc::new(snapshots)))
    }

    /// How a view updates itself; by default the journal pushes.
    ///
    /// # Panics
    /// If there is no time between the looks, or the tries.
    #[must_use]
    pub fn auto_update(self, auto_update: AutoUpdate) -> Self {
        assert!(auto_update.interval().is_none_or(|interval| !interval.is_zero()), "a view lets some time pass");
        self.with(|shared| shared.auto_update = auto_update)
    }

    /// What is recovered at start. Later updates have no bounds but their own.
    ///
    /// Akka: `PersistentView.recovery`
    #[must_use]
    pub fn recovery(self, recovery: Recovery) -> Self {
        self.with(|shared| shared.recovery = recovery)
    }

    /// Filters what updates replay, where journals are followed that several writers may have written to at the same time. What is
    /// pushed is not filtered: nothing may be held back there.
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

    /// How long the journal may be silent before an update has failed, at least, and twice as long at most; 30 s by default.
    ///
    /// Akka: `recovery-event-timeout`
    ///
    /// # Panics
    /// If it is no time at all.
    #[must_use]
    pub fn update_idle(self, update_idle: Duration) -> Self {
        assert!(!update_idle.is_zero(), "a journal has some time");
        self.with(|shared| shared.update_idle = update_idle)
    }

    /// How many messages may wait for a view; 4096 by default.
    ///
    /// Akka: `mailbox-capacity`
    #[must_use]
    pub fn mailbox_room(self, messages: usize) -> Self {
        self.with(|shared| shared.mailbox_room = messages)
    }

    /// How many messages a view may put aside; 4096 by default. One more is dropped, with a warning.
    ///
    /// Akka: `stash-capacity`
    #[must_use]
    pub fn stash_room(self, messages: usize) -> Self {
        self.with(|shared| shared.stash_room = messages)
    }

    /// What becomes of a view that panicked, or could not load its snapshot.
    ///
    /// Akka: `SupervisorStrategy`
    #[must_use]
    pub fn supervision(self, supervision: Supervision) -> Self {
        self.with(|shared| shared.supervision = supervision)
    }

    fn with(mut self, set: impl FnOnce(&mut Shared<V>)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        set(&mut shared);
        self.shared = Arc::new(shared);
        self
    }

    pub(super) fn make(&self, ids: &ViewIds) -> V {
        (self.shared.make)(ids)
    }

    pub(super) fn shared(&self) -> &Arc<Shared<V>> {
        &self.shared
    }
}

impl ActorSystem {
    /// Starts a view of the journal of `persistence_id`, which saves its snapshots under `view_id`.
    ///
    /// Akka: `PersistentView.persistenceId`, `PersistentView.viewId`
    ///
    /// # Errors
    /// [`Error::Invalid`] if an id is blank or longer than 1024 bytes, or if they are the same: the view's snapshots would be
    /// those of the actor.
    pub fn spawn_view<V: View>(
        &self,
        kind: &ViewKind<V>,
        persistence_id: impl Into<String>,
        view_id: impl Into<String>,
    ) -> Result<ViewRef<V::Message>, Error> {
        let persistence_id: PersistenceId = parse_persistence_id(persistence_id)?;
        let view_id = parse_persistence_id(view_id)?;
        if persistence_id == view_id {
            let message = format!("the view of {persistence_id} needs an id of its own");
            return Err(Error::Invalid { message });
        }
        let view = ViewRef::new(ViewIds { persistence_id, view_id }, kind.shared.mailbox_room);
        tokio::spawn(Cell::supervise(self.clone(), kind.clone(), view.clone()));
        Ok(view)
    }
}
