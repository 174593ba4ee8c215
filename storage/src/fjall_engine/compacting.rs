//! Giving back the space of what was removed, as far as there is room for that.
//!
//! A compaction writes what stays before it lets go what was there: all sorted runs, and of the files of values those that are
//! stale enough, live values and all. Where a disk does not have that much it must not begin: it would fill the disk for the log
//! and for flushes, and those stop the node.
//!
//! What a merge wrote before the disk was full stays: fjall gives its names to nobody, and others write into the same folders. It goes
//! when the tables are opened again, as fjall then removes every file that no manifest names. Until then a merge in the background
//! may find no room either, and that stops the node: to ask before is what helps, to go on after it is only the best that is left.

use std::io;
use std::path::Path;
use std::sync::TryLockError;

use bytes::Bytes;
use fjall::{Error, LsmError};

use super::{FjallTable, NO_KEY, RUNS_DIR, failed};
use crate::engine::{Compaction, EngineError};
use crate::fs;

/// How often a compaction goes over the values that merging has left without a key.
const PASSES_MAX: usize = 3;
/// What a compaction leaves free at least, in bytes: the log and flushes go on beside it.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Beside that it leaves this part of its own need, as that is an estimate.
const FREE_PART: u64 = 4;

/// Asks how many bytes this process may still write to the disk that holds a path.
pub(super) type FreeBytes = dyn Fn(&Path) -> io::Result<u64> + Send + Sync;

pub(super) fn free_bytes_of_disk(path: &Path) -> io::Result<u64> {
    Ok(fs::disk_space(path)?.available)
}

/// Compacts a table if no other one is being compacted: each is judged by what is free when it begins.
pub(super) fn compact(table: &FjallTable) -> Result<Compaction, EngineError> {
    let _turn = match table.shared.compacting.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::WouldBlock) => return Ok(postponed("another table is being compacted")),
        // It guards nothing that could be half done.
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
    };
    for _ in 0..PASSES_MAX {
        let need = need_bytes(table).map_err(measured)?;
        let free = (table.shared.free_bytes)(table.keyspace.path()).map_err(measured)?;
        if free < need.saturating_add((need / FREE_PART).max(FREE_BYTES_MIN)) {
            return Ok(postponed(&format!("it may write {need} bytes, and {free} are free")));
        }
        match pass(table) {
            Ok(()) => {}
            Err(error) if is_full_disk(&error) => return Ok(postponed(&format!("the disk is full: {error}"))),
            Err(error) => return Err(failed("compact")(error)),
        }
        if table.keyspace.fragmented_blob_bytes() * 4 <= table.keyspace.disk_space() {
            break;
        }
    }
    Ok(Compaction::Done)
}

fn pass(table: &FjallTable) -> fjall::Result<()> {
    // Moves the table on by one version: what the last ingestion removed is given back only when a later one was made.
    let mut ingestion = table.keyspace.start_ingestion()?;
    ingestion.write_tombstone(Bytes::from_static(&NO_KEY))?;
    ingestion.finish()?;
    table.keyspace.major_compact()
}

/// The most bytes that one pass writes.
fn need_bytes(table: &FjallTable) -> io::Result<u64> {
    let runs = bytes_in(&table.keyspace.path().join(RUNS_DIR))?;
    let values = table.keyspace.disk_space().saturating_sub(runs);
    Ok(runs.saturating_add(live_bytes_max(values, table.keyspace.fragmented_blob_bytes(), table.staleness)))
}

/// The most bytes of live values in files that are stale enough to be written anew. Of each such file at least the part
/// `staleness` is stale, so live is at most so much for each stale byte; which files they are fjall does not say.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is an estimate")]
fn live_bytes_max(values: u64, stale: u64, staleness: f32) -> u64 {
    let live_for_each_stale = (1.0 - f64::from(staleness)) / f64::from(staleness).max(f64::MIN_POSITIVE);
    let beside_stale = (stale as f64 * live_for_each_stale) as u64;
    // Stale bytes are counted before compression: then there may be more of them than of files.
    values.checked_sub(stale).unwrap_or(values).min(beside_stale)
}

fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        match entry?.metadata() {
            Ok(metadata) => bytes += metadata.len(),
            // A merge has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

fn postponed(reason: &str) -> Compaction {
    Compaction::Postponed { reason: reason.to_owned() }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn measured(error: io::Error) -> EngineError {
    EngineError::Failed { operation: "measure a table and its disk", reason: error.to_string() }
}

/// A pass that meets it has changed nothing: a merge takes effect when all of it is written, and so does its one removed row.
fn is_full_disk(error: &Error) -> bool {
    matches!(error, Error::Io(io) | Error::Storage(LsmError::Io(io)) if fs::is_full_disk(io))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::engine::Engine;
    use crate::fjall_engine::tests::fill_and_remove_three_quarters;
    use crate::fjall_engine::{FjallEngine, FjallSettings};

    #[test]
    fn what_a_compaction_writes_is_bounded_by_what_is_stale_and_by_what_is_live() {
        for (values, stale, expected) in
            [(1_000, 0, 0), (1_000, 100, 300), (1_000, 500, 500), (1_000, 1_000, 0), (1_000, 3_000, 1_000)]
        {
            assert_eq!(live_bytes_max(values, stale, 0.25), expected, "{stale} of {values}");
        }
    }

    #[test]
    fn a_compaction_without_room_writes_nothing_and_one_with_room_gives_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let free = Arc::new(AtomicU64::new(0));
        let engine = FjallEngine::open(dir.path(), FjallSettings::default()).expect("opens");
        let engine = engine.with_free_bytes({
            let free = Arc::clone(&free);
            move |_| Ok(free.load(Ordering::SeqCst))
        });
        let table = engine.open("t").expect("opens");
        let full = fill_and_remove_three_quarters(&*table);
        let before = table.disk_bytes();
        free.store(FREE_BYTES_MIN, Ordering::SeqCst);
        assert!(matches!(table.compact(), Ok(Compaction::Postponed { .. })));
        assert_eq!(table.disk_bytes(), before);
        // Room for the keys, and not for the values that it finds then.
        free.store(FREE_BYTES_MIN + full / 8, Ordering::SeqCst);
        assert!(matches!(table.compact(), Ok(Compaction::Postponed { .. })));
        assert!(table.disk_bytes() * 2 > full, "{} of {full}", table.disk_bytes());
        free.store(FREE_BYTES_MIN + full, Ordering::SeqCst);
        assert_eq!(table.compact(), Ok(Compaction::Done));
        assert!(table.disk_bytes() < full * 2 / 5, "{} of {full}", table.disk_bytes());
    }

    #[test]
    fn tables_are_compacted_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = FjallEngine::open(dir.path(), FjallSettings::default()).expect("opens");
        let table = engine.open("t").expect("opens");
        let other = engine.shared.compacting.lock().expect("nobody has it");
        assert!(matches!(table.compact(), Ok(Compaction::Postponed { .. })));
        drop(other);
        assert_eq!(table.compact(), Ok(Compaction::Done));
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::PermissionDenied, false),
            (io::ErrorKind::Other, false),
        ] {
            assert_eq!(is_full_disk(&Error::Storage(LsmError::Io(kind.into()))), expected, "{kind}");
            assert_eq!(is_full_disk(&Error::Io(kind.into())), expected, "{kind}");
        }
        assert!(!is_full_disk(&Error::Poisoned));
    }
}
