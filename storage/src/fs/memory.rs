//! Files in memory: for nodes that keep nothing, and for tests that crash, fail and damage a disk.
//!
//! The handle is shared: a node opened again over it sees what the one before left. [`MemoryFs::crash`] keeps what was synced
//! and lets a chooser decide sector by sector about the rest, as a power cut does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::{DirLock, DiskSpace, File, Fs, OpenMode, in_context};

const PAGE_BYTES: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

type Page = Option<Box<[u8; PAGE_BYTES]>>;

/// A disk in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<PathBuf, Arc<MemoryFile>>,
    /// The names that a crash leaves.
    synced_names: BTreeMap<PathBuf, Arc<MemoryFile>>,
    dirs: BTreeSet<PathBuf>,
    /// The folders that a crash leaves, if it leaves those above them.
    synced_dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    faults: Arc<Mutex<Faults>>,
}

/// How many more calls succeed before one fails; `None` never fails.
#[derive(Debug, Default)]
struct Faults {
    syncs_until_failure: Option<u64>,
    writes_until_failure: Option<u64>,
    /// How many bytes files may still grow; `None`: for ever.
    room: Option<u64>,
    /// Syncs of files wait as long as this is set.
    syncs_held: watch::Sender<bool>,
}

impl MemoryFs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another disk with the same content, synced and unsynced alike.
    pub fn duplicate(&self) -> Self {
        let disk = lock(&self.disk);
        // A file keeps its identity under both its current and its synced name.
        let mut copies = BTreeMap::new();
        let mut copy = |file: &Arc<MemoryFile>| {
            copies.entry(Arc::as_ptr(file)).or_insert_with(|| Arc::new(MemoryFile::new(lock(&file.content).clone()))).clone()
        };
        let names = disk.names.iter().map(|(path, file)| (path.clone(), copy(file))).collect();
        let synced_names = disk.synced_names.iter().map(|(path, file)| (path.clone(), copy(file))).collect();
        let duplicate =
            Disk { names, synced_names, dirs: disk.dirs.clone(), synced_dirs: disk.synced_dirs.clone(), ..Disk::default() };
        for file in duplicate.names.values().chain(duplicate.synced_names.values()) {
            *lock(&file.faults) = duplicate.faults.clone();
        }
        Self { disk: Arc::new(Mutex::new(duplicate)) }
    }

    /// Cuts the power. Names and content that were synced stay; of the rest, each sector is kept where `keep` says so; a folder
    /// whose name was not synced goes with all that is in it. Files opened before the crash no longer reach the disk.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut disk = lock(&self.disk);
        let faults = Arc::new(Mutex::new(Faults::default()));
        let dirs: BTreeSet<PathBuf> = disk.dirs.iter().filter(|dir| disk.is_synced(dir)).cloned().collect();
        let survivors: BTreeMap<_, _> = disk
            .synced_names
            .iter()
            .filter(|(path, _)| path.parent().is_none_or(|dir| disk.is_synced(dir)))
            .map(|(path, file)| {
                let mut content = lock(&file.content).clone();
                content.crash(&mut keep);
                let survivor = MemoryFile::new(content);
                *lock(&survivor.faults) = faults.clone();
                (path.clone(), Arc::new(survivor))
            })
            .collect();
        disk.faults = faults;
        disk.dirs = dirs;
        disk.names = survivors.clone();
        disk.synced_names = survivors;
        disk.locks.clear();
    }

    /// Lets `count` more syncs succeed; the next one fails, and those after it succeed again, as disks do: what the failed one had
    /// to write can still be read, and reaches the disk only if it is written again.
    pub fn fail_sync_after(&self, count: u64) {
        lock(&lock(&self.disk).faults).syncs_until_failure = Some(count);
    }

    /// Lets syncs of files wait from now on, or go on: a disk that is slow or stuck.
    pub fn hold_syncs(&self, held: bool) {
        lock(&lock(&self.disk).faults).syncs_held.send_replace(held);
    }

    /// Lets files grow by `bytes` together, beyond that the disk is full; `None` makes it endless again. Removing a file gives
    /// its length back.
    pub fn limit_growth(&self, bytes: Option<u64>) {
        lock(&lock(&self.disk).faults).room = bytes;
    }

    /// Lets `count` more writes succeed; the next one fails.
    pub fn fail_write_after(&self, count: u64) {
        lock(&lock(&self.disk).faults).writes_until_failure = Some(count);
    }
}

