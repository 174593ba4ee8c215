//! The model: histories in plain lists, from which everything is worked out anew each time.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Claim, ClaimReply, Command, Criteria, DeleteReply, DeleteSnapshotsReply, DeleteTo, Event, PersistenceId,
    Position, Refusal, Reply, SaveId, SaveNumber, SaveReply, SaveSnapshot, SequenceNumber, SnapshotChunk, SnapshotData,
    Timestamp, Write, WriteOutcome, WriteReply, WriterEpoch, WriterId,
};

use crate::build::{save_id, writer};

/// What the product remembers of writers and of saves.
const REMEMBERED: usize = 16;

#[derive(Default)]
pub struct World {
    journals: BTreeMap<String, Journal>,
    uploads: BTreeMap<SaveId, (String, Vec<Bytes>)>,
    positions_taken: u64,
    said: u64,
}

#[derive(Clone)]
struct Journal {
    stored: Vec<Stored>,
    /// Every writer there ever was, with its epoch; the last one is the present one.
    reigns: Vec<Reign>,
    /// Every deletion that was done: how far, and whether permanently.
    deletions: Vec<(u64, bool)>,
    /// Every save that was done: what was sent, and the timestamp that it got.
    saves: Vec<(SaveSnapshot, i64)>,
    snapshots: BTreeMap<u64, Snapshot>,
}

#[derive(Clone)]
struct Reign {
    writer: WriterId,
    epoch: u64,
    /// The first one is nobody's unless somebody without a name wrote in it.
    is_somebody: bool,
}

#[derive(Clone)]
struct Stored {
    writer: WriterId,
    events: Vec<Event>,
    previous: u64,
    position: u64,
    time: i64,
}

#[derive(Clone)]
struct Snapshot {
    number: u64,
    timestamp: i64,
    bytes: Bytes,
    chunks: usize,
}

impl Default for Journal {
    fn default() -> Self {
        let nobody = Reign { writer: writer(""), epoch: 0, is_somebody: false };
        Self { stored: Vec::new(), reigns: vec![nobody], deletions: Vec::new(), saves: Vec::new(), snapshots: BTreeMap::new() }
    }
}

impl Stored {
    fn first(&self) -> u64 {
        self.events[0].sequence_number.0
    }

    fn last(&self) -> u64 {
        self.events[self.events.len() - 1].sequence_number.0
    }
}

impl Journal {
    fn highest(&self) -> u64 {
        self.stored.iter().map(Stored::last).max().unwrap_or(0)
    }

    fn deleted_to(&self) -> u64 {
        self.deletions.iter().map(|(to, _)| *to).max().unwrap_or(0)
    }

    fn removed_to(&self) -> u64 {
        self.deletions.iter().filter(|(_, permanent)| *permanent).map(|(to, _)| *to).max().unwrap_or(0)
    }

    fn reign(&self) -> &Reign {
        &self.reigns[self.reigns.len() - 1]
    }

    /// The writers before the present one that are remembered.
    fn former(&self) -> Vec<&Reign> {
        let before = &self.reigns[..self.reigns.len() - 1];
        let mut former: Vec<&Reign> = before.iter().filter(|reign| reign.is_somebody).collect();
        former.drain(..former.len().saturating_sub(REMEMBERED));
        former
    }

    fn begin_reign(&mut self, writer: &WriterId) {
        let epoch = self.reign().epoch + 1;
        let has_events = !self.stored.is_empty();
        let last = self.reigns.last_mut().expect("there is always a reign");
        last.is_somebody |= has_events;
        self.reigns.push(Reign { writer: writer.clone(), epoch, is_somebody: true });
    }

    fn fenced(&self) -> Refusal {
        let Reign { writer, epoch, .. } = self.reign().clone();
        Refusal::Fenced { epoch: WriterEpoch(epoch), writer, highest: SequenceNumber(self.highest()) }
    }

    fn conflict(&self) -> Refusal {
        let Reign { writer, epoch, .. } = self.reign().clone();
        Refusal::Conflict { highest: SequenceNumber(self.highest()), writer, epoch: WriterEpoch(epoch) }
    }

    fn epoch_moved(&self) -> Refusal {
        let Reign { writer, epoch, .. } = self.reign().clone();
        Refusal::EpochMoved { epoch: WriterEpoch(epoch), writer }
    }

