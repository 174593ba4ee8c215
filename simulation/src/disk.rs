//! A machine's disk: slow, stuck, full, failing, torn by a power cut, damaged at rest.
//!
//! It is [`MemoryFs`], which knows what was synced and what was not, behind delays and faults. Every call waits a drawn time before and
//! after it takes effect, so that a crash lands at any point of it.
//!
//! Invariants
//! - What was synced survives; what was not survives in any subset of its sectors.
//! - A fault is used up by the call that it hits: "a sync that fails once and then succeeds" is the usual way, and what it had to write is
//!   lost with the power unless it is written again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_storage::fs::{DirLock, DiskSpace, File, Fs, MemoryFs, OpenMode};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::dice::Dice;
use crate::watch::{FileId, LogTap};

/// Which calls of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Access {
    /// Reads of files.
    Read,
    /// Writes to files.
    Write,
    /// Syncs of files and folders.
    Sync,
}

/// When in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// Nothing of it has happened yet.
    Before,
    /// It has happened, but nobody was told.
    After,
}

/// How long calls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpeed {
    /// A read or a write takes at most this long.
    pub access_max: Duration,
    /// A sync takes at least this long.
    pub sync_min: Duration,
    /// A sync takes at most this long.
    pub sync_max: Duration,
}

impl DiskSpeed {
    /// No call takes any time.
    pub const INSTANT: Self = Self { access_max: Duration::ZERO, sync_min: Duration::ZERO, sync_max: Duration::ZERO };
}

/// A machine's disk; clones share it.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    files: MemoryFs,
    /// Hears of what is written and what becomes durable.
    tap: LogTap,
    state: Arc<Mutex<State>>,
    /// Calls wait while this is true.
    stuck: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    speed: DiskSpeed,
    /// The next call of this kind fails.
    failing: Vec<Access>,
    /// Bytes in all, as the node is told; none = endless.
    free: Option<u64>,
    /// The node dies in the next call of this kind.
    deadly: Option<(Access, Moment)>,
    /// A node was in a deadly call: it waits there for its end.
    is_struck: bool,
}

impl SimulatedDisk {
    /// An empty disk that draws from these dice.
    #[must_use]
    pub fn new(dice: Dice, speed: DiskSpeed, tap: LogTap) -> Self {
        let state = State { dice, speed, failing: Vec::new(), free: None, deadly: None, is_struck: false };
        Self { files: MemoryFs::new(), tap, state: Arc::new(Mutex::new(state)), stuck: Arc::new(watch::Sender::new(false)) }
    }

    /// Its files, for whoever changes them while nobody uses them.
    #[must_use]
    pub fn files(&self) -> &MemoryFs {
        &self.files
    }

    /// From now on calls take this long.
    pub fn set_speed(&self, speed: DiskSpeed) {
        self.lock().speed = speed;
    }

    /// From now on calls wait, or go on.
    pub fn set_stuck(&self, stuck: bool) {
        self.stuck.send_replace(stuck);
    }

    /// The next call of this kind fails; the ones after it succeed again.
    pub fn fail_next(&self, access: Access) {
        self.lock().failing.push(access);
    }

    /// The next call of this kind never returns, and [`SimulatedDisk::is_struck`] tells: the node is to be killed there. None: no call.
    pub fn strike_next(&self, deadly: Option<(Access, Moment)>) {
        self.lock().deadly = deadly;
    }

    /// Whether a node waits for its end in a deadly call.
    #[must_use]
    pub fn is_struck(&self) -> bool {
        self.lock().is_struck
    }

    /// The node is dead: nobody waits in a call any more.
    pub fn end_life(&self) {
        let mut state = self.lock();
        state.deadly = None;
        state.is_struck = false;
    }