impl Disk {
    /// Whether a crash leaves a folder.
    fn is_synced(&self, dir: &Path) -> bool {
        dir.ancestors().filter(|dir| dir.parent().is_some()).all(|dir| self.synced_dirs.contains(dir))
    }
}

#[async_trait]
impl Fs for MemoryFs {
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        lock(&self.disk).dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut disk = lock(&self.disk);
        let found = disk.names.get(path).cloned();
        let file = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(in_context(&io::ErrorKind::AlreadyExists.into(), "open", path)),
            (Some(file), _) => file,
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(in_context(&io::ErrorKind::NotFound.into(), "open", path));
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let file = Arc::new(MemoryFile::new(Content::default()));
                *lock(&file.faults) = disk.faults.clone();
                disk.names.insert(path.to_owned(), file.clone());
                file
            }
        };
        Ok(file)
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = lock(&self.disk);
        if !disk.dirs.contains(dir) {
            return Err(in_context(&io::ErrorKind::NotFound.into(), "list", dir));
        }
        let inside = disk.names.keys().chain(&disk.dirs).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let removed = disk.names.remove(path);
        let removed = removed.ok_or_else(|| in_context(&io::ErrorKind::NotFound.into(), "remove", path))?;
        let given_back = lock(&removed.content).len;
        if let Some(room) = &mut lock(&disk.faults).room {
            *room += given_back;
        }
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let file = disk.names.remove(from).ok_or_else(|| in_context(&io::ErrorKind::NotFound.into(), "rename", from))?;
        disk.names.insert(to.to_owned(), file);
        Ok(())
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        lock(&disk.faults).sync().map_err(|error| in_context(&error, "sync folder", dir))?;
        let dir = if dir == Path::new(".") { Path::new("") } else { dir };
        let inside = |path: &Path| path.parent() == Some(dir);
        let dirs: Vec<_> = disk.dirs.iter().filter(|dir| inside(dir)).cloned().collect();
        disk.synced_dirs.extend(dirs);
        let now: Vec<_> =
            disk.names.iter().filter(|(path, _)| inside(path)).map(|(path, file)| (path.clone(), file.clone())).collect();
        disk.synced_names.retain(|path, _| !inside(path));
        disk.synced_names.extend(now);
        Ok(())
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        let disk = lock(&self.disk);
        Ok(disk.names.contains_key(path) || disk.dirs.contains(path))
    }

    async fn free_bytes(&self, _: &Path) -> io::Result<DiskSpace> {
        let available = lock(&lock(&self.disk).faults).room.unwrap_or(u64::MAX);
        Ok(DiskSpace { total: u64::MAX, available })
    }

    async fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        if !lock(&self.disk).locks.insert(dir.to_owned()) {
            let error = io::Error::new(io::ErrorKind::WouldBlock, "another holder has it");
            return Err(in_context(&error, "lock", dir));
        }
        Ok(Box::new(MemoryDirLock { disk: self.disk.clone(), dir: dir.to_owned() }))
    }
}

#[derive(Debug)]
struct MemoryDirLock {
    disk: Arc<Mutex<Disk>>,
    dir: PathBuf,
}

impl DirLock for MemoryDirLock {}

impl Drop for MemoryDirLock {
    fn drop(&mut self) {
        lock(&self.disk).locks.remove(&self.dir);
    }
}

#[derive(Debug)]
struct MemoryFile {
    content: Mutex<Content>,
    faults: Mutex<Arc<Mutex<Faults>>>,
}

impl MemoryFile {
    fn new(content: Content) -> Self {
        Self { content: Mutex::new(content), faults: Mutex::default() }
    }
}

