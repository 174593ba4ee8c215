//! An account as an actor of kameo: it is stopped and spawned again, and has its balance still.
//!
//!     cargo run -p cairn-kameo --example kameo_account [-- HOST:PORT,HOST:PORT,..]
//!
//! Without addresses it runs on a cluster in memory.

#[path = "../../actor/examples/shared/account.rs"]
mod account;

use account::{Account, Command};
use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::{ActorKind, ActorSystem};
use cairn_client::Cairn;
use cairn_client::memory::MemoryCairn;
use cairn_kameo::{Ask, Persistent, Setup, Tell};
use kameo::actor::{ActorRef, Spawn};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let in_memory = MemoryCairn::new();
    let cairn = match std::env::args().nth(1) {
        Some(endpoints) => Cairn::connect(endpoints.split(',')).await?,
        None => in_memory.client(),
    };
    let kind = ActorKind::new(|_| Account, Format::new(Versioned::new("account-event", Cbor)));
    let setup = Setup { system: ActorSystem::new(cairn), kind, persistence_id: "account|kameo".to_owned() };

    let first = Persistent::spawn(setup.clone());
    let before = balance(&first).await?;
    for _ in 0..10 {
        first.tell(Tell(Command::Deposit { cents: 100 })).await?;
    }
    first.stop_gracefully().await?;
    first.wait_for_shutdown_result().await.map_err(|error| anyhow::anyhow!("the account did not stop well: {error:?}"))?;

    let second = Persistent::spawn(setup);
    let after = balance(&second).await?;
    println!("the balance was {before} cents, and is {after} after ten deposits and a restart");
    anyhow::ensure!(after == before + 1_000, "a deposit is missing, or there twice");
    Ok(())
}

async fn balance(account: &ActorRef<Persistent<Account>>) -> anyhow::Result<u64> {
    let asked = account.ask(Ask::new(|reply_to| Command::Balance { reply_to })).await;
    asked.map_err(|error| anyhow::anyhow!("the account does not answer: {error}"))
}
