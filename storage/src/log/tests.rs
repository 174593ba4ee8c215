//! The log's tests. What they share: a log over a disk in memory, whose writer runs beside the test.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::*;
use crate::EntryId;
use crate::fs::{MemoryFs, OpenMode};

mod cramped;
mod crash;
mod damage;
mod format;
mod inspect;
mod model;
mod order;
mod segments;
mod threads;

const DIR: &str = "/log";
const A: ShardId = ShardId(0);
const B: ShardId = ShardId(7);
/// Every wait of a test ends by then.
const DEADLINE: Duration = Duration::from_secs(20);

/// Segments so small that a few entries fill one; batches stay open until a test wants them closed.
fn small() -> LogSettings {
    LogSettings {
        segment_bytes: 4096,
        shards_max: 2,
        idle_close_after: Duration::from_secs(3600),
        salt: 42,
        ..LogSettings::default()
    }
}

/// A log whose writer runs.
struct Running {
    log: Log,
    writer: JoinHandle<()>,
}

async fn start(fs: &MemoryFs, settings: LogSettings) -> Running {
    let (log, writer, _) = open(fs, settings).await.expect("open");
    Running { log, writer: tokio::spawn(writer.run()) }
}

async fn open(fs: &MemoryFs, settings: LogSettings) -> Result<(Log, LogWriter, RecoveryReport), LogError> {
    if !fs.exists(Path::new(DIR)).await.expect("look") {
        Log::create(fs, Path::new(DIR)).await?;
    }
    Log::open(Arc::new(fs.clone()), PathBuf::from(DIR), settings).await
}

impl Running {
    /// The process is gone; what it wrote is in the page cache.
    async fn kill(self) {
        self.writer.abort();
        drop(self.writer.await);
    }

    async fn shut_down(self) {
        self.log.shutdown().await.expect("shut down");
        self.writer.await.expect("the writer ends");
    }
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term, leader: 1, index }
}

fn entry(term: u64, index: u64, payload: impl Into<Bytes>) -> LogEntry {
    LogEntry { id: id(term, index), payload: payload.into() }
}

/// Entries of one term, whose payloads tell their ids.
fn entries(term: u64, indexes: std::ops::Range<u64>, bytes: usize) -> Vec<LogEntry> {
    indexes
        .map(|index| {
            let mut payload = format!("{term}.{index} ").into_bytes();
            payload.resize(bytes.max(payload.len()), b'.');
            entry(term, index, payload)
        })
        .collect()
}

/// Appends and waits until it is durable.
async fn append(shard: &ShardLog, entries: Vec<LogEntry>) -> Result<(), LogError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    shard.append(entries, Box::new(|result| drop(sender.send(result))));
    tokio::time::timeout(DEADLINE, receiver).await.expect("in time").expect("answered")
}

/// All that a shard's log says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    state: ShardLogState,
    entries: Vec<LogEntry>,
}

async fn content(log: &Log, shard: ShardId) -> Result<Content, LogError> {
    let shard = log.shard(shard);
    let state = shard.state();
    let end = state.last.map_or(0, |last| last.index + 1);
    let entries = shard.read(shard.first_index()..end, usize::MAX).await?;
    Ok(Content { state, entries })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn file_bytes(fs: &MemoryFs, name: &str) -> Bytes {
    crate::fs::read_file(fs, &Path::new(DIR).join(name), 1 << 20).await.expect("read")
}

async fn overwrite(fs: &MemoryFs, name: &str, offset: usize, bytes: &[u8]) {
    let file = fs.open(&Path::new(DIR).join(name), OpenMode::ReadWrite).await.expect("open");
    file.write_at(offset as u64, Bytes::copy_from_slice(bytes)).await.expect("write");
}

/// A runtime for tests that open very many logs one after the other.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(work)
}
