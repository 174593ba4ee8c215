//! The same account in each framework: the behavior knows nothing of what runs it.

use cairn_actor::{Behavior, Context, Effect, ReplyTo};
use serde::{Deserialize, Serialize};

/// An account that takes deposits.
pub struct Account;

/// What is asked of it.
pub enum Command {
    Deposit { cents: u64 },
    Balance { reply_to: ReplyTo<u64> },
}

/// What happened to it.
#[derive(Serialize, Deserialize)]
pub enum Event {
    Deposited { cents: u64 },
}

impl Behavior for Account {
    type State = u64;
    type Command = Command;
    type Event = Event;

    fn empty_state(&self) -> u64 {
        0
    }

    fn apply(balance: &mut u64, event: &Event) {
        match event {
            Event::Deposited { cents } => *balance += cents,
        }
    }

    fn handle(&mut self, balance: &u64, command: Command, _: &mut Context<Self>) -> Effect<Self> {
        match command {
            Command::Deposit { cents } => Effect::persist(Event::Deposited { cents }),
            Command::Balance { reply_to } => Effect::reply(reply_to, *balance),
        }
    }
}
