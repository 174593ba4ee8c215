//! What a handler wants to happen: said, not done, so that it can be tested without an actor.
//!
//! The steps of an effect are carried out in order. A step that persists or defers is only registered then: its handlers run when
//! their turn comes. All that is registered, of whatever kind, runs strictly in the order of registration; what a handler registers
//! goes behind all that is pending. Everything else is done at once.
//!
//! | Effect | events | next commands |
//! | --- | --- | --- |
//! | [`persist`](Effect::persist), [`persist_all`](Effect::persist_all), [`defer`](Effect::defer) | stored; stored all or none; none | wait |
//! | [`persist_async`](Effect::persist_async), [`persist_all_async`](Effect::persist_all_async), [`defer_async`](Effect::defer_async) | the same | go on |

use cairn_client::{Criteria, SequenceNumber};

use crate::actor_ref::ReplyTo;
use crate::behavior::Behavior;
use crate::context::Context;

pub(crate) type Handler<B> = Box<dyn FnOnce(&<B as Behavior>::State, &mut Context<B>) -> Effect<B> + Send>;
pub(crate) type EachHandler<B> =
    Box<dyn FnMut(&<B as Behavior>::Event, &<B as Behavior>::State, &mut Context<B>) -> Effect<B> + Send>;

/// What shall happen.
///
/// Akka: `Effect`, `EffectBuilder`, `ReplyEffect`
#[must_use = "an effect that is not returned does nothing"]
pub struct Effect<B: Behavior> {
    pub(crate) steps: Vec<Step<B>>,
}

pub(crate) enum Step<B: Behavior> {
    Persist(Persist<B>),
    Defer(Defer<B>),
    Run(Handler<B>),
    Stash(B::Command),
    Unstash(usize),
    Maintain(Maintain),
    Stop,
    Fail(String),
}

pub(crate) struct Persist<B: Behavior> {
    pub(crate) events: Vec<B::Event>,
    /// Whether commands wait until the handlers have run.
    pub(crate) stashes: bool,
    pub(crate) each: Option<EachHandler<B>>,
    pub(crate) then: Vec<Handler<B>>,
}

pub(crate) struct Defer<B: Behavior> {
    pub(crate) stashes: bool,
    pub(crate) then: Vec<Handler<B>>,
}

/// What an effect asks the stores for beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintain {
    /// [`Effect::save_snapshot`]
    SaveSnapshot,
    /// [`Effect::load_snapshot`]
    LoadSnapshot(Criteria),
    /// [`Effect::delete_snapshot`]
    DeleteSnapshot(SequenceNumber),
    /// [`Effect::delete_snapshots`]
    DeleteSnapshots(Criteria),
    /// [`Effect::delete_events`]
    DeleteEvents(SequenceNumber),
}

impl<B: Behavior> Effect<B> {
    /// Nothing.
    ///
    /// Akka: `Effect.none`, `Effect.noReply`, `thenNoReply`: who is not to be answered is not answered
    pub fn none() -> Self {
        Self { steps: Vec::new() }
    }

    /// The command is none for this state: nothing, but that it is logged.
    ///
    /// Akka: `Effect.unhandled`
    pub fn unhandled() -> Self {
        Self::step(Step::Run(Box::new(|_, context| {
            tracing::debug!(persistence_id = %context.persistence_id(), "a command was not handled");
            Self::none()
        })))
    }

    /// Stores an event. No command is handled before it is stored and applied and its handlers have run.
    ///
    /// Akka: `Effect.persist`, `persist`, `Persist`
    pub fn persist(event: B::Event) -> Self {
        Self::persist_all([event])
    }

    /// Stores events, all or none. With no events nothing is stored; what follows with [`then`](Self::then) runs at once.
    ///
    /// Akka: `Effect.persist(events)`, `persistAll`, `PersistAll`
    pub fn persist_all(events: impl IntoIterator<Item = B::Event>) -> Self {
        Self::persisting(events, true)
    }

    /// Stores an event; the next commands are handled meanwhile, on the state without it.
    ///
    /// Akka: `persistAsync`, `PersistAsync`
    pub fn persist_async(event: B::Event) -> Self {
        Self::persist_all_async([event])
    }

    /// Stores events, all or none; the next commands are handled meanwhile, on the state without them.
    ///
    /// Akka: `persistAllAsync`, `PersistAllAsync`
    pub fn persist_all_async(events: impl IntoIterator<Item = B::Event>) -> Self {
        Self::persisting(events, false)
    }

    fn persisting(events: impl IntoIterator<Item = B::Event>, stashes: bool) -> Self {
        let events: Vec<_> = events.into_iter().collect();
        if events.is_empty() {
            return Self::none();
        }
        Self::step(Step::Persist(Persist { events, stashes, each: None, then: Vec::new() }))
    }

    /// Runs a handler after the handlers of all that was registered before; at once if nothing is pending. No command is handled
    /// meanwhile. It does not run if a write before it fails.
    ///
    /// Akka: `defer`, `Defer`
    pub fn defer(handler: impl FnOnce(&B::State, &mut Context<B>) -> Self + Send + 'static) -> Self {
        Self::step(Step::Defer(Defer { stashes: true, then: vec![Box::new(handler)] }))
    }

    /// As [`defer`](Self::defer), but the next commands are handled meanwhile.
    ///
    /// Akka: `deferAsync`, `DeferAsync`
    pub fn defer_async(handler: impl FnOnce(&B::State, &mut Context<B>) -> Self + Send + 'static) -> Self {
        Self::step(Step::Defer(Defer { stashes: false, then: vec![Box::new(handler)] }))
    }

