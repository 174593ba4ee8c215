//! The actor that the README shows.

use std::time::Duration;

use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::{ActorKind, ActorSystem, Behavior, Context, Effect, ReplyTo};
use cairn_client::Cairn;
use serde::{Deserialize, Serialize};

struct Account;

enum Command {
    Withdraw { cents: u64, reply_to: ReplyTo<bool> },
    Deposit { cents: u64 },
}

#[derive(Serialize, Deserialize)]
enum Event {
    Withdrawn { cents: u64 },
    Deposited { cents: u64 },
}

impl Behavior for Account {
    type State = u64; // the balance
    type Command = Command;
    type Event = Event;

    fn empty_state(&self) -> u64 {
        0
    }

    fn apply(balance: &mut u64, event: &Event) {
        match event {
            Event::Withdrawn { cents } => *balance -= cents,
            Event::Deposited { cents } => *balance += cents,
        }
    }

    fn handle(&mut self, balance: &u64, command: Command, _: &mut Context<Self>) -> Effect<Self> {
        match command {
            Command::Deposit { cents } => Effect::persist(Event::Deposited { cents }),
            Command::Withdraw { cents, reply_to } if cents > *balance => Effect::reply(reply_to, false),
            Command::Withdraw { cents, reply_to } => Effect::persist(Event::Withdrawn { cents }).then_reply(reply_to, |_| true),
        }
    }
}

async fn run(cairn: Cairn) -> Result<bool, Box<dyn std::error::Error>> {
    let format = Format::new(Versioned::new("account-event", Cbor));
    let accounts = ActorSystem::new(cairn).entities(ActorKind::new(|_| Account, format));
    let account = accounts.get("account|1")?; // starts, and recovers, with its first command
    account.tell(Command::Deposit { cents: 500 }).await?;
    let withdraw = |reply_to| Command::Withdraw { cents: 300, reply_to };
    Ok(account.ask(Duration::from_secs(10), withdraw).await?)
}

#[tokio::test]
async fn the_account_of_the_readme_pays_what_it_has() {
    let cairn = cairn_client::memory::MemoryCairn::new().client();
    assert!(run(cairn.clone()).await.expect("it runs"));
    assert!(run(cairn).await.expect("it runs again, and has what is left"));
}

#[test]
fn the_readme_shows_the_actor_above() {
    let (readme, here) = (include_str!("../../../README.md"), include_str!("readme.rs"));
    let (_, code) = here.split_once("\n\n").expect("there is code after the first line");
    let (shown, _) = code.split_once("\n#[tokio::test]\nasync fn the_account").expect("there is this test");
    assert!(readme.contains(&format!("```rust\n{shown}```")), "README.md does not show:\n{shown}");
}
