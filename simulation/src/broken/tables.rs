//! A wrong engine under the tables.

mod runs;
mod views;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cairn_node::{EngineFactory, StorageSettings};
use cairn_storage::engine::{Compaction, Row, RunRow, Scan, TableView};
use cairn_storage::keys::Family;
use cairn_storage::{Engine, EngineError, Table};

use super::Bug;
use views::View;

/// What a machine's wrong engine remembers from one life of its node to the next: what a crash takes back of what was flushed, by table.
#[derive(Default)]
pub(super) struct Ledger(Mutex<BTreeMap<String, Rows>>);

/// Rows as they were.
type Rows = BTreeMap<Bytes, Option<Bytes>>;

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Rows>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A crash takes this back too, or nothing else.
    fn note(&self, table: &str, lost: Rows, is_last_flush_alone: bool) {
        let mut ledger = self.lock();
        let of_table = ledger.entry(table.to_owned()).or_default();
        if is_last_flush_alone {
            of_table.clear();
        }
        for (key, before) in lost {
            // What was noted before is older.
            of_table.entry(key).or_insert(before);
        }
    }
}

/// A wrong engine in the place of the real one, if the bug is one of tables.
pub(super) fn wrap(bug: Bug, real: Arc<dyn EngineFactory>, ledger: Arc<Ledger>) -> Arc<dyn EngineFactory> {
    if runs::is_wrong(bug) || views::is_wrong(bug) { Arc::new(BrokenFactory { bug, real, ledger }) } else { real }
}

struct BrokenFactory {
    bug: Bug,
    real: Arc<dyn EngineFactory>,
    ledger: Arc<Ledger>,
}

impl EngineFactory for BrokenFactory {
    fn open(&self, dir: &Path, settings: &StorageSettings) -> Result<Arc<dyn Engine>, EngineError> {
        let real = self.real.open(dir, settings)?;
        let there = real.tables()?;
        for (name, rows) in std::mem::take(&mut *self.ledger.lock()) {
            if there.contains(&name) {
                real.open(&name)?.ingest(&mut rows.into_iter())?;
            }
        }
        Ok(Arc::new(BrokenEngine { bug: self.bug, real, ledger: self.ledger.clone() }))
    }
}

struct BrokenEngine {
    bug: Bug,
    real: Arc<dyn Engine>,
    ledger: Arc<Ledger>,
}

impl Engine for BrokenEngine {
    fn tables(&self) -> Result<Vec<String>, EngineError> {
        self.real.tables()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Table>, EngineError> {
        let real = self.real.open(name)?;
        // The others hold no journals.
        if !name.starts_with("shard-") {
            return Ok(real);
        }
        let (bug, ledger, name) = (self.bug, self.ledger.clone(), name.to_owned());
        Ok(Arc::new(BrokenTable { bug, real, ledger, name, newest: Mutex::default(), before: Mutex::default() }))
    }

    fn drop_table(&self, name: &str) -> Result<(), EngineError> {
        self.ledger.lock().remove(name);
        self.real.drop_table(name)
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.real.disk_bytes()
    }
}

struct BrokenTable {
    bug: Bug,
    real: Arc<dyn Table>,
    ledger: Arc<Ledger>,
    name: String,
    /// The keys of the last run.
    newest: Mutex<Arc<Vec<Bytes>>>,
    /// The table before the last run.
    before: Mutex<Option<Arc<dyn TableView>>>,
}

impl BrokenTable {
    /// The table as it is read while it is written.
    fn live(&self) -> View<'_> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        View::live(self.bug, &*self.real, newest)
    }

    fn before(&self) -> Option<Arc<dyn TableView>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl TableView for BrokenTable {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.real.get(key)
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        if self.bug == Bug::ReplayMixesStates
            && Family::of(scan.from) == Some(Family::Chunk)
            && let Some(before) = self.before()
        {
            return before.scan(scan);
        }
        self.live().scan(scan)
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        self.real.scan_keys(scan)
    }
}

impl Table for BrokenTable {
    fn ingest(&self, run: &mut dyn Iterator<Item = RunRow>) -> Result<(), EngineError> {
        let run = runs::wrong(self.bug, &*self.real, run.collect())?;
        if run.is_empty() {
            return Ok(());
        }
        if let Some(lost) = runs::lost_in_a_crash(self.bug, &*self.real, &run)? {
            self.ledger.note(&self.name, lost.into_iter().collect(), self.bug != Bug::FlushesLost);
        }
        if matches!(self.bug, Bug::CheckpointBehindItsIndex | Bug::ReplayMixesStates) {
            *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.real.view().into());
        }
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(run.iter().map(|(key, _)| key.clone()).collect());
        self.real.ingest(&mut run.into_iter())
    }

    fn view(&self) -> Box<dyn TableView> {
        views::checkpoint(self.bug, self.real.view(), self.before())
    }

    fn compact(&self) -> Result<Compaction, EngineError> {
        self.real.compact()
    }

    fn rows_estimate(&self) -> u64 {
        self.real.rows_estimate()
    }

    fn disk_bytes(&self) -> u64 {
        self.real.disk_bytes()
    }

    fn runs(&self) -> usize {
        self.real.runs()
    }
}
