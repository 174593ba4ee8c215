//! How the rules see and change a shard: memory, and what was loaded from the engine before they were asked.
//!
//! The rules run on the runtime that carries consensus, which must not wait for a disk. So what a batch may look up is known
//! before it is decided: [`plan`] lists what memory cannot answer, [`Loaded::load`] reads it, and only then the batch is decided. One
//! batch is applied at a time, hence what was loaded stays true until it is.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use cairn_machine::limits::RECENT_SAVES_MAX;
use cairn_machine::{
    Batch, Change, Command, Head, JournalId, Payload, PersistenceId, SequenceNumber, ShardState, SnapshotRecord, Store,
    StoredWrite, View, Write, WriterId,
};

use super::error::TablesError;
use super::state::State;
use crate::engine::{Scan, TableView};
use crate::keys::{chunk, head, snapshot};

/// Rows of one read of snapshots.
const SNAPSHOT_ROWS: usize = 1024;
/// Bytes of one read of snapshots.
const SNAPSHOT_BYTES: usize = 4 * 1024 * 1024;

/// Something that a batch may look up and that memory cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Head(PersistenceId),
    Write(JournalId, SequenceNumber),
    Snapshot(JournalId, SequenceNumber),
    Snapshots(JournalId),
}

/// What was read from the engine for one batch.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    heads: BTreeMap<PersistenceId, Option<Head>>,
    writes: BTreeMap<(JournalId, SequenceNumber), Option<StoredWrite>>,
    snapshot_at: BTreeMap<(JournalId, SequenceNumber), Option<SnapshotRecord>>,
    snapshots: BTreeMap<JournalId, BTreeMap<SequenceNumber, SnapshotRecord>>,
}

/// A record without what its sender put into it: payload, metadata, and the writer's name. The rules look at none of them, and one
/// command may look at all snapshots of a journal, each with tens of thousands of bytes of metadata; a writer's name alone would keep
/// the whole row that it is a slice of. It is done for records from memory too: what rules can see must not depend on when a replica
/// flushes.
fn bare(record: &SnapshotRecord) -> SnapshotRecord {
    let SnapshotRecord { journal, sequence_number, timestamp, save_id, save_number, chunks, bytes_total, .. } = *record;
    let (payload, metadata, writer) = (Payload::default(), None, WriterId::default());
    SnapshotRecord { journal, sequence_number, timestamp, save_id, save_number, writer, payload, metadata, chunks, bytes_total }
}

/// What memory knows of a journal's snapshots; none: no longer visible.
type Overlay = Vec<(SequenceNumber, Option<SnapshotRecord>)>;

/// What is known of a batch before it is decided.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What must be read from the engine first.
    missing: BTreeSet<Wanted>,
    /// What memory knows, oldest first, of journals whose snapshots are missing: a flush may move it down while they are read.
    overlays: BTreeMap<JournalId, Overlay>,
    /// Journals of commands on snapshots that had none before the batch.
    without_snapshots: BTreeSet<JournalId>,
}

impl Loaded {
    /// Reads what a plan misses. Blocks.
    pub(crate) fn load(mut self, table: &dyn TableView, mut plan: Plan) -> Result<Self, TablesError> {
        for wanted in plan.missing {
            match wanted {
                Wanted::Head(persistence_id) => {
                    let head = read_head(table, &persistence_id)?;
                    self.heads.insert(persistence_id, head);
                }
                Wanted::Write(journal, first) => {
                    self.writes.insert((journal, first), read_write(table, journal, first)?);
                }
                Wanted::Snapshot(journal, number) => {
                    self.snapshot_at.insert((journal, number), read_snapshot(table, journal, number)?);
                }
                Wanted::Snapshots(journal) => {
                    let mut found = read_snapshots(table, journal, SequenceNumber(0), SequenceNumber::MAX)?;
                    for (number, record) in plan.overlays.remove(&journal).unwrap_or_default() {
                        lay_over(&mut found, number, record);
                    }
                    self.snapshots.insert(journal, found);
                }
            }
        }
        Ok(self)
    }

    /// Heads that were read and are not in memory.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (&PersistenceId, &Head)> {
        self.heads.iter().filter_map(|(persistence_id, head)| Some((persistence_id, head.as_ref()?)))
    }

    fn has(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Head(persistence_id) => self.heads.contains_key(persistence_id),
            Wanted::Write(journal, first) => self.writes.contains_key(&(*journal, *first)),
            Wanted::Snapshot(journal, number) => {
                self.snapshots.contains_key(journal) || self.snapshot_at.contains_key(&(*journal, *number))
            }
            Wanted::Snapshots(journal) => self.snapshots.contains_key(journal),
        }
    }
}

