//! The tables: a batch into the memtable, a memtable down to the engine, and replays from either.
//!
//! `memory` is the engine over a map, `fjall` the one of production on a real disk, with its syncs. Bytes are those of the payloads.

#[path = "../../raft/machine/benches/sample/mod.rs"]
mod sample;

use std::sync::Arc;
use std::time::Duration;

use cairn_machine::{Batch, SequenceNumber, ShardId};
use cairn_storage::blocking::{Blocking, InlineBlocking, ThreadBlocking};
use cairn_storage::tables::Replay;
use cairn_storage::{Engine, EntryId, FjallEngine, FjallSettings, MemoryDisk, MemoryEngine, Tables, TablesSettings};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use sample::{BATCH_WRITES, PAYLOAD_BYTES, assert_stored, batch_from_log, each, persistence_id};

/// Writes that are applied between two looks at the clock, or as many batches as that makes.
const APPLIED_WRITES: u64 = 4_096;
/// The memtable is flushed, off the clock, when it takes so many bytes.
const MEMTABLE_BYTES_KEPT: usize = 12 << 20;
/// Writes of one flush: some five of the sixteen MiB at which a node flushes.
const FLUSHED_WRITES: u64 = 8_192;
/// Flushes into one engine, before a new one takes its place.
const FLUSHES_MAX: u32 = 8;
/// Events of each replay, over all its journals.
const REPLAYED_EVENTS: u64 = 10_000;
/// The pages of the node's replay service.
const PAGE_EVENTS_MAX: usize = 2_048;
const PAGE_BYTES_TARGET: usize = 512 * 1024;
/// Threads for calls of the engine, as a node has them.
const BLOCKING_THREADS: usize = 2;

#[derive(Clone, Copy)]
enum Place {
    Memory,
    Fjall,
}

impl Place {
    const BOTH: [Self; 2] = [Self::Memory, Self::Fjall];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fjall => "fjall",
        }
    }
}

/// The tables of one shard, which hold nothing yet.
struct Shard {
    tables: Tables,
    applied: u64,
    // Removed last, when nothing is open in it any more.
    _folder: Option<TempDir>,
}

impl Shard {
    async fn open(place: Place) -> Self {
        let (engine, blocking, folder): (Arc<dyn Engine>, Arc<dyn Blocking>, _) = match place {
            Place::Memory => (Arc::new(MemoryEngine::open(MemoryDisk::new())), Arc::new(InlineBlocking), None),
            Place::Fjall => {
                // On the disk that holds what is built: the system's folder for temporary files is often in memory.
                let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
                let engine = FjallEngine::open(&folder.path().join("tables"), FjallSettings::default()).expect("it opens");
                let blocking = ThreadBlocking::start("tables", BLOCKING_THREADS).expect("threads");
                (Arc::new(engine), Arc::new(blocking), Some(folder))
            }
        };
        // Flushed when a bench says so, never by itself.
        let settings = TablesSettings { memtable_bytes_max: usize::MAX, ..TablesSettings::default() };
        let tables = Tables::open(engine, ShardId(0), blocking, None, settings).await.expect("they open");
        Self { tables, applied: 0, _folder: folder }
    }

    async fn apply(&mut self, batch: &Batch) {
        self.applied += 1;
        let entry = EntryId { term: 1, leader: 1, index: self.applied };
        assert_stored(&self.tables.apply(entry, Some(batch), None).await.expect("it is applied"));
    }

    /// Applies writes in full batches.
    async fn fill(&mut self, writes: impl Iterator<Item = (u64, u64)>) {
        let mut writes = writes.peekable();
        while writes.peek().is_some() {
            self.apply(&batch_from_log(writes.by_ref().take(BATCH_WRITES as usize))).await;
        }
    }

    async fn flush(&self) {
        let flushed = self.tables.flush().await.expect("it is flushed").expect("something was applied");
        assert_eq!(flushed.index, self.applied, "everything is flushed");
    }

