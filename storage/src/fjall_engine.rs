//! The engine in production: fjall, one database for each node, one keyspace for each table.
//!
//! Only ingestions are ever used: fjall's own journal and memtables stay empty, as the Raft log is the write-ahead log. Ordinary
//! writes together with a single worker thread would also stop it for ever.
//!
//! Values of some size are separated from keys: merging then moves keys and leaves the values where they are, which is what
//! makes the tables cheap to write.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    CompressionType, Database, Iter, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable, Snapshot,
};

use crate::engine::{Ascending, Compaction, Engine, EngineError, Order, Row, RunRow, Scan, Table, TableView};
use crate::fs::parent;
use compacting::FreeBytes;
use unread::Wrong;

mod compacting;
mod unread;

/// A key that no family has and that no scan sees: its removal moves the table on by one version.
const NO_KEY: [u8; 1] = [0];
/// fjall's name for the folder of a table's files of values.
const VALUES_DIR: &str = "blobs";
/// fjall's name for the folder of a table's sorted runs.
const RUNS_DIR: &str = "tables";
/// fjall's name for the folder of all tables.
const TABLES_DIR: &str = "keyspaces";
/// How many damaged databases are kept beside their place. Who finds as many has a disk to look at.
pub const ASIDE_MAX: usize = 4;
/// While an ingestion runs, what it has written is started on its way to the disk each time it has grown by this much, so that
/// the sync at its end is short and the log beside it is not held up.
#[cfg(target_os = "linux")]
const WRITE_BACK_BYTES: usize = 1024 * 1024;

/// How fjall behaves.
#[derive(Clone, Debug)]
pub struct FjallSettings {
    /// Blocks kept in memory, in bytes.
    pub cache_bytes: u64,
    /// Values of at least this many bytes are kept apart from their keys.
    pub separation_bytes: u32,
    /// Files of values are rewritten when this part of them is removed.
    pub staleness: f32,
    /// Target size of files of values, in bytes.
    pub value_file_bytes: u64,
    /// Compress values: less space, more time.
    pub is_compressed: bool,
    /// Files kept open.
    pub open_files_max: usize,
}

impl Default for FjallSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * 1024 * 1024,
            separation_bytes: 512,
            staleness: 0.25,
            value_file_bytes: 64 * 1024 * 1024,
            is_compressed: false,
            open_files_max: 512,
        }
    }
}

/// A damaged database was put aside, and a new one made in its place.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// Why it did not open.
    pub damage: EngineError,
    /// Where it is now.
    pub aside: PathBuf,
}

/// See the module.
pub struct FjallEngine {
    database: Database,
    settings: FjallSettings,
    /// Where fjall keeps a folder for each table.
    tables_dir: PathBuf,
    shared: Arc<Shared>,
}

/// What all tables of an engine have in common.
struct Shared {
    free_bytes: Box<FreeBytes>,
    /// Held while a table is compacted.
    compacting: Mutex<()>,
}

impl Shared {
    fn new(free_bytes: Box<FreeBytes>) -> Arc<Self> {
        Arc::new(Self { free_bytes, compacting: Mutex::new(()) })
    }
}

impl FjallEngine {
    /// Opens the database in a directory, creating it if it is not there. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Unopenable`]: another process has it, it is of another version, or the disk refuses. [`EngineError::Damaged`].
    pub fn open(dir: &Path, settings: FjallSettings) -> Result<Self, EngineError> {
        let place = || dir.display().to_string();
        match unread::find_damage(dir) {
            Ok(None) => {}
            Ok(Some(Wrong { file, what })) => {
                return Err(EngineError::Damaged { place: place(), reason: format!("{}: {what}", file.display()) });
            }
            Err(error) => return Err(EngineError::Unopenable { place: place(), reason: error.to_string() }),
        }
        let opened = Database::builder(dir)
            .cache_size(settings.cache_bytes)
            .max_cached_files(Some(settings.open_files_max))
            .worker_threads(1)
            .manual_journal_persist(true)
            .open();
        let database = opened.map_err(|error| not_opened(dir, &error))?;
        // fjall syncs what is in its folders; that they are there is for their owner.
        let tables_dir = dir.join(TABLES_DIR);
        sync_dir(dir)?;
        sync_dir(parent(dir))?;
        let shared = Shared::new(Box::new(compacting::free_bytes_of_disk));
        Ok(Self { database, settings, tables_dir, shared })
    }

