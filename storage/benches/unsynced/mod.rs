//! Files whose syncs do nothing: what an append costs where the disk answers at once. A crash would lose everything.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_storage::fs::{DirLock, DiskSpace, File, Fs, OpenMode, OsFs};

/// The operating system's files, without their syncs.
#[derive(Debug)]
pub struct Unsynced(OsFs);

impl Unsynced {
    /// Takes the syncs away from `files`.
    pub fn new(files: OsFs) -> Self {
        Self(files)
    }
}

#[async_trait]
impl Fs for Unsynced {
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir).await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(UnsyncedFile(self.0.open(path, mode).await?)))
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to).await
    }

    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path).await
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<DiskSpace> {
        self.0.free_bytes(path).await
    }

    async fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.0.lock_dir(dir).await
    }
}

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn File>);

#[async_trait]
impl File for UnsyncedFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.read_at(offset, len).await
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        self.0.write_at(offset, bytes).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    async fn len(&self) -> io::Result<u64> {
        self.0.len().await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len).await
    }
}
