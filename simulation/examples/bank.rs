//! A swarm: tellers take a ledger from each other and move money while everything fails that can. In each of several worlds, no money
//! may appear or vanish, no account may be overdrawn, and no acknowledged transfer may be missing.
//!
//!     cargo run --profile simulation -p cairn-simulation --example bank

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_client::{Cairn, Error, StoredEvent};
use cairn_simulation::{Cluster, Dice, Simulation};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;
const TELLERS: u64 = 3;
const TRANSFERS_OF_A_TELLER: u64 = 120;
const ACCOUNTS: u64 = 4;
const OPENING_BALANCE: i64 = 100;

/// Names of transfers that were acknowledged.
type Acknowledged = Arc<Mutex<BTreeSet<String>>>;
type Ended = Result<(), Box<dyn std::error::Error>>;

pub(crate) fn main() {
    for seed in SEEDS {
        let acknowledged = Acknowledged::default();
        let mut simulation = Simulation::new(seed).swarm();
        for number in 1..TELLERS {
            let acknowledged = acknowledged.clone();
            simulation = simulation.client(move |cluster| teller(cluster, number, acknowledged));
        }
        let (last, all) = (acknowledged.clone(), acknowledged.clone());
        let report = simulation.run(move |cluster| async move {
            teller(cluster.clone(), TELLERS, last).await?;
            cluster.heal().await;
            audit(&cluster.client(), &all).await
        });
        let transfers = acknowledged.lock().expect("nobody panicked").len();
        println!("seed {seed}: {transfers} transfers acknowledged, the total is right; faults: {:?}", report.faults);
    }
}

/// Moves money until it has moved it often enough, whatever happens.
async fn teller(cluster: Cluster, number: u64, acknowledged: Acknowledged) -> Ended {
    let (cairn, mut dice) = (cluster.client(), cluster.dice("transfers"));
    let mut transfers = 0;
    while transfers < TRANSFERS_OF_A_TELLER {
        match shift(&cairn, &mut dice, number, &mut transfers, &acknowledged).await {
            Ok(()) => {}
            // Another teller has the ledger by now, or nobody knows what became of the last transfer: read it and decide anew.
            Err(Error::Fenced { .. } | Error::Conflict { .. } | Error::EpochMoved { .. }) => {}
            Err(Error::Unknown { .. } | Error::Unavailable { .. } | Error::ReadOnly { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(dice.time(Duration::from_millis(50), Duration::from_millis(2_000))).await;
    }
    Ok(())
}

/// Takes the ledger, finds out the balances, and moves money until somebody else takes it.
async fn shift(
    cairn: &Cairn,
    dice: &mut Dice,
    teller: u64,
    transfers: &mut u64,
    acknowledged: &Acknowledged,
) -> Result<(), Error> {
    let recovered = cairn.journal("ledger")?.recover().start().await?;
    let mut ledger = recovered.writer.expect("a recovery claims unless it is told not to");
    let mut balances = Balances::default();
    for stored in recovered.events.collect_all().await? {
        balances.post(&stored);
    }
    for _ in 0..dice.number(1, 8) {
        if *transfers >= TRANSFERS_OF_A_TELLER {
            return Ok(());
        }
        let (from, to) = (dice.number(1, ACCOUNTS), dice.number(1, ACCOUNTS));
        let amount = i64::try_from(dice.number(1, 40)).expect("is small");
        if balances.of(from) < amount {
            continue;
        }
        let name = format!("{teller}/{transfers}");
        // Counted whatever comes of it: a name is used once.
        *transfers += 1;
        // One atomic write: the ledger never shows half of it.
        ledger.append_all([format!("{name} {from} {}", -amount), format!("{name} {to} {amount}")]).await?;
        acknowledged.lock().expect("nobody panicked").insert(name);
        balances.move_money(from, to, amount);
    }
    Ok(())
}

/// Holds the ledger against what was acknowledged.
async fn audit(cairn: &Cairn, acknowledged: &Acknowledged) -> Ended {
    let (mut balances, mut names) = (Balances::default(), BTreeMap::<String, u32>::new());
    for stored in cairn.journal("ledger")?.replay(..).start().collect_all().await? {
        *names.entry(balances.post(&stored)).or_default() += 1;
        assert!(balances.0.values().all(|balance| *balance >= -OPENING_BALANCE), "overdrawn: {balances:?}");
    }
    assert!(names.values().all(|postings| *postings == 2), "half of a transfer, or one twice: {names:?}");
    assert_eq!(balances.0.values().sum::<i64>(), 0, "money appeared or vanished: {balances:?}");
    let acknowledged = acknowledged.lock().expect("nobody panicked");
    let missing: Vec<_> = acknowledged.iter().filter(|name| !names.contains_key(*name)).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    Ok(())
}

/// What was added to the opening balance of each account.
#[derive(Debug, Default)]
struct Balances(BTreeMap<u64, i64>);

impl Balances {
    /// Takes a posting of the ledger; the name of its transfer.
    fn post(&mut self, stored: &StoredEvent) -> String {
        let text = String::from_utf8_lossy(&stored.event.payload.bytes).into_owned();
        let words: Vec<_> = text.split(' ').collect();
        let [name, account, amount] = words[..] else { panic!("not a posting: {text:?}") };
        *self.0.entry(account.parse().expect("a number")).or_default() += amount.parse::<i64>().expect("a number");
        name.to_owned()
    }

    fn of(&self, account: u64) -> i64 {
        OPENING_BALANCE + self.0.get(&account).copied().unwrap_or_default()
    }

    fn move_money(&mut self, from: u64, to: u64, amount: i64) {
        *self.0.entry(from).or_default() -= amount;
        *self.0.entry(to).or_default() += amount;
    }
}
