//! Segment files: made ready before they are needed, taken away when nothing needs them.
//!
//! A sync into zero-filled or recycled space costs half of one that grows a file, and a new file costs tens of milliseconds:
//! so the next segment is made while the current one is written, from one that was freed if there is one.
//!
//! Invariants
//! - A file has its segment name only when it is whole and synced.
//! - A segment follows the current one at most once, and only when the current one has been opened durably.
//! - Segments go oldest first, each durably before the next: one that a full disk keeps stays the next to go, as a later one that
//!   went before it would leave a gap.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::LogError;
use super::settings::LogSettings;
use super::shared::{SegmentFiles, Shared, Spare};
use crate::fs::{Fs, OpenMode};

/// Zeros are written and synced in such steps, so that the writer's syncs never wait behind a whole file.
const FILL_BYTES: usize = 1 << 20;
/// How long to wait before a full disk is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
const SEGMENT_ENDING: &str = ".segment";
/// The ending of a file that is not whole yet; recovery removes it.
pub(super) const PREPARING_ENDING: &str = ".preparing";

/// The second loop of a log, see [`super::LogWriter::split`].
pub(super) struct Preparer {
    shared: Arc<Shared>,
}

enum Task {
    Remove { freed: u32, files: Arc<SegmentFiles> },
    Reuse { freed: u32, files: Arc<SegmentFiles>, number: u32 },
    Make { number: u32 },
    Wait,
    Stop,
}

/// Why a task was not done.
enum Undone {
    /// The disk is full, and everything is as it was before.
    NoRoom,
    Broken(LogError),
}

impl Undone {
    /// Of a call that changed nothing when it failed.
    fn of(error: LogError) -> Self {
        if error.is_full_disk() { Self::NoRoom } else { Self::Broken(error) }
    }
}

impl Preparer {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until the log stops or breaks.
    pub async fn run(self) {
        loop {
            let task = self.next_task();
            let done = match &task {
                Task::Stop => return,
                Task::Wait => {
                    self.shared.housework.notified().await;
                    Ok(())
                }
                Task::Remove { files, .. } => self.remove(&files.path).await,
                Task::Reuse { number, files, .. } => self.reuse(*number, files).await,
                Task::Make { number } => self.make(*number).await,
            };
            match done {
                Ok(()) => {}
                Err(Undone::NoRoom) => {
                    self.put_back(task);
                    self.wait_for_room().await;
                }
                Err(Undone::Broken(error)) => {
                    self.shared.fail(error);
                    return;
                }
            }
        }
    }

    fn next_task(&self) -> Task {
        let mut state = self.shared.lock();
        if state.broken.is_some() {
            return Task::Stop;
        }
        // One freed segment stays, to become the next spare.
        if state.freed.len() > 1
            && let Some((freed, files)) = state.freed.pop_front()
        {
            return Task::Remove { freed, files };
        }
        if state.spare.is_some() || state.newest != state.current {
            return Task::Wait;
        }
        let number = state.current + 1;
        match state.freed.pop_front() {
            None => {
                state.newest = number;
                Task::Make { number }
            }
            // Readers may still hold the file: then its bytes must stay. Nobody new can get hold of it.
            Some((freed, files)) if Arc::strong_count(&files) > 1 || files.bytes != self.shared.settings.segment_bytes => {
                Task::Remove { freed, files }
            }
            Some((freed, files)) => {
                state.newest = number;
                Task::Reuse { freed, files, number }
            }
        }
    }

    /// Makes a task that found no room the next one again.
    fn put_back(&self, task: Task) {
        let mut state = self.shared.lock();
        match task {
            Task::Remove { freed, files } => state.freed.push_front((freed, files)),
            Task::Reuse { freed, files, .. } => {
                state.freed.push_front((freed, files));
                state.newest = state.current;
            }
            Task::Make { .. } => state.newest = state.current,
            Task::Wait | Task::Stop => {}
        }
    }

