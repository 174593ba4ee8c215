//! Random histories.

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Claim, Command, Criteria, DeleteSnapshot, DeleteSnapshots, DeleteTo, Event, SaveId, SequenceNumber,
    SnapshotChunk, SnapshotData, Write, WriterEpoch,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::world::{Place, World, event, id, open, save, small, writer};

/// One step of a history; what it means is worked out against the model when it is done.
#[derive(Clone, Debug)]
enum Step {
    Entry(Vec<Proposal>),
    Flush,
    Restart,
    Check,
}

#[derive(Clone, Debug)]
enum Proposal {
    /// Atomic writes of so many events, after a gap; from a number below the highest if `back` is not 0.
    Write {
        name: u8,
        writer: u8,
        back: u64,
        writes: Vec<(u64, u64, bool)>,
    },
    Claim {
        name: u8,
        writer: u8,
    },
    Delete {
        name: u8,
        back: u64,
        permanent: bool,
    },
    Chunk {
        name: u8,
        save: u128,
        index: u32,
        size: usize,
    },
    SaveUpload {
        name: u8,
        save: u128,
        chunks: u32,
        bytes: u64,
        at: u64,
    },
    Save {
        name: u8,
        save: u128,
        at: u64,
        size: usize,
    },
    DeleteSnapshot {
        name: u8,
        at: u64,
    },
    DeleteSnapshots {
        name: u8,
        to: u64,
    },
    /// The same as some command before.
    Again(usize),
}

fn proposals() -> impl Strategy<Value = Proposal> {
    let name = 0..5u8;
    prop_oneof![
        8 => (name.clone(), 0..2u8, 0..6u64, proptest::collection::vec((0..3u64, 1..4u64, any::<bool>()), 1..4))
            .prop_map(|(name, writer, back, writes)| Proposal::Write { name, writer, back: back.saturating_sub(4), writes }),
        1 => (name.clone(), 0..3u8).prop_map(|(name, writer)| Proposal::Claim { name, writer }),
        2 => (name.clone(), 0..9u64, any::<bool>()).prop_map(|(name, back, permanent)| Proposal::Delete { name, back, permanent }),
        2 => (name.clone(), 0..4u128, 0..3u32, 1..300usize)
            .prop_map(|(name, save, index, size)| Proposal::Chunk { name, save, index, size }),
        1 => (name.clone(), 0..4u128, 0..3u32, 0..600u64, 0..4u64)
            .prop_map(|(name, save, chunks, bytes, at)| Proposal::SaveUpload { name, save, chunks, bytes, at }),
        2 => (name.clone(), 0..20u128, 0..6u64, 0..700usize).prop_map(|(name, save, at, size)| Proposal::Save { name, save, at, size }),
        1 => (name.clone(), 0..6u64).prop_map(|(name, at)| Proposal::DeleteSnapshot { name, at }),
        1 => (name, 0..6u64).prop_map(|(name, to)| Proposal::DeleteSnapshots { name, to }),
        2 => any::<usize>().prop_map(Proposal::Again),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => proptest::collection::vec(proposals(), 1..6).prop_map(Step::Entry),
        2 => Just(Step::Flush),
        2 => Just(Step::Restart),
        1 => Just(Step::Check),
    ];
    proptest::collection::vec(step, 1..40)
}

fn name(number: u8) -> String {
    ["a", "ab", "a\0", "b", "ü"][usize::from(number)].to_owned()
}

fn tags(number: u64) -> &'static [&'static str] {
    [["red", "blue"].as_slice(), ["re", "r"].as_slice(), ["red\0"].as_slice()][usize::try_from(number % 3).expect("small")]
}

