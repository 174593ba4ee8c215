//! Files of the operating system.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{DirLock, DiskSpace, File, Fs, OpenMode, in_context};
use crate::blocking::{Blocking, BlockingExt};

/// Real files. The system calls run where they are awaited, unless a [`Blocking`] part is given to run them.
#[derive(Clone, Default)]
pub struct OsFs {
    blocking: Option<Arc<dyn Blocking>>,
}

impl OsFs {
    /// System calls run inline: for a thread that has nothing else to do, such as the log's.
    pub fn inline() -> Self {
        Self::default()
    }

    /// System calls run through `blocking`: for use on a shared runtime.
    pub fn through(blocking: Arc<dyn Blocking>) -> Self {
        Self { blocking: Some(blocking) }
    }

    async fn run<T, F>(&self, operation: &'static str, path: &Path, call: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Path) -> io::Result<T> + Send + 'static,
    {
        match &self.blocking {
            None => call(path).map_err(|error| in_context(&error, operation, path)),
            Some(blocking) => {
                let path = path.to_owned();
                blocking.run(move || call(&path).map_err(|error| in_context(&error, operation, &path))).await
            }
        }
    }
}

impl std::fmt::Debug for OsFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OsFs").field("inline", &self.blocking.is_none()).finish()
    }
}

/// The disk that holds a path. Blocks.
pub(crate) fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let space = rustix::fs::statvfs(path)?;
    let block = space.f_frsize;
    Ok(DiskSpace { total: space.f_blocks.saturating_mul(block), available: space.f_bavail.saturating_mul(block) })
}

#[async_trait]
impl Fs for OsFs {
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.run("make folder", dir, |dir| fs::create_dir_all(dir)).await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.run("open", path, move |path| options(mode).open(path)).await?;
        Ok(Arc::new(OsFile { file: Arc::new(file), path: path.to_owned(), fs: self.clone() }))
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.run("list", dir, |dir| {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                names.extend(entry?.file_name().into_string());
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.run("remove", path, |path| fs::remove_file(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.run("rename", from, move |from| fs::rename(from, to)).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.run("sync folder", dir, |dir| fs::File::open(dir)?.sync_all()).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.run("look for", path, |path| path.try_exists()).await
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<DiskSpace> {
        self.run("ask for free space", path, disk_space).await
    }

    async fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.run("lock", &dir.join("LOCK"), |path| {
            let file = options(OpenMode::Create).open(path)?;
            match file.try_lock() {
                Ok(()) => Ok(Box::new(OsDirLock { _file: file }) as Box<dyn DirLock>),
                Err(TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds it")),
                Err(TryLockError::Error(error)) => Err(error),
            }
        })
        .await
    }
}

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    match mode {
        OpenMode::Read => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::Create => {
            options.write(true).create(true).truncate(false);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
    }
    options
}

/// The operating system drops the lock with the file, also when the process dies.
#[derive(Debug)]
struct OsDirLock {
    _file: fs::File,
}

impl DirLock for OsDirLock {}

#[derive(Debug)]
struct OsFile {
    file: Arc<fs::File>,
    path: PathBuf,
    fs: OsFs,
}

#[async_trait]
impl File for OsFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = self.file.clone();
        self.fs.run("read", &self.path, move |_| read_full(&file, offset, len)).await
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        let file = self.file.clone();
        self.fs.run("write", &self.path, move |_| file.write_all_at(&bytes, offset)).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        let file = self.file.clone();
        self.fs.run("sync", &self.path, move |_| file.sync_data()).await
    }

    async fn len(&self) -> io::Result<u64> {
        let file = self.file.clone();
        self.fs.run("measure", &self.path, move |_| Ok(file.metadata()?.len())).await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file.clone();
        self.fs.run("resize", &self.path, move |_| file.set_len(len)).await
    }
}

fn read_full(file: &fs::File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(Bytes::from(buffer))
}
