//! Given these events, when this command comes, then these events follow: a behavior by itself, without store, runtime or time.
//!
//! Handlers run in the order in which they would run in an actor whose writes all succeed.
//!
//! ```
//! use cairn_actor::testing::given::given;
//! # use cairn_actor::actor_ref::ReplyTo;
//! # use cairn_actor::behavior::Behavior;
//! # use cairn_actor::context::Context;
//! # use cairn_actor::effect::Effect;
//! # struct Counter;
//! # enum Command { Add(u64), Read(ReplyTo<u64>) }
//! # impl Behavior for Counter {
//! #     type State = u64;
//! #     type Command = Command;
//! #     type Event = u64;
//! #     fn empty_state(&self) -> u64 { 0 }
//! #     fn apply(total: &mut u64, added: &u64) { *total += added; }
//! #     fn handle(&mut self, total: &u64, command: Command, _: &mut Context<Self>) -> Effect<Self> {
//! #         match command {
//! #             Command::Add(number) => Effect::persist(number),
//! #             Command::Read(reply_to) => Effect::reply(reply_to, *total),
//! #         }
//! #     }
//! # }
//!
//! let counter = given(Counter).events([20]).when(Command::Add(22)).then_events(&[22]).then_state(&42);
//! let (_, answer) = counter.ask(Command::Read);
//! assert_eq!(answer, Some(42));
//! ```

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use cairn_client::{PersistenceId, SequenceNumber};

use crate::actor_ref::ReplyTo;
use crate::behavior::{Behavior, PersistRejected};
use crate::context::Context;
use crate::effect::{Defer, Effect, Handler, Maintain, Persist, Step};
use crate::format::{EventFormat, FormatError};
use crate::mailbox::{Mailbox, MailboxBound};

/// Commands that the actor may send itself in a test.
const BOUND: MailboxBound = MailboxBound::waiting(1024);

/// An actor that has recovered from nothing so far.
///
/// Akka: `EventSourcedBehaviorTestKit`, `PersistenceTestKit`
///
/// # Panics
/// If the behavior refuses to start.
pub fn given<B: Behavior>(behavior: B) -> Scenario<B> {
    let persistence_id = PersistenceId::new("given").expect("a legal name");
    let state = behavior.empty_state();
    Scenario {
        state,
        behavior,
        context: Context::new(Arc::new(Mailbox::active(persistence_id, BOUND))),
        format: None,
        registered: VecDeque::new(),
        is_draining: false,
        persisted: Vec::new(),
        rejected: Vec::new(),
        maintained: Vec::new(),
        stashed: VecDeque::new(),
        brought_back: VecDeque::new(),
        end: None,
    }
}

/// A behavior, and what became of it.
#[must_use = "nothing is checked yet"]
pub struct Scenario<B: Behavior> {
    behavior: B,
    state: B::State,
    context: Context<B>,
    format: Option<Box<dyn EventFormat<B::Event>>>,
    registered: VecDeque<Registered<B>>,
    is_draining: bool,
    persisted: Vec<Vec<B::Event>>,
    rejected: Vec<FormatError>,
    maintained: Vec<Maintain>,
    stashed: VecDeque<B::Command>,
    brought_back: VecDeque<B::Command>,
    end: Option<End>,
}

/// How the actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By [`Effect::stop`].
    Stopped,
    /// By [`Effect::fail`], or as [`Behavior::applied`] refused an event.
    Failed(String),
}

enum Registered<B: Behavior> {
    Persist(Persist<B>),
    Rejected(Vec<B::Event>, FormatError),
    Defer(Vec<Handler<B>>),
    Stop,
}

impl<B: Behavior> Scenario<B> {
    /// Has each event become bytes and come back by this format: one that cannot is rejected.
    ///
    /// Akka: `SerializationSettings`
    pub fn formatted_by(mut self, format: impl EventFormat<B::Event>) -> Self {
        self.format = Some(Box::new(format));
        self
    }

