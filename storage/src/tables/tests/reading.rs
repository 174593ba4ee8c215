//! Readers: what they miss, what they are told, and when they wake.

use bytes::Bytes;
use cairn_machine::{Criteria, Position, SequenceNumber, SnapshotData};

use super::world::{Place, World, delete, event, id, replay_all, replay_from, save, small, write};
use crate::engine::Scan;
use crate::keys::Family;
use crate::tables::{PositionsRead, Replay, TablesError};

async fn take_away(world: &World, family: Family, which: usize) {
    let table = world.tables().inner.table();
    let keys = table.scan_keys(Scan::ascending(&family.start(), &family.end(), 1_000, usize::MAX)).expect("scans");
    table.ingest(&mut std::iter::once((keys[which].clone(), None))).expect("ingests");
}

fn is_damaged<T>(outcome: Result<T, TablesError>) -> bool {
    matches!(outcome, Err(TablesError::Damaged { .. }))
}

#[tokio::test]
async fn a_missing_chunk_is_damage_wherever_it_is() {
    for which in 0..4 {
        let mut world = World::new(Place::memory(), small(1_000_000)).await;
        for _ in 0..4 {
            world.append("a", 5).await;
            world.flush().await;
        }
        world.append("a", 5).await;
        take_away(&world, Family::Chunk, which).await;
        let tables = world.tables();
        assert!(is_damaged(tables.read_events(&id("a"), replay_from(1)).await), "chunk {which}");
        let missing = SequenceNumber(which as u64 * 5 + 3);
        for (from, to) in [(missing, missing), (missing, SequenceNumber::MAX), (SequenceNumber(1), missing)] {
            let outcome = tables.read_events(&id("a"), Replay { from, to, ..replay_from(1) }).await;
            assert!(is_damaged(outcome), "chunk {which} from {from} to {to}");
        }
        let behind = tables.read_events(&id("a"), replay_from(missing.0 + 3)).await.expect("what is whole is answered");
        assert_eq!(behind.events.len() as u64, 25 - (missing.0 + 2));
        let read = PositionsRead { from: Position(1), events_max: 100, bytes_max: usize::MAX, include_deleted: false };
        assert!(is_damaged(tables.read_positions(read).await));
        assert!(tables.statistics().await.damages > 0, "damage is counted");
    }
}

#[tokio::test]
async fn missing_records_of_positions_are_damage() {
    for which in 0..3 {
        let mut world = World::new(Place::memory(), small(1_000_000)).await;
        for _ in 0..3 {
            world.append("a", 5).await;
            world.flush().await;
        }
        take_away(&world, Family::Position, which).await;
        let read = PositionsRead { from: Position(1), events_max: 100, bytes_max: usize::MAX, include_deleted: false };
        assert!(is_damaged(world.tables().read_positions(read).await), "record {which}");
    }
}

#[tokio::test]
async fn a_missing_chunk_of_a_snapshot_is_damage_and_a_deleted_snapshot_is_gone() {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    world.append("a", 1).await;
    world.apply(vec![save("a", 1, 1, 0, SnapshotData::Inline(Bytes::from_static(b"state")))]).await;
    world.flush().await;
    let latest = world.tables().latest_snapshot(&id("a"), Criteria::LATEST).await.expect("reads").expect("was saved");
    assert_eq!(world.tables().read_snapshot_chunk(&latest, 0).await.expect("reads"), b"state".as_slice());
    take_away(&world, Family::SnapshotChunk, 0).await;
    assert!(is_damaged(world.tables().read_snapshot_chunk(&latest, 0).await));
    // Replaced by another save at the same number.
    world.apply(vec![save("a", 1, 2, 1, SnapshotData::Inline(Bytes::from_static(b"newer")))]).await;
    let gone = TablesError::Gone { removed_to: SequenceNumber(0) };
    assert_eq!(world.tables().read_snapshot_chunk(&latest, 0).await, Err(gone.clone()));
    world.flush().await;
    assert_eq!(world.tables().read_snapshot_chunk(&latest, 0).await, Err(gone));
}

