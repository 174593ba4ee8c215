//! A wrong disk under the log: what it changes are whole frames, with every checksum as it should be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_storage::fs::{DirLock, DiskSpace, File, Fs, OpenMode};
use cairn_storage::log::inspect::{self, Content, Frame, FrameKind};

use super::Bug;
use super::log::Votes;

/// A disk that skips syncs makes one of so many.
const SYNCS_SKIPPED: u64 = 16;
/// How the files of segments are named.
const SEGMENT_ENDING: &str = ".segment";

/// A wrong disk in the place of the real one, if the bug is one of disks.
pub(super) fn wrap(bug: Bug, real: Arc<dyn Fs>) -> Arc<dyn Fs> {
    match bug {
        Bug::SyncsSkipped | Bug::VotesLost | Bug::VoteBehindLog | Bug::TornTailTaken | Bug::ShortRead => {
            Arc::new(BrokenFs { bug, real, votes: Arc::default() })
        }
        _ => real,
    }
}

#[derive(Debug)]
struct BrokenFs {
    bug: Bug,
    real: Arc<dyn Fs>,
    votes: Arc<Votes>,
}

#[async_trait]
impl Fs for BrokenFs {
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.real.create_dir_all(dir).await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let real = self.real.open(path, mode).await?;
        let (path, fs, votes) = (path.to_owned(), self.real.clone(), self.votes.clone());
        let (syncs, is_vote) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Arc::new(BrokenFile { bug: self.bug, real, path, fs, votes, syncs, is_vote }))
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.real.list(dir).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.real.remove(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.real.sync_dir(dir).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.real.exists(path).await
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<DiskSpace> {
        self.real.free_bytes(path).await
    }

    async fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.real.lock_dir(dir).await
    }
}

#[derive(Debug)]
struct BrokenFile {
    bug: Bug,
    real: Arc<dyn File>,
    path: PathBuf,
    fs: Arc<dyn Fs>,
    votes: Arc<Votes>,
    syncs: AtomicU64,
    /// What was written last is a vote and nothing else.
    is_vote: AtomicBool,
}

impl BrokenFile {
    /// Whether it is the last segment that was begun: those behind it are only prepared.
    async fn is_last_segment(&self) -> io::Result<bool> {
        let (Some(dir), Some(number)) = (self.path.parent(), segment_number(&self.path)) else { return Ok(false) };
        for name in self.fs.list(dir).await? {
            let path = dir.join(name);
            if segment_number(&path).is_some_and(|other| other > number) {
                let file = self.fs.open(&path, OpenMode::Read).await?;
                let bytes = file.read_at(0, usize::try_from(file.len().await?).unwrap_or(usize::MAX)).await?;
                if inspect::frames(bytes).next().is_some_and(|frame| Some(frame.segment) == segment_number(&path)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn segment_number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(SEGMENT_ENDING)?.parse().ok()
}

/// What is read of the last segment: without its end, if the log was not closed.
fn without_end(bug: Bug, bytes: Bytes) -> Bytes {
    let frames: Vec<Frame> = inspect::frames(bytes.clone()).collect();
    let is_closed = frames.last().is_none_or(|last| last.kind != FrameKind::Data);
    let kept = match bug {
        Bug::TornTailTaken => frames.len().saturating_sub(1),
        Bug::ShortRead => frames.len() * 3 / 4,
        _ => return bytes,
    };
    match frames.get(kept.max(1)) {
        Some(first_lost) if !is_closed => {
            let mut read = bytes.to_vec();
            read[first_lost.offset..].fill(0);
            read.into()
        }
        _ => bytes,
    }
}

fn is_vote(bytes: &Bytes) -> bool {
    let is_vote = |frame: &Frame| frame.records.iter().all(|record| matches!(record.content, Content::Vote { .. }));
    inspect::frame(bytes).is_some_and(|frame| frame.kind == FrameKind::Data && is_vote(&frame))
}

#[async_trait]
impl File for BrokenFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let bytes = self.real.read_at(offset, len).await?;
        // A log that is opened reads its segments whole.
        let is_cut = matches!(self.bug, Bug::TornTailTaken | Bug::ShortRead) && offset == 0 && self.is_last_segment().await?;
        Ok(if is_cut { without_end(self.bug, bytes) } else { bytes })
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> io::Result<()> {
        let bytes = if self.bug == Bug::VotesLost { self.votes.without_new_ones(bytes) } else { bytes };
        self.is_vote.store(is_vote(&bytes), Ordering::Relaxed);
        self.real.write_at(offset, bytes).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        let number = self.syncs.fetch_add(1, Ordering::Relaxed);
        if self.bug == Bug::SyncsSkipped && !number.is_multiple_of(SYNCS_SKIPPED) {
            return Ok(());
        }
        if self.bug == Bug::VoteBehindLog && self.is_vote.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.real.sync_data().await
    }

    async fn len(&self) -> io::Result<u64> {
        self.real.len().await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.real.set_len(len).await
    }
}
