//! What is done to files while nobody uses them: copied, put back, wiped, damaged.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_storage::engine::{Engine, EngineError, Order, Scan};
use cairn_storage::fs::{File, Fs, MemoryFs, OpenMode};
use cairn_storage::{MemoryDisk, MemoryEngine};
use futures::FutureExt;

use crate::dice::Dice;

/// Where a node without a data directory of its own keeps its files.
const ROOT: &str = "memory";

/// Everything that a machine keeps, at one moment.
#[derive(Clone)]
pub(crate) struct Copy {
    files: MemoryFs,
    tables: MemoryDisk,
}

impl Copy {
    /// What would be left if the power went now, and nothing that was not synced were there.
    pub(crate) fn take(files: &MemoryFs, tables: &MemoryDisk) -> Self {
        let files = files.duplicate();
        files.crash(|| false);
        let copy = MemoryDisk::new();
        copy_tables(tables, &copy);
        Self { files, tables: copy }
    }

    /// Puts it into the place of what is there.
    pub(crate) fn put_back(&self, files: &MemoryFs, tables: &MemoryDisk) {
        put_files(&self.files, files);
        wipe_tables(tables);
        copy_tables(&self.tables, tables);
    }
}

/// Puts copies of all files into the place of those that are there.
pub(crate) fn put_files(from: &MemoryFs, to: &MemoryFs) {
    wipe_files(to);
    for path in list(from) {
        let file = open(from, &path);
        let bytes = at_once(file.read_at(0, usize::MAX / 2));
        if let Some(parent) = path.parent() {
            at_once(to.create_dir_all(parent));
        }
        let copy = at_once(to.open(&path, OpenMode::Create));
        at_once(copy.write_at(0, bytes));
        at_once(copy.sync_data());
        sync_name(to, &path);
    }
}

/// Nothing is left.
pub(crate) fn wipe(files: &MemoryFs, tables: &MemoryDisk) {
    wipe_files(files);
    wipe_tables(tables);
}

/// Flips one bit of one file; says which.
pub(crate) fn flip(files: &MemoryFs, dice: &mut Dice) -> Option<String> {
    let (path, len) = pick(files, dice)?;
    let file = open(files, &path);
    let at = dice.number(0, len - 1);
    let mut bytes = at_once(file.read_at(at, 1)).to_vec();
    bytes[0] ^= 1 << dice.number(0, 7);
    at_once(file.write_at(at, Bytes::from(bytes)));
    at_once(file.sync_data());
    Some(format!("a bit of {} at {at}", path.display()))
}

/// Cuts one file; says which.
pub(crate) fn truncate(files: &MemoryFs, dice: &mut Dice) -> Option<String> {
    let (path, len) = pick(files, dice)?;
    let file = open(files, &path);
    let to = dice.number(0, len - 1);
    at_once(file.set_len(to));
    at_once(file.sync_data());
    Some(format!("{} from {len} to {to}", path.display()))
}

/// A file that holds something, and how many bytes from its begin do: what a log has set aside holds nothing.
fn pick(files: &MemoryFs, dice: &mut Dice) -> Option<(PathBuf, u64)> {
    let used: Vec<_> = list(files)
        .into_iter()
        .filter_map(|path| {
            let bytes = at_once(open(files, &path).read_at(0, usize::MAX / 2));
            let end = bytes.iter().rposition(|byte| *byte != 0)?;
            Some((path, end as u64 + 1))
        })
        .collect();
    (!used.is_empty()).then(|| dice.pick(&used).clone())
}

fn wipe_files(files: &MemoryFs) {
    for path in list(files) {
        at_once(files.remove(&path));
        sync_name(files, &path);
    }
}

fn sync_name(files: &MemoryFs, path: &Path) {
    if let Some(parent) = path.parent() {
        at_once(files.sync_dir(parent));
    }
}

fn list(files: &MemoryFs) -> Vec<PathBuf> {
    let (mut dirs, mut found) = (vec![PathBuf::from(ROOT)], Vec::new());
    while let Some(dir) = dirs.pop() {
        // A folder that was never made has nothing in it.
        let names = files.list(&dir).now_or_never().and_then(Result::ok).unwrap_or_default();
        for path in names.into_iter().map(|name| dir.join(name)) {
            match files.open(&path, OpenMode::Read).now_or_never() {
                Some(Ok(_)) => found.push(path),
                _ => dirs.push(path),
            }
        }
    }
    found.sort();
    found
}

fn open(files: &MemoryFs, path: &Path) -> std::sync::Arc<dyn File> {
    at_once(files.open(path, OpenMode::ReadWrite))
}

/// Files in memory never wait, and those that are listed are there.
fn at_once<T>(call: impl Future<Output = std::io::Result<T>>) -> T {
    call.now_or_never().expect("files in memory do not wait").expect("files in memory do not fail")
}

fn wipe_tables(tables: &MemoryDisk) {
    // Whoever changes them by hand is not struck by what waits for the node's next flush.
    tables.restart();
    let engine = MemoryEngine::open(tables.clone());
    let wiped: Result<(), EngineError> =
        engine.tables().and_then(|names| names.iter().try_for_each(|name| engine.drop_table(name)));
    wiped.expect("tables in memory are dropped");
}

fn copy_tables(from: &MemoryDisk, to: &MemoryDisk) {
    let (from, to) = (MemoryEngine::open(from.clone()), MemoryEngine::open(to.clone()));
    let end = [0xff; 128];
    let everything = Scan { from: &[], to: &end, order: Order::Ascending, rows_max: usize::MAX, bytes_max: usize::MAX };
    let copied: Result<(), EngineError> = from.tables().and_then(|names| {
        names.iter().try_for_each(|name| {
            let rows = from.open(name)?.scan(everything)?;
            to.open(name)?.ingest(&mut rows.into_iter().map(|(key, value)| (key, Some(value))))
        })
    });
    copied.expect("tables in memory are copied");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_put_back_whole_although_the_nodes_next_flush_is_to_fail() {
        let (files, tables) = (MemoryFs::default(), MemoryDisk::new());
        let ingest = |key: u8| {
            let table = MemoryEngine::open(tables.clone()).open("rows").expect("it opens");
            table.ingest(&mut std::iter::once((Bytes::from(vec![key]), Some(Bytes::from_static(b"value")))))
        };
        ingest(1).expect("it is stored");
        let copy = Copy::take(&files, &tables);
        ingest(2).expect("it is stored");
        tables.crash_after(0);
        copy.put_back(&files, &tables);
        let rows = MemoryEngine::open(tables.clone()).open("rows").expect("it opens");
        let get = |key: u8| rows.get(&[key]).expect("it is read");
        assert!(get(1).is_some() && get(2).is_none());
    }
}
