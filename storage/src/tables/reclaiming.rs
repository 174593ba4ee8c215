//! Giving back what permanent deletions removed: chunks wholly below the removal, and the tags of their events, in bounded steps
//! behind the flushes.
//!
//! A removal is a row that the flush writes together with the head that says so; it goes with the last chunk. So a restart goes
//! on where it was, and nothing that the head still shows is ever touched.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_machine::{JournalId, SequenceNumber};

use super::error::TablesError;
use crate::engine::{Scan, Table};
use crate::keys::{chunk, removal, tag};

/// Journals whose removed chunks are still there, with the number up to which they go.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<JournalId, SequenceNumber>,
    /// Rows removed since the engine last gave space back.
    pub(crate) rows_removed: u64,
}

impl Queue {
    pub(crate) fn new(waiting: BTreeMap<JournalId, SequenceNumber>) -> Self {
        Self { waiting, rows_removed: 0 }
    }

    pub(crate) fn add(&mut self, removals: Vec<(JournalId, SequenceNumber)>) {
        self.waiting.extend(removals);
    }

    pub(crate) fn journals(&self) -> usize {
        self.waiting.len()
    }

    /// The next journals to work on, a bounded number.
    pub(crate) fn next(&self, journals_max: usize) -> Vec<(JournalId, SequenceNumber)> {
        self.waiting.iter().take(journals_max).map(|(journal, to)| (*journal, *to)).collect()
    }

    pub(crate) fn done(&mut self, step: &Step) {
        for journal in &step.finished {
            self.waiting.remove(journal);
        }
        self.rows_removed += step.rows_removed;
    }
}

/// What one step did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    finished: Vec<JournalId>,
    rows_removed: u64,
}

/// Removes up to `rows_max` chunks of these journals, with their tags. Blocks.
pub(crate) fn step(table: &dyn Table, journals: Vec<(JournalId, SequenceNumber)>, rows_max: usize) -> Result<Step, TablesError> {
    let mut step = Step::default();
    let mut rows: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    let mut left = rows_max;
    for (journal, to) in journals {
        let (start, end) = (chunk::from(journal, SequenceNumber(0)), chunk::wholly_up_to(journal, to));
        let keys = table.scan_keys(Scan::ascending(&start, &end, left, usize::MAX))?;
        let is_finished = keys.len() < left;
        left -= keys.len();
        step.rows_removed += keys.len() as u64;
        for key in keys {
            if chunk::decode_key(&key)?.has_tags {
                remove_tags(table, &key, &mut rows)?;
            }
            rows.insert(key, None);
        }
        if !is_finished {
            break;
        }
        rows.insert(removal::key(journal), None);
        step.finished.push(journal);
    }
    table.ingest(&mut rows.into_iter())?;
    Ok(step)
}

fn remove_tags(table: &dyn Table, key: &Bytes, rows: &mut BTreeMap<Bytes, Option<Bytes>>) -> Result<(), TablesError> {
    let Some(value) = table.get(key)? else { return Ok(()) };
    for write in chunk::decode(&value)? {
        for event in write.tags_by_event()? {
            rows.extend(event.tags.iter().map(|name| (tag::key(name, event.position), None)));
        }
    }
    Ok(())
}