    /// Asks `free_bytes` how many bytes may still be written beside a path, instead of the operating system. Tables that are open
    /// already go on as before.
    #[must_use]
    pub fn with_free_bytes(self, free_bytes: impl Fn(&Path) -> std::io::Result<u64> + Send + Sync + 'static) -> Self {
        Self { shared: Shared::new(Box::new(free_bytes)), ..self }
    }

    /// Opens the database in a directory; if its files are damaged, it goes aside and a new, empty one is made in its place: what
    /// it held comes back from the log, or from a peer. Nothing is removed: where neither has it, what went aside is all there is.
    ///
    /// # Errors
    /// [`EngineError::Unopenable`]: another process has it, it is of another version, the disk refuses, or [`ASIDE_MAX`] are aside
    /// already.
    pub fn open_or_renew(dir: &Path, settings: FjallSettings) -> Result<(Self, Option<Renewed>), EngineError> {
        let damage = match Self::open(dir, settings.clone()) {
            Ok(engine) => return Ok((engine, None)),
            Err(damage @ EngineError::Damaged { .. }) => damage,
            Err(error) => return Err(error),
        };
        let moved = free_aside(dir).and_then(|aside| std::fs::rename(dir, &aside).map(|()| aside));
        let reason = |error: std::io::Error| format!("{damage}; and it cannot be put aside: {error}");
        let aside = moved.map_err(|error| EngineError::Unopenable { place: dir.display().to_string(), reason: reason(error) })?;
        // The new name is made durable with that of the new database: both are in the same folder.
        Ok((Self::open(dir, settings)?, Some(Renewed { damage, aside })))
    }

    fn options(&self) -> KeyspaceCreateOptions {
        let compression = if self.settings.is_compressed { CompressionType::Lz4 } else { CompressionType::None };
        let separation = KvSeparationOptions::default()
            .compression(compression)
            .file_target_size(self.settings.value_file_bytes)
            .separation_threshold(self.settings.separation_bytes)
            .staleness_threshold(self.settings.staleness)
            // Every file that is stale enough, not only the oldest.
            .age_cutoff(1.0);
        KeyspaceCreateOptions::default()
            .manual_journal_persist(true)
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))))
            .with_kv_separation(Some(separation))
    }
}

/// Where a damaged database goes, beside its place.
fn free_aside(dir: &Path) -> std::io::Result<PathBuf> {
    for number in 1..=ASIDE_MAX {
        let aside = dir.with_extension(format!("damaged-{number}"));
        match std::fs::symlink_metadata(&aside) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(aside),
            Err(error) => return Err(error),
        }
    }
    let text = format!("{ASIDE_MAX} are aside already, look at them and remove them");
    Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, text))
}

/// Tells files that are not what was written from a disk or a process that stands in the way.
fn not_opened(dir: &Path, error: &fjall::Error) -> EngineError {
    let (place, reason) = (dir.display().to_string(), error.to_string());
    let io = match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error.kind()),
        _ => None,
    };
    let is_damaged = match (error, io) {
        // A file that is missing, cut, or left over from a creation that was interrupted.
        (_, Some(kind)) => {
            use std::io::ErrorKind::{AlreadyExists, InvalidData, NotFound, UnexpectedEof};
            matches!(kind, AlreadyExists | InvalidData | NotFound | UnexpectedEof)
        }
        (fjall::Error::Locked | fjall::Error::InvalidVersion(Some(_)), None) => false,
        (fjall::Error::Storage(fjall::LsmError::InvalidVersion(_)), None) => false,
        (_, None) => true,
    };
    if is_damaged { EngineError::Damaged { place, reason } } else { EngineError::Unopenable { place, reason } }
}

