//! What clients do in a world, and against a cluster outside of any: the real client library, used as its users use it, with everything recorded.
//!
//! A client runs several sessions at the same time; a session does one thing after another, each drawn anew: own a journal and write to
//! it, write to it as a stranger, read, delete, save and load snapshots, follow.

mod own;
mod read;
pub(crate) mod recorder;
mod snapshots;
mod strange;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use cairn_client::Cairn;
use cairn_machine::{PersistenceId, WriterId};

use crate::broken::Bug;
use crate::dice::Dice;
use crate::history::History;
use crate::plan::{Load, Plan};
use crate::site::Site;
use crate::stamp::Stamp;

pub use recorder::Recorder;

/// How likely an event is to be a large one: some in each world.
const LARGE_CHANCE: f64 = 0.001;
/// Padding of a large event, in bytes: most of these do not fit a frame, and are looked over by the codec before they are read.
const LARGE_PADDING_MAX: u32 = 160 * 1024;

/// Tells all clients when to stop.
#[derive(Clone, Debug, Default)]
pub struct Until(Arc<AtomicBool>);

impl Until {
    /// From now on nothing new is begun.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a session works with.
#[derive(Clone)]
pub(crate) struct Session {
    pub client: u16,
    pub cairn: Cairn,
    pub recorder: Recorder,
    pub dice: Dice,
    pub load: Load,
    pub journals: Arc<Vec<PersistenceId>>,
    pub site: Site,
    pub nodes: u64,
    pub shards: u16,
    pub until: Until,
    pub bug: Option<Bug>,
    operations: Arc<AtomicU32>,
}

/// Runs one client until it is told to stop; ends when everything that it began has ended.
pub(crate) async fn run(client: u16, plan: &Plan, site: &Site, history: History, until: Until) {
    let dice = Dice::new(plan.seed).stream(&format!("client-{client}"));
    let operations = Arc::new(AtomicU32::new(0));
    let sessions = (0..plan.load.sessions).map(|number| {
        let mut dice = dice.stream(&format!("session-{number}"));
        let session = Session {
            client,
            cairn: site.connect(plan, &mut dice),
            recorder: Recorder::new(client, history.clone(), plan.bug),
            dice,
            load: plan.load.clone(),
            journals: Arc::new(journals(plan.load.journals)),
            site: site.clone(),
            nodes: plan.nodes,
            shards: plan.shards,
            until: until.clone(),
            bug: plan.bug,
            operations: operations.clone(),
        };
        session.run()
    });
    futures::future::join_all(sessions).await;
}

/// The names of journals: some are prefixes of each other, some look alike, some hold what separators are made of.
#[must_use]
pub fn journals(count: usize) -> Vec<PersistenceId> {
    let odd = ["a", "a|b", "a\u{0}b", "ab", "caf\u{e9}", "cafe\u{301}", "100%", " a "];
    let plain = (odd.len()..count.max(odd.len())).map(|number| format!("account-{number}"));
    let names = odd.iter().map(|name| (*name).to_owned()).chain(plain);
    names.take(count.max(1)).map(|name| PersistenceId::new(name).expect("is legal")).collect()
}

impl Session {
    async fn run(mut self) {
        while !self.until.is_over() {
            match *self.dice.weighted(&[(6, "own"), (2, "strange"), (4, "read"), (1, "snapshots"), (1, "follow")]) {
                "own" => own::run(&mut self).await,
                "strange" => strange::run(&mut self).await,
                "snapshots" => snapshots::run(&mut self).await,
                "follow" => read::follow(&mut self).await,
                _ => read::run(&mut self).await,
            }
            self.pause().await;
        }
    }

    pub(crate) async fn pause(&mut self) {
        let time = self.dice.time(Duration::ZERO, self.load.pause_max);
        tokio::time::sleep(time).await;
    }

    /// Half of the time the one hot journal, else any.
    pub(crate) fn pick_journal(&mut self) -> PersistenceId {
        if self.dice.chance(0.3) {
            return self.journals[0].clone();
        }
        self.dice.pick(&self.journals).clone()
    }

    /// A writer's name that nothing else in the world has.
    pub(crate) fn new_writer_id(&mut self) -> WriterId {
        let bytes = self.dice.seed()[..16].try_into().expect("16 of 32");
        WriterId::from(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// A name that nothing else in the world has.
    pub(crate) fn next_operation(&mut self) -> u32 {
        self.operations.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn stamp(&mut self, operation: u32, index: usize) -> Stamp {
        let padding = match () {
            () if self.dice.chance(LARGE_CHANCE) => LARGE_PADDING_MAX,
            () if self.dice.chance(0.1) => self.load.padding_max,
            () => self.load.padding_max / 10,
        };
        let padding = u32::try_from(self.dice.number(0, u64::from(padding))).expect("is small");
        Stamp { client: self.client, operation, index: u16::try_from(index).expect("few in an operation"), padding, fold: None }
    }

    /// A node to read from; most of the time none in particular.
    pub(crate) fn pick_node(&mut self) -> Option<u64> {
        self.dice.chance(0.4).then(|| self.dice.number(1, self.nodes))
    }
}
