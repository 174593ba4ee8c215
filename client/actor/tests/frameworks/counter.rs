//! What both frameworks are tried with: a counter that fails, panics or ends when it is told to, on a store that fails on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::testing::faulty::FaultyStore;
use cairn_actor::{ActorKind, ActorSystem, Behavior, Context, Effect, ReplyTo};
use cairn_client::memory::MemoryCairn;
use cairn_client::{Cairn, PersistenceId};
use serde::{Deserialize, Serialize};

pub const NAME: &str = "counter|1";

pub struct Counter;

#[derive(Debug)]
pub enum Command {
    Add(u64),
    Read(ReplyTo<u64>),
    Close,
    Fail,
    Panic,
}

#[derive(Serialize, Deserialize)]
pub struct Added(u64);

impl Behavior for Counter {
    type State = u64;
    type Command = Command;
    type Event = Added;

    fn empty_state(&self) -> u64 {
        0
    }

    fn apply(total: &mut u64, Added(number): &Added) {
        *total += number;
    }

    fn handle(&mut self, total: &u64, command: Command, _: &mut Context<Self>) -> Effect<Self> {
        match command {
            Command::Add(number) => Effect::persist(Added(number)),
            Command::Read(reply_to) => Effect::reply(reply_to, *total),
            Command::Close => Effect::stop(),
            Command::Fail => Effect::fail("it was told to"),
            Command::Panic => panic!("it was told to panic"),
        }
    }
}

/// A journal in memory, and how many incarnations were made.
pub struct World {
    pub cluster: MemoryCairn,
    pub store: FaultyStore<Cairn>,
    incarnations: Arc<AtomicUsize>,
}

impl World {
    pub fn new() -> Self {
        let cluster = MemoryCairn::new();
        Self { store: FaultyStore::new(cluster.client()), cluster, incarnations: Arc::default() }
    }

    /// Of another seed each time, as of another process.
    pub fn system(&self, seed: u64) -> ActorSystem {
        ActorSystem::builder(self.store.clone()).seed(seed).build()
    }

    /// With the supervision that a kind has by default: it restarts whoever failed.
    pub fn kind(&self) -> ActorKind<Counter> {
        let incarnations = self.incarnations.clone();
        let make = move |_: &PersistenceId| {
            incarnations.fetch_add(1, Ordering::Relaxed);
            Counter
        };
        ActorKind::new(make, Format::new(Versioned::new("added", Cbor)))
    }

    pub fn incarnations(&self) -> usize {
        self.incarnations.load(Ordering::Relaxed)
    }

    /// How many events are stored.
    pub async fn stored(&self) -> u64 {
        let journal = self.cluster.client().journal(NAME).expect("a name");
        journal.highest().await.expect("is read").highest.0
    }

    /// Takes the journal, as another process would.
    pub async fn supersede(&self) {
        self.cluster.client().journal(NAME).expect("a name").claim().await.expect("is claimed");
    }
}