    /// Lets files grow by so many bytes and no more; none = for ever.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.files.limit_growth(bytes);
        self.lock().free = bytes;
    }

    /// Cuts the power: what was synced stays, the rest in a drawn subset of its sectors. Faults end.
    pub fn cut_power(&self) {
        let mut state = self.lock();
        // Each cut is of one kind: nothing, everything or anything of what was not synced is there.
        let kept = *state.dice.pick(&[0.0, 0.5, 0.9, 1.0]);
        let dice = &mut state.dice;
        self.files.crash(|| dice.chance(kept));
        state.failing.clear();
        state.free = None;
        drop(state);
        self.set_stuck(false);
        self.tap.power_cut(|path, offset, len| {
            let file = self.files.open(path, OpenMode::Read).now_or_never()?.ok()?;
            file.read_at(offset, len).now_or_never()?.ok()
        });
    }

    /// The disk is not what the node left: what its log held, and how it voted, is not known any more. To be called while the node is down.
    pub fn forget(&self) {
        self.tap.forget();
    }

    /// Another life of the node begins.
    pub fn begin_life(&self) {
        self.tap.reborn();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as half of a call takes; a call waits before and after it takes effect.
    async fn wait(&self, access: Access) {
        let mut stuck = self.stuck.subscribe();
        // The sender lives as long as the disk.
        let _ = stuck.wait_for(|stuck| !stuck).await;
        let time = {
            let mut state = self.lock();
            let speed = state.speed;
            match access {
                Access::Read | Access::Write => state.dice.time(Duration::ZERO, speed.access_max),
                Access::Sync => state.dice.time(speed.sync_min, speed.sync_max),
            }
        };
        if !time.is_zero() {
            tokio::time::sleep(time / 2).await;
        }
    }

    /// Ends here if this is where the node dies.
    async fn die(&self, access: Access, moment: Moment) {
        {
            let mut state = self.lock();
            if state.deadly != Some((access, moment)) {
                return;
            }
            state.deadly = None;
            state.is_struck = true;
        }
        std::future::pending().await
    }

    fn check(&self, access: Access) -> io::Result<()> {
        let mut state = self.lock();
        match state.failing.iter().position(|failing| *failing == access) {
            None => Ok(()),
            Some(at) => {
                state.failing.remove(at);
                match access {
                    // The files fail it themselves: what it had to write is not written by the next one either.
                    Access::Sync => {
                        self.files.fail_sync_after(0);
                        Ok(())
                    }
                    Access::Read | Access::Write => Err(io::Error::other(format!("injected: {access:?} failed"))),
                }
            }
        }
    }

    async fn through<T>(&self, access: Access, call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.wait(access).await;
        self.die(access, Moment::Before).await;
        self.check(access)?;
        let outcome = call.await;
        self.die(access, Moment::After).await;
        self.wait(access).await;
        outcome
    }
}

#[async_trait]
impl Fs for SimulatedDisk {
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.through(Access::Write, self.files.create_dir_all(dir)).await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.through(Access::Read, self.files.open(path, mode)).await?;
        let id = self.tap.opened(path);
        Ok(Arc::new(SimulatedFile { file, id, path: path.to_owned(), disk: self.clone() }))
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.through(Access::Read, self.files.list(dir)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = self.files.remove(path).inspect(|done| {
            if done.is_ok() {
                self.tap.removed(path);
            }
        });
        self.through(Access::Write, remove).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = self.files.rename(from, to).inspect(|done| {
            if done.is_ok() {
                self.tap.renamed(from, to);
            }
        });
        self.through(Access::Write, rename).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.through(Access::Sync, self.files.sync_dir(dir)).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.through(Access::Read, self.files.exists(path)).await
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<DiskSpace> {
        self.files.free_bytes(path).await
    }

    async fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.files.lock_dir(dir).await
    }
}

#[derive(Debug)]
struct SimulatedFile {
    file: Arc<dyn File>,
    id: FileId,
    path: PathBuf,
    disk: SimulatedDisk,
}

impl SimulatedFile {
    /// The log is told what came of a write or a sync.
    fn told(&self, outcome: io::Result<()>) -> io::Result<()> {
        if outcome.is_err() {
            self.disk.tap.failed(&self.path);
        }
        outcome
    }
}

#[async_trait]
impl File for SimulatedFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.disk.through(Access::Read, self.file.read_at(offset, len)).await
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        let write = self.file.write_at(offset, bytes.clone()).inspect(|done| {
            if done.is_ok() {
                self.disk.tap.written(self.id, &self.path, offset, &bytes);
            }
        });
        self.told(self.disk.through(Access::Write, write).await)
    }

    async fn sync_data(&self) -> io::Result<()> {
        let sync = self.file.sync_data().inspect(|done| match done {
            Ok(()) => self.disk.tap.synced(self.id),
            Err(_) => self.disk.tap.sync_failed(self.id),
        });
        self.told(self.disk.through(Access::Sync, sync).await)
    }

    async fn len(&self) -> io::Result<u64> {
        self.file.len().await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.through(Access::Write, self.file.set_len(len)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Watch;

    #[tokio::test]
    async fn what_a_failed_sync_had_to_write_is_lost_with_the_power_though_the_next_sync_succeeds() {
        let disk = SimulatedDisk::new(Dice::new(1), DiskSpeed::INSTANT, Watch::default().tap(1));
        let path = Path::new("file");
        let file = disk.open(path, OpenMode::Create).await.expect("made");
        disk.sync_dir(Path::new("")).await.expect("synced");
        file.write_at(0, Bytes::from_static(b"lost")).await.expect("written");
        disk.fail_next(Access::Sync);
        file.sync_data().await.expect_err("fails");
        file.sync_data().await.expect("succeeds");
        assert_eq!(file.read_at(0, 4).await.expect("read"), "lost", "it is still in memory");
        disk.files.crash(|| false);
        let file = disk.open(path, OpenMode::Read).await.expect("is there");
        assert_eq!(file.read_at(0, 4).await.expect("read"), [0; 4].as_slice());
    }
}