    /// Answers at once.
    ///
    /// Akka: `Effect.reply`, `sender() ! reply`, `Sender.Tell`
    pub fn reply<R: Send + 'static>(reply_to: ReplyTo<R>, answer: R) -> Self {
        Self::step(Step::Run(Box::new(move |_, _| {
            reply_to.send(answer);
            Self::none()
        })))
    }

    /// Puts a command aside until it is unstashed.
    ///
    /// Akka: `Effect.stash`, `stash`, `Stash.Stash`
    pub fn stash(command: B::Command) -> Self {
        Self::step(Step::Stash(command))
    }

    /// Brings back the command that was put aside first: it is handled before any other, but after what is being persisted.
    ///
    /// Akka: `Stash.unstash`, `Stash.Unstash`
    pub fn unstash() -> Self {
        Self::step(Step::Unstash(1))
    }

    /// Brings back all that were put aside, in their order.
    ///
    /// Akka: `thenUnstashAll`, `unstashAll`, `Stash.UnstashAll`
    pub fn unstash_all() -> Self {
        Self::step(Step::Unstash(usize::MAX))
    }

    /// Stops the actor after all that was registered before; what is registered later is not done. One of
    /// [`Entities`](crate::registry::Entities) starts again with the next command.
    ///
    /// Akka: `Effect.stop`, `context.stop(self)`, `Context.Stop`
    pub fn stop() -> Self {
        Self::step(Step::Stop)
    }

    /// Fails the actor at once, as a panic would: its supervision decides what comes next.
    ///
    /// Akka: an exception that a handler throws
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::step(Step::Fail(reason.into()))
    }

    /// Saves the state as it is now as a snapshot at [`Context::last_sequence_number`]; commands go on.
    ///
    /// Akka: `saveSnapshot`, `SaveSnapshot`
    pub fn save_snapshot() -> Self {
        Self::step(Step::Maintain(Maintain::SaveSnapshot))
    }

    /// Loads a snapshot: [`Signal::SnapshotLoaded`](crate::signal::Signal::SnapshotLoaded) brings it.
    ///
    /// Akka: `loadSnapshot`, `LoadSnapshot`
    pub fn load_snapshot(criteria: Criteria) -> Self {
        Self::step(Step::Maintain(Maintain::LoadSnapshot(criteria)))
    }

    /// Deletes the snapshot at a number.
    ///
    /// Akka: `deleteSnapshot`, `DeleteSnapshot`
    pub fn delete_snapshot(number: SequenceNumber) -> Self {
        Self::step(Step::Maintain(Maintain::DeleteSnapshot(number)))
    }

    /// Deletes all snapshots within the bounds.
    ///
    /// Akka: `deleteSnapshots`, `DeleteSnapshots`
    pub fn delete_snapshots(criteria: Criteria) -> Self {
        Self::step(Step::Maintain(Maintain::DeleteSnapshots(criteria)))
    }

    /// Deletes the events up to a number, inclusive; [`SequenceNumber::MAX`] = all that there are.
    ///
    /// Akka: `deleteMessages`, `DeleteMessages`
    pub fn delete_events(to: SequenceNumber) -> Self {
        Self::step(Step::Maintain(Maintain::DeleteEvents(to)))
    }

    /// First this, then that.
    pub fn and(mut self, next: Self) -> Self {
        self.steps.extend(next.steps);
        self
    }

    /// Runs a handler for each event of the last step, after it was applied and before the next one is.
    ///
    /// Akka: the handler of `persistAll`
    pub fn for_each(mut self, handler: impl FnMut(&B::Event, &B::State, &mut Context<B>) -> Self + Send + 'static) -> Self {
        if let Some(Step::Persist(persist)) = self.steps.last_mut() {
            persist.each = Some(Box::new(handler));
        }
        self
    }

    /// Runs a handler after the last step: if that persists or defers, when its events are applied and its turn has come; else at
    /// once. What the handler gives back is done, too.
    ///
    /// Akka: the handler of `persist`, `thenRun`
    pub fn then(mut self, handler: impl FnOnce(&B::State, &mut Context<B>) -> Self + Send + 'static) -> Self {
        let handler: Handler<B> = Box::new(handler);
        match self.steps.last_mut() {
            Some(Step::Persist(Persist { then, .. }) | Step::Defer(Defer { then, .. })) => then.push(handler),
            _ => self.steps.push(Step::Run(handler)),
        }
        self
    }

    /// Runs something on the state after the last step.
    ///
    /// Akka: `thenRun`
    pub fn then_run(self, run: impl FnOnce(&B::State) + Send + 'static) -> Self {
        self.then(move |state, _| {
            run(state);
            Self::none()
        })
    }

    /// Answers after the last step.
    ///
    /// Akka: `thenReply`
    pub fn then_reply<R: Send + 'static>(
        self,
        reply_to: ReplyTo<R>,
        answer: impl FnOnce(&B::State) -> R + Send + 'static,
    ) -> Self {
        self.then_run(move |state| reply_to.send(answer(state)))
    }

    /// Stops the actor after the last step.
    ///
    /// Akka: `thenStop`
    pub fn then_stop(self) -> Self {
        self.then(|_, _| Self::stop())
    }

    fn step(step: Step<B>) -> Self {
        Self { steps: vec![step] }
    }
}
