//! A bank: persistent actors pay each other, a leader is killed in the middle, and every account comes back with what it had.
//!
//!     cargo run --release -p cairn-actor --example bank [-- --endpoints HOST:PORT,HOST:PORT,..]
//!
//! Without endpoints it runs three nodes inside this program, and kills the one that leads. With endpoints, kill one yourself.

mod account;
mod ledger;
mod three_nodes;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use account::{Branch, Command, Seen, account_name};
use anyhow::{Context, ensure};
use cairn_actor::{ActorSystem, Entities};
use cairn_client::Cairn;
use clap::Parser;
use ledger::Ledger;
use tokio::time::Instant;

use three_nodes::ThreeNodes;

/// How long an account may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last payments may take to arrive.
const SETTLED_MAX: Duration = Duration::from_secs(60);

/// Persistent actors that pay each other.
#[derive(Parser)]
struct Arguments {
    /// A cluster to run on, instead of three nodes inside this program.
    #[arg(long, value_delimiter = ',')]
    endpoints: Vec<String>,
    /// How many accounts there are.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    accounts: u64,
    /// How many payments each account makes.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    payments: u64,
}

/// What the payers saw.
struct Seeing {
    /// The names of the payments that were acknowledged.
    paid: BTreeSet<String>,
    declined: u64,
    unanswered: u64,
    last: Instant,
    longest_gap: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut nodes = None;
    let cairn = if arguments.endpoints.is_empty() {
        let started = ThreeNodes::start().await?;
        let client = started.client()?;
        nodes = Some(started);
        println!("three nodes run inside this program");
        client
    } else {
        Cairn::connect(arguments.endpoints.clone()).await?
    };
    let branch = Branch::open(&ActorSystem::new(cairn.clone()));
    let before = total(&branch.accounts, arguments.accounts).await?;
    println!("{} accounts have {before} in all", arguments.accounts);

    let seeing = pay_all(&branch, &arguments, &mut nodes).await?;
    settle(&branch.accounts, arguments.accounts).await?;
    let sends = branch.sends();
    println!(
        "{} payments made, {} declined, {} without an answer; the longest time without an answer was {:?}",
        seeing.paid.len(),
        seeing.declined,
        seeing.unanswered,
        seeing.longest_gap
    );
    let first_times = seeing.paid.len() as u64 + seeing.unanswered;
    println!("money was sent {sends} times, {} of them again", sends.saturating_sub(first_times));

    let after = show(&cairn, arguments.accounts).await?;
    ensure!(before == after, "there were {before}, and there are {after}: money appeared or vanished");
    let wrong = Ledger::read(&cairn, arguments.accounts).await?.wrong(&seeing.paid);
    ensure!(wrong.is_empty(), "the journals do not agree: {wrong:#?}");
    println!("bank: ok: {after} in {} accounts, {} payments, none lost", arguments.accounts, seeing.paid.len());
    Ok(())
}

/// All accounts pay at once, each one after the other; in the middle of it a leader dies.
async fn pay_all(branch: &Branch, arguments: &Arguments, nodes: &mut Option<ThreeNodes>) -> anyhow::Result<Seeing> {
    let now = Instant::now();
    let seeing = Seeing { paid: BTreeSet::new(), declined: 0, unanswered: 0, last: now, longest_gap: Duration::ZERO };
    let seeing = Arc::new(Mutex::new(seeing));
    let payers: Vec<_> = (1..=arguments.accounts)
        .map(|from| {
            let (accounts, seeing) = (branch.accounts.clone(), seeing.clone());
            let (count, others) = (arguments.payments, arguments.accounts);
            tokio::spawn(async move { pay(&accounts, from, others, count, &seeing).await })
        })
        .collect();
    if let Some(nodes) = nodes {
        let half = arguments.accounts * arguments.payments / 2;
        while done(&seeing) < half && !payers.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("node {} leads, and is killed after {} payments", nodes.kill_leader()?, done(&seeing));
    }
    for payer in payers {
        payer.await??;
    }
    let seeing = Arc::into_inner(seeing).context("all payers have ended")?;
    Ok(seeing.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn done(seeing: &Mutex<Seeing>) -> u64 {
    let seeing = seeing.lock().expect("nobody panics while holding it");
    seeing.paid.len() as u64 + seeing.declined + seeing.unanswered
}

/// One account pays all others in turn.
async fn pay(
    accounts: &Entities<account::Account>,
    from: u64,
    others: u64,
    count: u64,
    seeing: &Mutex<Seeing>,
) -> anyhow::Result<()> {
    let payer = accounts.get(account_name(from))?;
    // A cluster that is there may know payments of an earlier run: whoever paid then has more events now.
    let run = look(accounts, from).await?.events;
    for payment in 0..count {
        let (name, to) = (format!("{from}/{run}/{payment}"), account_name((from + payment) % others + 1));
        let amount = payment % 7 + 1;
        let command = |reply_to| Command::Pay { name: name.clone(), to, amount, reply_to };
        let answer = payer.ask(PATIENCE, command).await;
        let mut seeing = seeing.lock().expect("nobody panics while holding it");
        let now = Instant::now();
        seeing.longest_gap = seeing.longest_gap.max(now - seeing.last);
        seeing.last = now;
        match answer {
            Ok(true) => drop(seeing.paid.insert(name)),
            Ok(false) => seeing.declined += 1,
            Err(_) => seeing.unanswered += 1,
        }
    }
    Ok(())
}

async fn look(accounts: &Entities<account::Account>, number: u64) -> anyhow::Result<Seen> {
    let account = accounts.get(account_name(number))?;
    account.ask(PATIENCE, |reply_to| Command::Look { reply_to }).await.with_context(|| format!("look at account {number}"))
}

/// What all accounts have, once nothing is on its way between them.
async fn total(accounts: &Entities<account::Account>, count: u64) -> anyhow::Result<u64> {
    settle(accounts, count).await?;
    let mut total = 0;
    for number in 1..=count {
        total += look(accounts, number).await?.balance;
    }
    Ok(total)
}

/// Waits until no money is on its way.
async fn settle(accounts: &Entities<account::Account>, count: u64) -> anyhow::Result<()> {
    let end = Instant::now() + SETTLED_MAX;
    loop {
        let mut under_way = 0;
        for number in 1..=count {
            under_way += look(accounts, number).await?.under_way;
        }
        if under_way == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{under_way} payments do not arrive");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Recovers every account as another process would, and shows it; what they have in all.
async fn show(cairn: &Cairn, count: u64) -> anyhow::Result<u64> {
    let accounts = Branch::open(&ActorSystem::new(cairn.clone())).accounts;
    println!("{:>10} {:>9} {:>8} {:>12}", "account", "balance", "events", "recovered in");
    let mut total = 0;
    for number in 1..=count {
        let began = Instant::now();
        let seen = look(&accounts, number).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        println!("{number:>10} {:>9} {:>8} {took:>9.1} ms", seen.balance, seen.events);
        total += seen.balance;
    }
    Ok(total)
}
