//! One incarnation of a view: it recovers, and then takes one event or message after the other.
//!
//! Invariants
//! - The number of the last event moves with the state: who goes on after it leaves nothing out and repeats nothing.
//! - While an update is under way that is awaited, no message is handled.
//! - Events and messages take turns: neither keeps the other waiting for ever.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_client::{Criteria, SequenceNumber, StoredEvent};
use futures::FutureExt;
use tokio::time::{Instant, Sleep, sleep};

use super::context::Step;
use super::feed::{Fed, Feed, Running, Waiting};
use super::kind::Shared;
use super::reference::Letter;
use super::{AutoUpdate, Update, UpdateFailure, View, ViewContext, ViewIds, ViewKind, ViewRef};
use crate::actor_ref::StopReason;
use crate::mailbox::{Asked, Taken};
use crate::maintenance::{Maintenance, Origin, Stores};
use crate::newest_snapshot::{Found, Search, Unusable};
use crate::signal::{Signal, SnapshotError};
use crate::stash::Stash;
use crate::store::{Events, Store};
use crate::supervisor::panic_message;
use crate::system::ActorSystem;

/// How an incarnation ended.
enum Ending {
    Stopped,
    Failed(String),
}

pub(super) struct Cell<V: View> {
    kind: Arc<Shared<V>>,
    view: V,
    state: V::State,
    context: ViewContext<V::Message>,
    stores: Stores,
    feed: Feed,
    /// Why the journal does not push, as the view was told: it is told again when something has been pushed meanwhile, or why changes.
    not_pushed: Option<UpdateFailure>,
    /// To be done after the one that is under way.
    next_update: Option<(Update, Waiting)>,
    /// The newest snapshot, if it cannot be used: then the events must be there from the first, or from the one taken.
    needed: Option<Unusable>,
    timer: Option<Pin<Box<Sleep>>>,
    stash: Stash<Letter<V::Message>>,
    maintenance: Maintenance<V::State>,
    /// Whose turn it is.
    is_turn_of_events: bool,
    is_stopping: bool,
    ending: Option<Ending>,
}

/// What comes to a view.
enum Input<V: View> {
    Fed(Fed),
    Letter(Letter<V::Message>),
    Signal(Signal<V::State>),
    Timer,
    Stop,
}

impl<V: View> Cell<V> {
    /// Runs the incarnations of a view, one after the other.
    pub(super) async fn supervise(system: ActorSystem, kind: ViewKind<V>, view: ViewRef<V::Message>) {
        let supervision = kind.shared().supervision;
        let view_id = &view.ids().view_id;
        let mut failures = 0;
        loop {
            let mut recovered = None;
            let incarnation = Self::incarnation(&system, &kind, &view, &mut recovered);
            let incarnation = AssertUnwindSafe(Box::pin(incarnation)).catch_unwind().await;
            let reason = match incarnation.unwrap_or_else(|panic| Ending::Failed(panic_message(panic.as_ref()))) {
                Ending::Stopped => return view.mailbox().stop(StopReason::Done),
                Ending::Failed(reason) => reason,
            };
            if supervision.is_stable(recovered) {
                failures = 0;
            }
            if failures >= supervision.restarts_max {
                tracing::warn!(%view_id, reason, "a view is given up");
                return view.mailbox().stop(StopReason::Failed(reason));
            }
            let delay = supervision.backoff.delay(failures, system.random());
            failures += 1;
            tracing::warn!(%view_id, reason, ?delay, "a view failed and is started again");
            sleep(delay).await;
        }
    }

    /// Tells also when it had its snapshot.
    async fn incarnation(
        system: &ActorSystem,
        kind: &ViewKind<V>,
        view: &ViewRef<V::Message>,
        recovered: &mut Option<Instant>,
    ) -> Ending {
        match Self::start(system, kind, view).await {
            Ok(cell) => {
                *recovered = Some(Instant::now());
                cell.run().await
            }
            Err(failure) => Ending::Failed(failure.to_string()),
        }
    }

