//! The binary forms: batches as they stand in the log, the records that tables keep, and the bodies of atomic writes.
//!
//! Bytes are those of the encoded form, whichever way it goes.

mod sample;

use std::hint::black_box;

use bytes::Bytes;
use cairn_machine::{AtomicWrite, Batch, Head, MemoryStore, SequenceNumber, StoredWrite, View};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sample::{BATCH_WRITES, batch, batch_from_log, each, events, persistence_id, throughput};

fn batches(criterion: &mut Criterion) {
    for writes in [1, BATCH_WRITES] {
        let batch = batch(each(0..writes, 2));
        let bytes = batch.encode();
        let mut group = criterion.benchmark_group("batch");
        group.throughput(throughput(writes, bytes.len()));
        group.bench_function(BenchmarkId::new("encode", writes), |bencher| bencher.iter(|| black_box(&batch).encode()));
        group.bench_function(BenchmarkId::new("decode", writes), |bencher| {
            bencher.iter(|| Batch::decode(black_box(&bytes)).expect("encoded just now"));
        });
        group.finish();
    }
}

/// The records that one write leaves behind: the journal's head and the write itself.
fn records(criterion: &mut Criterion) {
    let mut store = MemoryStore::new();
    for number in 1..=2 {
        store.apply(&batch_from_log([(0, number)]));
    }
    let Ok(head) = store.head(&persistence_id(0));
    let head = head.expect("it was written to");
    let Ok(write) = store.stored_write(head.journal, SequenceNumber(2));
    let write = write.expect("it was stored");
    record(criterion, "head", &head, Head::encode, |bytes| Head::decode(bytes).expect("encoded just now"));
    record(criterion, "stored_write", &write, StoredWrite::encode, |bytes| StoredWrite::decode(bytes).expect("encoded just now"));
}

fn record<T: PartialEq + std::fmt::Debug>(
    criterion: &mut Criterion,
    name: &str,
    value: &T,
    encode: impl Fn(&T, &mut Vec<u8>),
    decode: impl Fn(&Bytes) -> T,
) {
    let mut encoded = Vec::new();
    encode(value, &mut encoded);
    let bytes = Bytes::from(encoded.clone());
    assert_eq!(&decode(&bytes), value, "it comes back as it was");
    let mut group = criterion.benchmark_group(name);
    group.throughput(throughput(1, bytes.len()));
    // Tables encode many records into one buffer.
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            encoded.clear();
            encode(black_box(value), &mut encoded);
            black_box(encoded.len())
        });
    });
    group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(&bytes))));
    group.finish();
}

/// Atomic writes: checked and encoded where they enter, decoded where they are replayed.
fn atomic_writes(criterion: &mut Criterion) {
    for count in [1, 100] {
        let events = events(1..count + 1);
        let write = AtomicWrite::new(&events).expect("within the limits");
        let mut group = criterion.benchmark_group("atomic_write");
        group.throughput(throughput(count, write.body().len()));
        group.bench_function(BenchmarkId::new("check_and_encode", count), |bencher| {
            bencher.iter(|| AtomicWrite::new(black_box(&events)).expect("within the limits"));
        });
        group.bench_function(BenchmarkId::new("decode", count), |bencher| {
            bencher.iter(|| {
                for event in black_box(&write).events() {
                    drop(black_box(event.expect("encoded just now")));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, batches, records, atomic_writes);
criterion_main!(benches);