    /// A full disk is no broken one. The current segment has its room; when it is full too, the writer waits for the next one,
    /// and everybody waits for the writer.
    async fn wait_for_room(&self) {
        self.shared.lock().disk_full = true;
        self.shared.spare_ready.notify_one();
        tracing::warn!(dir = %self.shared.dir.display(), "the disk is full: no room for the log's next segment");
        tokio::time::sleep(RETRY_AFTER).await;
    }

    async fn remove(&self, path: &Path) -> Result<(), Undone> {
        self.shared.fs.remove(path).await.map_err(|error| Undone::of(LogError::io("remove", path, error)))?;
        self.sync_dir().await
    }

    async fn reuse(&self, number: u32, files: &SegmentFiles) -> Result<(), Undone> {
        let path = segment_path(&self.shared.dir, number);
        let renamed = self.shared.fs.rename(&files.path, &path).await;
        renamed.map_err(|error| Undone::of(LogError::io("rename", &files.path, error)))?;
        self.sync_dir().await?;
        let files = SegmentFiles { path, bytes: files.bytes, writing: files.writing.clone(), reading: files.reading.clone() };
        self.hand_over(Spare { number, files: Arc::new(files), recycled: true });
        Ok(())
    }

    async fn make(&self, number: u32) -> Result<(), Undone> {
        let path = segment_path(&self.shared.dir, number);
        let unfinished = path.with_extension(&PREPARING_ENDING[1..]);
        if let Err(error) = self.fill(&unfinished).await {
            // What did fit would only keep others from having it.
            drop(self.shared.fs.remove(&unfinished).await);
            return Err(Undone::of(LogError::io("prepare", &unfinished, error)));
        }
        let renamed = self.shared.fs.rename(&unfinished, &path).await;
        renamed.map_err(|error| Undone::of(LogError::io("rename", &unfinished, error)))?;
        self.sync_dir().await?;
        let opened = open_segment(&self.shared.fs, path, self.shared.settings.segment_bytes, &self.shared.settings).await;
        let files = opened.map_err(Undone::Broken)?;
        self.hand_over(Spare { number, files: Arc::new(files), recycled: false });
        Ok(())
    }

    async fn fill(&self, path: &Path) -> std::io::Result<()> {
        let file = self.shared.fs.open(path, OpenMode::Create).await?;
        let bytes = self.shared.settings.segment_bytes as usize;
        let zeros = Bytes::from(vec![0; FILL_BYTES.min(bytes)]);
        for start in (0..bytes).step_by(FILL_BYTES) {
            file.write_at(start as u64, zeros.slice(..zeros.len().min(bytes - start))).await?;
            file.sync_data().await?;
        }
        Ok(())
    }

    /// A name was changed before: which one the disk has is not known if this fails, whatever the reason.
    async fn sync_dir(&self) -> Result<(), Undone> {
        let dir = &self.shared.dir;
        self.shared.fs.sync_dir(dir).await.map_err(|error| Undone::Broken(LogError::io("sync", dir, error)))
    }

    fn hand_over(&self, spare: Spare) {
        {
            let mut state = self.shared.lock();
            state.spare = Some(spare);
            state.disk_full = false;
        }
        self.shared.spare_ready.notify_one();
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        // Without it the writer would wait for ever. After a regular end this changes nothing.
        self.shared.fail(LogError::of_dropped_loop());
    }
}

/// Opens a segment for the writer and for readers.
pub(super) async fn open_segment(
    fs: &Arc<dyn Fs>,
    path: PathBuf,
    bytes: u32,
    settings: &LogSettings,
) -> Result<SegmentFiles, LogError> {
    let opened = fs.open(&path, OpenMode::ReadWrite).await;
    let writing = opened.map_err(|error| LogError::io("open", &path, error))?;
    let reading = match &settings.read_fs {
        None => writing.clone(),
        Some(read_fs) => {
            let opened = read_fs.open(&path, OpenMode::Read).await;
            opened.map_err(|error| LogError::io("open", &path, error))?
        }
    };
    Ok(SegmentFiles { path, bytes, writing, reading })
}

/// Where a segment's file is.
pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}{SEGMENT_ENDING}"))
}

/// The number in a segment file's name.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SEGMENT_ENDING)?;
    (digits.len() == 10).then(|| digits.parse().ok())?
}