#[async_trait]
impl File for MemoryFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        Ok(lock(&self.content).read(offset, len))
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        let faults = lock(&self.faults).clone();
        let mut content = lock(&self.content);
        let growth = (offset + bytes.len() as u64).saturating_sub(content.len);
        lock(&faults).write(growth)?;
        content.write(offset, &bytes);
        Ok(())
    }

    async fn sync_data(&self) -> io::Result<()> {
        let faults = lock(&self.faults).clone();
        let mut held = lock(&faults).syncs_held.subscribe();
        // A disk that crashed holds nobody any more.
        let _ = held.wait_for(|held| !held).await;
        let synced = lock(&faults).sync();
        let mut content = lock(&self.content);
        match synced {
            Ok(()) => content.sync(),
            Err(_) => content.fail_sync(),
        }
        synced
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).len)
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.content).set_len(len);
        Ok(())
    }
}

/// Pages, and for each page touched since the last sync what it held then. A page of zeros takes no room.
#[derive(Clone, Debug, Default)]
struct Content {
    pages: Vec<Page>,
    len: u64,
    synced_len: u64,
    unsynced: BTreeMap<usize, Page>,
    /// Pages that a failed sync did not write, with what is on the disk: until they are touched again no sync writes them.
    unwritten: BTreeMap<usize, Page>,
}

impl Content {
    fn read(&self, offset: u64, len: usize) -> Bytes {
        let end = self.len.min(offset.saturating_add(len as u64));
        let mut bytes = BytesMut::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (number, inside) = split(at);
            let count = (PAGE_BYTES - inside).min((end - at) as usize);
            match &self.pages[number] {
                Some(page) => bytes.extend_from_slice(&page[inside..inside + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes.freeze()
    }

    fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        if self.len < offset + bytes.len() as u64 {
            self.set_len(offset + bytes.len() as u64);
        }
        let mut at = offset;
        while !bytes.is_empty() {
            let (number, inside) = split(at);
            let (part, rest) = bytes.split_at((PAGE_BYTES - inside).min(bytes.len()));
            let page = self.touch(number);
            if page.is_some() || part.iter().any(|byte| *byte != 0) {
                page.get_or_insert_with(|| Box::new([0; PAGE_BYTES]))[inside..inside + part.len()].copy_from_slice(part);
            }
            at += part.len() as u64;
            bytes = rest;
        }
    }

    fn touch(&mut self, number: usize) -> &mut Page {
        let page = &mut self.pages[number];
        let unwritten = self.unwritten.remove(&number);
        self.unsynced.entry(number).or_insert_with(|| unwritten.unwrap_or_else(|| page.clone()));
        page
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (number, inside) = split(len);
            if inside > 0
                && let Some(page) = self.touch(number)
            {
                page[inside..].fill(0);
            }
            for gone in len.div_ceil(PAGE_BYTES as u64) as usize..self.pages.len() {
                *self.touch(gone) = None;
            }
        }
        self.pages.resize(len.div_ceil(PAGE_BYTES as u64) as usize, None);
        self.len = len;
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.synced_len = self.len;
    }

    fn fail_sync(&mut self) {
        self.unwritten.append(&mut self.unsynced);
    }

    fn crash(&mut self, keep: &mut impl FnMut() -> bool) {
        let len = if keep() { self.len } else { self.synced_len };
        self.pages.resize(self.len.max(self.synced_len).div_ceil(PAGE_BYTES as u64) as usize, None);
        let unsynced = std::mem::take(&mut self.unsynced).into_iter().chain(std::mem::take(&mut self.unwritten));
        for (number, before) in unsynced {
            let before = before.unwrap_or_else(|| Box::new([0; PAGE_BYTES]));
            let page = self.pages[number].get_or_insert_with(|| Box::new([0; PAGE_BYTES]));
            for (sector, old) in page.chunks_mut(SECTOR_BYTES).zip(before.chunks(SECTOR_BYTES)) {
                if sector != old && !keep() {
                    sector.copy_from_slice(old);
                }
            }
        }
        self.set_len(len);
        self.sync();
    }
}

impl Faults {
    fn sync(&mut self) -> io::Result<()> {
        count_down(&mut self.syncs_until_failure)
    }

    fn write(&mut self, growth: u64) -> io::Result<()> {
        count_down(&mut self.writes_until_failure)?;
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(growth).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }
}

fn count_down(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        Some(0) => {
            *left = None;
            Err(io::Error::other("injected failure"))
        }
        Some(count) => {
            *count -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

fn split(offset: u64) -> (usize, usize) {
    ((offset / PAGE_BYTES as u64) as usize, (offset % PAGE_BYTES as u64) as usize)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