    /// Whether the sender may go on; true if it is not the present writer and has no epoch.
    fn pass(&self, writer: &WriterId, epoch: Option<WriterEpoch>) -> Result<bool, Refusal> {
        let reign = self.reign();
        match epoch {
            Some(epoch) if epoch.0 > reign.epoch => Err(self.epoch_moved()),
            Some(epoch) if epoch.0 == reign.epoch && *writer == reign.writer => Ok(false),
            Some(_) => Err(self.fenced()),
            None if *writer == reign.writer => Ok(false),
            None if self.former().iter().any(|former| former.writer == *writer) => Err(self.fenced()),
            None => Ok(true),
        }
    }

    fn pass_upkeep(&self, writer: &WriterId, epoch: Option<WriterEpoch>) -> Result<(), Refusal> {
        if epoch.is_none() && writer.as_str().is_empty() {
            return Ok(());
        }
        self.pass(writer, epoch).map(|_| ())
    }
}

impl World {
    /// Answers a command, and says of what kinds the answer is.
    pub fn answer(&mut self, command: &Command, now: i64) -> (Reply, Vec<&'static str>) {
        self.said += 1;
        let reply = match command {
            Command::Write(write) => return self.write(write, now),
            Command::Claim(claim) => Reply::Claim(self.claim(claim)),
            Command::DeleteTo(delete) => Reply::DeleteTo(self.delete_to(delete)),
            Command::SnapshotChunk(chunk) => Reply::SnapshotChunk(self.chunk(chunk)),
            Command::SaveSnapshot(save) => Reply::SaveSnapshot(self.save(save, now)),
            Command::DeleteSnapshot(delete) => {
                let matches = |number: u64, snapshot: &Snapshot| {
                    number == delete.sequence_number.0 && delete.timestamp.is_none_or(|wanted| wanted == snapshot.timestamp)
                };
                let sender = (&delete.writer, delete.epoch);
                Reply::DeleteSnapshots(self.delete_snapshots(&delete.persistence_id, delete.saves_read, sender, matches))
            }
            Command::DeleteSnapshots(delete) => {
                let Criteria { sequence_number_min, sequence_number_max, timestamp_min, timestamp_max } = delete.criteria;
                let matches = |number: u64, snapshot: &Snapshot| {
                    sequence_number_min.0 <= number
                        && number <= sequence_number_max.0
                        && timestamp_min <= snapshot.timestamp
                        && snapshot.timestamp <= timestamp_max
                };
                let sender = (&delete.writer, delete.epoch);
                Reply::DeleteSnapshots(self.delete_snapshots(&delete.persistence_id, delete.saves_read, sender, matches))
            }
        };
        let kind = kind(&reply);
        (reply, vec![kind])
    }

    fn write(&mut self, write: &Write, now: i64) -> (Reply, Vec<&'static str>) {
        let name = write.persistence_id.as_str();
        let known = self.journals.get(name).cloned();
        let mut journal = known.unwrap_or_default();
        let mut kinds = Vec::new();
        let mut outcomes = Vec::new();
        let mut check = None;
        if write.atomic_writes.is_empty() {
            let is_not_its_writer = journal.pass(&write.writer, write.epoch).err();
            let after_is_wrong = write.after.filter(|after| after.0 != journal.highest()).map(|_| journal.conflict());
            check = is_not_its_writer.or(after_is_wrong);
        }
        let mut stored_one = false;
        let mut refused_one = false;
        for atomic_write in &write.atomic_writes {
            let (outcome, kind) = match self.known(&journal, write, atomic_write) {
                Some(Ok(outcome)) => (outcome, "same"),
                Some(Err(refusal)) => (WriteOutcome::Refused(refusal), "forgotten"),
                None => match self.refusal(&journal, write, atomic_write, stored_one, refused_one) {
                    Some(refusal) => {
                        let kind = refusal_kind(&refusal);
                        (WriteOutcome::Refused(refusal), kind)
                    }
                    None => {
                        stored_one = true;
                        (self.store(&mut journal, write, atomic_write, now), "stored")
                    }
                },
            };
            refused_one |= matches!(outcome, WriteOutcome::Refused(_));
            outcomes.push(outcome);
            kinds.push(kind);
        }
        let highest = SequenceNumber(journal.highest());
        if stored_one {
            self.journals.insert(name.to_owned(), journal);
        }
        (Reply::Write(WriteReply { highest, check, outcomes }), kinds)
    }

    /// What became of the same atomic write before.
    fn known(&self, journal: &Journal, write: &Write, atomic_write: &AtomicWrite) -> Option<Result<WriteOutcome, Refusal>> {
        let events: Vec<Event> = atomic_write.events().map(|event| event.expect("legal")).collect();
        let newest = journal.stored.len().wrapping_sub(1);
        for (index, stored) in journal.stored.iter().enumerate() {
            let is_visible = index == newest || stored.first() > journal.removed_to();
            if is_visible && stored.writer == write.writer && stored.events == events {
                return Some(Ok(WriteOutcome::Stored {
                    previous: SequenceNumber(stored.previous),
                    position: Position(stored.position),
                    timestamp: Timestamp(stored.time),
                }));
            }
        }
        (atomic_write.first().0 <= journal.removed_to()).then_some(Err(Refusal::Forgotten))
    }