#[tokio::test]
async fn a_replay_goes_by_the_watermarks_of_its_first_page() {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    world.append("a", 20).await;
    let replay = Replay { events_max: 5, ..replay_from(1) };
    let first = world.tables().read_events(&id("a"), replay).await.expect("reads");
    assert_eq!(first.next, Some(SequenceNumber(6)));
    // A logical deletion does not make a hole in a replay that has begun, and what was written since is not part of it.
    world.apply(vec![delete("a", 15, false)]).await;
    world.append("a", 5).await;
    let next = Replay { from: SequenceNumber(6), captured: Some(first.watermarks), ..replay };
    let rest = replay_all(world.tables(), &id("a"), next).await;
    let numbers: Vec<u64> = rest.iter().map(|event| event.event.sequence_number.0).collect();
    assert_eq!(numbers, (6..=20).collect::<Vec<_>>());
    // A permanent one ends it, whether its events are still there or not.
    world.apply(vec![delete("a", 10, true)]).await;
    for _ in 0..2 {
        let outcome = world.tables().read_events(&id("a"), next).await;
        assert_eq!(outcome, Err(TablesError::Gone { removed_to: SequenceNumber(10) }));
        world.flush().await;
    }
    let behind = Replay { from: SequenceNumber(11), ..next };
    assert_eq!(replay_all(world.tables(), &id("a"), behind).await.len(), 10, "behind the removal it goes on");
}

#[tokio::test]
async fn followers_wake_for_their_journal_and_are_forgotten_when_they_go() {
    let mut settings = small(1_000_000);
    settings.subscriptions_max = 2;
    let mut world = World::new(Place::memory(), settings).await;
    world.append("a", 3).await;
    let mut followed = world.tables().subscribe(&id("a")).await.expect("subscribes");
    assert_eq!(followed.highest(), SequenceNumber(3), "what was there before");
    let unknown = world.tables().subscribe(&id("new")).await.expect("a journal may be followed before it begins");
    assert_eq!(unknown.highest(), SequenceNumber(0));
    assert!(matches!(world.tables().subscribe(&id("b")).await, Err(TablesError::TooMany { .. })));
    let twice = world.tables().subscribe(&id("a")).await.expect("a journal counts once");
    let position = world.tables().newest_position();
    let task = tokio::spawn(async move { followed.wait_above(SequenceNumber(3)).await && followed.highest().0 == 4 });
    world.append("b", 1).await;
    world.append("new", 2).await;
    world.append("a", 1).await;
    assert!(task.await.expect("no panic"));
    assert_eq!(unknown.highest(), SequenceNumber(2));
    assert_eq!(*position.borrow(), Position(7));
    drop((twice, unknown));
    let kept = [world.tables().subscribe(&id("x")).await, world.tables().subscribe(&id("y")).await];
    assert!(kept.iter().all(Result::is_ok), "there is room again");
}

#[tokio::test]
async fn large_atomic_writes_are_read_in_parts() {
    for place in [Place::memory(), Place::fjall()] {
        let mut world = World::new(place, small(10_000)).await;
        let events: Vec<_> = (1..=5_000).map(|number| event(number, &["all"])).collect();
        for part in events.chunks(2_500) {
            world.write("a", part).await;
        }
        for _ in 0..2 {
            let replay = Replay { events_max: 999, ..replay_from(2) };
            let found = replay_all(world.tables(), &id("a"), replay).await;
            assert_eq!(found.len(), 4_999);
            let mut read = PositionsRead { from: Position(1), events_max: 1_000, bytes_max: usize::MAX, include_deleted: false };
            let mut tagged = 0;
            loop {
                let page = world.tables().read_tag("all", read).await.expect("reads");
                tagged += page.events.len();
                if page.is_at_end {
                    break;
                }
                read.from = page.next;
            }
            assert_eq!(tagged, 5_000);
            world.flush().await;
        }
    }
}

#[tokio::test]
async fn a_chunk_holds_many_small_writes_and_a_read_of_memory_never_asks_the_engine() {
    let disk = crate::memory_engine::MemoryDisk::new();
    let mut world = World::new(Place::Memory(disk), small(1_000_000)).await;
    world.append("a", 200).await;
    world.flush().await;
    let table = world.tables().inner.table();
    let rows = table.scan_keys(Scan::ascending(&Family::Chunk.start(), &Family::Chunk.end(), 99, usize::MAX)).expect("scans");
    assert_eq!(rows.len(), 4, "200 events in chunks of up to 64");
    world.write("a", &[event(201, &[])]).await;
    take_away(&world, Family::Chunk, 3).await;
    let tail = world.tables().read_events(&id("a"), replay_from(201)).await.expect("the tail is in memory");
    assert_eq!(tail.events.len(), 1);
    world.apply(vec![write("b", &[event(1, &[])])]).await;
}
