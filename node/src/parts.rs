//! Parts: the objects that do a node's work and differ between production, one process, and a simulated world.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cairn_raft::Pace;
use cairn_storage::blocking::{Blocking, InlineBlocking, ThreadBlocking};
use cairn_storage::fs::{Fs, MemoryFs, OsFs};
use cairn_storage::log::{LogWriter, spawn_log_thread};
use cairn_storage::tables::{AppliedObserver, CairnRules, Rules};
use cairn_storage::{Engine, EngineError, FjallEngine, FjallSettings, MemoryDisk, MemoryEngine};
use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::clock::{Clock, SystemClock};
use crate::network::{DuplexNetwork, Network, TcpNetwork};
use crate::process::{OwnProcess, Process};
use crate::settings::{Settings, StorageSettings};

/// Threads for reads and flushes of the tables: one flushes while others read.
const BLOCKING_THREADS: usize = 3;

/// What a node works with.
#[derive(Clone)]
pub struct Parts {
    /// How bytes travel.
    pub network: Arc<dyn Network>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from: everything random in a node is drawn from it, election timeouts included.
    pub seed: [u8; 32],
    /// Where the identity is kept, where entries are read back from the log, and whose space is watched.
    pub fs: Arc<dyn Fs>,
    /// Where the log's writer writes: the same files, but its calls may block, as it runs where nobody waits for it.
    pub log_fs: Arc<dyn Fs>,
    /// What keeps the tables.
    pub engine: Arc<dyn EngineFactory>,
    /// Where calls that block run.
    pub blocking: Arc<dyn Blocking>,
    /// Where the log's writer runs.
    pub log_runner: Arc<dyn LogRunner>,
    /// What the process uses up, as the cluster's status tells it.
    pub process: Arc<dyn Process>,
    /// How consensus lives through time; none: by the runtime's clock.
    pub pace: Option<Arc<dyn Pace>>,
    /// What decides commands. Nodes that do not have the same rules diverge.
    pub rules: Arc<dyn Rules>,
    /// Hears of every entry that was applied.
    pub applied: Option<Arc<dyn AppliedObserver>>,
}

/// Opens a node's engine.
pub trait EngineFactory: Send + Sync + 'static {
    /// Opens the engine in a folder, which it alone uses. Called where blocking is allowed.
    ///
    /// # Errors
    /// If it cannot be opened: the node does not start.
    fn open(&self, dir: &Path, settings: &StorageSettings) -> Result<Arc<dyn Engine>, EngineError>;
}

/// Runs a log's writer.
pub trait LogRunner: Send + Sync + 'static {
    /// Starts the writer; it ends by itself when the log is shut down.
    ///
    /// # Errors
    /// If the system gives no thread.
    fn run(&self, writer: LogWriter) -> io::Result<()>;
}

impl Parts {
    /// Real network, files and threads; without a data directory everything is kept in memory.
    ///
    /// # Errors
    /// If the system gives no randomness or no threads.
    pub fn production(settings: &Settings) -> io::Result<Self> {
        let network = Arc::new(TcpNetwork);
        if settings.data_dir.is_none() {
            return Ok(Self { network, ..Self::memory()? });
        }
        Ok(Self { network, ..Self::files()? })
    }

    /// Everything in memory and inside this process; no port is opened.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn memory() -> io::Result<Self> {
        let fs = Arc::new(MemoryFs::new());
        Ok(Self {
            network: Arc::new(DuplexNetwork::new()),
            clock: Arc::new(SystemClock),
            seed: seed()?,
            fs: fs.clone(),
            log_fs: fs,
            engine: Arc::new(MemoryDisk::new()),
            blocking: Arc::new(InlineBlocking),
            log_runner: Arc::new(OnRuntime),
            process: Arc::new(OwnProcess),
            pace: None,
            rules: Arc::new(CairnRules),
            applied: None,
        })
    }

    /// Real files and threads, but no port: for a node embedded into a program.
    ///
    /// # Errors
    /// If the system gives no randomness or no threads.
    pub fn files() -> io::Result<Self> {
        let blocking = Arc::new(ThreadBlocking::start("cairn-tables", BLOCKING_THREADS)?);
        Ok(Self {
            network: Arc::new(DuplexNetwork::new()),
            clock: Arc::new(SystemClock),
            seed: seed()?,
            fs: Arc::new(OsFs::through(blocking.clone())),
            log_fs: Arc::new(OsFs::inline()),
            engine: Arc::new(FjallFactory),
            blocking,
            log_runner: Arc::new(OnThread),
            process: Arc::new(OwnProcess),
            pace: None,
            rules: Arc::new(CairnRules),
            applied: None,
        })
    }
}

fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).map_err(|error| io::Error::other(format!("draw a seed: {error}")))?;
    Ok(seed)
}

/// fjall, on real files.
#[derive(Clone, Copy, Debug, Default)]
pub struct FjallFactory;

impl EngineFactory for FjallFactory {
    fn open(&self, dir: &Path, settings: &StorageSettings) -> Result<Arc<dyn Engine>, EngineError> {
        let settings = FjallSettings { cache_bytes: settings.table_cache_bytes, ..FjallSettings::default() };
        let (engine, renewed) = FjallEngine::open_or_renew(dir, settings)?;
        if let Some(renewed) = renewed {
            let (damage, aside) = (renewed.damage, renewed.aside.display());
            tracing::error!(%damage, %aside, "the tables do not open: they were put aside, and come back from the log or from a peer");
        }
        Ok(Arc::new(engine))
    }
}

impl EngineFactory for MemoryDisk {
    fn open(&self, _: &Path, _: &StorageSettings) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(Arc::new(MemoryEngine::open(self.clone())))
    }
}

/// The log's writer on a thread of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnThread;

impl LogRunner for OnThread {
    fn run(&self, writer: LogWriter) -> io::Result<()> {
        spawn_log_thread(writer).map(|_| ())
    }
}

/// The log's writer as a task of the node's runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnRuntime;

impl LogRunner for OnRuntime {
    fn run(&self, writer: LogWriter) -> io::Result<()> {
        tokio::spawn(writer.run());
        Ok(())
    }
}