fn failed(operation: &'static str) -> impl Fn(fjall::Error) -> EngineError {
    move |error| EngineError::Failed { operation, reason: error.to_string() }
}

impl Engine for FjallEngine {
    fn tables(&self) -> Result<Vec<String>, EngineError> {
        let mut names: Vec<String> = self.database.list_keyspace_names().iter().map(|name| (**name).to_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Table>, EngineError> {
        let keyspace = self.database.keyspace(name, || self.options()).map_err(failed("open a table"))?;
        // fjall syncs what is in a table's folder, but not the folder's own name; and a killed process may have left names that
        // only the page cache holds.
        sync_dir(&keyspace.path().join(VALUES_DIR))?;
        sync_dir(&keyspace.path().join(RUNS_DIR))?;
        sync_dir(keyspace.path())?;
        sync_dir(&self.tables_dir)?;
        let (database, shared) = (self.database.clone(), Arc::clone(&self.shared));
        Ok(Arc::new(FjallTable { database, keyspace, shared, staleness: self.settings.staleness }))
    }

    fn drop_table(&self, name: &str) -> Result<(), EngineError> {
        if !self.database.keyspace_exists(name) {
            return Ok(());
        }
        let keyspace = self.database.keyspace(name, || self.options()).map_err(failed("open a table"))?;
        self.database.delete_keyspace(keyspace).map_err(failed("drop a table"))
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.database.disk_space().map_err(failed("measure the tables"))
    }
}

struct FjallTable {
    database: Database,
    keyspace: Keyspace,
    shared: Arc<Shared>,
    /// Files of values are written anew when this part of them is removed.
    staleness: f32,
}

impl FjallTable {
    /// Fails if a background merge has failed before: fjall stops merging then, and says so only to its own writes.
    fn check(&self) -> Result<(), EngineError> {
        self.database.persist(PersistMode::Buffer).map_err(failed("merge in the background"))
    }

    fn values_dir(&self) -> PathBuf {
        self.keyspace.path().join(VALUES_DIR)
    }
}

impl TableView for FjallTable {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.keyspace.get(key).map_err(failed("get"))?.map(Bytes::from))
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        collect_rows(range(scan, |from, to| self.keyspace.range(from..to)), scan)
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        collect_keys(range(scan, |from, to| self.keyspace.range(from..to)), scan)
    }
}

impl Table for FjallTable {
    fn ingest(&self, run: &mut dyn Iterator<Item = RunRow>) -> Result<(), EngineError> {
        self.check()?;
        let mut run = run.peekable();
        if run.peek().is_none() {
            return Ok(());
        }
        let mut ingestion = self.keyspace.start_ingestion().map_err(failed("begin an ingestion"))?;
        let mut ascending = Ascending::default();
        let mut write_back = WriteBack::new(self.values_dir());
        for (key, value) in run {
            ascending.check(&key)?;
            match value {
                Some(value) => {
                    write_back.wrote(value.len());
                    ingestion.write(key, value)
                }
                None => ingestion.write_tombstone(key),
            }
            .map_err(failed("ingest"))?;
        }
        // fjall syncs the files of values, but not the names of them.
        sync_dir(&self.values_dir())?;
        ingestion.finish().map_err(failed("finish an ingestion"))
    }

    fn view(&self) -> Box<dyn TableView> {
        Box::new(FjallView { keyspace: self.keyspace.clone(), snapshot: self.database.snapshot() })
    }

    fn compact(&self) -> Result<Compaction, EngineError> {
        self.check()?;
        compacting::compact(self)
    }

    fn rows_estimate(&self) -> u64 {
        self.keyspace.approximate_len() as u64
    }

