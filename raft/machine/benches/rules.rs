//! The rules: what a decision costs, over plain maps, so that no table and no disk is in the figures.
//!
//! `decide` answers alone; `apply` also makes the changes and carries on the state hash. Bytes are those of the encoded batch.

mod sample;

use std::hint::black_box;

use cairn_machine::{Batch, MemoryStore, decide};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use sample::{BATCH_WRITES, assert_stored, batch, batch_from_log, each, throughput};

/// A store in which each journal of the next batch holds one event, and that batch.
fn second_batch(writes: u64) -> (MemoryStore, Batch) {
    let mut store = MemoryStore::new();
    assert_stored(&store.apply(&batch(each(0..writes, 1))));
    let batch = batch_from_log(each(0..writes, 2));
    assert_stored(&store.clone().apply(&batch));
    (store, batch)
}

fn deciding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for writes in [1, BATCH_WRITES] {
        let (store, batch) = second_batch(writes);
        group.throughput(throughput(writes, batch.encode().len()));
        group.bench_function(BenchmarkId::new("writes", writes), |bencher| {
            bencher.iter(|| {
                for command in &batch.commands {
                    drop(black_box(decide(&store, command, batch.moment)));
                }
            });
        });
    }
    group.finish();
}

fn applying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    for writes in [1, BATCH_WRITES] {
        let (store, batch) = second_batch(writes);
        group.throughput(throughput(writes, batch.encode().len()));
        group.bench_function(BenchmarkId::new("writes", writes), |bencher| {
            let apply = |mut store: MemoryStore| {
                let replies = store.apply(&batch);
                (store, replies)
            };
            bencher.iter_batched(|| store.clone(), apply, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, deciding, applying);
criterion_main!(benches);