    /// A state that was recovered from a snapshot.
    ///
    /// Akka: `initialize(state)`
    pub fn state(mut self, state: B::State) -> Self {
        self.state = state;
        self.behavior.after_snapshot(&mut self.state);
        self
    }

    /// Events that were recovered.
    ///
    /// Akka: `initialize(events)`
    ///
    /// # Panics
    /// If the behavior refuses one.
    pub fn events(mut self, events: impl IntoIterator<Item = B::Event>) -> Self {
        self.context.is_recovering = true;
        for event in events {
            self.number();
            B::apply(&mut self.state, &event);
            let applied = self.behavior.applied(&self.state, &event, &mut self.context);
            applied.unwrap_or_else(|refusal| panic!("the recovery failed: {refusal}"));
        }
        self
    }

    /// Recovery is over: what the behavior does then is seen as if it were a command.
    pub fn recovered(mut self) -> Self {
        self.forget();
        let effect = self.behavior.recovery_completed(&self.state, &mut self.context);
        self.carry_out(effect);
        self
    }

    /// A command comes. What was seen before is forgotten, but not the state.
    ///
    /// Akka: `runCommand`
    pub fn when(mut self, command: B::Command) -> Self {
        self.forget();
        self.handle(command);
        while self.end.is_none()
            && let Some(command) = self.brought_back.pop_front()
        {
            self.handle(command);
        }
        self
    }

    /// A command comes that asks for an answer: none if it got none.
    ///
    /// Akka: `runCommand(replyTo => command)`
    pub fn ask<R>(self, command: impl FnOnce(ReplyTo<R>) -> B::Command) -> (Self, Option<R>) {
        let (reply_to, mut answer) = ReplyTo::new();
        let after = self.when(command(reply_to));
        (after, answer.try_recv().ok())
    }

    /// What was persisted, atomic write by atomic write.
    ///
    /// Akka: `events`
    #[must_use]
    pub fn persisted(&self) -> &[Vec<B::Event>] {
        &self.persisted
    }

    /// Why events were rejected.
    #[must_use]
    pub fn rejected(&self) -> &[FormatError] {
        &self.rejected
    }

    /// What the stores were asked for beside the events.
    #[must_use]
    pub fn maintained(&self) -> &[Maintain] {
        &self.maintained
    }

    /// How many commands are stashed.
    #[must_use]
    pub fn stashed_count(&self) -> usize {
        self.stashed.len()
    }

    /// How the actor ended; none if it goes on.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The state.
    ///
    /// Akka: `state`
    #[must_use]
    pub fn state_now(&self) -> &B::State {
        &self.state
    }

    /// The behavior.
    #[must_use]
    pub fn behavior(&self) -> &B {
        &self.behavior
    }

    /// Checks what was persisted, whatever the atomic writes.
    ///
    /// # Panics
    /// If it was something else.
    #[track_caller]
    pub fn then_events(self, expected: &[B::Event]) -> Self
    where
        B::Event: PartialEq + Debug,
    {
        let persisted: Vec<_> = self.persisted.iter().flatten().collect();
        assert_eq!(persisted, expected.iter().collect::<Vec<_>>(), "the events");
        self
    }

    /// Checks that nothing was persisted.
    ///
    /// Akka: `hasNoEvents`
    ///
    /// # Panics
    /// If something was.
    #[track_caller]
    pub fn then_no_events(self) -> Self {
        assert!(self.persisted.is_empty(), "{} atomic writes, where there should be none", self.persisted.len());
        self
    }

    /// Checks the state.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn then_state(self, expected: &B::State) -> Self
    where
        B::State: PartialEq + Debug,
    {
        assert_eq!(&self.state, expected, "the state");
        self
    }

    fn forget(&mut self) {
        self.context.is_recovering = false;
        self.persisted.clear();
        self.rejected.clear();
        self.maintained.clear();
    }

    fn handle(&mut self, command: B::Command) {
        assert!(self.end.is_none(), "the actor has ended");
        let effect = self.behavior.handle(&self.state, command, &mut self.context);
        self.carry_out(effect);
    }

