//! What is read, wrongly.

use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::SequenceNumber;
use cairn_storage::EngineError;
use cairn_storage::engine::{Order, Row, Scan, TableView};
use cairn_storage::keys::{Family, head};

use crate::broken::Bug;

pub(super) fn is_wrong(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::NewestRunUnseen
            | Bug::CheckpointWithoutHeads
            | Bug::CheckpointForgetsDeletions
            | Bug::CheckpointWithoutSnapshots
            | Bug::CheckpointBehindItsIndex
            | Bug::ReplayMixesStates
    )
}

/// The view of which a checkpoint is made; `before` is the table before the last run.
pub(super) fn checkpoint(bug: Bug, now: Box<dyn TableView>, before: Option<Arc<dyn TableView>>) -> Box<dyn TableView> {
    match (bug, before) {
        (Bug::CheckpointBehindItsIndex, Some(rows)) => Box::new(Behind { now, rows }),
        (Bug::CheckpointWithoutHeads | Bug::CheckpointForgetsDeletions | Bug::CheckpointWithoutSnapshots, _) => {
            Box::new(Edited { bug, real: now })
        }
        _ => now,
    }
}

/// A table of which some rows are not there, or are others.
pub(super) struct View<'a> {
    bug: Bug,
    real: &'a dyn TableView,
    newest: Arc<Vec<Bytes>>,
}

impl<'a> View<'a> {
    /// A table while it is written, and the keys of its last run.
    pub(super) fn live(bug: Bug, real: &'a dyn TableView, newest: Arc<Vec<Bytes>>) -> Self {
        Self { bug, real, newest }
    }

    /// What a row is read as.
    fn edit(&self, (key, value): Row) -> Option<Row> {
        match (self.bug, Family::of(&key)?) {
            (Bug::NewestRunUnseen, Family::Snapshot) if self.newest.binary_search(&key).is_ok() => None,
            (Bug::CheckpointWithoutHeads, Family::Head) | (Bug::CheckpointWithoutSnapshots, Family::Snapshot) => None,
            (Bug::CheckpointForgetsDeletions, Family::Head) => Some((key, without_deletions(value))),
            _ => Some((key, value)),
        }
    }

    /// A scan that finds nothing ends there: what is not seen must not end it.
    pub(super) fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        let (mut from, mut to) = (scan.from.to_vec(), scan.to.to_vec());
        loop {
            let rows = self.real.scan(Scan { from: &from, to: &to, ..scan })?;
            let Some((last, _)) = rows.last() else { return Ok(rows) };
            match scan.order {
                Order::Ascending => from = [last.as_ref(), &[0]].concat(),
                Order::Descending => to = last.to_vec(),
            }
            let seen: Vec<Row> = rows.into_iter().filter_map(|row| self.edit(row)).collect();
            if !seen.is_empty() {
                return Ok(seen);
            }
        }
    }
}

fn without_deletions(value: Bytes) -> Bytes {
    let Ok(mut found) = head::decode(&value) else { return value };
    found.deleted_to = SequenceNumber(0);
    found.removed_to = SequenceNumber(0);
    head::encode(&found)
}

/// A checkpoint's view whose rows are edited.
struct Edited {
    bug: Bug,
    real: Box<dyn TableView>,
}

impl TableView for Edited {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.real.get(key)
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        View { bug: self.bug, real: &*self.real, newest: Arc::default() }.scan(scan)
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        self.real.scan_keys(scan)
    }
}

/// A checkpoint's view that says how far the table is now, and holds the rows of before.
struct Behind {
    now: Box<dyn TableView>,
    rows: Arc<dyn TableView>,
}

impl Behind {
    fn of(&self, key: &[u8]) -> &dyn TableView {
        if Family::of(key) == Some(Family::Meta) { &*self.now } else { &*self.rows }
    }
}

impl TableView for Behind {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.of(key).get(key)
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        let mut rows = self.rows.scan(scan)?;
        for (key, value) in &mut rows {
            if let (Some(Family::Meta), Some(now)) = (Family::of(key), self.now.get(key)?) {
                *value = now;
            }
        }
        Ok(rows)
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        self.rows.scan_keys(scan)
    }
}
