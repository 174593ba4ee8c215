//! Readers beside a writer, its flushes and its deletions, on several threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_machine::{Batch, Position, SequenceNumber, ShardId, Timestamp};

use super::world::{delete, event, id, replay_from, write};
use crate::blocking::ThreadBlocking;
use crate::engine::Engine;
use crate::entry::EntryId;
use crate::fjall_engine::{FjallEngine, FjallSettings};
use crate::memory_engine::{MemoryDisk, MemoryEngine};
use crate::tables::{PositionsRead, Replay, Tables, TablesError, TablesSettings};

const ENTRIES: u64 = 1_500;

async fn write_all(tables: &Tables, done: &AtomicU64) {
    for index in 1..=ENTRIES {
        let tags: &[&str] = if index % 2 == 0 { &["even"] } else { &[] };
        let mut commands = vec![write("a", &[event(index, tags)]), write("b", &[event(index, &[])])];
        if index % 100 == 0 {
            commands.push(delete("a", index - 50, true));
            commands.push(delete("b", index - 20, index % 200 == 0));
        }
        let batch = Batch { moment: Timestamp(1), commands };
        let entry = EntryId { term: 1, leader: 1, index };
        tables.apply(entry, Some(&batch), None).await.expect("applies");
        if index % 250 == 0 {
            tables.flush().await.expect("flushes");
        }
        done.store(index, Ordering::SeqCst);
    }
}

/// Replays from the beginning, again and again: dense, up to what was there before at least, never damaged.
async fn replay_again_and_again(tables: &Tables, name: &str, done: &AtomicU64) -> u64 {
    let mut rounds = 0;
    while done.load(Ordering::SeqCst) < ENTRIES {
        let before = done.load(Ordering::SeqCst);
        let mut replay = Replay { events_max: 64, ..replay_from(1) };
        let mut expected = None;
        loop {
            match tables.read_events(&id(name), replay).await {
                Ok(page) => {
                    for event in &page.events {
                        let number = event.event.sequence_number.0;
                        assert!(expected.is_none_or(|expected| expected == number), "{name}: {number} after {expected:?}");
                        expected = Some(number + 1);
                    }
                    let Some(next) = page.next else {
                        assert!(page.watermarks.highest.0 >= before);
                        assert!(expected.is_none_or(|end| end == page.watermarks.highest.0 + 1), "{name}: ends at {expected:?}");
                        break;
                    };
                    replay = Replay { from: next, captured: Some(page.watermarks), ..replay };
                }
                Err(TablesError::Gone { removed_to }) => {
                    assert!(removed_to >= replay.from, "only what was removed is gone");
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        rounds += 1;
    }
    rounds
}

/// Follows positions from the first one: never a hole, never anything twice.
async fn follow_positions(tables: &Tables, tag: Option<&str>) -> u64 {
    let mut position = tables.newest_position();
    let mut read = PositionsRead { from: Position(1), events_max: 50, bytes_max: usize::MAX, include_deleted: true };
    let mut seen = 0;
    loop {
        let page = match tag {
            Some(tag) => tables.read_tag(tag, read).await.expect("reads"),
            None => tables.read_positions(read).await.expect("reads"),
        };
        let mut last = Position(read.from.0 - 1);
        for found in &page.events {
            assert!(found.event.position > last && found.event.position < page.next);
            last = found.event.position;
        }
        seen += page.events.len() as u64;
        read.from = page.next;
        if read.from > Position(2 * ENTRIES) {
            return seen;
        }
        if page.is_at_end {
            position.wait_for(|newest| *newest >= read.from).await.expect("the tables are there");
        }
    }
}

async fn run(engine: Arc<dyn Engine>) {
    let settings =
        TablesSettings { memtable_bytes_max: 40_000, cached_heads_max: 1, reclaim_rows_max: 2, ..TablesSettings::default() };
    let blocking = Arc::new(ThreadBlocking::start("tables", 2).expect("threads"));
    let tables = Tables::open(engine, ShardId(0), blocking, None, settings).await.expect("opens");
    let done = Arc::new(AtomicU64::new(0));
    let mut followed = tables.subscribe(&id("a")).await.expect("subscribes");
    let mut readers = tokio::task::JoinSet::new();
    for name in ["a", "b"] {
        let (tables, done) = (tables.clone(), Arc::clone(&done));
        readers.spawn(async move { replay_again_and_again(&tables, name, &done).await });
    }
    for tag in [None, Some("even")] {
        let tables = tables.clone();
        readers.spawn(async move { follow_positions(&tables, tag).await });
    }
    readers.spawn(async move {
        let mut seen = SequenceNumber(0);
        while seen < SequenceNumber(ENTRIES) {
            assert!(followed.wait_above(seen).await);
            seen = followed.highest();
        }
        seen.0
    });
    write_all(&tables, &done).await;
    while let Some(outcome) = readers.join_next().await {
        assert!(outcome.expect("a reader does not panic") > 0);
    }
    let statistics = tables.statistics().await;
    assert_eq!((statistics.damages, statistics.unplanned_reads), (0, 0), "{statistics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_beside_a_writer_see_no_hole_in_memory() {
    run(Arc::new(MemoryEngine::open(MemoryDisk::new()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_beside_a_writer_see_no_hole_on_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    run(Arc::new(FjallEngine::open(dir.path(), FjallSettings::default()).expect("opens"))).await;
}
