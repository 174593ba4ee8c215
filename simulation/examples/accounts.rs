//! Persistent actors in a swarm: accounts of two branches pay each other, delivering at least once, while everything fails that can, and
//! the branches take the accounts from each other. No money may appear or vanish, and no acknowledged payment may be missing.
//!
//!     cargo run --profile simulation -p cairn-simulation --example accounts

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_actor::{ActorSystem, Entities};
use cairn_simulation::{Cluster, Simulation};
use tokio::sync::Barrier;

#[path = "../../client/actor/examples/bank/account.rs"]
mod account;
#[path = "../../client/actor/examples/bank/ledger.rs"]
mod ledger;

use account::{Account, Branch, Command, account_name};
use ledger::Ledger;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;
const BRANCHES: usize = 2;
const PAYMENTS_OF_A_BRANCH: usize = 60;
const ACCOUNTS: u64 = 4;
/// How long a branch waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last payments may take to arrive once all is healed.
const SETTLED_MAX: Duration = Duration::from_secs(120);
/// Of the payments of a world, so many are acknowledged at least: one that serves nobody loses nothing, and proves nothing.
const ACKNOWLEDGED_MIN: usize = BRANCHES * PAYMENTS_OF_A_BRANCH / 3;

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
                pay(&cluster, &open(&cluster), number, acknowledged).await?;
                all_have_paid.wait().await;
                Ok(())
            });
        }
        let (last, all) = (acknowledged.clone(), acknowledged.clone());
        let report = simulation.run(move |cluster| async move {
            let here = open(&cluster);
            pay(&cluster, &here, BRANCHES, last).await?;
            all_have_paid.wait().await;
            cluster.heal().await;
            settle(&here.accounts).await?;
            let wrong = Ledger::read(&cluster.client(), ACCOUNTS).await?.wrong(&all.lock().expect("nobody panicked"));
            assert!(wrong.is_empty(), "money appeared or vanished: {wrong:#?}");
            Ok(())
        });
        let payments = acknowledged.lock().expect("nobody panicked").len();
        assert!(payments >= ACKNOWLEDGED_MIN, "seed {seed}: only {payments} payments were acknowledged");
        let struck: u64 = report.faults.values().sum();
        assert!(struck > 0, "seed {seed}: nothing went wrong, so that nothing is proved");
        println!("seed {seed}: {payments} payments acknowledged, the total is right; faults: {:?}", report.faults);
    }
}

/// Pays until it has tried often enough, whatever happens.
async fn pay(cluster: &Cluster, here: &Branch, number: usize, acknowledged: Acknowledged) -> Ended {
    let mut dice = cluster.dice("payments");
    for payment in 0..PAYMENTS_OF_A_BRANCH {
        let (from, to, amount) = (dice.number(1, ACCOUNTS), dice.number(1, ACCOUNTS), dice.number(1, 40));
        let name = format!("{number}/{payment}");
        let command = |reply_to| Command::Pay { name: name.clone(), to: account_name(to), amount, reply_to };
        // No answer says nothing of the payment: it may be made or not, but not by half.
        if let Ok(true) = here.accounts.get(account_name(from))?.ask(PATIENCE, command).await {
            acknowledged.lock().expect("nobody panicked").insert(name);
        }
        tokio::time::sleep(dice.time(Duration::from_millis(50), Duration::from_millis(1_500))).await;
    }
    Ok(())
}

/// The accounts as one process has them. Once a process: its seed is the same each time, and two systems must not share one.
fn open(cluster: &Cluster) -> Branch {
    let seed = cluster.dice("accounts").number(0, u64::MAX);
    Branch::open(&ActorSystem::builder(cluster.client()).seed(seed).build())
}

/// Waits until every payment has arrived, and its payer knows.
async fn settle(accounts: &Entities<Account>) -> Ended {
    let end = tokio::time::Instant::now() + SETTLED_MAX;
    loop {
        let mut under_way = 0;
        for number in 1..=ACCOUNTS {
            let asked = accounts.get(account_name(number))?.ask(PATIENCE, |reply_to| Command::Look { reply_to }).await;
            // Who gave no answer may have some.
            under_way += asked.map_or(1, |seen| seen.under_way);
        }
        if under_way == 0 {
            return Ok(());
        }
        assert!(tokio::time::Instant::now() < end, "{under_way} payments do not arrive");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
