//! An engine in memory with an explicit durable prefix: for nodes without a disk, and for simulation.
//!
//! Invariants
//! - [`MemoryDisk`] is what survives a node: an engine opened over it sees what was durable, in order.
//! - A crash keeps a prefix of the ingestions, each whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::engine::{Ascending, Compaction, Engine, EngineError, Order, Row, RunRow, Scan, Table, TableView};

type Rows = BTreeMap<Bytes, Bytes>;

/// The disk of a [`MemoryEngine`]: outlives it, so that a node can be started again.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Disk>);

#[derive(Default)]
struct Disk {
    tables: Mutex<BTreeMap<String, Arc<MemoryTable>>>,
    /// The ingestion with this number, and every later one, fails as if the node lost its power in it; 0 = none.
    crash_at_ingestion: AtomicU64,
    ingestions: AtomicU64,
    compactions: AtomicU64,
    /// Up to the compaction with this number all are postponed.
    postponed_to: AtomicU64,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `ingestions` more succeed; the next one, and all after it, are lost and fail.
    pub fn crash_after(&self, ingestions: u64) {
        let done = self.0.ingestions.load(Ordering::SeqCst);
        self.0.crash_at_ingestion.store(done + ingestions + 1, Ordering::SeqCst);
    }

    /// The power is back: ingestions succeed again. To be called before an engine is opened over this disk.
    pub fn restart(&self) {
        self.0.crash_at_ingestion.store(0, Ordering::SeqCst);
    }

    /// The next `count` compactions are postponed, as by a disk without room for them.
    pub fn postpone_compactions(&self, count: u64) {
        self.0.postponed_to.store(self.compactions() + count, Ordering::SeqCst);
    }

    /// How many compactions were asked for so far.
    #[must_use]
    pub fn compactions(&self) -> u64 {
        self.0.compactions.load(Ordering::SeqCst)
    }

    /// How many ingestions were tried so far.
    #[must_use]
    pub fn ingestions(&self) -> u64 {
        self.0.ingestions.load(Ordering::SeqCst)
    }
}

/// An engine over a [`MemoryDisk`].
#[derive(Clone)]
pub struct MemoryEngine {
    disk: MemoryDisk,
}

impl MemoryEngine {
    /// Opens an engine over what is durable on a disk.
    #[must_use]
    pub fn open(disk: MemoryDisk) -> Self {
        Self { disk }
    }
}

impl Engine for MemoryEngine {
    fn tables(&self) -> Result<Vec<String>, EngineError> {
        Ok(lock(&self.disk.0.tables).keys().cloned().collect())
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Table>, EngineError> {
        let mut tables = lock(&self.disk.0.tables);
        let table = tables
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(MemoryTable { disk: Arc::downgrade(&self.disk.0), rows: Mutex::default() }));
        Ok(Arc::clone(table) as Arc<dyn Table>)
    }

    fn drop_table(&self, name: &str) -> Result<(), EngineError> {
        lock(&self.disk.0.tables).remove(name);
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(lock(&self.disk.0.tables).values().map(|table| table.disk_bytes()).sum())
    }
}

struct MemoryTable {
    disk: std::sync::Weak<Disk>,
    /// Replaced as a whole when it is written while a view holds it.
    rows: Mutex<Arc<Rows>>,
}

impl MemoryTable {
    fn rows(&self) -> Arc<Rows> {
        Arc::clone(&lock(&self.rows))
    }

    fn crashed(&self) -> bool {
        let Some(disk) = self.disk.upgrade() else { return true };
        let number = disk.ingestions.fetch_add(1, Ordering::SeqCst) + 1;
        let crash_at = disk.crash_at_ingestion.load(Ordering::SeqCst);
        crash_at != 0 && number >= crash_at
    }
}

impl TableView for MemoryTable {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(lock(&self.rows).get(key).cloned())
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        Ok(scan_rows(&lock(&self.rows), scan))
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        Ok(scan_row_keys(&lock(&self.rows), scan))
    }
}

