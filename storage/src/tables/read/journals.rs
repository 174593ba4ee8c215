//! Listing journals, page by page.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::{Head, PersistenceId};

use crate::blocking::BlockingExt;
use crate::engine::Scan;
use crate::keys::{Family, after_prefix, head};
use crate::tables::{Inner, Tables, TablesError};

/// Bytes of one page.
const PAGE_BYTES: usize = 1024 * 1024;

/// A journal and its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSummary {
    /// Its name.
    pub persistence_id: PersistenceId,
    /// Its head.
    pub head: Head,
}

/// One page of journals, ascending bytewise by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalsPage {
    /// The journals.
    pub journals: Vec<JournalSummary>,
    /// Whether there may be more behind the last one.
    pub has_more: bool,
}

impl Tables {
    /// Journals whose names begin with `prefix`, behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`TablesError::Broken`] or [`TablesError::Damaged`].
    pub async fn list_journals(
        &self,
        prefix: &str,
        after: Option<&PersistenceId>,
        limit: usize,
    ) -> Result<JournalsPage, TablesError> {
        let page = self.inner.list_journals(prefix.as_bytes(), after, limit).await;
        page.map_err(|error| self.inner.note(error))
    }
}

impl Inner {
    async fn list_journals(
        &self,
        prefix: &[u8],
        after: Option<&PersistenceId>,
        limit: usize,
    ) -> Result<JournalsPage, TablesError> {
        let (memory, table) = {
            let state = self.state();
            let mut memory: BTreeMap<PersistenceId, Head> = BTreeMap::new();
            for memtable in state.memtables().rev() {
                let matching = memtable.heads.iter().filter(|(name, known)| {
                    known.is_changed && name.as_bytes().starts_with(prefix) && after.is_none_or(|after| *name > after)
                });
                memory.extend(matching.map(|(name, known)| (name.clone(), known.head.clone())));
                // Only the first ones can be on this page.
                while memory.len() > limit {
                    memory.pop_last();
                }
            }
            (memory, Arc::clone(&state.table))
        };
        let start = match after {
            Some(after) => [head::key(after).as_ref(), &[0]].concat().into(),
            None => head::prefix(prefix),
        };
        let end: Bytes = match after_prefix(&head::prefix(prefix)) {
            Some(end) => end.into(),
            None => Bytes::copy_from_slice(&Family::Head.end()),
        };
        let start = start.max(head::prefix(prefix));
        let rows = self.blocking.run(move || table.scan(Scan::ascending(&start, &end, limit, PAGE_BYTES))).await?;
        merge(rows, memory, limit)
    }
}

/// Memory's heads over the engine's. Where the engine's page ends early, so does the whole.
fn merge(
    rows: Vec<crate::engine::Row>,
    mut memory: BTreeMap<PersistenceId, Head>,
    limit: usize,
) -> Result<JournalsPage, TablesError> {
    let is_cut = rows.len() >= limit || rows.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() >= PAGE_BYTES;
    let memory_is_cut = memory.len() >= limit;
    let mut found = BTreeMap::new();
    for (key, value) in &rows {
        found.insert(head::decode_key(key)?, head::decode(value)?);
    }
    if is_cut && let Some((last, _)) = found.last_key_value() {
        let last = last.clone();
        let behind = memory.split_off(&last);
        if let Some(head) = behind.get(&last) {
            memory.insert(last, head.clone());
        }
    }
    found.extend(memory);
    let has_more = is_cut || memory_is_cut || found.len() > limit;
    let journals = found.into_iter().take(limit).map(|(persistence_id, head)| JournalSummary { persistence_id, head });
    Ok(JournalsPage { journals: journals.collect(), has_more })
}