    /// Takes the newest snapshot that can be used, as soon as one more may recover, and begins the first update.
    async fn start(system: &ActorSystem, kind: &ViewKind<V>, view_ref: &ViewRef<V::Message>) -> Result<Box<Self>, UpdateFailure> {
        let permit = system.recovery_permit().await;
        let ids = view_ref.ids();
        let mut view = kind.make(ids);
        let kind = kind.shared().clone();
        let stores = Stores { store: system.store().clone(), persistence_id: ids.view_id.clone(), claim: None };
        let found = Self::find_snapshot(&mut view, &kind, system.store(), ids).await?;
        let mut cell = Box::new(Self {
            state: view.empty_state(),
            view,
            context: ViewContext::new(view_ref.clone()),
            stores,
            feed: Feed::Idle,
            not_pushed: None,
            next_update: None,
            needed: None,
            timer: None,
            stash: Stash::new(view_ref.mailbox().clone()),
            maintenance: Maintenance::new(),
            is_turn_of_events: false,
            is_stopping: false,
            ending: None,
            kind,
        });
        if let AutoUpdate::Every { interval, .. } = cell.kind.auto_update {
            cell.wake_in(interval);
        }
        cell.take_snapshot(found);
        let recovery = cell.kind.recovery;
        let update = Update { awaits: true, max: recovery.max.min(cell.kind.auto_update.max()) };
        let events = cell.replay(recovery.to, update.max);
        let running = Running::new(update, Waiting::new(), events, cell.kind.update_idle, Some(permit));
        cell.feed = Feed::Update(Box::new(running));
        Ok(cell)
    }

    /// The newest snapshot that can be used.
    async fn find_snapshot(
        view: &mut V,
        kind: &Shared<V>,
        store: &Arc<dyn Store>,
        ids: &ViewIds,
    ) -> Result<Found<V::State>, UpdateFailure> {
        let recovery = kind.recovery;
        let (Some(criteria), Some(codec)) = (recovery.criteria, &kind.snapshots) else { return Ok(Found::default()) };
        let criteria = Criteria { sequence_number_max: criteria.sequence_number_max.min(recovery.to), ..criteria };
        let (journal, snapshots) = (&ids.persistence_id, &ids.view_id);
        let search = Search { store, journal, snapshots, criteria, idle: kind.update_idle, codec: &**codec };
        let newest = search.newest().await?;
        Ok(search.run(newest, move |state, number| view.accepts_snapshot(state, number)).await?)
    }

    fn take_snapshot(&mut self, found: Found<V::State>) {
        if let Some((number, state)) = found.taken {
            self.state = state;
            self.context.last_sequence_number = number;
            self.context.snapshot_sequence_number = number;
        }
        self.needed = found.unusable.filter(Unusable::is_of_events);
    }