    /// Replays a whole journal, page by page, and tells how many events it has.
    async fn replay(&self, journal: u64) -> u64 {
        let persistence_id = persistence_id(journal);
        let mut replay = Replay {
            from: SequenceNumber(1),
            to: SequenceNumber::MAX,
            events_max: PAGE_EVENTS_MAX,
            bytes_max: PAGE_BYTES_TARGET,
            include_deleted: false,
            captured: None,
        };
        let mut found = 0;
        loop {
            let page = self.tables.read_events(&persistence_id, replay).await.expect("it is read");
            found += page.events.len() as u64;
            let Some(next) = page.next else { return found };
            replay = Replay { from: next, captured: Some(page.watermarks), ..replay };
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn throughput(events: u64) -> Throughput {
    sample::throughput(events, PAYLOAD_BYTES * events as usize)
}

/// A batch, decoded already, into a memtable. Where every journal is known, memory answers everything; where none is, the engine, a
/// map here, is asked for each head first.
fn applying(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("apply");
    for writes in [1, BATCH_WRITES] {
        group.throughput(throughput(writes));
        let mut number = 0;
        // Every journal is written to again and again.
        apply(&mut group, &runtime, BenchmarkId::new("known_journals", writes), writes, || {
            number += 1;
            batch_from_log(each(0..writes, number))
        });
        let mut begun = 0;
        apply(&mut group, &runtime, BenchmarkId::new("new_journals", writes), writes, || {
            begun += writes;
            batch_from_log(each(begun..begun + writes, 1))
        });
    }
    group.finish();
}

fn apply(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    id: BenchmarkId,
    writes: u64,
    mut next: impl FnMut() -> Batch,
) {
    let mut shard = runtime.block_on(Shard::open(Place::Memory));
    // The first batch finds no journal.
    runtime.block_on(shard.apply(&next()));
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|batches| {
            let mut took = Duration::ZERO;
            let mut left = batches;
            while left > 0 {
                let round: Vec<Batch> = (0..left.min(APPLIED_WRITES / writes)).map(|_| next()).collect();
                left -= round.len() as u64;
                took += runtime.block_on(async {
                    let began = Instant::now();
                    for batch in &round {
                        shard.apply(batch).await;
                    }
                    began.elapsed()
                });
                runtime.block_on(async {
                    if shard.tables.statistics().await.memtable_bytes > MEMTABLE_BYTES_KEPT {
                        shard.flush().await;
                    }
                });
            }
            took
        });
    });
    let unplanned_reads = runtime.block_on(shard.tables.statistics()).unplanned_reads;
    assert_eq!(unplanned_reads, 0, "nothing is looked up that was not foreseen");
}

/// A memtable of a usual size, over few journals with much each, and over many with one event each.
fn flushing(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("flush");
    group.sample_size(10).throughput(throughput(FLUSHED_WRITES));
    for place in Place::BOTH {
        for journals in [BATCH_WRITES, FLUSHED_WRITES] {
            group.bench_function(BenchmarkId::new(place.name(), format!("{journals}_journals")), |bencher| {
                bencher.iter_custom(|flushes| runtime.block_on(measure_flushes(place, journals, flushes)));
            });
        }
    }
    group.finish();
}

async fn measure_flushes(place: Place, journals: u64, flushes: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut shard = Shard::open(place).await;
    let (mut done, mut number) = (0, 0);
    for _ in 0..flushes {
        if done == FLUSHES_MAX {
            shard = Shard::open(place).await;
            (done, number) = (0, 0);
        }
        let numbers = number + 1..=number + FLUSHED_WRITES / journals;
        number = *numbers.end();
        shard.fill(numbers.flat_map(|number| each(0..journals, number))).await;
        let began = Instant::now();
        shard.flush().await;
        took += began.elapsed();
        done += 1;
    }
    took
}

/// As many events out of one long journal as out of a thousand short ones, one after the other: from the memtable, and from
/// fjall, whose cache is warm.
fn replaying(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("replay");
    group.throughput(throughput(REPLAYED_EVENTS));
    for (place, name) in [(Place::Memory, "memtable"), (Place::Fjall, "fjall")] {
        for journals in [1, 1_000] {
            let shard = runtime.block_on(async {
                let mut shard = Shard::open(place).await;
                shard.fill((1..=REPLAYED_EVENTS / journals).flat_map(|number| each(0..journals, number))).await;
                if matches!(place, Place::Fjall) {
                    shard.flush().await;
                }
                shard
            });
            group.bench_function(BenchmarkId::new(name, format!("{journals}_journals")), |bencher| {
                bencher.iter(|| {
                    let found = runtime.block_on(async {
                        let mut found = 0;
                        for journal in 0..journals {
                            found += shard.replay(journal).await;
                        }
                        found
                    });
                    assert_eq!(found, REPLAYED_EVENTS, "all are replayed");
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = applying, flushing, replaying
}
criterion_main!(benches);
