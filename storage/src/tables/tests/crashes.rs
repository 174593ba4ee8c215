//! What is there after a crash, and what a flush waits for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::MemoryStore;
use tokio::time::timeout;

use super::world::{Place, World, check, delete, event, id, open, small, write};
use crate::engine::Engine;
use crate::entry::EntryId;
use crate::memory_engine::{MemoryDisk, MemoryEngine};
use crate::tables::{MembershipChange, Tables, TablesError};

#[tokio::test]
async fn a_crash_at_any_ingestion_leaves_the_state_at_the_applied_entry() {
    for ingestions in 0..20 {
        let disk = MemoryDisk::new();
        let mut world = World::new(Place::Memory(disk.clone()), small(2_000)).await;
        let mut models = vec![MemoryStore::new()];
        disk.crash_after(ingestions);
        for number in 1..=30 {
            let commands = vec![write("a", &[event(number, &["red"])]), write("b", &[event(number, &[])])];
            let more = if number % 7 == 0 { vec![delete("a", number - 2, true)] } else { Vec::new() };
            let is_broken = world.tables().failed().borrow().is_some();
            if is_broken {
                break;
            }
            let before = world.model.clone();
            let index = world.applied_index() + 1;
            let entry = EntryId { term: 1, leader: 1, index };
            let moment = cairn_machine::Timestamp(1);
            let batch = cairn_machine::Batch { moment, commands: [commands, more].concat() };
            let replies = world.model.apply(&batch);
            world.durable.send_replace(Some(index));
            match world.tables().apply(entry, Some(&batch), None).await {
                Ok(found) => assert_eq!(found, replies),
                Err(error) => {
                    assert!(matches!(error, TablesError::Broken { .. }), "{error}");
                    world.model = before;
                    break;
                }
            }
            let chain = cairn_machine::View::shard(&world.model).chain;
            world.log.push(super::world::Applied { entry, batch, replies, chain });
            models.push(world.model.clone());
        }
        world.stop().await;
        disk.restart();
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::open(disk));
        let tables = open(&engine, &small(2_000), None).await.expect("opens");
        let applied = tables.applied().map_or(0, |entry| entry.index);
        check(&tables, &models[usize::try_from(applied).expect("small")]).await;
        for applied in world.log.iter().filter(|entry| entry.entry.index > applied) {
            assert_eq!(tables.apply(applied.entry, Some(&applied.batch), None).await.expect("applies"), applied.replies);
        }
        check(&tables, &world.model).await;
    }
}

#[tokio::test]
async fn a_failed_flush_breaks_the_tables_for_good() {
    let disk = MemoryDisk::new();
    let mut world = World::new(Place::Memory(disk.clone()), small(100_000)).await;
    world.append("a", 3).await;
    disk.crash_after(0);
    let mut failed = world.tables().failed();
    assert!(matches!(world.tables().flush().await, Err(TablesError::Broken { .. })));
    failed.wait_for(Option::is_some).await.expect("the tables are there");
    disk.restart();
    let entry = EntryId { term: 1, leader: 1, index: 4 };
    assert!(matches!(world.tables().apply(entry, None, None).await, Err(TablesError::Broken { .. })));
    assert!(matches!(world.tables().flush().await, Err(TablesError::Broken { .. })));
    assert_eq!(disk.ingestions(), 2, "the pointer, and the one that failed: it is never tried again");
}

#[tokio::test]
async fn nothing_is_flushed_beyond_what_the_log_has() {
    let mut world = World::new(Place::memory(), small(100_000)).await;
    world.append("a", 5).await;
    world.durable.send_replace(Some(3));
    let waits = timeout(Duration::from_millis(50), world.tables().flush()).await;
    assert!(waits.is_err(), "{waits:?}");
    assert_eq!(world.tables().flushed(), None);
    world.durable.send_replace(Some(5));
    world.flush().await;
}

#[tokio::test]
async fn apply_waits_when_too_much_waits_for_its_flush() {
    let mut world = World::new(Place::memory(), small(1_500)).await;
    world.append("a", 1).await;
    world.durable.send_replace(None);
    let entry = |index| EntryId { term: 1, leader: 1, index };
    let batch =
        |number| cairn_machine::Batch { moment: cairn_machine::Timestamp(1), commands: vec![write("a", &[event(number, &[])])] };
    let mut index = 2;
    loop {
        let tables = world.tables().clone();
        let batch = batch(index);
        let applied = timeout(Duration::from_millis(50), tables.apply(entry(index), Some(&batch), None)).await;
        if applied.is_err() {
            break;
        }
        index += 1;
        assert!(index < 50, "memory has a bound");
    }
    let statistics = world.tables().statistics().await;
    assert_eq!(statistics.frozen_memtables, 2);
    assert!(statistics.memtable_bytes < 3 * 1_500 + 3 * 1_000, "{statistics:?}");
    // The abandoned apply has done nothing: the same entry is applied now.
    world.durable.send_replace(Some(index));
    world.tables().apply(entry(index), Some(&batch(index)), None).await.expect("there is room again");
    assert_eq!(world.tables().head(&id("a")).await.expect("reads").map(|head| head.highest.0), Some(index));
}