    fn refusal(
        &self,
        journal: &Journal,
        write: &Write,
        atomic_write: &AtomicWrite,
        stored_one: bool,
        refused_one: bool,
    ) -> Option<Refusal> {
        if let Err(refusal) = journal.pass(&write.writer, write.epoch) {
            return Some(refusal);
        }
        let is_out_of_order = write.after.is_some() && refused_one;
        let is_not_after = !stored_one && write.after.is_some_and(|after| after.0 != journal.highest());
        let is_taken = atomic_write.first().0 <= journal.highest();
        (is_out_of_order || is_not_after || is_taken).then(|| journal.conflict())
    }

    fn store(&mut self, journal: &mut Journal, write: &Write, atomic_write: &AtomicWrite, now: i64) -> WriteOutcome {
        if journal.pass(&write.writer, write.epoch) == Ok(true) {
            journal.begin_reign(&write.writer);
        }
        let stored = Stored {
            writer: write.writer.clone(),
            events: atomic_write.events().map(|event| event.expect("legal")).collect(),
            previous: journal.highest(),
            position: self.positions_taken + 1,
            time: journal.stored.iter().map(|stored| stored.time).fold(now, i64::max).max(0),
        };
        self.positions_taken += stored.events.len() as u64;
        let outcome = WriteOutcome::Stored {
            previous: SequenceNumber(stored.previous),
            position: Position(stored.position),
            timestamp: Timestamp(stored.time),
        };
        journal.stored.push(stored);
        outcome
    }

    fn claim(&mut self, claim: &Claim) -> Result<ClaimReply, Refusal> {
        let journal = self.journals.get(claim.persistence_id.as_str()).cloned().unwrap_or_default();
        let wanted = claim.epoch_read.0 + 1;
        let highest = SequenceNumber(journal.highest());
        let granted = ClaimReply { epoch: WriterEpoch(wanted), highest };
        // The epoch's own reign tells, as long as it is remembered, to whom it went.
        if let Some(reign) = journal.reigns.iter().find(|reign| reign.epoch == wanted) {
            let is_present = wanted == journal.reign().epoch;
            let is_remembered = is_present || journal.former().iter().any(|former| former.epoch == wanted);
            return match (is_remembered, reign.writer == claim.writer) {
                (false, _) => Err(Refusal::Forgotten),
                (true, true) if is_present => Ok(granted),
                (true, true) => Err(journal.fenced()),
                (true, false) => Err(journal.epoch_moved()),
            };
        }
        if claim.epoch_read.0 != journal.reign().epoch {
            return Err(journal.epoch_moved());
        }
        self.journals.entry(claim.persistence_id.to_string()).or_default().begin_reign(&claim.writer);
        Ok(granted)
    }

    fn delete_to(&mut self, delete: &DeleteTo) -> Result<DeleteReply, Refusal> {
        let Some(journal) = self.journals.get_mut(delete.persistence_id.as_str()) else {
            return Ok(DeleteReply { deleted_to: SequenceNumber(0), highest: SequenceNumber(0) });
        };
        let to = delete.to.0.min(journal.highest());
        let done_to = if delete.permanent { journal.removed_to() } else { journal.deleted_to() };
        if to > done_to {
            journal.pass_upkeep(&delete.writer, delete.epoch)?;
            journal.deletions.push((to, delete.permanent));
        }
        let highest = SequenceNumber(journal.highest());
        Ok(DeleteReply { deleted_to: SequenceNumber(journal.deleted_to()), highest })
    }

    fn chunk(&mut self, chunk: &SnapshotChunk) -> Result<u32, Refusal> {
        let name = chunk.persistence_id.to_string();
        let journal = self.journals.get(&name).cloned().unwrap_or_default();
        let recent = journal.saves.iter().rev().take(REMEMBERED).any(|(save, _)| save.save_id == chunk.save_id);
        if recent {
            return Ok(chunk.index + 1);
        }
        let there = match self.uploads.get(&chunk.save_id) {
            Some((owner, _)) if *owner != name => return Err(Refusal::UploadIncomplete { chunks: 0 }),
            Some((_, chunks)) => chunks.len() as u32,
            None => 0,
        };
        if chunk.index > there {
            return Err(Refusal::UploadIncomplete { chunks: there });
        }
        if chunk.index < there {
            return Ok(there);
        }
        let is_snapshot = |snapshot: &Snapshot| journal.saves[snapshot.number as usize - 1].0.save_id == chunk.save_id;
        if there == 0 && journal.snapshots.values().any(is_snapshot) {
            return Ok(1);
        }
        self.journals.entry(name.clone()).or_default();
        self.uploads.entry(chunk.save_id).or_insert((name, Vec::new())).1.push(chunk.bytes.clone());
        Ok(there + 1)
    }