/// A journal's head in the engine. Blocks.
pub(crate) fn read_head(table: &dyn TableView, persistence_id: &PersistenceId) -> Result<Option<Head>, TablesError> {
    let value = table.get(&head::key(persistence_id))?;
    Ok(value.as_ref().map(head::decode).transpose()?)
}

/// The first chunk that holds a number or later ones. Blocks.
pub(crate) fn read_chunk(
    table: &dyn TableView,
    journal: JournalId,
    from: SequenceNumber,
) -> Result<Option<Vec<StoredWrite>>, TablesError> {
    let (from, end) = (chunk::from(journal, from), chunk::end(journal));
    let rows = table.scan(Scan::ascending(&from, &end, 1, usize::MAX))?;
    Ok(rows.first().map(|(_, value)| chunk::decode(value)).transpose()?)
}

fn read_write(table: &dyn TableView, journal: JournalId, first: SequenceNumber) -> Result<Option<StoredWrite>, TablesError> {
    let writes = read_chunk(table, journal, first)?.unwrap_or_default();
    Ok(writes.into_iter().find(|write| write.first == first))
}

fn read_snapshot(
    table: &dyn TableView,
    journal: JournalId,
    sequence_number: SequenceNumber,
) -> Result<Option<SnapshotRecord>, TablesError> {
    let value = table.get(&snapshot::key(journal, sequence_number))?;
    Ok(value.as_ref().map(snapshot::decode).transpose()?.as_ref().map(bare))
}

/// A journal's snapshots in the engine within bounds, inclusive. Blocks.
fn read_snapshots(
    table: &dyn TableView,
    journal: JournalId,
    from: SequenceNumber,
    to: SequenceNumber,
) -> Result<BTreeMap<SequenceNumber, SnapshotRecord>, TablesError> {
    let mut found = BTreeMap::new();
    let mut next = from;
    let end = snapshot::end(journal, to);
    loop {
        let start = snapshot::key(journal, next);
        let rows = table.scan(Scan::ascending(&start, &end, SNAPSHOT_ROWS, SNAPSHOT_BYTES))?;
        let Some((last, _)) = rows.last() else { return Ok(found) };
        next = SequenceNumber(snapshot::decode_key(last)?.1.0 + 1);
        for (_, value) in &rows {
            let record = bare(&snapshot::decode(value)?);
            found.insert(record.sequence_number, record);
        }
    }
}

impl Plan {
    /// Whether the batch can be decided now.
    pub(crate) fn is_ready(&self) -> bool {
        self.missing.is_empty()
    }
}

/// What the rules may look up for a batch, as far as neither memory nor `loaded` can answer.
pub(crate) fn plan(state: &State, loaded: &Loaded, batch: &Batch) -> Plan {
    let mut plan = Plan::default();
    let mut want = |wanted: Wanted| {
        if !loaded.has(&wanted) {
            if let Wanted::Snapshots(journal) = wanted {
                plan.overlays.insert(journal, overlay(state, journal, SequenceNumber(0), SequenceNumber::MAX));
            }
            plan.missing.insert(wanted);
        }
    };
    let saves = batch.commands.iter().filter(|command| matches!(command, Command::SaveSnapshot(_))).count();
    for command in &batch.commands {
        let persistence_id = persistence_id_of(command);
        let head = match state.head(persistence_id) {
            Some(head) => head,
            None => match loaded.heads.get(persistence_id) {
                Some(Some(head)) => head,
                Some(None) => continue,
                None => {
                    want(Wanted::Head(persistence_id.clone()));
                    continue;
                }
            },
        };
        match command {
            Command::Write(write) => want_writes(state, head, write, &mut want),
            Command::Claim(_) | Command::DeleteTo(_) => {}
            _ if head.snapshots == 0 => {
                plan.without_snapshots.insert(head.journal);
            }
            // Saves that are not remembered any more are looked for among the snapshots.
            Command::SaveSnapshot(_) if head.saves.0 + saves as u64 > RECENT_SAVES_MAX as u64 => {
                want(Wanted::Snapshots(head.journal));
            }
            Command::SaveSnapshot(save) => {
                if state.snapshot(head.journal, save.sequence_number).is_none() {
                    want(Wanted::Snapshot(head.journal, save.sequence_number));
                }
            }
            Command::SnapshotChunk(_) | Command::DeleteSnapshot(_) | Command::DeleteSnapshots(_) => {
                want(Wanted::Snapshots(head.journal));
            }
        }
    }
    plan
}

fn want_writes(state: &State, head: &Head, write: &Write, want: &mut impl FnMut(Wanted)) {
    for atomic_write in &write.atomic_writes {
        let first = atomic_write.first();
        if first > head.highest {
            // It can only be found among what this very batch stores.
            return;
        }
        let is_in_memory = state.previous(head.journal).is_some_and(|previous| first > previous);
        if !is_in_memory && first > head.removed_to {
            want(Wanted::Write(head.journal, first));
        }
    }
}

