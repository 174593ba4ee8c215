//! Snapshots: the newest that matches, the list, and their bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::{Criteria, JournalId, PersistenceId, SequenceNumber, SnapshotRecord};

use super::after;
use crate::blocking::BlockingExt;
use crate::engine::{Order, Scan, Table};
use crate::keys::{snapshot, snapshot_chunk};
use crate::tables::{Inner, Tables, TablesError};

/// Rows of one read of the engine.
const ROWS: usize = 64;

/// One page of a journal's snapshots, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotsPage {
    /// The snapshots.
    pub snapshots: Vec<SnapshotRecord>,
    /// Where the next page begins; none: there are no more.
    pub next: Option<SequenceNumber>,
}

/// What memory knows of a journal's snapshots; none: dropped.
type Overlay = BTreeMap<SequenceNumber, Option<SnapshotRecord>>;

impl Tables {
    /// The snapshot with the greatest number that matches.
    ///
    /// # Errors
    /// [`TablesError::Broken`] or [`TablesError::Damaged`].
    pub async fn latest_snapshot(
        &self,
        persistence_id: &PersistenceId,
        criteria: Criteria,
    ) -> Result<Option<SnapshotRecord>, TablesError> {
        let outcome = self.inner.latest_snapshot(persistence_id, criteria).await;
        outcome.map_err(|error| self.inner.note(error))
    }

    /// The snapshots that match, from a number up, at most `limit`.
    ///
    /// # Errors
    /// [`TablesError::Broken`] or [`TablesError::Damaged`].
    pub async fn list_snapshots(
        &self,
        persistence_id: &PersistenceId,
        criteria: Criteria,
        from: SequenceNumber,
        limit: usize,
    ) -> Result<SnapshotsPage, TablesError> {
        let outcome = self.inner.list_snapshots(persistence_id, criteria, from, limit).await;
        outcome.map_err(|error| self.inner.note(error))
    }

    /// One chunk of a snapshot's bytes.
    ///
    /// # Errors
    /// [`TablesError::Gone`] if the snapshot was deleted or replaced meanwhile; [`TablesError::Damaged`] if the chunk is missing
    /// although the snapshot is there; [`TablesError::Broken`].
    pub async fn read_snapshot_chunk(&self, record: &SnapshotRecord, index: u32) -> Result<Bytes, TablesError> {
        let outcome = self.inner.read_snapshot_chunk(record, index).await;
        outcome.map_err(|error| self.inner.note(error))
    }
}

impl Inner {
    async fn latest_snapshot(
        &self,
        persistence_id: &PersistenceId,
        criteria: Criteria,
    ) -> Result<Option<SnapshotRecord>, TablesError> {
        let (from, to) = (criteria.sequence_number_min, criteria.sequence_number_max);
        let Some((journal, overlay, table)) = self.snapshot_sources(persistence_id, from, to).await? else { return Ok(None) };
        self.blocking.run(move || Ok(merged(&*table, journal, overlay, &criteria, from, Order::Descending, 1)?.pop())).await
    }

    async fn list_snapshots(
        &self,
        persistence_id: &PersistenceId,
        criteria: Criteria,
        from: SequenceNumber,
        limit: usize,
    ) -> Result<SnapshotsPage, TablesError> {
        let from = from.max(criteria.sequence_number_min);
        let to = criteria.sequence_number_max;
        let nothing = SnapshotsPage { snapshots: Vec::new(), next: None };
        let Some((journal, overlay, table)) = self.snapshot_sources(persistence_id, from, to).await? else { return Ok(nothing) };
        self.blocking
            .run(move || {
                let snapshots = merged(&*table, journal, overlay, &criteria, from, Order::Ascending, limit)?;
                let is_full = snapshots.len() >= limit;
                let next = snapshots.last().filter(|_| is_full).map(|last| after(last.sequence_number));
                Ok(SnapshotsPage { snapshots, next })
            })
            .await
    }

    /// The journal, what memory knows of its snapshots, and the table below; none if it has no snapshots.
    async fn snapshot_sources(
        &self,
        persistence_id: &PersistenceId,
        from: SequenceNumber,
        to: SequenceNumber,
    ) -> Result<Option<(JournalId, Overlay, Arc<dyn Table>)>, TablesError> {
        let head = self.head(persistence_id).await?;
        let Some(head) = head.filter(|head| head.snapshots > 0 && from <= to) else { return Ok(None) };
        let state = self.state();
        let mut overlay = Overlay::new();
        for memtable in state.memtables().rev() {
            let changed = memtable.snapshots.range((head.journal, from)..=(head.journal, to));
            overlay.extend(changed.map(|((_, number), record)| (*number, record.clone())));
        }
        Ok(Some((head.journal, overlay, Arc::clone(&state.table))))
    }

