//! Files behind a small asynchronous trait, so that a simulated disk can lose, tear, damage, fail, fill and be slow.
//!
//! Invariants
//! - What [`File::sync_data`] confirmed survives a crash; what it did not may survive in any subset.
//! - A name survives a crash once [`Fs::sync_dir`] of its folder confirmed it.
//! - Every error carries the operation and the path in its text.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

mod memory;
mod os;

pub use memory::MemoryFs;
pub use os::OsFs;
pub(crate) use os::disk_space;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// To read and write; made if it is missing, kept as it is if not.
    Create,
    /// To read and write; fails if it exists.
    CreateNew,
}

/// How full the disk is that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Its size in bytes.
    pub total: u64,
    /// What this process may still use, in bytes.
    pub available: u64,
}

/// An exclusive hold on a folder; dropping it gives the folder free.
pub trait DirLock: Send + Sync + std::fmt::Debug {}

/// One open file. Reads and writes say where; there is no cursor.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
#[async_trait]
pub trait File: Send + Sync + std::fmt::Debug {
    /// Reads `len` bytes from `offset`; fewer only where the file ends.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
    /// Writes all of `bytes` at `offset`, growing the file where needed.
    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()>;
    /// Makes what was written, and the length, durable.
    async fn sync_data(&self) -> io::Result<()>;
    /// The length in bytes.
    async fn len(&self) -> io::Result<u64>;
    /// Cuts the file or grows it with zeros.
    async fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A place where files are.
#[async_trait]
pub trait Fs: Send + Sync + std::fmt::Debug + 'static {
    /// Makes the folder and those above it; nothing if it is there. [`make_dir`] makes their names durable too.
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// The names in a folder, sorted; names that are not Unicode are left out.
    async fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Removes a file.
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what had it.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    async fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether there is such a file or folder.
    async fn exists(&self, path: &Path) -> io::Result<bool>;
    /// How full the disk is.
    async fn free_bytes(&self, path: &Path) -> io::Result<DiskSpace>;
    /// Takes the folder for this process alone; [`io::ErrorKind::WouldBlock`] if another holds it.
    async fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// If it cannot be read, or is longer ([`io::ErrorKind::InvalidData`]).
pub async fn read_file(fs: &dyn Fs, path: &Path, bytes_max: usize) -> io::Result<Bytes> {
    let file = fs.open(path, OpenMode::Read).await?;
    let len = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    if len > bytes_max {
        let text = format!("read {}: {len} bytes, but at most {bytes_max} belong there", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    file.read_at(0, len).await
}

/// Puts `bytes` at `path` so that a crash leaves either the old content or the new, and a return means the new one stays.
///
/// # Errors
/// As the operations give; the file beside it with the ending `.tmp` may be left over.
pub async fn write_file_atomically(fs: &dyn Fs, path: &Path, bytes: Bytes) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = Path::new(&beside);
    let file = fs.open(beside, OpenMode::Create).await?;
    file.set_len(0).await?;
    file.write_at(0, bytes).await?;
    file.sync_data().await?;
    drop(file);
    fs.rename(beside, path).await?;
    fs.sync_dir(parent(path)).await
}

/// Whether a call found no room.
pub(crate) fn is_full_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The folder that holds a name; the root holds its own.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
    }
}

/// Makes a folder and those above it, so that a return means that they stay.
///
/// # Errors
/// As the operations give.
pub async fn make_dir(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let mut unsure = vec![(dir, fs.exists(dir).await?)];
    for above in dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if unsure.last().is_some_and(|(_, was_there)| *was_there) {
            break;
        }
        unsure.push((above, fs.exists(above).await?));
    }
    // From the top, each made durable before the next is made: so who finds one that is there need doubt its own name alone, as
    // who made it may have been stopped right behind.
    for (dir, was_there) in unsure.into_iter().rev() {
        fs.create_dir_all(dir).await?;
        if dir.parent().is_none() {
            continue;
        }
        match fs.sync_dir(parent(dir)).await {
            // Somebody else made it, and keeps the folder above to himself, or nobody can change what is in that.
            Err(error) if was_there && matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Adds what was tried, and where, to an error's text.
fn in_context(error: &io::Error, operation: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
