//! Persistent actors in a swarm: accounts of two branches pay each other, delivering at least once, while everything fails that can, and
//! the branches take the accounts from each other. No money may appear or vanish, and no acknowledged payment may be missing.
//!
//!     cargo run --profile simulation -p cairn-simulation --example accounts

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::delivery::{DeliveryId, DeliverySettings, UnconfirmedDelivery};
use cairn_actor::outbox::{Outbox, Redelivery};
use cairn_actor::{ActorKind, ActorRef, ActorSystem, Behavior, Context, Effect, Entities, ReplyTo};
use cairn_client::PersistenceId;
use cairn_simulation::{Cluster, Simulation};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;
const BRANCHES: usize = 2;
const PAYMENTS_OF_A_BRANCH: u64 = 60;
const ACCOUNTS: u64 = 4;
const OPENING_BALANCE: u64 = 100;
/// How long a branch waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last payments may take to arrive once all is healed.
const SETTLED_MAX: Duration = Duration::from_secs(120);

/// Names of payments that were acknowledged.
type Acknowledged = Arc<Mutex<BTreeSet<String>>>;
type Ended = Result<(), Box<dyn std::error::Error>>;

pub(crate) fn main() {
    for seed in SEEDS {
        let (acknowledged, all_have_paid) = (Acknowledged::default(), Arc::new(Barrier::new(BRANCHES)));
        let mut simulation = Simulation::new(seed).shards(2).swarm();
        for number in 1..BRANCHES {
            let (acknowledged, all_have_paid) = (acknowledged.clone(), all_have_paid.clone());
            simulation = simulation.client(move |cluster| async move {
                branch(cluster, number, acknowledged).await?;
                all_have_paid.wait().await;
                Ok(())
            });
        }
        let (last, all) = (acknowledged.clone(), acknowledged.clone());
        let report = simulation.run(move |cluster| async move {
            branch(cluster.clone(), BRANCHES, last).await?;
            all_have_paid.wait().await;
            cluster.heal().await;
            settle(&accounts(&cluster)).await?;
            audit(&cluster, &all).await
        });
        let payments = acknowledged.lock().expect("nobody panicked").len();
        println!("seed {seed}: {payments} payments acknowledged, the total is right; faults: {:?}", report.faults);
    }
}

/// Pays until it has tried often enough, whatever happens.
async fn branch(cluster: Cluster, number: usize, acknowledged: Acknowledged) -> Ended {
    let (accounts, mut dice) = (accounts(&cluster), cluster.dice("payments"));
    for payment in 0..PAYMENTS_OF_A_BRANCH {
        let (from, to, amount) = (dice.number(1, ACCOUNTS), dice.number(1, ACCOUNTS), dice.number(1, 40));
        let name = format!("{number}/{payment}");
        let pay = |reply_to| Command::Pay { name: name.clone(), to: account_name(to), amount, reply_to };
        // No answer says nothing of the payment: it may be made or not, but not by half.
        if let Ok(true) = accounts.get(account_name(from))?.ask(PATIENCE, pay).await {
            acknowledged.lock().expect("nobody panicked").insert(name);
        }
        tokio::time::sleep(dice.time(Duration::from_millis(50), Duration::from_millis(1_500))).await;
    }
    Ok(())
}

/// The accounts as one process has them.
fn accounts(cluster: &Cluster) -> Entities<Account> {
    let seed = cluster.dice("accounts").number(0, u64::MAX);
    let system = ActorSystem::builder(cluster.client()).seed(seed).build();
    let others = Arc::new(OnceLock::new());
    let made = others.clone();
    let format = Format::new(Versioned::new("account-event", Cbor));
    let accounts = system.entities(ActorKind::new(move |id| Account::new(id, made.clone()), format));
    assert!(others.set(accounts.clone()).is_ok(), "set once");
    accounts
}

fn account_name(number: u64) -> String {
    format!("account|{number}")
}