    async fn run(mut self: Box<Self>) -> Ending {
        loop {
            if let Some(ending) = self.ending.take() {
                return ending;
            }
            if self.is_stopping && self.maintenance.is_idle() {
                return Ending::Stopped;
            }
            let input = std::future::poll_fn(|cx| self.poll_input(cx)).await;
            self.on_input(input);
            // A busy view lets others have their turn.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input<V>> {
        if let Poll::Ready((_, signal)) = self.maintenance.poll(cx) {
            return Poll::Ready(Input::Signal(signal));
        }
        if self.is_stopping {
            return Poll::Pending;
        }
        self.is_turn_of_events = !self.is_turn_of_events;
        let (first, second): (PollOne<V>, PollOne<V>) = (Self::poll_feed, Self::poll_letter);
        let (first, second) = if self.is_turn_of_events { (first, second) } else { (second, first) };
        for poll_one in [first, second, Self::poll_timer] {
            if let Poll::Ready(input) = poll_one(self, cx) {
                return Poll::Ready(input);
            }
        }
        Poll::Pending
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<Input<V>> {
        self.feed.poll(cx).map(Input::Fed)
    }

    fn poll_letter(&mut self, cx: &mut Context<'_>) -> Poll<Input<V>> {
        let is_awaited = match &self.feed {
            Feed::Update(running) => running.update.awaits || self.next_update.is_some(),
            Feed::Idle | Feed::Follow(_) => false,
        };
        if is_awaited {
            return Poll::Pending;
        }
        match self.stash.poll_take(cx) {
            Poll::Ready(Taken::Command(letter)) => Poll::Ready(Input::Letter(letter)),
            Poll::Ready(Taken::Asked(Asked::Stop)) if self.maintenance.is_idle() => Poll::Ready(Input::Stop),
            Poll::Ready(Taken::Asked(_)) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Input<V>> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        timer.as_mut().poll(cx).map(|()| Input::Timer)
    }

    fn on_input(&mut self, input: Input<V>) {
        match input {
            Input::Fed(Fed::Event(stored)) => self.on_event(&stored),
            Input::Fed(Fed::Over) => self.on_over(),
            Input::Fed(Fed::Failed(failure)) => self.on_failed(failure),
            Input::Letter(Letter::Message(message)) => {
                self.view.handle(&mut self.state, message, &mut self.context);
                self.carry_out();
            }
            Input::Letter(Letter::Update(update, reply_to)) => self.update(update, vec![reply_to]),
            Input::Signal(signal) => {
                if let Signal::SnapshotSaved { number, .. } = signal {
                    self.context.snapshot_sequence_number = number;
                }
                self.view.on_signal(signal, &mut self.state, &mut self.context);
                self.carry_out();
            }
            Input::Timer => self.on_timer(),
            Input::Stop => self.is_stopping = true,
        }
    }

    fn on_event(&mut self, stored: &StoredEvent) {
        let (number, last) = (stored.event.sequence_number, self.context.last_sequence_number);
        if number <= last {
            return self.on_failed(UpdateFailure::Order { number, last });
        }
        if number.0 > last.0 + 1 && self.is_snapshot_needed() {
            return;
        }
        let events = match self.kind.events.from_journal(stored) {
            Ok(events) => events,
            Err(error) => return self.on_failed(UpdateFailure::Format { number, error }),
        };
        self.needed = None;
        if matches!(self.feed, Feed::Follow(_)) {
            self.not_pushed = None;
        }
        self.context.last_sequence_number = number;
        for event in events {
            self.view.apply(&mut self.state, &event, &mut self.context);
            self.carry_out();
        }
    }

    fn on_over(&mut self) {
        let Feed::Update(running) = &self.feed else { return };
        if running.update.max > 0 && self.is_snapshot_needed() {
            return;
        }
        let last = self.context.last_sequence_number;
        self.end_update(&Ok(last));
        if self.next_update.is_none() && matches!(self.kind.auto_update, AutoUpdate::Pushed { .. }) {
            self.follow();
        }
        self.begin_next_update();
    }

    /// A state without the events before a snapshot that cannot be used would have a hole: ends the incarnation.
    fn is_snapshot_needed(&mut self) -> bool {
        let Some(needed) = self.needed.take() else { return false };
        let failure = UpdateFailure::from(needed);
        self.ending = Some(Ending::Failed(failure.to_string()));
        self.on_failed(failure);
        true
    }

    fn on_failed(&mut self, failure: UpdateFailure) {
        // A store that cannot push says so after each look at the journal.
        let is_news =
            !matches!(self.feed, Feed::Follow(_)) || self.not_pushed.replace(failure.clone()).as_ref() != Some(&failure);
        if is_news {
            self.view.update_failed(&failure, &mut self.context);
        }
        self.end_update(&Err(failure));
        self.carry_out();
        if let AutoUpdate::Pushed { retry } = self.kind.auto_update {
            self.wake_in(retry);
        }
        self.begin_next_update();
    }

    /// Tells those who wait for it.
    fn end_update(&mut self, outcome: &Result<SequenceNumber, UpdateFailure>) {
        self.context.is_recovering = false;
        if let Feed::Update(running) = std::mem::replace(&mut self.feed, Feed::Idle) {
            running.waiting.into_iter().for_each(|waiting| waiting.send(outcome.clone()));
        }
    }

    fn update(&mut self, update: Update, mut waiting: Waiting) {
        let Feed::Update(running) = &mut self.feed else { return self.begin(update, waiting) };
        if !update.awaits {
            return running.waiting.append(&mut waiting);
        }
        let (next, all_waiting) = self.next_update.get_or_insert_with(|| (update, Waiting::new()));
        next.max = next.max.max(update.max);
        all_waiting.append(&mut waiting);
    }

    fn begin_next_update(&mut self) {
        // A handler of the one that has ended may have begun another.
        if matches!(self.feed, Feed::Idle)
            && let Some((update, waiting)) = self.next_update.take()
        {
            self.begin(update, waiting);
        }
    }

    fn begin(&mut self, update: Update, waiting: Waiting) {
        let events = self.replay(SequenceNumber::MAX, update.max);
        self.feed = Feed::Update(Box::new(Running::new(update, waiting, events, self.kind.update_idle, None)));
    }

    fn replay(&self, to: SequenceNumber, max: u64) -> Events {
        let persistence_id = self.context.persistence_id();
        let events = self.stores.store.replay(persistence_id, self.next_number()..=to.0, max);
        self.kind.filtering.filtered(persistence_id, events)
    }

    fn follow(&mut self) {
        let events = self.stores.store.follow(self.context.persistence_id(), SequenceNumber(self.next_number()));
        self.feed = Feed::Follow(events);
    }

    fn next_number(&self) -> u64 {
        self.context.last_sequence_number.0 + 1
    }

    fn on_timer(&mut self) {
        self.timer = None;
        let is_idle = matches!(self.feed, Feed::Idle);
        match self.kind.auto_update {
            AutoUpdate::Every { interval, max } => {
                self.wake_in(interval);
                if is_idle {
                    self.begin(Update { awaits: false, max }, Waiting::new());
                }
            }
            // Following begins again after it: so a journal that does not push is looked at as often.
            AutoUpdate::Pushed { .. } if is_idle => self.begin(Update { awaits: false, max: u64::MAX }, Waiting::new()),
            AutoUpdate::Pushed { .. } | AutoUpdate::Off => {}
        }
    }

    fn wake_in(&mut self, interval: Duration) {
        self.timer = Some(Box::pin(sleep(interval)));
    }

    /// Does what a handler asked for.
    fn carry_out(&mut self) {
        for step in std::mem::take(&mut self.context.steps) {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step<V::Message>) {
        let stores = self.stores.clone();
        match step {
            Step::Stash(message) => self.put_aside(message),
            Step::Unstash(count) => self.stash.bring_back(count),
            Step::Update(update) => self.update(update, Waiting::new()),
            Step::SaveSnapshot => {
                let codec = self.kind.snapshots.as_ref();
                let payload = codec.ok_or(SnapshotError::NoFormat).and_then(|codec| Ok(codec.encode(&self.state)?));
                self.maintenance.save(Origin::Actor, stores, self.context.last_sequence_number, payload);
            }
            Step::LoadSnapshot(criteria) => self.maintenance.load(Origin::Actor, stores, criteria, self.kind.snapshots.clone()),
            Step::DeleteSnapshot(number) => self.maintenance.delete_snapshot(Origin::Actor, stores, number),
            Step::DeleteSnapshots(criteria) => self.maintenance.delete_snapshots(Origin::Actor, stores, criteria),
            Step::Stop => self.is_stopping = true,
        }
    }

    fn put_aside(&mut self, message: V::Message) {
        if self.stash.put_aside(Letter::Message(message), self.kind.stash_room).is_err() {
            tracing::warn!(view_id = %self.context.view_id(), "a message is dropped: the stash is full");
        }
    }
}

type PollOne<V> = fn(&mut Cell<V>, &mut Context<'_>) -> Poll<Input<V>>;
