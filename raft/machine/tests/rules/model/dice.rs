//! Commands from dice: small numbers that are made into commands that mean something where the model stands.

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Claim, Command, Criteria, DeleteSnapshot, DeleteSnapshots, DeleteTo, Payload, PersistenceId, SaveNumber,
    SaveSnapshot, SequenceNumber, SnapshotChunk, SnapshotData, Write, WriterEpoch, WriterId,
};
use proptest::prelude::*;

use super::world::World;
use crate::build::{atomic, event, name, save_id, writer};

const JOURNALS: [&str; 2] = ["cart", "order"];
const WRITERS: [&str; 4] = ["A", "B", "C", ""];

/// One throw. Each field is used as the kind of command needs it.
#[derive(Clone, Debug)]
pub struct Roll {
    kind: u8,
    journal: u8,
    who: u8,
    one: u8,
    two: u8,
    three: u8,
    pub moment: u8,
    pub ends_batch: bool,
}

pub fn roll() -> impl Strategy<Value = Roll> {
    let small = || 0u8..16;
    (0u8..100, 0u8..4, small(), small(), small(), small(), any::<u8>(), any::<bool>()).prop_map(
        |(kind, journal, who, one, two, three, moment, ends_batch)| Roll {
            kind,
            journal,
            who,
            one,
            two,
            three,
            moment,
            ends_batch,
        },
    )
}

impl Roll {
    /// The commands of this throw.
    pub fn commands(&self, world: &World, said: &[Command]) -> Vec<Command> {
        match self.kind {
            0..30 => vec![self.write(world)],
            30..38 => vec![self.claim(world)],
            38..46 => vec![self.delete_to(world)],
            46..54 => vec![self.chunk(world)],
            54..64 => vec![self.save(world)],
            64..68 => vec![self.delete_snapshot(world)],
            68..71 => vec![self.delete_snapshots(world)],
            71..74 => self.many_claims(world),
            74..77 => self.many_saves(world),
            _ => self.again(said),
        }
    }

    fn journal(&self) -> PersistenceId {
        // One of the two is busier.
        name(JOURNALS[usize::from(self.journal == 0)])
    }

    /// The journal's present writer with its epoch, or without, or somebody else.
    fn sender(&self, world: &World) -> (WriterId, Option<WriterEpoch>) {
        let (epoch, current) = world.reign(&self.journal());
        let other = writer(WRITERS[usize::from(self.who) % WRITERS.len()]);
        match self.who {
            0..5 => (writer(&current), Some(WriterEpoch(epoch))),
            5..8 => (writer(&current), None),
            8 => (writer(&current), Some(WriterEpoch(epoch + 1))),
            9 => (other, Some(WriterEpoch(epoch))),
            10 | 11 => (other, Some(WriterEpoch(epoch.saturating_sub(1)))),
            _ => (other, None),
        }
    }

    fn write(&self, world: &World) -> Command {
        let (writer, epoch) = self.sender(world);
        let highest = world.highest(self.journal().as_str());
        let after = match self.one {
            0..7 => None,
            7..14 => Some(SequenceNumber(highest)),
            14 => Some(SequenceNumber(highest + 1)),
            _ => Some(SequenceNumber(highest.saturating_sub(1))),
        };
        // Mostly the next number, sometimes behind a gap, sometimes taken.
        let mut next = match self.two {
            0..9 => highest + 1,
            9..11 => highest + 3,
            below => (highest + 1).saturating_sub(u64::from(below - 10)).max(1),
        };
        let mut atomic_writes: Vec<AtomicWrite> = Vec::new();
        for ordinal in 0..u64::from(self.three % 4) {
            // Few different texts, so that other writers by chance send the same.
            let text = ["x", "y"][usize::from(self.three) / 8];
            let count = 1 + (ordinal + u64::from(self.three)) % 3;
            let events: Vec<_> = (0..count).map(|more| event(next + more * (1 + ordinal), text)).collect();
            next = events.last().expect("at least one").sequence_number.0 + 1;
            atomic_writes.push(atomic(&events));
        }
        Command::Write(Write { persistence_id: self.journal(), writer, epoch, after, atomic_writes })
    }

    fn claim(&self, world: &World) -> Command {
        let (epoch, _) = world.reign(&self.journal());
        let epoch_read = match self.one {
            0..9 => epoch,
            9..15 => epoch.saturating_sub(u64::from(self.one) - 8),
            _ => epoch + 1,
        };
        let writer = writer(WRITERS[usize::from(self.who) % 3]);
        Command::Claim(Claim { persistence_id: self.journal(), writer, epoch_read: WriterEpoch(epoch_read) })
    }