    async fn read_snapshot_chunk(&self, record: &SnapshotRecord, index: u32) -> Result<Bytes, TablesError> {
        let (journal, save_id) = (record.journal, record.save_id);
        let (in_memory, table) = {
            let state = self.state();
            let found = state.memtables().find_map(|memtable| {
                let dropped = memtable.dropped_saves.contains_key(&(journal, save_id)).then_some(None);
                memtable.snapshot_chunks.get(&(journal, save_id, index)).map(|bytes| Some(bytes.clone())).or(dropped)
            });
            (found, Arc::clone(&state.table))
        };
        let bytes = match in_memory {
            Some(found) => found,
            None => self.blocking.run(move || table.get(&snapshot_chunk::key(journal, save_id, index))).await?,
        };
        match bytes {
            Some(bytes) => Ok(bytes),
            None if self.is_visible(record).await? => {
                let number = record.sequence_number;
                Err(TablesError::damaged(format!("chunk {index} of the snapshot at {number} of journal {journal} is missing")))
            }
            None => Err(TablesError::Gone { removed_to: SequenceNumber(0) }),
        }
    }

    async fn is_visible(&self, record: &SnapshotRecord) -> Result<bool, TablesError> {
        let (journal, number) = (record.journal, record.sequence_number);
        let (known, table) = {
            let state = self.state();
            (state.snapshot(journal, number).cloned(), Arc::clone(&state.table))
        };
        let found = match known {
            Some(known) => known,
            None => {
                let value = self.blocking.run(move || table.get(&snapshot::key(journal, number))).await?;
                value.as_ref().map(snapshot::decode).transpose()?
            }
        };
        Ok(found.is_some_and(|found| found.save_id == record.save_id))
    }
}

/// Snapshots of engine and memory together, those that match, at most `limit`. Blocks.
fn merged(
    table: &dyn Table,
    journal: JournalId,
    mut overlay: Overlay,
    criteria: &Criteria,
    from: SequenceNumber,
    order: Order,
    limit: usize,
) -> Result<Vec<SnapshotRecord>, TablesError> {
    let mut found = Vec::new();
    let (mut low, mut high) = (snapshot::key(journal, from), snapshot::end(journal, criteria.sequence_number_max));
    let mut take = |number: SequenceNumber, record: Option<SnapshotRecord>| {
        if let Some(record) = record.filter(|record| criteria.matches(number, record.timestamp)) {
            found.push(record);
        }
        found.len() >= limit
    };
    loop {
        let rows = table.scan(Scan { from: &low, to: &high, order, rows_max: ROWS, bytes_max: usize::MAX })?;
        for (key, value) in &rows {
            let (_, number) = snapshot::decode_key(key)?;
            while let Some((ahead, record)) = pop_before(&mut overlay, number, order) {
                if take(ahead, record) {
                    return Ok(found);
                }
            }
            let record = match overlay.remove(&number) {
                Some(newer) => newer,
                None => Some(snapshot::decode(value)?),
            };
            if take(number, record) {
                return Ok(found);
            }
        }
        let Some((last, _)) = rows.last() else { break };
        match order {
            Order::Ascending => low = [last.as_ref(), &[0]].concat().into(),
            Order::Descending => high = last.clone(),
        }
    }
    while let Some((number, record)) = pop_first(&mut overlay, order) {
        if take(number, record) {
            break;
        }
    }
    Ok(found)
}

fn pop_first(overlay: &mut Overlay, order: Order) -> Option<(SequenceNumber, Option<SnapshotRecord>)> {
    match order {
        Order::Ascending => overlay.pop_first(),
        Order::Descending => overlay.pop_last(),
    }
}

/// The next of memory's snapshots if it comes before `number` in this order.
fn pop_before(overlay: &mut Overlay, number: SequenceNumber, order: Order) -> Option<(SequenceNumber, Option<SnapshotRecord>)> {
    let is_before = match order {
        Order::Ascending => *overlay.first_key_value()?.0 < number,
        Order::Descending => *overlay.last_key_value()?.0 > number,
    };
    if is_before { pop_first(overlay, order) } else { None }
}
