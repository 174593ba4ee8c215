//! An account that pays others: what it sends arrives once, however often it has to be sent.
//!
//! A payment is an event of the payer. It is delivered until the payee has made an event of it too, and said so; the payee knows what it
//! took before, so that a repetition is confirmed and not taken.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::delivery::{DeliveryId, DeliverySettings, UnconfirmedDelivery};
use cairn_actor::outbox::{Outbox, Redelivery};
use cairn_actor::{ActorKind, ActorSystem, Behavior, Context, Effect, Entities, ReplyTo};
use cairn_client::PersistenceId;
use serde::{Deserialize, Serialize};

/// What an account has when it is opened.
const OPENING_BALANCE: u64 = 100;

/// How long a confirmation may take before money is sent again: less than a cluster needs for a new leader, so that one sees it happen.
const REDELIVER_INTERVAL: Duration = Duration::from_millis(200);

/// The accounts as one process has them.
pub struct Branch {
    pub accounts: Entities<Account>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Where the others are; set before the first account starts.
    accounts: OnceLock<Entities<Account>>,
    /// How often money was sent.
    sends: AtomicU64,
}

impl Shared {
    /// Sends if there is room: what is lost is sent again.
    fn send(&self, to: &str, command: Command) {
        if let Some(Ok(account)) = self.accounts.get().map(|accounts| accounts.get(to)) {
            drop(account.try_tell(command));
        }
    }
}

impl Branch {
    pub fn open(system: &ActorSystem) -> Self {
        let shared = Arc::new(Shared::default());
        let made = shared.clone();
        let format = Format::new(Versioned::new("account-event", Cbor));
        let accounts = system.entities(ActorKind::new(move |id| Account::new(id, made.clone()), format));
        assert!(shared.accounts.set(accounts.clone()).is_ok(), "set once");
        Self { accounts, shared }
    }

    /// How often money was sent so far, repetitions included.
    #[allow(dead_code, reason = "not every program that has accounts shows it")]
    pub fn sends(&self) -> u64 {
        self.shared.sends.load(Ordering::Relaxed)
    }
}

/// The name of an account.
pub fn account_name(number: u64) -> String {
    format!("account|{number}")
}

/// An account: it pays others, and is paid.
pub struct Account {
    outbox: Outbox<Command, String, Credit>,
    shared: Arc<Shared>,
}

/// Money on its way, until it is confirmed.
#[derive(Clone)]
pub struct Credit {
    id: DeliveryId,
    amount: u64,
}

pub enum Command {
    /// Pays if there is enough money; says whether.
    Pay {
        name: String,
        to: String,
        amount: u64,
        reply_to: ReplyTo<bool>,
    },
    /// Takes money: once, however often it comes.
    Take {
        from: String,
        credit: Credit,
    },
    /// Money has arrived.
    Confirm {
        id: DeliveryId,
    },
    Look {
        reply_to: ReplyTo<Seen>,
    },
}

/// What an account shows of itself.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "not every program that has accounts shows all of it")]
pub struct Seen {
    pub balance: u64,
    /// Payments that have not arrived yet.
    pub under_way: usize,
    /// Events so far.
    pub events: u64,
}

#[derive(Serialize, Deserialize)]
pub enum Event {
    Sent { name: String, to: String, amount: u64 },
    Received { from: String, id: DeliveryId, amount: u64 },
    Confirmed { id: DeliveryId },
}

pub struct State {
    pub balance: u64,
    received: BTreeSet<(String, DeliveryId)>,
}

impl Default for State {
    fn default() -> Self {
        Self { balance: OPENING_BALANCE, received: BTreeSet::new() }
    }
}

impl Account {
    fn new(persistence_id: &PersistenceId, shared: Arc<Shared>) -> Self {
        let (from, ways) = (persistence_id.as_str().to_owned(), shared.clone());
        let settings = DeliverySettings { redeliver_interval: REDELIVER_INTERVAL, ..DeliverySettings::default() };
        let outbox = Outbox::new(persistence_id.clone(), settings, move |delivery: UnconfirmedDelivery<String, Credit>| {
            ways.sends.fetch_add(1, Ordering::Relaxed);
            ways.send(&delivery.destination, Command::Take { from: from.clone(), credit: delivery.message });
        });
        Self { outbox, shared }
    }
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
            Event::Sent { amount, .. } => {
                state.balance = state.balance.checked_sub(*amount).expect("no account is overdrawn");
            }
            Event::Received { from, id, amount } => {
                state.balance += amount;
                state.received.insert((from.clone(), *id));
            }
            Event::Confirmed { .. } => {}
        }
    }

    fn handle(&mut self, state: &State, command: Command, context: &mut Context<Self>) -> Effect<Self> {
        match command {
            Command::Pay { amount, reply_to, .. } if state.balance < amount => Effect::reply(reply_to, false),
            Command::Pay { name, to, amount, reply_to } => {
                Effect::persist(Event::Sent { name, to, amount }).then_reply(reply_to, |_| true)
            }
            Command::Take { from, credit } if state.received.contains(&(from.clone(), credit.id)) => {
                self.shared.send(&from, Command::Confirm { id: credit.id });
                Effect::none()
            }
            Command::Take { from, credit } => Effect::persist(Event::Received { from, id: credit.id, amount: credit.amount }),
            Command::Confirm { id } => Effect::persist(Event::Confirmed { id }),
            Command::Look { reply_to } => {
                let (balance, events) = (state.balance, context.last_sequence_number().0);
                Effect::reply(reply_to, Seen { balance, under_way: self.outbox.unconfirmed_count(), events })
            }
        }
    }

    fn applied(
        &mut self,
        _: &State,
        event: &Event,
        context: &mut Context<Self>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match event {
            Event::Sent { to, amount, .. } => self.outbox.deliver(to.clone(), |id| Credit { id, amount: *amount })?,
            // During recovery nobody waits for it: who was not told sends again.
            Event::Received { from, id, .. } if !context.is_recovering() => {
                self.shared.send(from, Command::Confirm { id: *id });
            }
            Event::Received { .. } => {}
            Event::Confirmed { id } => drop(self.outbox.confirm(*id)),
        }
        Ok(())
    }

    fn outbox(&mut self) -> Option<&mut dyn Redelivery<Command>> {
        Some(&mut self.outbox)
    }
}
