//! Checkpoints: from one node to another, whole or not at all.

use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::{MemoryStore, ShardId};

use super::{Checkpoint, CheckpointCursor, CheckpointError, CompleteCheckpoint};
use crate::blocking::InlineBlocking;
use crate::engine::Engine;
use crate::entry::EntryId;
use crate::memory_engine::{MemoryDisk, MemoryEngine};
use crate::tables::tests::world::{Place, SHARD, World, check, delete, event, furnished, id, open, small, write};
use crate::tables::{MembershipChange, Tables, TablesError};

async fn frames(checkpoint: &Checkpoint) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut cursor = Some(CheckpointCursor::default());
    while let Some(here) = cursor {
        let (frame, next) = checkpoint.read(here).await.expect("reads");
        frames.push(frame);
        cursor = next;
    }
    frames
}

async fn install(tables: &Tables, frames: &[Bytes]) -> Result<CompleteCheckpoint, CheckpointError> {
    let mut install = tables.begin_install().await?;
    for frame in frames {
        install.write(frame.clone()).await?;
    }
    install.finish().await
}

fn is_refused<T>(outcome: Result<T, CheckpointError>) -> bool {
    matches!(outcome, Err(CheckpointError::Refused { .. }))
}

async fn empty_tables() -> (Arc<dyn Engine>, Tables) {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::open(MemoryDisk::new()));
    let tables = open(&engine, &small(4_000), None).await.expect("opens");
    (engine, tables)
}

#[tokio::test]
async fn an_installed_checkpoint_is_the_source() {
    for place in [Place::memory(), Place::fjall()] {
        let world = furnished(place, small(4_000)).await;
        let change = MembershipChange { membership: Bytes::from_static(b"three"), seen_nodes: Bytes::from_static(b"four") };
        let entry = EntryId { term: 2, leader: 3, index: world.applied_index() + 1 };
        world.tables().apply(entry, None, Some(change)).await.expect("applies");
        world.durable.send_replace(Some(entry.index));
        let checkpoint = world.tables().checkpoint().await.expect("is made");
        assert_eq!(checkpoint.applied(), Some(entry));
        assert_eq!(checkpoint.state_hash(), world.tables().state_hash().1);

        let (engine, mut tables) = empty_tables().await;
        let complete = install(&tables, &frames(&checkpoint).await).await.expect("is whole");
        assert_eq!(tables.applied(), None, "not current before the switch");
        assert_eq!(tables.switch(complete).await.expect("switches"), Some(entry));
        for _ in 0..2 {
            assert_eq!(tables.state_hash(), world.tables().state_hash());
            assert_eq!((tables.applied(), tables.flushed()), (Some(entry), Some(entry)));
            assert_eq!(tables.membership(), world.tables().membership());
            assert_eq!(
                tables.membership().map(|found| (found.entry, found.bytes)),
                Some((Some(entry), Bytes::from_static(b"three")))
            );
            assert_eq!(tables.seen_nodes(), Bytes::from_static(b"four"));
            check(&tables, &world.model).await;
            tables = open(&engine, &small(4_000), None).await.expect("opens");
        }
    }
}

#[tokio::test]
async fn a_frame_that_is_changed_missing_repeated_or_out_of_order_is_refused() {
    let world = furnished(Place::memory(), small(4_000)).await;
    let whole = frames(&world.tables().checkpoint().await.expect("is made")).await;
    assert!(whole.len() >= 2);
    let (_engine, tables) = empty_tables().await;
    let first = &whole[0];
    // Every bit of head and tail, and some of each part between.
    let positions = (0..first.len()).filter(|at| *at < 64 || *at + 16 > first.len() || at % 97 == 0);
    for (at, bit) in positions.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = first.to_vec();
        changed[at] ^= 1 << bit;
        let mut damaged = whole.clone();
        damaged[0] = changed.into();
        assert!(is_refused(install(&tables, &damaged).await), "bit {bit} of byte {at}");
    }
    for length in [0, 1, 17, 25, first.len() - 1] {
        let mut cut = whole.clone();
        cut[0] = first.slice(..length);
        assert!(is_refused(install(&tables, &cut).await), "cut at {length}");
    }
    for missing in 0..whole.len() {
        let mut frames = whole.clone();
        frames.remove(missing);
        assert!(is_refused(install(&tables, &frames).await), "without frame {missing}");
        let mut frames = whole.clone();
        frames.insert(missing, whole[missing].clone());
        assert!(is_refused(install(&tables, &frames).await), "twice frame {missing}");
    }
    assert!(is_refused(install(&tables, &[]).await));
    let complete = install(&tables, &whole).await.expect("unharmed by what was refused");
    tables.switch(complete).await.expect("switches");
    check(&tables, &world.model).await;
}

