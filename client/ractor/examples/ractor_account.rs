//! An account as an actor of ractor: it is stopped and spawned again, and has its balance still.
//!
//!     cargo run -p cairn-ractor --example ractor_account [-- HOST:PORT,HOST:PORT,..]
//!
//! Without addresses it runs on a cluster in memory.

#[path = "../../actor/examples/shared/account.rs"]
mod account;

use account::{Account, Command};
use anyhow::Context as _;
use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::{ActorKind, ActorSystem, Recovery, ReplyTo};
use cairn_client::Cairn;
use cairn_client::memory::MemoryCairn;
use cairn_ractor::{Persistent, Setup};
use ractor::{Actor, ActorRef};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let in_memory = MemoryCairn::new();
    let cairn = match std::env::args().nth(1) {
        Some(endpoints) => Cairn::connect(endpoints.split(',')).await?,
        None => in_memory.client(),
    };
    let kind = ActorKind::new(|_| Account, Format::new(Versioned::new("account-event", Cbor)));
    let (system, persistence_id) = (ActorSystem::new(cairn), "account|ractor".to_owned());
    let setup = Setup { system, kind, persistence_id, recovery: Recovery::default() };

    let (first, running) = Actor::spawn(None, Persistent::new(), setup.clone()).await?;
    let before = balance(&first).await?;
    for _ in 0..10 {
        first.cast(Command::Deposit { cents: 100 })?;
    }
    first.drain()?;
    running.await?;

    let (second, _) = Actor::spawn(None, Persistent::<Account>::new(), setup).await?;
    let after = balance(&second).await?;
    println!("the balance was {before} cents, and is {after} after ten deposits and a restart");
    anyhow::ensure!(after == before + 1_000, "a deposit is missing, or there twice");
    Ok(())
}

async fn balance(account: &ActorRef<Command>) -> anyhow::Result<u64> {
    let (reply_to, answer) = ReplyTo::new();
    account.cast(Command::Balance { reply_to })?;
    answer.await.context("the account does not answer")
}