    fn disk_bytes(&self) -> u64 {
        self.keyspace.disk_space()
    }

    fn runs(&self) -> usize {
        self.keyspace.l0_table_count()
    }
}

struct FjallView {
    keyspace: Keyspace,
    snapshot: Snapshot,
}

impl TableView for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.snapshot.get(&self.keyspace, key).map_err(failed("get"))?.map(Bytes::from))
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        collect_rows(range(scan, |from, to| self.snapshot.range(&self.keyspace, from..to)), scan)
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        collect_keys(range(scan, |from, to| self.snapshot.range(&self.keyspace, from..to)), scan)
    }
}

/// Opens an iterator; none for an empty range, which fjall does not accept.
fn range<'a>(scan: Scan<'a>, open: impl FnOnce(&'a [u8], &'a [u8]) -> Iter) -> Option<Iter> {
    (scan.from < scan.to && scan.rows_max > 0).then(|| open(scan.from, scan.to))
}

fn next(iter: &mut Iter, order: Order) -> Option<fjall::Guard> {
    match order {
        Order::Ascending => iter.next(),
        Order::Descending => iter.next_back(),
    }
}

fn collect_rows(iter: Option<Iter>, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
    let mut rows = Vec::new();
    let Some(mut iter) = iter else { return Ok(rows) };
    let mut bytes = 0;
    while let Some(guard) = next(&mut iter, scan.order) {
        let (key, value) = guard.into_inner().map_err(failed("scan"))?;
        bytes += key.len() + value.len();
        rows.push((Bytes::from(key), Bytes::from(value)));
        if rows.len() >= scan.rows_max || bytes >= scan.bytes_max {
            break;
        }
    }
    Ok(rows)
}

fn collect_keys(iter: Option<Iter>, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
    let mut keys = Vec::new();
    let Some(mut iter) = iter else { return Ok(keys) };
    let mut bytes = 0;
    while let Some(guard) = next(&mut iter, scan.order) {
        let key = guard.key().map_err(failed("scan keys"))?;
        bytes += key.len();
        keys.push(Bytes::from(key));
        if keys.len() >= scan.rows_max || bytes >= scan.bytes_max {
            break;
        }
    }
    Ok(keys)
}

fn sync_dir(dir: &Path) -> Result<(), EngineError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| EngineError::Failed { operation: "sync a folder of tables", reason: error.to_string() })
}

/// Starts what an ingestion has written on its way to the disk. Best effort: the sync at the end is what counts.
struct WriteBack {
    #[cfg(target_os = "linux")]
    linux: write_back::Starter,
}

#[cfg(target_os = "linux")]
mod write_back;

impl WriteBack {
    #[cfg(target_os = "linux")]
    fn new(dir: PathBuf) -> Self {
        Self { linux: write_back::Starter::new(dir, WRITE_BACK_BYTES) }
    }

    #[cfg(target_os = "linux")]
    fn wrote(&mut self, bytes: usize) {
        self.linux.wrote(bytes);
    }

    #[cfg(not(target_os = "linux"))]
    fn new(_dir: PathBuf) -> Self {
        Self {}
    }

    #[cfg(not(target_os = "linux"))]
    fn wrote(&mut self, _bytes: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Reopen};

    struct OnDisk {
        dir: tempfile::TempDir,
    }

    impl Reopen for OnDisk {
        fn open(&self) -> Arc<dyn Engine> {
            Arc::new(FjallEngine::open(self.dir.path(), FjallSettings::default()).expect("opens"))
        }
    }

    #[test]
    fn fjall_is_an_engine() {
        conformance::run(&|| OnDisk { dir: tempfile::tempdir().expect("a directory") });
    }