    /// More claims than are remembered.
    fn many_claims(&self, world: &World) -> Vec<Command> {
        let (epoch, _) = world.reign(&self.journal());
        let claim = |more: u64| {
            Command::Claim(Claim {
                persistence_id: self.journal(),
                writer: writer(&format!("W{}", epoch + more)),
                epoch_read: WriterEpoch(epoch + more),
            })
        };
        (0..10 + u64::from(self.one)).map(claim).collect()
    }

    fn delete_to(&self, world: &World) -> Command {
        let (writer, epoch) = self.sender(world);
        let highest = world.highest(self.journal().as_str());
        let to = match self.one {
            0..10 => SequenceNumber(highest.saturating_sub(u64::from(self.one))),
            10..13 => SequenceNumber(highest + 2),
            _ => SequenceNumber::MAX,
        };
        let permanent = self.two.is_multiple_of(2);
        Command::DeleteTo(DeleteTo { persistence_id: self.journal(), to, permanent, writer, epoch })
    }

    fn chunk(&self, _world: &World) -> Command {
        Command::SnapshotChunk(SnapshotChunk {
            persistence_id: self.journal(),
            save_id: save_id(900 + u64::from(self.one % 3)),
            index: u32::from(self.two % 4),
            bytes: Bytes::from_static(&[7; 16]).slice(..1 + usize::from(self.three)),
        })
    }

    fn save(&self, world: &World) -> Command {
        let (writer, epoch) = self.sender(world);
        let saves = world.saves(&self.journal());
        let (id, data) = match self.two {
            0..10 => {
                let text = Bytes::copy_from_slice(&[b's'; 16][..usize::from(self.three)]);
                // Now and then under an id that named another save long ago.
                let id = if self.two == 9 { world.save_id_of(&self.journal(), self.one) } else { None };
                (id.unwrap_or(world.said_count() + 1), SnapshotData::Inline(text))
            }
            _ => {
                let id = 900 + u64::from(self.one % 3);
                let (chunks, bytes_total) = world.uploaded(&self.journal(), id);
                (id, SnapshotData::Uploaded { chunks: chunks + u32::from(self.three == 0), bytes_total })
            }
        };
        Command::SaveSnapshot(SaveSnapshot {
            persistence_id: self.journal(),
            sequence_number: SequenceNumber(u64::from(self.one % 4)),
            timestamp: self.three.is_multiple_of(2).then_some(i64::from(self.three)),
            save_id: save_id(id),
            saves_read: SaveNumber(saves.saturating_sub(if self.one == 15 { 17 } else { 0 })),
            payload: Payload::default(),
            data,
            metadata: None,
            writer,
            epoch,
        })
    }

    /// More saves than are remembered.
    fn many_saves(&self, world: &World) -> Vec<Command> {
        let saves = world.saves(&self.journal());
        let save = |more: u64| {
            Command::SaveSnapshot(SaveSnapshot {
                persistence_id: self.journal(),
                sequence_number: SequenceNumber(more % 3),
                timestamp: None,
                save_id: save_id(10_000 + world.said_count() * 100 + more),
                saves_read: SaveNumber(saves),
                payload: Payload::default(),
                data: SnapshotData::Inline(Bytes::from_static(b"many")),
                metadata: None,
                writer: writer(""),
                epoch: None,
            })
        };
        (0..10 + u64::from(self.one)).map(save).collect()
    }

    fn delete_snapshot(&self, world: &World) -> Command {
        let (writer, epoch) = self.sender(world);
        Command::DeleteSnapshot(DeleteSnapshot {
            persistence_id: self.journal(),
            sequence_number: SequenceNumber(u64::from(self.one % 4)),
            timestamp: (self.two > 10).then_some(i64::from(self.three)),
            saves_read: self.two.is_multiple_of(2).then_some(SaveNumber(world.saves(&self.journal()))),
            writer,
            epoch,
        })
    }

    fn delete_snapshots(&self, world: &World) -> Command {
        let (writer, epoch) = self.sender(world);
        Command::DeleteSnapshots(DeleteSnapshots {
            persistence_id: self.journal(),
            criteria: Criteria {
                sequence_number_min: SequenceNumber(u64::from(self.one % 3)),
                sequence_number_max: SequenceNumber(u64::from(self.two % 5)),
                timestamp_min: i64::from(self.three % 4) - 1,
                timestamp_max: i64::from(self.three) * 20,
            },
            saves_read: self.who.is_multiple_of(2).then_some(SaveNumber(world.saves(&self.journal()))),
            writer,
            epoch,
        })
    }

    /// An earlier command exactly as it was: mostly a recent one.
    fn again(&self, said: &[Command]) -> Vec<Command> {
        let back = 1 + usize::from(self.one) + 16 * usize::from(self.two / 4) * usize::from(self.three / 4);
        said.len().checked_sub(back).map(|at| said[at].clone()).into_iter().collect()
    }
}