impl Table for MemoryTable {
    fn ingest(&self, run: &mut dyn Iterator<Item = RunRow>) -> Result<(), EngineError> {
        let mut ascending = Ascending::default();
        let run: Vec<RunRow> = run.map(|row| ascending.check(&row.0).map(|()| row)).collect::<Result<_, _>>()?;
        if run.is_empty() {
            return Ok(());
        }
        if self.crashed() {
            return Err(EngineError::Failed { operation: "ingest", reason: "the power is off".to_owned() });
        }
        let mut rows = lock(&self.rows);
        let rows = Arc::make_mut(&mut rows);
        for (key, value) in run {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn view(&self) -> Box<dyn TableView> {
        Box::new(MemoryView(self.rows()))
    }

    fn compact(&self) -> Result<Compaction, EngineError> {
        let Some(disk) = self.disk.upgrade() else { return Ok(Compaction::Done) };
        let number = disk.compactions.fetch_add(1, Ordering::SeqCst) + 1;
        if number <= disk.postponed_to.load(Ordering::SeqCst) {
            return Ok(Compaction::Postponed { reason: "there is no room".to_owned() });
        }
        Ok(Compaction::Done)
    }

    fn rows_estimate(&self) -> u64 {
        lock(&self.rows).len() as u64
    }

    fn disk_bytes(&self) -> u64 {
        lock(&self.rows).iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn runs(&self) -> usize {
        1
    }
}

struct MemoryView(Arc<Rows>);

impl TableView for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        Ok(scan_rows(&self.0, scan))
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        Ok(scan_row_keys(&self.0, scan))
    }
}

fn in_order<'a>(rows: &'a Rows, scan: &Scan<'_>) -> Box<dyn Iterator<Item = (&'a Bytes, &'a Bytes)> + 'a> {
    if scan.from >= scan.to {
        return Box::new(std::iter::empty());
    }
    let bounds = (std::ops::Bound::Included(scan.from), std::ops::Bound::Excluded(scan.to));
    let range = rows.range::<[u8], _>(bounds);
    match scan.order {
        Order::Ascending => Box::new(range),
        Order::Descending => Box::new(range.rev()),
    }
}

fn scan_rows(rows: &Rows, scan: Scan<'_>) -> Vec<Row> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for (key, value) in in_order(rows, &scan).take(scan.rows_max) {
        bytes += key.len() + value.len();
        found.push((key.clone(), value.clone()));
        if bytes >= scan.bytes_max {
            break;
        }
    }
    found
}

fn scan_row_keys(rows: &Rows, scan: Scan<'_>) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for (key, _) in in_order(rows, &scan).take(scan.rows_max) {
        bytes += key.len();
        found.push(key.clone());
        if bytes >= scan.bytes_max {
            break;
        }
    }
    found
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Reopen};

    impl Reopen for MemoryDisk {
        fn open(&self) -> Arc<dyn Engine> {
            Arc::new(MemoryEngine::open(self.clone()))
        }
    }

    #[test]
    fn memory_is_an_engine() {
        conformance::run(&MemoryDisk::new);
    }

    #[test]
    fn a_crash_keeps_whole_ingestions_only() {
        let disk = MemoryDisk::new();
        let row = |key: &'static str| (Bytes::from_static(key.as_bytes()), Some(Bytes::new()));
        disk.crash_after(1);
        {
            let table = disk.open().open("t").expect("opens");
            table.ingest(&mut [row("a"), row("b")].into_iter()).expect("the power is on");
            table.ingest(&mut [row("c")].into_iter()).expect_err("the power went off");
        }
        disk.restart();
        let table = disk.open().open("t").expect("opens");
        assert_eq!(table.scan_keys(Scan::ascending(b"a", b"z", 9, usize::MAX)).expect("scans"), ["a", "b"]);
    }
}
