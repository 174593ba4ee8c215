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

/// Removes rows of these journals, chunks with their tags, until there are `rows_max` of them: a chunk goes whole, so that many tags
/// of one may come on top, and a journal that is not finished is for the next step. Blocks.
pub(crate) fn step(table: &dyn Table, journals: Vec<(JournalId, SequenceNumber)>, rows_max: usize) -> Result<Step, TablesError> {
    let mut step = Step::default();
    let mut rows: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    for (journal, to) in journals {
        let left = rows_max.saturating_sub(rows.len());
        if left == 0 {
            break;
        }
        let (start, end) = (chunk::from(journal, SequenceNumber(0)), chunk::wholly_up_to(journal, to));
        let keys = table.scan_keys(Scan::ascending(&start, &end, left, usize::MAX))?;
        let mut is_finished = keys.len() < left;
        for key in keys {
            if rows.len() >= rows_max {
                is_finished = false;
                break;
            }
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
    // What says that a journal is to be removed is gone as soon as it came.
    step.rows_removed = (rows.len() - step.finished.len()) as u64;
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

#[cfg(test)]
mod tests {
    use cairn_machine::View;

    use super::*;
    use crate::keys::Family;
    use crate::tables::tests::world::{Place, World, event, id, small};

    #[tokio::test]
    async fn a_step_is_bounded_in_tags_too_and_steps_go_on_until_all_is_removed() {
        const TAGS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut world = World::new(Place::memory(), small(1_000_000)).await;
        for name in ["one", "two"] {
            for number in 1..=20 {
                world.write(name, &[event(number, &TAGS)]).await;
                world.flush().await;
            }
        }
        let table = world.tables().inner.table();
        let journal = |name| world.model.head(&id(name)).expect("reads").expect("was written").journal;
        let mut queue = Queue::default();
        queue.add(["one", "two"].map(|name| (journal(name), SequenceNumber(20))).into());
        let mut steps = 0;
        while queue.journals() > 0 {
            let step = step(&*table, queue.next(10), 30).expect("removes");
            assert!(step.rows_removed <= 30 + TAGS.len() as u64, "a chunk goes whole: {step:?}");
            queue.done(&step);
            steps += 1;
        }
        assert!(steps >= 2 * 20 * 9 / 40, "{steps} steps");
        for family in [Family::Chunk, Family::Tag] {
            let (start, end) = (family.start(), family.end());
            let left = table.scan_keys(Scan::ascending(&start, &end, usize::MAX, usize::MAX));
            assert_eq!(left.expect("scans"), Vec::<Bytes>::new(), "{family:?}");
        }
    }
}