fn command(world: &World, proposal: &Proposal) -> Option<Command> {
    let highest = |number: u8| world.model.highest(&id(&name(number))).0;
    Some(match *proposal {
        Proposal::Write { name: number, writer: by, back, ref writes } => {
            let mut next = (highest(number) + 1).saturating_sub(back).max(1);
            let mut atomic_writes = Vec::new();
            for (gap, count, is_tagged) in writes {
                let first = next + gap;
                let tags = |number| if *is_tagged && number % 2 == 0 { tags(number) } else { &[] };
                let events: Vec<Event> = (first..first + count).map(|number| event(number, tags(number))).collect();
                atomic_writes.push(AtomicWrite::new(&events).expect("valid"));
                next = first + count;
            }
            let (persistence_id, writer) = (id(&name(number)), writer(&format!("w{by}")));
            Command::Write(Write { persistence_id, writer, epoch: None, after: None, atomic_writes })
        }
        Proposal::Claim { name: number, writer: by } => {
            let persistence_id = id(&name(number));
            let epoch_read = world.model.journal(&persistence_id).map_or(WriterEpoch(0), |head| head.epoch);
            Command::Claim(Claim { persistence_id, writer: writer(&format!("w{by}")), epoch_read })
        }
        Proposal::Delete { name: number, back, permanent } => {
            let to = SequenceNumber(highest(number).saturating_sub(back));
            Command::DeleteTo(DeleteTo { persistence_id: id(&name(number)), to, permanent, writer: writer(""), epoch: None })
        }
        Proposal::Chunk { name: number, save, index, size } => Command::SnapshotChunk(SnapshotChunk {
            persistence_id: id(&name(number)),
            save_id: SaveId(Uuid::from_u128(save)),
            index,
            bytes: Bytes::from(vec![u8::try_from(index).expect("small"); size]),
        }),
        Proposal::SaveUpload { name: number, save: which, chunks, bytes, at } => {
            // As often as not what was really uploaded.
            let uploads = &cairn_machine::View::shard(&world.model).uploads;
            let upload = uploads.get(&SaveId(Uuid::from_u128(which)));
            let (chunks, bytes_total) = upload.map_or((chunks, bytes), |upload| (upload.chunks, upload.bytes_total));
            save(&name(number), at, which, saves(world, number), SnapshotData::Uploaded { chunks, bytes_total })
        }
        Proposal::Save { name: number, save: which, at, size } => {
            let bytes = Bytes::from(vec![u8::try_from(which).expect("small"); size]);
            save(&name(number), at, 1000 + which, saves(world, number), SnapshotData::Inline(bytes))
        }
        Proposal::DeleteSnapshot { name: number, at } => Command::DeleteSnapshot(DeleteSnapshot {
            persistence_id: id(&name(number)),
            sequence_number: SequenceNumber(at),
            timestamp: None,
            saves_read: None,
            writer: writer(""),
            epoch: None,
        }),
        Proposal::DeleteSnapshots { name: number, to } => Command::DeleteSnapshots(DeleteSnapshots {
            persistence_id: id(&name(number)),
            criteria: Criteria { sequence_number_max: SequenceNumber(to), ..Criteria::LATEST },
            saves_read: None,
            writer: writer(""),
            epoch: None,
        }),
        Proposal::Again(which) => {
            let before: Vec<&Command> = world.log.iter().flat_map(|applied| &applied.batch.commands).collect();
            before.get(which.checked_rem(before.len())?).map(|command| (*command).clone())?
        }
    })
}

fn saves(world: &World, number: u8) -> u64 {
    world.model.journal(&id(&name(number))).map_or(0, |head| head.saves.0)
}

async fn run(place: Place, memtable_bytes_max: usize, steps: Vec<Step>) {
    let mut world = World::new(place, small(memtable_bytes_max)).await;
    for step in steps {
        match step {
            Step::Entry(proposals) => {
                // All are made for what the shard is before the entry: later ones often conflict.
                let commands = proposals.iter().filter_map(|proposal| command(&world, proposal)).collect();
                world.apply(commands).await;
            }
            Step::Flush => world.flush().await,
            Step::Restart => world.restart().await,
            Step::Check => world.check().await,
        }
    }
    world.check().await;
    world.restart().await;
    world.check().await;
    world.flush().await;
    world.check().await;
    let digest = world.tables().digest().await.expect("is made");
    let replica = open(&Place::memory().engine(), &small(usize::MAX), None).await.expect("opens");
    for applied in &world.log {
        replica.apply(applied.entry, Some(&applied.batch), None).await.expect("applies");
    }
    assert_eq!(replica.digest().await.expect("is made"), digest, "a replica that flushed once has the same");
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future);
}

/// So many histories, or as many as the environment asks for.
fn histories(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(histories(48))]

    #[test]
    fn tables_are_the_model_through_flushes_and_restarts(memtable_bytes_max in 600..20_000usize, steps in steps()) {
        block_on(run(Place::memory(), memtable_bytes_max, steps));
    }
}

proptest! {
    #![proptest_config(histories(3))]

    #[test]
    fn tables_on_disk_are_the_model_through_flushes_and_restarts(memtable_bytes_max in 2_000..20_000usize, steps in steps()) {
        block_on(run(Place::fjall(), memtable_bytes_max, steps));
    }
}