#[tokio::test]
async fn frames_of_two_checkpoints_do_not_mix() {
    let mut world = World::new(Place::memory(), small(usize::MAX)).await;
    // More than one frame of records.
    let large = |number| {
        let mut event = event(number, &[]);
        event.payload.bytes = vec![7; 600_000].into();
        event
    };
    for number in 1..=4 {
        world.write("a", &[large(number)]).await;
    }
    let one = frames(&world.tables().checkpoint().await.expect("is made")).await;
    world.write("a", &[large(5)]).await;
    let other = frames(&world.tables().checkpoint().await.expect("is made")).await;
    assert!(one.len() >= 3 && other.len() >= 3, "{} and {}", one.len(), other.len());
    let (_engine, tables) = empty_tables().await;
    let mixed: Vec<Bytes> = one[..1].iter().chain(&other[1..]).cloned().collect();
    assert!(is_refused(install(&tables, &mixed).await));
}

#[tokio::test]
async fn a_checkpoint_of_another_shard_or_an_older_one_is_refused() {
    let world = furnished(Place::memory(), small(4_000)).await;
    let whole = frames(&world.tables().checkpoint().await.expect("is made")).await;
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::open(MemoryDisk::new()));
    let foreign = Tables::open(engine, ShardId(SHARD.0 + 1), Arc::new(InlineBlocking), None, small(4_000)).await.expect("opens");
    assert!(is_refused(install(&foreign, &whole).await));

    let complete = install(world.tables(), &whole).await.expect("is whole");
    assert!(is_refused(world.tables().switch(complete).await), "the source itself is as new");
    world.check().await;
}

#[tokio::test]
async fn one_installation_at_a_time_and_an_abandoned_one_leaves_nothing() {
    let world = furnished(Place::memory(), small(4_000)).await;
    let whole = frames(&world.tables().checkpoint().await.expect("is made")).await;
    let (engine, tables) = empty_tables().await;
    let mut first = tables.begin_install().await.expect("begins");
    first.write(whole[0].clone()).await.expect("is the first frame");
    assert!(matches!(tables.begin_install().await, Err(TablesError::TooMany { .. })));
    drop(first);
    assert_eq!(engine.tables().expect("lists").len(), 3, "pointers, current and abandoned");
    drop(tables);
    let tables = open(&engine, &small(4_000), None).await.expect("opens");
    assert_eq!(engine.tables().expect("lists").len(), 2, "the abandoned one went with the next start");
    assert_eq!(tables.applied(), None);
}

#[tokio::test]
async fn a_crash_at_any_ingestion_of_an_installation_leaves_the_old_state_or_the_new_one() {
    let world = furnished(Place::memory(), small(4_000)).await;
    let whole = frames(&world.tables().checkpoint().await.expect("is made")).await;
    let applied = world.tables().applied();
    let mut outcomes = Vec::new();
    for ingestions in 0..6 {
        let disk = MemoryDisk::new();
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::open(disk.clone()));
        let tables = open(&engine, &small(4_000), None).await.expect("opens");
        disk.crash_after(ingestions);
        let is_done = match install(&tables, &whole).await {
            Ok(complete) => tables.switch(complete).await.is_ok(),
            Err(_) => false,
        };
        disk.restart();
        let tables = open(&engine, &small(4_000), None).await.expect("opens");
        match tables.applied() {
            None => check(&tables, &MemoryStore::new()).await,
            found => {
                assert_eq!(found, applied);
                check(&tables, &world.model).await;
            }
        }
        assert!(!is_done || tables.applied() == applied, "a switch that was answered stays");
        assert_eq!(engine.tables().expect("lists").len(), 2);
        outcomes.push(tables.applied().is_some());
    }
    assert!(outcomes.contains(&true) && outcomes.contains(&false), "{outcomes:?}");
}

