//! Deletions: what is hidden, what is gone, and when its space is given back.

use std::time::Duration;

use bytes::Bytes;
use cairn_machine::{Command, Refusal, Reply, SaveId, SnapshotChunk, SnapshotData};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::world::{Place, World, delete, event, id, save, small, write};
use crate::engine::Scan;
use crate::keys::Family;
use crate::memory_engine::MemoryDisk;
use crate::tables::TablesSettings;

fn rows(world: &World, family: Family) -> usize {
    let table = world.tables().inner.table();
    table.scan_keys(Scan::ascending(&family.start(), &family.end(), usize::MAX, usize::MAX)).expect("scans").len()
}

#[tokio::test]
async fn a_logical_deletion_hides_and_a_permanent_one_removes() {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    for _ in 0..10 {
        world.append("a", 10).await;
        world.append("b", 10).await;
        world.flush().await;
    }
    let full = rows(&world, Family::Chunk);
    world.apply(vec![delete("a", 100, false)]).await;
    world.flush().await;
    world.check().await;
    assert_eq!(rows(&world, Family::Chunk), full, "hidden events are still there");
    world.apply(vec![delete("a", 95, true)]).await;
    world.flush().await;
    world.reclaimed().await;
    assert_eq!(rows(&world, Family::Chunk), full - 9, "the chunk that reaches beyond the removal stays whole");
    assert_eq!(rows(&world, Family::Removal), 0);
    world.check().await;
    world.restart().await;
    world.check().await;
}

#[tokio::test]
async fn events_removed_before_their_flush_are_never_written() {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    for number in 1..=50 {
        world.write("a", &[event(number, &["red"])]).await;
    }
    world.apply(vec![delete("a", 49, true)]).await;
    world.flush().await;
    assert_eq!((rows(&world, Family::Chunk), rows(&world, Family::Tag), rows(&world, Family::Removal)), (1, 1, 0));
    world.check().await;
}

#[tokio::test]
async fn tags_go_with_their_events() {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    for number in 1..=30 {
        world.write("a", &[event(number, if number % 3 == 0 { &["red", "blue"] } else { &[] })]).await;
        world.flush().await;
    }
    assert_eq!(rows(&world, Family::Tag), 20);
    world.apply(vec![delete("a", 29, true)]).await;
    world.flush().await;
    world.reclaimed().await;
    assert_eq!((rows(&world, Family::Chunk), rows(&world, Family::Tag)), (1, 2));
    world.check().await;
}

#[tokio::test]
async fn a_permanent_deletion_gives_space_back_although_nothing_is_written_after_it() {
    let settings = TablesSettings { flush_removals_after: Duration::from_millis(20), ..small(1_000_000) };
    let mut world = World::new(Place::memory(), settings).await;
    world.append("a", 10).await;
    world.flush().await;
    world.apply(vec![delete("a", 10, true)]).await;
    let given_back = async {
        while rows(&world, Family::Chunk) > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), given_back).await.expect("the deletion is flushed by itself");
    world.check().await;
}

#[tokio::test]
async fn a_removal_goes_on_after_a_restart() {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    for _ in 0..40 {
        world.append("a", 1).await;
        world.flush().await;
    }
    let Place::Memory(disk) = &world.place else { unreachable!("it was made in memory") };
    let disk = disk.clone();
    // The flush and two of the steps behind it.
    disk.crash_after(3);
    world.apply(vec![delete("a", 40, true)]).await;
    let mut failed = world.tables().failed();
    world.tables().flush().await.expect("the flush itself is done");
    failed.wait_for(Option::is_some).await.expect("the tables are there");
    disk.restart();
    world.restart().await;
    world.reclaimed().await;
    assert_eq!((rows(&world, Family::Chunk), rows(&world, Family::Removal)), (0, 0));
    world.check().await;
}

#[tokio::test]
async fn chunks_go_with_their_snapshot_and_an_upload_may_begin_again() {
    for flushes in [false, true] {
        let mut world = World::new(Place::memory(), small(10_000_000)).await;
        let chunk = |index: u32| {
            let (persistence_id, bytes) = (id("a"), Bytes::from(vec![9; 10]));
            Command::SnapshotChunk(SnapshotChunk { persistence_id, save_id: SaveId(Uuid::from_u128(1)), index, bytes })
        };
        world.append("a", 1).await;
        world.apply((0..200).map(chunk).collect()).await;
        if flushes {
            world.flush().await;
        }
        let uploaded = SnapshotData::Uploaded { chunks: 200, bytes_total: 2_000 };
        world.apply(vec![save("a", 1, 1, 0, uploaded)]).await;
        world.check().await;
        world.flush().await;
        assert_eq!(rows(&world, Family::SnapshotChunk), 200);
        world.apply(vec![save("a", 1, 2, 1, SnapshotData::Inline(Bytes::from_static(b"small")))]).await;
        world.check().await;
        world.flush().await;
        assert_eq!((rows(&world, Family::SnapshotChunk), rows(&world, Family::Snapshot)), (1, 1));
        world.check().await;
    }
}

