//! One simulated machine: a disk, a clock, and the node that lives there, one life after another.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_node::{CairnRules, Node, OnRuntime, Parts, Settings};
use cairn_storage::MemoryDisk;

use crate::blocking::SimulatedBlocking;
use crate::broken::{Broken, Bug};
use crate::clock::SimulatedClock;
use crate::dice::Dice;
use crate::disk::{DiskSpeed, SimulatedDisk};
use crate::network::{CLIENT_PORT, PEER_PORT, SimulatedNetwork};
use crate::pace::SimulatedPace;
use crate::watch::{Seen, Watch};

/// What keeps a machine's tables.
#[derive(Clone)]
pub enum Tables {
    /// In memory, durable at each ingestion.
    Memory(MemoryDisk),
    /// fjall, on files in a folder that goes with the world.
    Fjall(Arc<tempfile::TempDir>),
}

/// A machine; clones are the same one.
#[derive(Clone)]
pub struct Machine {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    settings: Mutex<Settings>,
    disk: SimulatedDisk,
    tables: Tables,
    clock: Arc<SimulatedClock>,
    pace: Arc<SimulatedPace>,
    network: SimulatedNetwork,
    blocking: SimulatedBlocking,
    watch: Watch,
    /// A wrong part, to see it caught.
    broken: Option<Broken>,
    state: Mutex<State>,
    /// Asks the node to stop in order.
    stop: tokio::sync::Notify,
}

struct State {
    dice: Dice,
    /// How often the node was started.
    lives: u64,
    node: Option<Node>,
    /// Why the last life ended, if it ended by itself.
    ended: Option<Ended>,
}

/// How a life ended that nobody took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The node did not start.
    NotStarted(String),
    /// The node said that it cannot go on.
    Failed(String),
    /// The node was stopped in order.
    Stopped,
}

impl Machine {
    /// A machine that is not running yet.
    #[must_use]
    pub fn new(settings: Settings, tables: Tables, dice: &Dice, speed: DiskSpeed, watch: Watch, bug: Option<Bug>) -> Self {
        let id = settings.node.id;
        let dice = dice.stream(&format!("machine-{id}"));
        let blocking = SimulatedBlocking::new(dice.stream("blocking"), Duration::from_millis(5), 0.1);
        let inner = Inner {
            id,
            settings: Mutex::new(settings),
            disk: SimulatedDisk::new(dice.stream("disk"), speed, watch.tap(id)),
            tables,
            clock: Arc::default(),
            pace: Arc::default(),
            network: SimulatedNetwork::default(),
            blocking,
            watch,
            broken: bug.map(Broken::new),
            state: Mutex::new(State { dice: dice.stream("lives"), lives: 0, node: None, ended: None }),
            stop: tokio::sync::Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// The machine's name in the world.
    #[must_use]
    pub fn host(&self) -> String {
        host_name(self.inner.id)
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &SimulatedDisk {
        &self.inner.disk
    }

    /// Its tables.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.inner.tables
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> &SimulatedClock {
        &self.inner.clock
    }

    /// How its node's consensus lives through time.
    #[must_use]
    pub fn pace(&self) -> &SimulatedPace {
        &self.inner.pace
    }

    /// Its connections.
    #[must_use]
    pub fn network(&self) -> &SimulatedNetwork {
        &self.inner.network
    }

    /// The node, while it runs.
    #[must_use]
    pub fn node(&self) -> Option<Node> {
        self.state().node.clone()
    }

    /// How often the node was started.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.state().lives
    }

    /// What the node says of itself, while it runs.
    #[must_use]
    pub(crate) fn seen(&self) -> Option<Seen> {
        let (node, life) = (self.node()?, self.lives());
        Some(Seen { node: self.inner.id, life, shards: node.status() })
    }

    /// Why the last life ended by itself; asked once.
    #[must_use]
    pub fn take_ended(&self) -> Option<Ended> {
        self.state().ended.take()
    }

    /// Asks the node to stop in order, as a supervisor does before an upgrade.
    pub fn ask_to_stop(&self) {
        self.inner.stop.notify_one();
    }

    /// The host's software: one life of the node. It never returns: the process ends when the world, which asks for
    /// [`Machine::take_ended`], takes the host down, and its connections with it.
    pub async fn live(self) {
        let (settings, parts) = self.begin_life();
        let ended = match Node::start(settings, parts).await {
            Err(error) => Ended::NotStarted(error.to_string()),
            Ok(node) => {
                self.state().node = Some(node.clone());
                tokio::select! {
                    biased;
                    failed = node.failed() => Ended::Failed(failed.to_string()),
                    () = self.inner.stop.notified() => {
                        node.shutdown().await;
                        Ended::Stopped
                    }
                }
            }
        };
        tracing::info!(machine = self.inner.id, ?ended, "a life ended");
        self.state().ended = Some(ended);
        std::future::pending::<()>().await;
    }

    /// The power goes, or the process is killed: to be called when the host's software has been dropped.
    pub fn die(&self, power_cut: bool) {
        self.state().node = None;
        self.inner.disk.end_life();
        if power_cut {
            self.inner.disk.cut_power();
        }
        if let Tables::Memory(tables) = &self.inner.tables {
            tables.restart();
        }
    }

    fn begin_life(&self) -> (Settings, Parts) {
        let settings = self.inner.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut state = self.state();
        state.lives += 1;
        state.ended = None;
        let seed = state.dice.seed();
        drop(state);
        self.inner.pace.begin_life();
        self.inner.disk.begin_life();
        let disk = Arc::new(self.inner.disk.clone());
        let parts = Parts {
            network: Arc::new(self.inner.network.clone()),
            clock: self.inner.clock.clone(),
            seed,
            fs: disk.clone(),
            log_fs: disk,
            engine: Arc::new(self.inner.tables.clone()),
            blocking: Arc::new(self.inner.blocking.clone()),
            log_runner: Arc::new(OnRuntime),
            process: Arc::new(NoProcess),
            pace: Some(self.inner.pace.clone()),
            rules: Arc::new(CairnRules),
            applied: Some(self.inner.watch.observer(self.inner.id)),
        };
        let parts = match &self.inner.broken {
            None => parts,
            Some(broken) => broken.wrap(self.inner.id, parts),
        };
        (settings, parts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// fjall in a folder of its own.
    ///
    /// # Errors
    /// If the system gives no folder.
    pub fn fjall() -> io::Result<Self> {
        Ok(Self::Fjall(Arc::new(tempfile::tempdir()?)))
    }
}

impl cairn_node::EngineFactory for Tables {
    fn open(
        &self,
        dir: &Path,
        settings: &cairn_node::StorageSettings,
    ) -> Result<Arc<dyn cairn_storage::Engine>, cairn_storage::EngineError> {
        match self {
            Self::Memory(tables) => tables.open(dir, settings),
            Self::Fjall(files) => cairn_node::FjallFactory.open(files.path(), settings),
        }
    }
}

/// A machine's process: it uses nothing that is counted.
struct NoProcess;

impl cairn_node::Process for NoProcess {
    fn usage(&self) -> cairn_node::Usage {
        cairn_node::Usage::default()
    }
}

/// The name of a node's host.
#[must_use]
pub fn host_name(id: u64) -> String {
    format!("node-{id}")
}

/// Where clients reach a node.
#[must_use]
pub fn client_address(id: u64) -> String {
    format!("{}:{CLIENT_PORT}", host_name(id))
}

/// Where nodes reach a node.
#[must_use]
pub fn peer_address(id: u64) -> String {
    format!("{}:{PEER_PORT}", host_name(id))
}
