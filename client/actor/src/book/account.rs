use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::{ActorKind, Behavior, Context, Effect, ReplyTo};
use serde::{Deserialize, Serialize};

/// An account that is never overdrawn. It needs nothing beside its state.
pub struct Account;

/// What the events add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub cents: u64,
    pub is_closed: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Deposited { cents: u64 },
    Withdrawn { cents: u64 },
    Closed,
}

/// What an account is asked for.
pub enum Command {
    Deposit { cents: u64, reply_to: ReplyTo<Answer> },
    Withdraw { cents: u64, reply_to: ReplyTo<Answer> },
    Close { reply_to: ReplyTo<Answer> },
    Look { reply_to: ReplyTo<State> },
}

/// What is on the account afterwards, in cents.
pub type Answer = Result<u64, Refused>;

/// A rule of the bank forbids it.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    Closed,
    NotEnough,
}

impl Behavior for Account {
    type State = State;
    type Command = Command;
    type Event = Event;

    fn empty_state(&self) -> State {
        State::default()
    }

    fn apply(state: &mut State, event: &Event) {
        match event {
            Event::Deposited { cents } => state.cents += cents,
            Event::Withdrawn { cents } => state.cents -= cents,
            Event::Closed => state.is_closed = true,
        }
    }

    fn handle(&mut self, state: &State, command: Command, _: &mut Context<Self>) -> Effect<Self> {
        match command {
            Command::Look { reply_to } => Effect::reply(reply_to, state.clone()),
            Command::Deposit { reply_to, .. } | Command::Withdraw { reply_to, .. } | Command::Close { reply_to }
                if state.is_closed =>
            {
                Effect::reply(reply_to, Err(Refused::Closed))
            }
            Command::Withdraw { cents, reply_to } if cents > state.cents => Effect::reply(reply_to, Err(Refused::NotEnough)),
            Command::Deposit { cents, reply_to } => answered(Effect::persist(Event::Deposited { cents }), reply_to),
            Command::Withdraw { cents, reply_to } => answered(Effect::persist(Event::Withdrawn { cents }), reply_to),
            // What is left is paid out.
            Command::Close { reply_to } => {
                let events = [Event::Withdrawn { cents: state.cents }, Event::Closed];
                answered(Effect::persist_all(events), reply_to)
            }
        }
    }
}

/// Answers when the events are stored and applied.
fn answered(effect: Effect<Account>, reply_to: ReplyTo<Answer>) -> Effect<Account> {
    effect.then_reply(reply_to, |state| Ok(state.cents))
}

/// How events become bytes, and which of them have a tag.
pub fn events() -> Format<Event, Event, Versioned<Event, Cbor>> {
    let tags = |event: &Event| match event {
        Event::Withdrawn { .. } => vec!["withdrawal".to_owned()],
        Event::Deposited { .. } | Event::Closed => Vec::new(),
    };
    Format::new(Versioned::new("account-event", Cbor)).tagged_by(tags)
}

/// All accounts.
pub fn kind() -> ActorKind<Account> {
    ActorKind::new(|_| Account, events()).snapshots(Versioned::new("account", Cbor))
}