    /// What is registered runs when the effect is carried out: its events are stored then.
    fn carry_out(&mut self, effect: Effect<B>) {
        effect.steps.into_iter().for_each(|step| self.step(step));
        self.drain();
    }

    fn step(&mut self, step: Step<B>) {
        match step {
            Step::Persist(persist) => self.register_events(persist),
            Step::Defer(Defer { then, .. }) => self.register(Registered::Defer(then)),
            Step::Run(handler) => self.run(handler),
            Step::Stash(command) => self.stashed.push_back(command),
            Step::Unstash(count) => {
                let count = count.min(self.stashed.len());
                self.brought_back.extend(self.stashed.drain(..count));
            }
            Step::Maintain(maintain) => self.maintained.push(maintain),
            Step::Stop => self.register(Registered::Stop),
            Step::Fail(reason) => self.finish(End::Failed(reason)),
        }
    }

    fn run(&mut self, handler: Handler<B>) {
        let effect = handler(&self.state, &mut self.context);
        effect.steps.into_iter().for_each(|step| self.step(step));
    }

    fn register_events(&mut self, persist: Persist<B>) {
        match self.check_format(&persist.events) {
            Ok(()) => self.registered.push_back(Registered::Persist(persist)),
            Err(error) => self.register(Registered::Rejected(persist.events, error)),
        }
    }

    /// What waits for nothing runs at once.
    fn register(&mut self, registered: Registered<B>) {
        let waits = !self.registered.is_empty();
        self.registered.push_back(registered);
        if !waits {
            self.drain();
        }
    }

    fn check_format(&self, events: &[B::Event]) -> Result<(), FormatError> {
        let Some(format) = &self.format else { return Ok(()) };
        for event in events {
            for event in format.to_journal(event)? {
                format.from_journal(&stored(event)).unwrap_or_else(|error| panic!("an event does not come back: {error}"));
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        while self.end.is_none()
            && let Some(registered) = self.registered.pop_front()
        {
            match registered {
                Registered::Persist(persist) => self.persist(persist),
                Registered::Rejected(events, error) => self.reject(events, error),
                Registered::Defer(then) => then.into_iter().for_each(|handler| self.run(handler)),
                Registered::Stop => self.finish(End::Stopped),
            }
        }
        self.is_draining = false;
    }

    fn persist(&mut self, persist: Persist<B>) {
        let Persist { events, mut each, then, .. } = persist;
        for event in &events {
            self.number();
            B::apply(&mut self.state, event);
            if let Err(refusal) = self.behavior.applied(&self.state, event, &mut self.context) {
                self.finish(End::Failed(refusal.to_string()));
                break;
            }
            if let Some(each) = &mut each {
                let effect = each(event, &self.state, &mut self.context);
                effect.steps.into_iter().for_each(|step| self.step(step));
            }
        }
        self.persisted.push(events);
        if self.end.is_none() {
            then.into_iter().for_each(|handler| self.run(handler));
        }
    }

    fn reject(&mut self, events: Vec<B::Event>, error: FormatError) {
        self.rejected.push(error.clone());
        let rejected = PersistRejected { events, error: error.into() };
        let effect = self.behavior.on_persist_rejected(&rejected, &self.state, &mut self.context);
        effect.steps.into_iter().for_each(|step| self.step(step));
    }

    fn number(&mut self) {
        self.context.last_sequence_number = SequenceNumber(self.context.last_sequence_number.0 + 1);
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }
}

/// An event as a journal would give it back.
fn stored(event: cairn_client::NewEvent) -> cairn_client::StoredEvent {
    let cairn_client::NewEvent { payload, adapter_manifest, metadata, tags } = event;
    let sequence_number = SequenceNumber(1);
    cairn_client::StoredEvent {
        event: cairn_client::Event { sequence_number, payload, adapter_manifest, metadata, tags },
        position: cairn_client::Position(1),
        timestamp: cairn_client::Timestamp(0),
        writer: cairn_client::WriterId::default(),
        write_first: sequence_number,
        deleted: false,
    }
}