    fn save(&mut self, save: &SaveSnapshot, now: i64) -> Result<SaveReply, Refusal> {
        let name = save.persistence_id.to_string();
        let mut journal = self.journals.get(&name).cloned().unwrap_or_default();
        let forgotten = journal.saves.len().saturating_sub(REMEMBERED);
        for (index, (sent, timestamp)) in journal.saves.iter().enumerate().skip(forgotten) {
            if sent.save_id == save.save_id {
                let again = SaveSnapshot { saves_read: sent.saves_read, epoch: sent.epoch, ..save.clone() };
                if again != *sent {
                    return Err(journal.conflict());
                }
                return Ok(SaveReply { timestamp: *timestamp, save_number: SaveNumber(index as u64 + 1) });
            }
        }
        // It may stand among the forgotten ones only if its sender had read fewer saves than those.
        if (save.saves_read.0 as usize) < forgotten {
            return Err(Refusal::Forgotten);
        }
        let is_snapshot = |snapshot: &Snapshot| journal.saves[snapshot.number as usize - 1].0.save_id == save.save_id;
        if journal.snapshots.values().any(is_snapshot) {
            return Err(Refusal::Forgotten);
        }
        journal.pass_upkeep(&save.writer, save.epoch)?;
        let uploaded = self.uploads.get(&save.save_id).filter(|(owner, _)| *owner == name).map(|(_, chunks)| chunks.clone());
        let bytes = match &save.data {
            SnapshotData::Inline(bytes) => bytes.clone(),
            SnapshotData::Uploaded { chunks, bytes_total } => {
                let there = uploaded.clone().unwrap_or_default();
                let bytes = there.concat();
                if uploaded.is_none() || there.len() as u32 != *chunks || bytes.len() as u64 != *bytes_total {
                    return Err(Refusal::UploadIncomplete { chunks: there.len() as u32 });
                }
                Bytes::from(bytes)
            }
        };
        let chunks = match (&save.data, &uploaded) {
            (SnapshotData::Inline(bytes), _) => usize::from(!bytes.is_empty()),
            (SnapshotData::Uploaded { .. }, uploaded) => uploaded.as_ref().map_or(0, Vec::len),
        };
        if uploaded.is_some() {
            self.uploads.remove(&save.save_id);
        }
        let timestamp = save.timestamp.unwrap_or(now / 1_000);
        journal.saves.push((save.clone(), timestamp));
        let number = journal.saves.len() as u64;
        journal.snapshots.insert(save.sequence_number.0, Snapshot { number, timestamp, bytes, chunks });
        self.journals.insert(name, journal);
        Ok(SaveReply { timestamp, save_number: SaveNumber(number) })
    }

    fn delete_snapshots(
        &mut self,
        name: &PersistenceId,
        saves_read: Option<SaveNumber>,
        (writer, epoch): (&WriterId, Option<WriterEpoch>),
        matches: impl Fn(u64, &Snapshot) -> bool,
    ) -> Result<DeleteSnapshotsReply, Refusal> {
        let Some(journal) = self.journals.get_mut(name.as_str()) else {
            return Ok(DeleteSnapshotsReply { deleted: 0 });
        };
        let mut kept = journal.snapshots.clone();
        kept.retain(|number, snapshot| {
            let is_later = saves_read.is_some_and(|read| snapshot.number > read.0);
            is_later || !matches(*number, snapshot)
        });
        let deleted = (journal.snapshots.len() - kept.len()) as u64;
        if deleted > 0 {
            journal.pass_upkeep(writer, epoch)?;
            journal.snapshots = kept;
        }
        Ok(DeleteSnapshotsReply { deleted })
    }
}

/// What the dice and the comparisons ask.
impl World {
    pub fn names(&self) -> Vec<String> {
        self.journals.keys().cloned().collect()
    }

    pub fn highest(&self, name: &str) -> u64 {
        self.journals.get(name).map_or(0, Journal::highest)
    }

