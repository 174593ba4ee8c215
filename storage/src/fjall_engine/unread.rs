//! What fjall does not look at when it opens a database, although what it does then depends on it.
//!
//! - A table's manifest says which sorted runs are newer than which. fjall records its checksum in the file `current`, and never
//!   compares it: a flipped bit makes old rows win over new ones.
//! - Without any journal fjall counts ingestions from 0 again, and new ones lose against old rows. Nothing is ever written to a
//!   journal here, but one is there from the creation of a database on.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::TABLES_DIR;

/// What fjall's file `version` begins with, in the format that is known here. Others are for fjall to refuse.
const MARKER: [u8; 4] = [b'F', b'J', b'L', 3];
/// The file `current`: the manifest's number, its checksum and the kind of that.
const CURRENT_BYTES: usize = 8 + 16 + 1;
/// XXH3 with 128 bits, over the whole file.
const CHECKSUM_KIND: u8 = 0;

/// A file that is not what was written.
pub(super) struct Wrong {
    pub(super) file: PathBuf,
    pub(super) what: &'static str,
}

/// Looks for damage that opening would pass over, in a database that is there and that no other process has. Blocks.
///
/// # Errors
/// The disk refused.
pub(super) fn find_damage(dir: &Path) -> io::Result<Option<Wrong>> {
    let Some(marker) = read(&dir.join("version"))? else { return Ok(None) };
    if !marker.starts_with(&MARKER) {
        return Ok(None);
    }
    // Held until everything was looked at: another process may be in the middle of a change.
    let lock = match File::open(dir.join("lock")) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match lock.as_ref().map(File::try_lock) {
        None | Some(Ok(())) => {}
        Some(Err(TryLockError::WouldBlock)) => return Ok(None),
        Some(Err(TryLockError::Error(error))) => return Err(error),
    }
    if !has_journal(dir)? {
        return Ok(Some(Wrong { file: dir.join("0.jnl"), what: "there is no journal" }));
    }
    let tables = match fs::read_dir(dir.join(TABLES_DIR)) {
        Ok(tables) => tables,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for table in tables {
        if let Some(wrong) = wrong_manifest(&table?.path())? {
            return Ok(Some(wrong));
        }
    }
    Ok(None)
}

fn has_journal(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if entry?.path().extension().is_some_and(|extension| extension == "jnl") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn wrong_manifest(table: &Path) -> io::Result<Option<Wrong>> {
    let file = table.join("current");
    // A table that was being made or dropped has none, and fjall removes what there is of it.
    let Some(current) = read(&file)? else { return Ok(None) };
    let parts: Result<[u8; CURRENT_BYTES], _> = current.try_into();
    let Ok(parts) = parts else {
        return Ok(Some(Wrong { file, what: "it has another length" }));
    };
    let (number, rest) = parts.split_at(8);
    let (checksum, kind) = rest.split_at(16);
    if kind != [CHECKSUM_KIND] {
        return Ok(Some(Wrong { file, what: "its checksum is of an unknown kind" }));
    }
    let number = u64::from_le_bytes(number.try_into().expect("it was split there"));
    let checksum = u128::from_le_bytes(checksum.try_into().expect("it was split there"));
    let file = table.join(format!("v{number}"));
    // One that is missing fjall misses itself.
    let Some(manifest) = read(&file)? else { return Ok(None) };
    let is_right = xxh3_128(&manifest) == checksum;
    Ok((!is_right).then_some(Wrong { file, what: "it does not have the checksum that is recorded for it" }))
}

/// A whole file; none if it is missing.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::{Engine, EngineError};
    use crate::fjall_engine::{FjallEngine, FjallSettings};

    fn open(dir: &Path) -> Result<FjallEngine, EngineError> {
        FjallEngine::open(dir, FjallSettings::default())
    }

    /// A database in which a row was replaced.
    fn replaced(dir: &Path) {
        let engine = open(dir).expect("opens");
        let table = engine.open("t").expect("opens");
        for value in ["old", "new"] {
            let row = (Bytes::from_static(b"key"), Some(Bytes::from_static(value.as_bytes())));
            table.ingest(&mut std::iter::once(row)).expect("ingests");
        }
    }

    /// Of each table the manifest that is in force, and the file that says so.
    fn manifests(dir: &Path) -> Vec<PathBuf> {
        let tables = fs::read_dir(dir.join(TABLES_DIR)).expect("lists").map(|table| table.expect("lists").path());
        let both = tables.flat_map(|table| {
            let current = table.join("current");
            let number = fs::read(&current).expect("reads")[0];
            [current, table.join(format!("v{number}"))]
        });
        both.collect()
    }

    #[test]
    fn a_flip_of_any_byte_of_a_manifest_is_damage_that_names_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        replaced(dir.path());
        let manifests = manifests(dir.path());
        assert_eq!(manifests.len(), 4, "two for the table, two for fjall's own: {manifests:?}");
        for file in manifests {
            let whole = fs::read(&file).expect("reads");
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                fs::write(&file, flipped).expect("writes");
                let opened = open(dir.path());
                let Err(EngineError::Damaged { reason, .. }) = opened else {
                    panic!("{} at {at}: {:?}", file.display(), opened.err())
                };
                // What names another manifest is for fjall to find, which does not say where.
                if !file.ends_with("current") {
                    assert!(reason.contains(&file.display().to_string()), "{reason}");
                }
            }
            fs::write(&file, whole).expect("writes");
        }
        let table = open(dir.path()).expect("is as it was").open("t").expect("opens");
        assert_eq!(table.get(b"key").expect("reads"), Some(Bytes::from_static(b"new")));
    }

    #[test]
    fn a_database_without_its_journal_is_damaged() {
        let dir = tempfile::tempdir().expect("a directory");
        replaced(dir.path());
        let journals: Vec<_> = fs::read_dir(dir.path()).expect("lists").map(|file| file.expect("lists").path()).collect();
        for journal in journals.iter().filter(|file| file.extension().is_some_and(|extension| extension == "jnl")) {
            fs::remove_file(journal).expect("removes");
        }
        let opened = open(dir.path());
        assert!(matches!(&opened, Err(EngineError::Damaged { reason, .. }) if reason.contains("jnl")), "{:?}", opened.err());
    }

    #[test]
    fn what_another_process_holds_is_not_looked_at() {
        let dir = tempfile::tempdir().expect("a directory");
        let _holder = open(dir.path()).expect("opens");
        fs::remove_file(dir.path().join("0.jnl")).expect("removes");
        assert!(matches!(open(dir.path()), Err(EngineError::Unopenable { .. })), "it is the holder's to find");
    }
}