    #[test]
    fn a_directory_is_opened_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = FjallEngine::open(dir.path(), FjallSettings::default()).expect("opens");
        let second = FjallEngine::open(dir.path(), FjallSettings::default());
        assert!(matches!(second, Err(EngineError::Unopenable { .. })));
        let held = dir.path().join("held");
        let _first = FjallEngine::open(&held, FjallSettings::default()).expect("opens");
        let second = FjallEngine::open_or_renew(&held, FjallSettings::default());
        assert!(matches!(second, Err(EngineError::Unopenable { .. })));
        assert!(!dir.path().join("held.damaged-1").exists(), "what another process holds is no damage");
    }

    #[test]
    fn files_that_do_not_open_go_aside_and_a_new_database_takes_their_place() {
        type Damage = fn(&Path) -> std::io::Result<()>;
        let damages: [(&str, Damage); 3] = [
            ("a version's pointer is cut", |dir| File::create(dir.join(TABLES_DIR).join("0").join("current")).map(drop)),
            ("the marker is gone", |dir| std::fs::remove_file(dir.join("version"))),
            ("the creation was interrupted", |dir| {
                std::fs::remove_file(dir.join("version"))?;
                std::fs::remove_dir_all(dir.join(TABLES_DIR))
            }),
        ];
        for (what, damage) in damages {
            let parent = tempfile::tempdir().expect("a directory");
            let dir = parent.path().join("tables");
            let break_it = || {
                let engine = FjallEngine::open(&dir, FjallSettings::default()).expect("opens");
                engine.open("t").expect("opens");
                drop(engine);
                damage(&dir).unwrap_or_else(|error| panic!("{what}: {error}"));
            };
            for number in 1..=ASIDE_MAX {
                break_it();
                let opened = FjallEngine::open(&dir, FjallSettings::default());
                assert!(matches!(opened, Err(EngineError::Damaged { .. })), "{what}: {:?}", opened.err());
                let (engine, renewed) = FjallEngine::open_or_renew(&dir, FjallSettings::default()).expect("is renewed");
                let renewed = renewed.unwrap_or_else(|| panic!("{what}: says so"));
                assert!(matches!(renewed.damage, EngineError::Damaged { .. }), "{what}");
                assert_eq!(renewed.aside, parent.path().join(format!("tables.damaged-{number}")), "{what}");
                assert!(engine.tables().expect("lists").is_empty() && renewed.aside.exists(), "{what}");
            }
            break_it();
            let refused = FjallEngine::open_or_renew(&dir, FjallSettings::default());
            assert!(matches!(refused, Err(EngineError::Unopenable { .. })), "{what}");
            assert!(dir.exists() && parent.path().join("tables.damaged-1").exists(), "{what}: nothing is removed");
        }
    }

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&[b"k".as_slice(), &number.to_be_bytes()].concat())
    }

    fn value() -> Bytes {
        Bytes::from(vec![7u8; 16 * 1024])
    }

    /// Gives the bytes that it had when it was full. Every fourth row stays, so that files of values are stale in part only.
    pub(super) fn fill_and_remove_three_quarters(table: &dyn Table) -> u64 {
        for part in 0..8 {
            let mut run = (0..128).map(|number| (key(part * 128 + number), Some(value())));
            table.ingest(&mut run).expect("ingests");
        }
        let full = table.disk_bytes();
        let mut run = (0..1024).filter(|number| number % 4 != 0).map(|number| (key(number), None));
        table.ingest(&mut run).expect("ingests");
        full
    }

    #[test]
    fn removed_values_give_their_space_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = FjallEngine::open(dir.path(), FjallSettings::default()).expect("opens");
        let table = engine.open("t").expect("opens");
        let full = fill_and_remove_three_quarters(&*table);
        assert!(full > 16 * 1024 * 1024, "{full}");
        assert_eq!(table.compact(), Ok(Compaction::Done));
        assert!(table.disk_bytes() < full * 2 / 5, "{} of {full}", table.disk_bytes());
        assert_eq!(table.get(&key(4)).expect("reads"), Some(value()));
        assert_eq!(table.get(&key(5)).expect("reads"), None);
    }
}
