//! The rules against a model that remembers everything.
//!
//! The model keeps the whole history of a journal in plain lists and works each answer out from it: who ever was the writer,
//! what was ever stored, deleted and saved. Random conversations, among them exact repetitions of earlier commands with foreign
//! ones in between, must get the same answers from both and leave the same to read.

mod dice;
mod world;

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_machine::{
    Batch, Command, Criteria, MemoryStore, Position, Reply, SaveId, SequenceNumber, SnapshotRecord, Timestamp, View,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use dice::{Roll, roll};
use world::World;

#[test]
fn random_conversations_go_as_in_the_model() {
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let mut seen = BTreeMap::new();
    runner
        .run(&vec(roll(), 1..80), |rolls| {
            converse(&rolls, &mut BTreeMap::new());
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    // The dice must reach what the model is for; else it would hold by saying little.
    let mut sampler = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..300 {
        let rolls = vec(roll(), 80).new_tree(&mut sampler).expect("dice can be rolled").current();
        converse(&rolls, &mut seen);
    }
    for kind in ["stored", "same", "conflict", "fenced", "epoch moved", "forgotten", "granted", "deleted", "saved", "chunk"] {
        assert!(seen.get(kind).is_some_and(|count| *count >= 100), "{kind} is reached too rarely: {seen:?}");
    }
}

/// Says everything to both, batch by batch, and counts the kinds of answers.
fn converse(rolls: &[Roll], seen: &mut BTreeMap<&'static str, u64>) {
    let mut world = World::default();
    let mut store = MemoryStore::new();
    let mut said: Vec<Command> = Vec::new();
    let mut batch = Batch { moment: Timestamp(0), commands: Vec::new() };
    let mut expected = Vec::new();
    for (index, roll) in rolls.iter().enumerate() {
        if batch.commands.is_empty() {
            batch.moment = Timestamp(1_000 * i64::from(roll.moment));
        }
        for command in roll.commands(&world, &said) {
            let (reply, kinds) = world.answer(&command, batch.moment.0);
            kinds.into_iter().for_each(|kind| *seen.entry(kind).or_default() += 1);
            expected.push(reply);
            said.push(command.clone());
            batch.commands.push(command);
        }
        if roll.ends_batch || index + 1 == rolls.len() {
            hear(&mut store, &batch, &expected, &world);
            batch.commands.clear();
            expected.clear();
        }
    }
}

fn hear(store: &mut MemoryStore, batch: &Batch, expected: &[Reply], world: &World) {
    let before = store.clone();
    let batch = Batch::decode(&batch.encode()).expect("what was encoded decodes");
    let replies = store.apply(&batch);
    for ((reply, expected), command) in replies.iter().zip(expected).zip(&batch.commands) {
        assert_eq!(reply, expected, "to {command:?}");
    }
    assert_eq!(replies.len(), expected.len());
    check_journals(store, &before, world);
    check_positions(store, world);
    let uploads: Vec<(SaveId, u32, u64)> =
        store.shard().uploads.iter().map(|(id, upload)| (*id, upload.chunks, upload.bytes_total)).collect();
    assert_eq!(uploads, world.uploads());
    assert_eq!(store.chunks_count(), world.chunks_count(), "nothing is left behind");
}

fn check_journals(store: &MemoryStore, before: &MemoryStore, world: &World) {
    let listed: Vec<String> =
        store.journals("", None, usize::MAX).iter().map(|journal| journal.persistence_id.to_string()).collect();
    assert_eq!(listed, world.names());
    for text in listed {
        let name = crate::build::name(&text);
        let head = store.journal(&name).expect("it is listed");
        assert!(head.highest >= before.highest(&name), "the highest number never decreases");
        assert!(head.removed_to <= head.deleted_to && head.deleted_to <= head.highest);
        assert_eq!(head.highest.0, world.highest(&text));
        let everything = |events: Vec<cairn_machine::StoredEvent>| -> Vec<(u64, u64, Bytes, String, i64)> {
            let part = |event: cairn_machine::StoredEvent| {
                let number = event.event.sequence_number.0;
                (number, event.position.0, event.event.payload.bytes, event.writer.to_string(), event.timestamp.0)
            };
            events.into_iter().map(part).collect()
        };
        let (from, to) = (SequenceNumber(0), SequenceNumber::MAX);
        let shown = store.replay(&name, from, to, usize::MAX).expect("stored bodies decode");
        assert!(shown.iter().all(|event| !event.deleted));
        assert_eq!(everything(shown), world.shown(&text));
        let kept = store.replay_with_deleted(&name, from, to, usize::MAX).expect("stored bodies decode");
        assert_eq!(everything(kept), world.kept(&text));
        let snapshots: Vec<(u64, u64, i64, Option<Bytes>)> =
            store.snapshots_of(&name).map(|record| described(store, record)).collect();
        assert_eq!(snapshots, world.snapshots(&text));
        assert_eq!(head.snapshots as usize, snapshots.len());
        let latest = store.latest_snapshot(&name, &Criteria::LATEST).map(|record| described(store, record));
        assert_eq!(latest, snapshots.last().cloned());
    }
}

fn described(store: &MemoryStore, record: &SnapshotRecord) -> (u64, u64, i64, Option<Bytes>) {
    (record.sequence_number.0, record.save_number.0, record.timestamp, store.snapshot_bytes(record))
}

/// Positions are dense, in the order of storing, and belong to the same events for ever.
fn check_positions(store: &MemoryStore, world: &World) {
    assert_eq!(store.shard().next_position.0, world.next_position());
    let events = store.events_from_position(Position(0), usize::MAX).expect("stored bodies decode");
    let found: Vec<(u64, String, u64)> =
        events.into_iter().map(|(name, event)| (event.position.0, name.to_string(), event.event.sequence_number.0)).collect();
    assert_eq!(found, world.positions());
}