#[tokio::test]
async fn tables_go_on_from_an_installed_checkpoint() {
    let mut world = furnished(Place::memory(), small(4_000)).await;
    let whole = frames(&world.tables().checkpoint().await.expect("is made")).await;
    let (_engine, tables) = empty_tables().await;
    let mut subscription = tables.subscribe(&id("a")).await.expect("subscribes");
    let complete = install(&tables, &whole).await.expect("is whole");
    tables.switch(complete).await.expect("switches");
    assert!(subscription.wait_above(cairn_machine::SequenceNumber(39)).await, "followers hear of what it brought");

    let from = world.applied_index();
    for number in 41..=60 {
        world.apply(vec![write("a", &[event(number, &["red"])]), delete("b", 40, true)]).await;
    }
    for applied in world.log.iter().filter(|applied| applied.entry.index > from) {
        let replies = tables.apply(applied.entry, Some(&applied.batch), None).await.expect("applies");
        assert_eq!(replies, applied.replies);
    }
    assert_eq!(tables.state_hash(), world.tables().state_hash());
    check(&tables, &world.model).await;
    tables.flush().await.expect("flushes");
    check(&tables, &world.model).await;
}

/// The bytes of a checkpoint as the first version of the format made them.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/checkpoint-v1.txt");

#[tokio::test]
async fn a_checkpoint_of_version_1_is_installed_and_is_what_is_made_today() {
    let world = furnished(Place::memory(), small(10_000_000)).await;
    let made = frames(&world.tables().checkpoint().await.expect("is made")).await;
    let made: Vec<Vec<Bytes>> = made.into_iter().map(|frame| vec![frame]).collect();
    let kept = crate::tables::tests::fixture::compare(FIXTURE, &made);
    let kept: Vec<Bytes> = kept.into_iter().flatten().collect();
    let (_engine, tables) = empty_tables().await;
    let complete = install(&tables, &kept).await.expect("is whole");
    tables.switch(complete).await.expect("switches");
    check(&tables, &world.model).await;
}

#[tokio::test]
async fn a_digest_is_the_same_whatever_a_replica_flushed_removed_or_installed_and_tells_every_difference() {
    let mut reference = furnished(Place::memory(), small(usize::MAX)).await;
    // Rows of `a` that were flushed are removed after this, where they were flushed.
    reference.apply(vec![delete("a", 20, true), delete("b", 9, true)]).await;
    let digest = reference.tables().digest().await.expect("is made");
    assert_eq!(digest.0.map(|entry| entry.index), Some(reference.applied_index()));
    for memtable_bytes_max in [1_000, 4_000, 20_000] {
        let mut world = furnished(Place::memory(), small(memtable_bytes_max)).await;
        world.flush().await;
        world.apply(vec![delete("a", 20, true), delete("b", 9, true)]).await;
        assert_eq!(world.tables().digest().await.expect("is made"), digest, "flushed every {memtable_bytes_max} bytes");
        world.reclaimed().await;
        assert_eq!(world.tables().digest().await.expect("is made"), digest, "after space was given back");
        let (_engine, tables) = empty_tables().await;
        let checkpoint = world.tables().checkpoint().await.expect("is made");
        let complete = install(&tables, &frames(&checkpoint).await).await.expect("is whole");
        tables.switch(complete).await.expect("switches");
        assert_eq!(tables.digest().await.expect("is made"), digest, "installed");
        world.append("a", 1).await;
        assert_ne!(world.tables().digest().await.expect("is made").1, digest.1, "one event more");
    }
}
