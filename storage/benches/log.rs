//! The log: appends through the writer's loop, on threads of its own as in production, and the scan that opens a segment again.
//!
//! An append is a call, the hand-over to the writer's thread, the frame, the sync, and the way back; what waits meanwhile shares
//! the next frame. Three places tell what of it is whose: `memory` is the loop alone, `unsynced` adds the system calls, `synced` the
//! disk. Bytes are those of the entries.

#[path = "../../raft/machine/benches/sample/mod.rs"]
mod sample;
mod unsynced;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::ShardId;
use cairn_storage::EntryId;
use cairn_storage::fs::{Fs, MemoryFs, OsFs, read_file, write_file_atomically};
use cairn_storage::log::{Log, LogEntry, LogObserver, LogSettings, ShardLog, spawn_log_thread};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use sample::{BATCH_WRITES, batch, each, throughput};
use unsynced::Unsynced;

/// Smaller than in production: one full of small frames is made in a moment.
const RECOVERED_SEGMENT_BYTES: u32 = 4 << 20;
/// Entries are purged when they take so many bytes, so that a long bench fills no disk.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// A log whose writer runs.
struct Running {
    log: Log,
    shard: ShardLog,
    thread: JoinHandle<()>,
    next_index: u64,
    kept_bytes: usize,
}

impl Running {
    async fn start(fs: Arc<dyn Fs>, dir: &Path, settings: LogSettings) -> Self {
        Log::create(&*fs, dir).await.expect("a log is made");
        let (log, writer, _) = Log::open(fs, dir.to_owned(), settings).await.expect("it opens");
        let thread = spawn_log_thread(writer).expect("threads");
        let shard = log.shard(ShardId(0));
        Self { log, shard, thread, next_index: 0, kept_bytes: 0 }
    }

    fn entry(&mut self, payload: &Bytes) -> LogEntry {
        let id = EntryId { term: 1, leader: 1, index: self.next_index };
        self.next_index += 1;
        self.kept_bytes += payload.len();
        LogEntry { id, payload: payload.clone() }
    }

    /// Hands over each entry in a call of its own, and waits until all are durable.
    async fn append(&self, entries: Vec<LogEntry>) {
        let (sender, durable) = oneshot::channel();
        let mut sender = Some(sender);
        let last = entries.len() - 1;
        for (at, entry) in entries.into_iter().enumerate() {
            // The log answers in the order of the calls: who hears of the last has heard of all.
            let sender = if at == last { sender.take() } else { None };
            let done = move |result: Result<(), _>| {
                result.expect("nothing fails here");
                if let Some(sender) = sender {
                    sender.send(()).expect("somebody waits");
                }
            };
            self.shard.append(vec![entry], Box::new(done));
        }
        durable.await.expect("the writer answers");
    }