fn persistence_id_of(command: &Command) -> &PersistenceId {
    match command {
        Command::Write(command) => &command.persistence_id,
        Command::Claim(command) => &command.persistence_id,
        Command::DeleteTo(command) => &command.persistence_id,
        Command::SnapshotChunk(command) => &command.persistence_id,
        Command::SaveSnapshot(command) => &command.persistence_id,
        Command::DeleteSnapshot(command) => &command.persistence_id,
        Command::DeleteSnapshots(command) => &command.persistence_id,
    }
}

/// A shard's state while one batch is applied to it: what [`super::Rules`] may look at.
pub struct Applying<'a> {
    state: &'a mut State,
    loaded: &'a Loaded,
    plan: &'a Plan,
    /// Journals from here on began in this batch.
    journals_before: JournalId,
    /// Heads that changed, with the highest number that they have now; kept only if somebody listens.
    highest: Option<Vec<(PersistenceId, SequenceNumber)>>,
    unplanned: Cell<u64>,
}

impl<'a> Applying<'a> {
    pub(crate) fn new(state: &'a mut State, loaded: &'a Loaded, plan: &'a Plan, is_observed: bool) -> Self {
        let journals_before = state.shard().next_journal;
        Self { state, loaded, plan, journals_before, highest: is_observed.then(Vec::new), unplanned: Cell::new(0) }
    }

    /// How many look-ups went to the engine although the batch was looked through before; none, or [`plan`] is wrong.
    pub(crate) fn unplanned(&self) -> u64 {
        self.unplanned.get()
    }

    /// Journals that changed, with their highest numbers, in order.
    pub(crate) fn into_highest(self) -> Vec<(PersistenceId, SequenceNumber)> {
        self.highest.unwrap_or_default()
    }

    fn unplanned_read(&self) -> &dyn TableView {
        self.unplanned.set(self.unplanned.get() + 1);
        table_view(self.state)
    }

    fn is_new(&self, journal: JournalId) -> bool {
        journal >= self.journals_before
    }

    fn had_no_snapshots(&self, journal: JournalId) -> bool {
        self.is_new(journal) || self.plan.without_snapshots.contains(&journal)
    }

    fn put_head(&mut self, persistence_id: &PersistenceId, head: Head) {
        let removed_before = if head.removed_to.0 == 0 {
            SequenceNumber(0)
        } else {
            let known = self.state.head(persistence_id).or_else(|| self.loaded.heads.get(persistence_id)?.as_ref());
            known.map_or(SequenceNumber(0), |known| known.removed_to)
        };
        if let Some(changed) = &mut self.highest {
            changed.push((persistence_id.clone(), head.highest));
        }
        let is_new = self.is_new(head.journal);
        self.state.active.put_head(persistence_id, head, removed_before, is_new);
    }
}

fn table_view(state: &State) -> &dyn TableView {
    &*state.table
}

impl View for Applying<'_> {
    type Error = TablesError;

    fn shard(&self) -> &ShardState {
        self.state.shard()
    }

    fn head(&self, persistence_id: &PersistenceId) -> Result<Option<Head>, TablesError> {
        if let Some(head) = self.state.head(persistence_id) {
            return Ok(Some(head.clone()));
        }
        match self.loaded.heads.get(persistence_id) {
            Some(head) => Ok(head.clone()),
            None => read_head(self.unplanned_read(), persistence_id),
        }
    }

    fn stored_write(&self, journal: JournalId, first: SequenceNumber) -> Result<Option<StoredWrite>, TablesError> {
        if let Some(write) = self.state.write_at(journal, first) {
            return Ok(Some(write.clone()));
        }
        if self.is_new(journal) || self.state.previous(journal).is_some_and(|previous| first > previous) {
            return Ok(None);
        }
        match self.loaded.writes.get(&(journal, first)) {
            Some(write) => Ok(write.clone()),
            None => read_write(self.unplanned_read(), journal, first),
        }
    }

    fn snapshot(&self, journal: JournalId, sequence_number: SequenceNumber) -> Result<Option<SnapshotRecord>, TablesError> {
        if let Some(known) = self.state.snapshot(journal, sequence_number) {
            return Ok(known.as_ref().map(bare));
        }
        if let Some(known) = self.loaded.snapshots.get(&journal) {
            return Ok(known.get(&sequence_number).cloned());
        }
        match self.loaded.snapshot_at.get(&(journal, sequence_number)) {
            Some(known) => Ok(known.clone()),
            None if self.had_no_snapshots(journal) => Ok(None),
            None => read_snapshot(self.unplanned_read(), journal, sequence_number),
        }
    }

    fn snapshots(
        &self,
        journal: JournalId,
        from: SequenceNumber,
        to: SequenceNumber,
    ) -> Result<Vec<SnapshotRecord>, TablesError> {
        if from > to {
            return Ok(Vec::new());
        }
        let mut found = match self.loaded.snapshots.get(&journal) {
            Some(known) => known.range(from..=to).map(|(number, record)| (*number, record.clone())).collect(),
            None if self.had_no_snapshots(journal) => BTreeMap::new(),
            None => read_snapshots(self.unplanned_read(), journal, from, to)?,
        };
        for (number, record) in overlay(self.state, journal, from, to) {
            lay_over(&mut found, number, record);
        }
        Ok(found.into_values().collect())
    }
}

