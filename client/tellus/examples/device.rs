//! A tellus actor on an embedded node: what it persisted is there for the next actor system.
//!
//! `cargo run --example device -p cairn-tellus [folder]`; with a folder it is there for the next run too.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_client::Cairn;
use cairn_node::{Network, Node};
use cairn_tellus::CairnStore;
use serde::{Deserialize, Serialize};
use tellus::{
    ActorContext, ActorSystem, Effect, EventSourced, Incoming, Nothing, Persistence, PersistenceId, ReplyTo, SchemaVersion,
    Untimed, Versioned,
};

/// How long a device may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// A device that remembers its readings.
struct Device;

enum Command {
    Record(f64),
    Read(ReplyTo<Vec<f64>>),
}

#[derive(Serialize, Deserialize)]
struct Recorded(f64);

impl Versioned for Recorded {
    const MANIFEST: &'static str = "recorded";
    const VERSION: SchemaVersion = SchemaVersion::new(1);
}

impl EventSourced for Device {
    type Command = Command;
    type Timers = Untimed;
    type Event = Recorded;
    type State = Vec<f64>;
    type Snapshot = Nothing;
    type Error = Infallible;

    fn persistence_id(&self) -> PersistenceId {
        PersistenceId::new("device", "left").expect("the segments are valid")
    }

    fn init(&self) -> Result<Vec<f64>, Infallible> {
        Ok(Vec::new())
    }

    fn init_from_snapshot(&self, snapshot: Nothing) -> Result<Vec<f64>, Infallible> {
        match snapshot {}
    }

    fn handle(&self, _: &ActorContext<Command>, incoming: Incoming<Command>, _: &Vec<f64>) -> Result<Effect<Self>, Infallible> {
        Ok(match incoming {
            Incoming::Message(Command::Record(degrees)) => Effect::persist(Recorded(degrees)),
            Incoming::Message(Command::Read(reply_to)) => {
                Effect::none().then(move |readings: &Vec<f64>| reply_to.reply(readings.clone()))
            }
            _ => Effect::none(),
        })
    }

    fn apply(&self, mut readings: Vec<f64>, Recorded(degrees): Recorded) -> Vec<f64> {
        readings.push(degrees);
        readings
    }
}

fn client_of(node: &Node) -> anyhow::Result<Cairn> {
    let network = node.network();
    let connector = move |address: String| {
        let network: Arc<dyn Network> = Arc::clone(&network);
        async move { network.connect(&address).await }
    };
    Ok(Cairn::builder().endpoints([node.addresses().client.clone()]).connector(connector).build()?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::embedded(std::env::args_os().nth(1).map(PathBuf::from)).await?;
    let store = CairnStore::new(client_of(&node)?);
    for (life, degrees) in [("first", 21.5), ("second", 22.0)] {
        let system = ActorSystem::event_sourced(Device, Persistence::new(store.clone()));
        system.root().tell(Command::Record(degrees));
        let readings = system.root().ask(ANSWER_TIME_MAX, Command::Read).await?;
        println!("the readings in its {life} life: {readings:?}");
        system.stop();
        system.terminated().await?;
    }
    node.shutdown().await;
    Ok(())
}