    /// How long `rounds` of `count` entries each take; between them the log is kept small.
    async fn measure(&mut self, rounds: u64, count: u64, payload: &Bytes) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..rounds {
            let entries = (0..count).map(|_| self.entry(payload)).collect();
            let began = Instant::now();
            self.append(entries).await;
            took += began.elapsed();
            if self.kept_bytes > KEPT_BYTES_MAX {
                let last = self.shard.entry_id(self.next_index - 1).expect("it is in the log");
                self.shard.purge(last).await.expect("it is purged");
                self.kept_bytes = 0;
            }
        }
        took
    }

    async fn shut_down(self) {
        self.log.shutdown().await.expect("it ends");
        self.thread.join().expect("nothing panics");
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// A folder on the disk that holds what is built; the system's folder for temporary files is often in memory.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// The entry of a batch with so many writes.
fn payload(writes: u64) -> Bytes {
    batch(each(0..writes, 2)).encode()
}

fn appending(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = folder();
    let places: [(&str, Arc<dyn Fs>); 3] = [
        ("memory", Arc::new(MemoryFs::new())),
        ("unsynced", Arc::new(Unsynced::new(OsFs::inline()))),
        ("synced", Arc::new(OsFs::inline())),
    ];
    let mut group = criterion.benchmark_group("append");
    for (place, fs) in places {
        let dir = folder.path().join(place);
        let mut running = runtime.block_on(Running::start(fs, &dir, LogSettings::default()));
        for (entries, writes) in [(1, 1), (1, BATCH_WRITES), (64, 1), (64, BATCH_WRITES)] {
            let payload = payload(writes);
            group.throughput(throughput(entries * writes, payload.len() * entries as usize));
            group.bench_function(BenchmarkId::new(place, format!("{entries}x{writes}")), |bencher| {
                bencher.iter_custom(|rounds| runtime.block_on(running.measure(rounds, entries, &payload)));
            });
        }
        runtime.block_on(running.shut_down());
    }
    group.finish();
}

/// Counts the bytes of frames.
#[derive(Default)]
struct Frames(AtomicUsize);

impl LogObserver for Frames {
    fn synced(&self, _: Duration, bytes: usize, _: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Fills a segment with entries of so many writes, each in a frame of its own, and tells how many there are and their bytes.
async fn fill_segment(fs: &MemoryFs, dir: &Path, writes: u64) -> (u64, usize) {
    let frames = Arc::new(Frames::default());
    let settings = LogSettings {
        segment_bytes: RECOVERED_SEGMENT_BYTES,
        observer: frames.clone(),
        // Nothing but the entries is written.
        idle_close_after: Duration::from_secs(3600),
        ..LogSettings::default()
    };
    let payload = payload(writes);
    let mut running = Running::start(Arc::new(fs.clone()), dir, settings).await;
    let mut bytes = 0;
    // The opening frame and the closing one want some room as well.
    let room = RECOVERED_SEGMENT_BYTES as usize - 4 * payload.len() - 64 * 1024;
    while bytes < room {
        let entry = running.entry(&payload);
        running.append(vec![entry]).await;
        bytes = frames.0.load(Ordering::Relaxed);
    }
    let entries = running.next_index;
    running.shut_down().await;
    (entries, bytes)
}

async fn copy_files(from: &dyn Fs, to: &dyn Fs, source: &Path, target: &Path) {
    to.create_dir_all(target).await.expect("a folder");
    for name in from.list(source).await.expect("names") {
        let bytes = read_file(from, &source.join(&name), 64 << 20).await.expect("it is read");
        write_file_atomically(to, &target.join(&name), bytes).await.expect("it is written");
    }
}

/// Opens the log and sees that one segment with everything was scanned.
async fn recover(fs: Arc<dyn Fs>, dir: PathBuf, entries: u64) -> Log {
    let settings = LogSettings { segment_bytes: RECOVERED_SEGMENT_BYTES, ..LogSettings::default() };
    let (log, _, report) = Log::open(fs, dir, settings).await.expect("it opens");
    assert_eq!(report.segments, 1, "one segment holds all");
    let last = log.shard(ShardId(0)).state().last.expect("it is not empty");
    assert_eq!(last.index + 1, entries, "nothing is lost");
    log
}

fn recovering(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = folder();
    let mut group = criterion.benchmark_group("recover_segment");
    for writes in [1, BATCH_WRITES] {
        let (memory, dir) = (MemoryFs::new(), folder.path().join(writes.to_string()));
        let (entries, bytes) = runtime.block_on(fill_segment(&memory, &dir, writes));
        let files = OsFs::inline();
        runtime.block_on(copy_files(&memory, &files, &dir, &dir));
        group.throughput(throughput(entries * writes, bytes));
        let places: [(&str, Arc<dyn Fs>); 2] = [("memory", Arc::new(memory)), ("files", Arc::new(files))];
        for (place, fs) in places {
            group.bench_function(BenchmarkId::new(place, format!("{entries}x{writes}")), |bencher| {
                let recover = |()| runtime.block_on(recover(Arc::clone(&fs), dir.clone(), entries));
                bencher.iter_batched(|| (), recover, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = appending, recovering
}
criterion_main!(benches);