#[tokio::test]
async fn an_entry_out_of_order_breaks_the_tables() {
    let mut world = World::new(Place::memory(), small(100_000)).await;
    world.append("a", 2).await;
    let again = EntryId { term: 1, leader: 1, index: 2 };
    assert!(matches!(world.tables().apply(again, None, None).await, Err(TablesError::Broken { .. })));
}

#[tokio::test]
async fn membership_and_applied_entry_survive_a_restart() {
    let mut world = World::new(Place::fjall(), small(100_000)).await;
    assert_eq!(world.tables().applied(), None);
    assert_eq!(world.tables().membership(), None);
    let change = MembershipChange { membership: Bytes::from_static(b"one"), seen_nodes: Bytes::from_static(b"ids") };
    let entry = EntryId { term: 7, leader: 3, index: 1 };
    world.durable.send_replace(Some(2));
    world.tables().apply(entry, None, Some(change)).await.expect("applies");
    let blank = EntryId { index: 2, ..entry };
    world.tables().apply(blank, None, None).await.expect("applies");
    assert_eq!(world.tables().flush().await.expect("flushes"), Some(blank));
    world.restart().await;
    assert_eq!((world.tables().applied(), world.tables().flushed()), (Some(blank), Some(blank)));
    let membership = world.tables().membership().expect("was flushed");
    assert_eq!((membership.entry, membership.bytes.as_ref()), (Some(entry), b"one".as_slice()));
    assert_eq!(world.tables().seen_nodes(), Bytes::from_static(b"ids"));
}

#[tokio::test]
async fn shards_of_one_engine_are_apart() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::open(MemoryDisk::new()));
    let shards = [0, 1, 10].map(cairn_machine::ShardId);
    let mut opened = Vec::new();
    for shard in shards {
        let blocking = Arc::new(crate::blocking::InlineBlocking);
        opened.push(Tables::open(Arc::clone(&engine), shard, blocking, None, small(1_000)).await.expect("opens"));
    }
    let entry = EntryId { term: 1, leader: 1, index: 1 };
    let batch = cairn_machine::Batch { moment: cairn_machine::Timestamp(1), commands: vec![write("a", &[event(1, &[])])] };
    opened[1].apply(entry, Some(&batch), None).await.expect("applies");
    opened[1].flush().await.expect("flushes");
    for (tables, there) in opened.iter().zip([false, true, false]) {
        assert_eq!(tables.head(&id("a")).await.expect("reads").is_some(), there);
    }
}

/// Flushes, once, between the read that a batch waits for and its decision.
#[derive(Default)]
struct FlushingBlocking(std::sync::Mutex<Option<Tables>>);

#[async_trait::async_trait]
impl crate::blocking::Blocking for FlushingBlocking {
    async fn run_boxed(&self, job: crate::blocking::Job) {
        job();
        let armed = self.0.lock().expect("nobody panics").take();
        if let Some(tables) = armed {
            tables.flush().await.expect("flushes");
        }
    }
}

#[tokio::test]
async fn a_flush_between_look_and_decision_changes_no_answer() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::open(MemoryDisk::new()));
    let blocking = Arc::new(FlushingBlocking::default());
    let parts = Arc::clone(&blocking) as Arc<dyn crate::blocking::Blocking>;
    let tables = Tables::open(engine, super::world::SHARD, parts, None, small(1_000_000)).await.expect("opens");
    let mut model = MemoryStore::new();
    let data = || cairn_machine::SnapshotData::Inline(Bytes::from_static(b"state"));
    let all = cairn_machine::Command::DeleteSnapshots(cairn_machine::DeleteSnapshots {
        persistence_id: id("a"),
        criteria: cairn_machine::Criteria::LATEST,
        saves_read: None,
        writer: super::world::writer(""),
        epoch: None,
    });
    let entries = [
        vec![write("a", &[event(1, &[])]), super::world::save("a", 1, 1, 0, data())],
        vec![super::world::save("a", 1, 2, 1, data()), super::world::save("a", 2, 3, 1, data())],
        vec![write("a", &[event(1, &[])]), all],
    ];
    for (index, commands) in (1..).zip(entries) {
        let batch = cairn_machine::Batch { moment: cairn_machine::Timestamp(1), commands };
        *blocking.0.lock().expect("nobody panics") = Some(tables.clone());
        let entry = EntryId { term: 1, leader: 1, index };
        assert_eq!(tables.apply(entry, Some(&batch), None).await.expect("applies"), model.apply(&batch));
    }
    blocking.0.lock().expect("nobody panics").take();
    check(&tables, &model).await;
}