/// Waits until every payment has arrived, and its payer knows.
async fn settle(accounts: &Entities<Account>) -> Ended {
    let end = tokio::time::Instant::now() + SETTLED_MAX;
    loop {
        let mut under_way = 0;
        for number in 1..=ACCOUNTS {
            let asked = accounts.get(account_name(number))?.ask(PATIENCE, |reply_to| Command::Look { reply_to }).await;
            // Who gave no answer may have some.
            under_way += asked.unwrap_or(1);
        }
        if under_way == 0 {
            return Ok(());
        }
        assert!(tokio::time::Instant::now() < end, "{under_way} payments do not arrive");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Holds the journals against each other and against what was acknowledged.
async fn audit(cluster: &Cluster, acknowledged: &Acknowledged) -> Ended {
    let (mut sent, mut received) = (BTreeMap::new(), BTreeMap::new());
    let mut names = BTreeSet::new();
    for number in 1..=ACCOUNTS {
        let (mut state, mut last_id) = (State::default(), 0);
        let journal = cluster.client().journal(account_name(number))?;
        for stored in journal.replay(..).start().collect_all().await? {
            let event: Event = ciborium::from_reader(&stored.event.payload.bytes[..])?;
            Account::apply(&mut state, &event);
            match event {
                Event::Sent { name, to, amount } => {
                    last_id += 1;
                    assert!(names.insert(name.clone()), "made twice: {name}");
                    sent.insert((account_name(number), to, last_id), amount);
                }
                Event::Received { from, id, amount } => {
                    let twice = received.insert((from, account_name(number), id.0), amount);
                    assert_eq!(twice, None, "received twice");
                }
                Event::Confirmed { .. } => {}
            }
        }
    }
    assert_eq!(sent, received, "money appeared or vanished");
    let acknowledged = acknowledged.lock().expect("nobody panicked");
    let missing: Vec<_> = acknowledged.difference(&names).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    Ok(())
}

/// An account: it pays others, and is paid.
struct Account {
    outbox: Outbox<Command, String, Credit>,
    /// Where the others are; set before the first account starts.
    others: Arc<OnceLock<Entities<Account>>>,
}

/// Money on its way, until it is confirmed.
#[derive(Clone)]
struct Credit {
    id: DeliveryId,
    amount: u64,
}

enum Command {
    /// Pays if there is enough money; says whether.
    Pay { name: String, to: String, amount: u64, reply_to: ReplyTo<bool> },
    /// Takes money: once, however often it comes.
    Take { from: String, credit: Credit },
    /// Money has arrived.
    Confirm { id: DeliveryId },
    /// How many payments have not arrived yet.
    Look { reply_to: ReplyTo<usize> },
}

#[derive(Serialize, Deserialize)]
enum Event {
    Sent { name: String, to: String, amount: u64 },
    Received { from: String, id: DeliveryId, amount: u64 },
    Confirmed { id: DeliveryId },
}

struct State {
    balance: u64,
    received: BTreeSet<(String, DeliveryId)>,
}

impl Default for State {
    fn default() -> Self {
        Self { balance: OPENING_BALANCE, received: BTreeSet::new() }
    }
}

impl Account {
    fn new(persistence_id: &PersistenceId, others: Arc<OnceLock<Entities<Self>>>) -> Self {
        let (from, receivers) = (persistence_id.as_str().to_owned(), others.clone());
        let settings = DeliverySettings { redeliver_interval: Duration::from_secs(2), ..DeliverySettings::default() };
        let outbox = Outbox::new(persistence_id.clone(), settings, move |delivery: UnconfirmedDelivery<String, Credit>| {
            send(&receivers, &delivery.destination, Command::Take { from: from.clone(), credit: delivery.message });
        });
        Self { outbox, others }
    }

    /// Tells the payer that its money has arrived.
    fn confirm(&self, payer: &str, id: DeliveryId) {
        send(&self.others, payer, Command::Confirm { id });
    }
}

/// Sends if there is room: what is lost is sent again.
fn send(others: &OnceLock<Entities<Account>>, to: &str, command: Command) {
    let to: Option<ActorRef<Command>> = others.get().and_then(|others| others.get(to).ok());
    drop(to.map(|account| account.try_tell(command)));
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

    fn handle(&mut self, state: &State, command: Command, _: &mut Context<Self>) -> Effect<Self> {
        match command {
            Command::Pay { amount, reply_to, .. } if state.balance < amount => Effect::reply(reply_to, false),
            Command::Pay { name, to, amount, reply_to } => {
                Effect::persist(Event::Sent { name, to, amount }).then_reply(reply_to, |_| true)
            }
            Command::Take { from, credit } if state.received.contains(&(from.clone(), credit.id)) => {
                self.confirm(&from, credit.id);
                Effect::none()
            }
            Command::Take { from, credit } => Effect::persist(Event::Received { from, id: credit.id, amount: credit.amount }),
            Command::Confirm { id } => Effect::persist(Event::Confirmed { id }),
            Command::Look { reply_to } => Effect::reply(reply_to, self.outbox.unconfirmed_count()),
        }
    }

    fn applied(
        &mut self,
        _: &State,
        event: &Event,
        context: &mut Context<Self>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match event {
            Event::Sent { to, amount, .. } => {
                self.outbox.deliver(to.clone(), |id| Credit { id, amount: *amount })?;
            }
            Event::Received { from, id, .. } if !context.is_recovering() => self.confirm(from, *id),
            Event::Received { .. } => {}
            Event::Confirmed { id } => {
                self.outbox.confirm(*id);
            }
        }
        Ok(())
    }

    fn outbox(&mut self) -> Option<&mut dyn Redelivery<Command>> {
        Some(&mut self.outbox)
    }
}