/// What memory knows of a journal's snapshots, oldest first.
fn overlay(state: &State, journal: JournalId, from: SequenceNumber, to: SequenceNumber) -> Overlay {
    let changes = state.memtables().rev().flat_map(|memtable| memtable.snapshots.range((journal, from)..=(journal, to)));
    changes.map(|((_, number), record)| (*number, record.as_ref().map(bare))).collect()
}

fn lay_over(found: &mut BTreeMap<SequenceNumber, SnapshotRecord>, number: SequenceNumber, record: Option<SnapshotRecord>) {
    match record {
        Some(record) => found.insert(number, record),
        None => found.remove(&number),
    };
}

impl Store for Applying<'_> {
    fn change(&mut self, change: Change) -> Result<(), TablesError> {
        self.state.meta.shard.apply(&change);
        let active = &mut self.state.active;
        match change {
            Change::Head { persistence_id, head } => self.put_head(&persistence_id, head),
            Change::Append(write) => active.append(write).map_err(|error| TablesError::broken(error.to_string()))?,
            Change::PutSnapshot(record) => active.put_snapshot(record),
            Change::DropSnapshot { journal, sequence_number } => active.drop_snapshot(journal, sequence_number),
            Change::PutChunk { journal, save_id, index, bytes } => active.put_chunk(journal, save_id, index, bytes),
            Change::DropChunks { journal, save_id, chunks } => active.drop_chunks(journal, save_id, chunks),
            // They are part of the shard's state, which is written as a whole.
            Change::PutUpload { .. } | Change::DropUpload { .. } => {}
        }
        Ok(())
    }

    fn seal(&mut self, chain: u128) -> Result<(), TablesError> {
        self.state.meta.shard.chain = chain;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cairn_machine::{Criteria, DeleteSnapshots, SaveId, SaveNumber, SnapshotData, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::world::{Place, World, id, save, small, writer};

    /// As large as a sender may make it.
    fn large_save(number: u64) -> Command {
        let data = SnapshotData::Inline(Bytes::from_static(b"state"));
        let Command::SaveSnapshot(mut save) = save("a", number, u128::from(number), number - 1, data) else {
            unreachable!("it is a save")
        };
        let manifest = "m".repeat(100);
        save.metadata = Some(Payload { serializer_id: 1, manifest, bytes: Bytes::from(vec![7; 60_000]) });
        save.writer = writer("w");
        Command::SaveSnapshot(save)
    }

    fn delete_all() -> Command {
        Command::DeleteSnapshots(DeleteSnapshots {
            persistence_id: id("a"),
            criteria: Criteria::LATEST,
            saves_read: None,
            writer: writer("w"),
            epoch: None,
        })
    }

    #[tokio::test]
    async fn what_senders_put_into_snapshots_is_not_loaded_and_decisions_stay_what_they_are() {
        let mut world = World::new(Place::memory(), small(64 << 20)).await;
        for number in 1..=20 {
            world.apply(vec![large_save(number)]).await;
            if number == 15 {
                world.flush().await;
            }
        }
        // Replaced ones come from the engine and from memory.
        for number in [3, 18] {
            let Command::SaveSnapshot(mut again) = large_save(number) else { unreachable!("it is a save") };
            (again.save_id, again.saves_read) = (SaveId(Uuid::from_u128(1000 + u128::from(number))), SaveNumber(20));
            world.apply(vec![Command::SaveSnapshot(again)]).await;
        }
        let batch = Batch { moment: Timestamp(1), commands: vec![delete_all()] };
        let inner = world.tables().inner.clone();
        let plan = plan(&inner.state(), &Loaded::default(), &batch);
        let loaded = Loaded::default().load(&*inner.table(), plan).expect("loads");
        let snapshots: Vec<_> = loaded.snapshots.values().flat_map(BTreeMap::values).collect();
        assert_eq!(snapshots.len(), 20);
        for record in snapshots {
            assert_eq!((&record.payload, &record.metadata, &record.writer), (&Payload::default(), &None, &WriterId::default()));
        }
        // The world compares with rules that see whole records: the hash covers what changed.
        world.apply(vec![delete_all()]).await;
        world.check().await;
    }
}