#[tokio::test]
async fn a_large_permanent_deletion_gives_most_of_its_space_back() {
    let settings =
        TablesSettings { memtable_bytes_max: 4 << 20, compact_idle: Duration::from_millis(10), ..TablesSettings::default() };
    let mut world = World::new(Place::fjall(), settings).await;
    let events = |from: u64| -> Vec<_> {
        let large = |number: u64| {
            let mut event = event(number, &[]);
            event.payload.bytes = (0..256u32).map(|at| (number.wrapping_mul(31) as u32 ^ at.wrapping_mul(97)) as u8).collect();
            event
        };
        (from..from + 100).map(large).collect()
    };
    for part in 0..300 {
        let commands = ["a", "b", "c", "kept"].map(|name| write(name, &events(1 + part * 100)));
        let commands: Vec<_> = if part % 10 == 0 { commands.into() } else { commands[..3].into() };
        world.apply(commands).await;
    }
    world.flush().await;
    let full = world.tables().statistics().await.disk_bytes;
    assert!(full > 20 << 20, "{full}");
    world.apply(["a", "b", "c"].map(|name| delete(name, u64::MAX >> 1, true)).into()).await;
    world.flush().await;
    let given_back = async {
        while world.tables().statistics().await.disk_bytes * 5 > full {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), given_back).await.expect("80 % of the space is given back");
}

/// A world with journals of one chunk each, in which time is free.
async fn world_of_chunks(journals: u64) -> (World, MemoryDisk) {
    let disk = MemoryDisk::new();
    let settings = TablesSettings {
        compact_after_rows_removed: 2,
        compact_idle: Duration::from_secs(1),
        reclaim_rows_max: 100,
        ..small(1 << 20)
    };
    let mut world = World::new(Place::Memory(disk.clone()), settings).await;
    for journal in 0..journals {
        world.append(&format!("j{journal}"), 1).await;
    }
    world.flush().await;
    (world, disk)
}

/// Removes the events of some journals, and waits for what follows from that by itself.
async fn remove_all(world: &mut World, journals: std::ops::Range<u64>) {
    world.apply(journals.map(|journal| delete(&format!("j{journal}"), 1, true)).collect()).await;
    world.flush().await;
    world.reclaimed().await;
    sleep(Duration::from_secs(3600)).await;
}

#[tokio::test(start_paused = true)]
async fn space_is_given_back_when_a_tenth_of_all_rows_is_removed() {
    let (mut world, disk) = world_of_chunks(100).await;
    let all: usize = Family::ALL.into_iter().map(|family| rows(&world, family)).sum();
    let tenth = all as u64 / 10;
    remove_all(&mut world, 0..tenth / 2).await;
    assert_eq!(disk.compactions(), 0, "more than the least number, but few of {all}");
    remove_all(&mut world, tenth / 2..tenth + 1).await;
    assert_eq!(disk.compactions(), 1);
    remove_all(&mut world, tenth + 1..tenth + 3).await;
    assert_eq!(disk.compactions(), 1, "counted from the last one on");
}

#[tokio::test(start_paused = true)]
async fn a_compaction_without_room_is_tried_again_later_and_later_and_stops_nothing() {
    let (mut world, disk) = world_of_chunks(10).await;
    disk.postpone_compactions(8);
    let began = Instant::now();
    world.apply((0..10).map(|journal| delete(&format!("j{journal}"), 1, true)).collect()).await;
    world.flush().await;
    let mut waits = Vec::new();
    for number in 1..=9 {
        let done = waits.iter().sum();
        let tried = async {
            while disk.compactions() < number {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(3600), tried).await.expect("it is tried again");
        waits.push(began.elapsed().saturating_sub(done));
    }
    assert!(waits.is_sorted(), "{waits:?}");
    assert!(waits[8] >= Duration::from_secs(128), "{waits:?}");
    sleep(Duration::from_secs(36_000)).await;
    assert_eq!(disk.compactions(), 9, "it is done");
    assert_eq!(*world.tables().failed().borrow(), None);
    world.check().await;
}

#[tokio::test]
async fn the_id_of_a_long_forgotten_save_that_is_on_disk_names_no_other_save() {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    let saved = |number: u64, which: u128, read: u64, text: &str| {
        save("a", number, which, read, SnapshotData::Inline(Bytes::copy_from_slice(text.as_bytes())))
    };
    for number in 1..=15 {
        world.apply(vec![saved(number, u128::from(number), number - 1, "first")]).await;
        world.flush().await;
    }
    // The first one is forgotten in the middle of a batch.
    let late = [saved(16, 16, 15, "first"), saved(17, 17, 16, "first"), saved(18, 1, 17, "second")];
    let replies = world.apply(late.to_vec()).await;
    assert_eq!(replies.last(), Some(&Reply::SaveSnapshot(Err(Refusal::Forgotten))));
    world.flush().await;
    assert_eq!(world.apply(vec![saved(18, 1, 17, "second")]).await, [Reply::SaveSnapshot(Err(Refusal::Forgotten))]);
    world.check().await;
}