    pub fn reign(&self, name: &PersistenceId) -> (u64, String) {
        let journal = self.journals.get(name.as_str()).cloned().unwrap_or_default();
        (journal.reign().epoch, journal.reign().writer.to_string())
    }

    pub fn saves(&self, name: &PersistenceId) -> u64 {
        self.journals.get(name.as_str()).map_or(0, |journal| journal.saves.len() as u64)
    }

    /// The number that named the save of one of the snapshots that are there.
    pub fn save_id_of(&self, name: &PersistenceId, pick: u8) -> Option<u64> {
        let journal = self.journals.get(name.as_str())?;
        let snapshot = journal.snapshots.values().nth(usize::from(pick) % journal.snapshots.len().max(1))?;
        u64::try_from(journal.saves[snapshot.number as usize - 1].0.save_id.0.as_u128()).ok()
    }

    pub fn said_count(&self) -> u64 {
        self.said
    }

    pub fn uploaded(&self, name: &PersistenceId, id: u64) -> (u32, u64) {
        let upload = self.uploads.get(&save_id(id)).filter(|(owner, _)| owner == name.as_str());
        upload.map_or((0, 0), |(_, chunks)| (chunks.len() as u32, chunks.concat().len() as u64))
    }

    pub fn uploads(&self) -> Vec<(SaveId, u32, u64)> {
        let size = |chunks: &[Bytes]| (chunks.len() as u32, chunks.concat().len() as u64);
        self.uploads.iter().map(|(id, (_, chunks))| (*id, size(chunks).0, size(chunks).1)).collect()
    }

    /// Chunks of snapshots that there are and of those in transfer.
    pub fn chunks_count(&self) -> usize {
        let saved = self.journals.values().flat_map(|journal| journal.snapshots.values());
        let uploaded = self.uploads.values().map(|(_, chunks)| chunks.len());
        saved.map(|snapshot| snapshot.chunks).sum::<usize>() + uploaded.sum::<usize>()
    }

    pub fn next_position(&self) -> u64 {
        self.positions_taken + 1
    }

    pub fn shown(&self, name: &str) -> Vec<(u64, u64, Bytes, String, i64)> {
        self.events(name, self.journals[name].deleted_to())
    }

    pub fn kept(&self, name: &str) -> Vec<(u64, u64, Bytes, String, i64)> {
        self.events(name, self.journals[name].removed_to())
    }

    fn events(&self, name: &str, above: u64) -> Vec<(u64, u64, Bytes, String, i64)> {
        let mut events = Vec::new();
        for stored in &self.journals[name].stored {
            for (ordinal, event) in stored.events.iter().enumerate() {
                let position = stored.position + ordinal as u64;
                let number = event.sequence_number.0;
                events.push((number, position, event.payload.bytes.clone(), stored.writer.to_string(), stored.time));
            }
        }
        events.retain(|(number, ..)| *number > above);
        events
    }

    pub fn snapshots(&self, name: &str) -> Vec<(u64, u64, i64, Option<Bytes>)> {
        let snapshots = self.journals[name].snapshots.iter();
        snapshots.map(|(at, snapshot)| (*at, snapshot.number, snapshot.timestamp, Some(snapshot.bytes.clone()))).collect()
    }

    pub fn positions(&self) -> Vec<(u64, String, u64)> {
        let mut positions = Vec::new();
        for name in self.journals.keys() {
            positions.extend(self.kept(name).into_iter().map(|(number, position, ..)| (position, name.clone(), number)));
        }
        positions.sort();
        positions
    }
}

fn kind(reply: &Reply) -> &'static str {
    let refusal = match reply {
        Reply::Write(_) => unreachable!("a write has a kind for each atomic write"),
        Reply::Claim(Ok(_)) => return "granted",
        Reply::DeleteTo(Ok(_)) => return "deleted",
        Reply::SnapshotChunk(Ok(_)) => return "chunk",
        Reply::SaveSnapshot(Ok(_)) => return "saved",
        Reply::DeleteSnapshots(Ok(_)) => return "snapshots deleted",
        Reply::Claim(Err(refusal)) | Reply::DeleteTo(Err(refusal)) | Reply::SnapshotChunk(Err(refusal)) => refusal,
        Reply::SaveSnapshot(Err(refusal)) | Reply::DeleteSnapshots(Err(refusal)) => refusal,
    };
    refusal_kind(refusal)
}

fn refusal_kind(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Conflict { .. } => "conflict",
        Refusal::Fenced { .. } => "fenced",
        Refusal::EpochMoved { .. } => "epoch moved",
        Refusal::Forgotten => "forgotten",
        Refusal::UploadIncomplete { .. } => "incomplete",
        _ => "too many",
    }
}
