//! What a machine's disk tells of the log: which frames were written, and which of them a power cut leaves.
//!
//! Frames are decoded by the log's own decoder as they are written. A frame is durable when a sync of its file has succeeded, or when it
//! is whole after the power was cut; a killed process leaves it as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cairn_node::Voted;
use cairn_storage::log::inspect::{self, Content, Frame};

use super::{
    Ballot, Checked, Known, Watch, broken, r02_log_matching, r06_committed_is_immutable, r08_never_back,
    r13_durable_acknowledgement, r18_silent_after_damage,
};

/// Listens to one machine's disk; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct LogTap {
    node: u64,
    watch: Watch,
    files: Arc<Mutex<Files>>,
}

/// A file whatever its name is: handles outlive a renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(u64);

#[derive(Debug, Default)]
struct Files {
    names: BTreeMap<PathBuf, FileId>,
    next: u64,
    /// Written and not synced.
    pending: Vec<Pending>,
    /// The log's writer was told that a write or a sync failed, in this life.
    failed: bool,
}

#[derive(Debug)]
struct Pending {
    file: FileId,
    path: PathBuf,
    frame: Frame,
    /// A sync that had to write it has failed: the next one does not write it either.
    is_given_up: bool,
}

impl LogTap {
    pub(super) fn new(node: u64, watch: Watch) -> Self {
        Self { node, watch, files: Arc::default() }
    }

    /// A file was opened under this name.
    pub(crate) fn opened(&self, path: &Path) -> FileId {
        let mut files = self.lock();
        if let Some(id) = files.names.get(path) {
            return *id;
        }
        files.next += 1;
        let id = FileId(files.next);
        files.names.insert(path.to_owned(), id);
        id
    }

    /// A file has another name: a segment that gets a new number is gone under its old one.
    pub(crate) fn renamed(&self, from: &Path, to: &Path) {
        let mut files = self.lock();
        if let Some(id) = files.names.remove(from) {
            files.names.insert(to.to_owned(), id);
        }
        drop(files);
        self.given_back(from);
    }

    /// A file is gone.
    pub(crate) fn removed(&self, path: &Path) {
        self.lock().names.remove(path);
        self.given_back(path);
    }

    /// Bytes were written: they replace what stood there.
    pub(crate) fn written(&self, file: FileId, path: &Path, offset: u64, bytes: &Bytes) {
        let Some(dir) = path.parent().filter(|dir| dir.ends_with("log")) else { return };
        let mut files = self.lock();
        let (start, end) = (offset, offset + bytes.len() as u64);
        let is_over = |pending: &Pending| {
            let at = pending.frame.offset as u64;
            pending.file == file && at < end && start < at + pending.frame.bytes as u64
        };
        files.pending.retain(|pending| !is_over(pending));
        let Some(frame) = inspect::frame(bytes) else { return };
        let failed = files.failed;
        let path = dir.join(format!("{:010}.segment", frame.segment));
        self.watch.check(|_| r18_silent_after_damage::written(self.node, failed, &frame));
        files.pending.push(Pending { file, path, frame, is_given_up: false });
    }

    /// A file was synced: what was written to it is durable.
    pub(crate) fn synced(&self, file: FileId) {
        let mut files = self.lock();
        let is_durable = |pending: &Pending| pending.file == file && !pending.is_given_up;
        if !files.pending.iter().any(is_durable) {
            return;
        }
        let (durable, pending): (Vec<_>, Vec<_>) = std::mem::take(&mut files.pending).into_iter().partition(is_durable);
        files.pending = pending;
        drop(files);
        self.make_durable(durable);
    }

    /// A sync of a file failed.
    pub(crate) fn sync_failed(&self, file: FileId) {
        self.lock().pending.iter_mut().filter(|pending| pending.file == file).for_each(|pending| pending.is_given_up = true);
    }

    /// The log's writer is told that a write to a segment or its sync failed.
    pub(crate) fn failed(&self, path: &Path) {
        if is_segment(path) {
            self.lock().failed = true;
        }
    }

    /// Another life of the node begins.
    pub(crate) fn reborn(&self) {
        self.lock().failed = false;
        self.watch.check(|known| {
            r08_never_back::begin_life(known, self.node);
            Ok(())
        });
    }

    /// The disk is another one now: nothing is known of it, and its node is not held to what it had.
    pub(crate) fn forget(&self) {
        *self.lock() = Files::default();
        self.watch.forget(self.node);
    }

    /// The power was cut: a frame is durable if its bytes are all there; `read` reads what the cut left of a file.
    pub(crate) fn power_cut(&self, read: impl Fn(&Path, u64, usize) -> Option<Bytes>) {
        let mut files = self.lock();
        files.names.clear();
        let survived = |pending: &Pending| {
            let bytes = read(&pending.path, pending.frame.offset as u64, pending.frame.bytes);
            bytes.and_then(|bytes| inspect::frame(&bytes)).is_some_and(|frame| frame == pending.frame)
        };
        let pending = std::mem::take(&mut files.pending);
        drop(files);
        let before = pending.len();
        let durable: Vec<_> = pending.into_iter().filter(survived).collect();
        if durable.len() < before {
            self.watch.check(|known| {
                known.mark("frame lost with the power");
                Ok(())
            });
        }
        self.make_durable(durable);
    }

    fn make_durable(&self, mut frames: Vec<Pending>) {
        frames.sort_by_key(|pending| pending.frame.batch);
        self.watch.check(|known| frames.iter().try_for_each(|pending| take_frame(known, self.node, &pending.frame)));
    }

    /// A segment is given back only when no live entry is in it alone.
    fn given_back(&self, path: &Path) {
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let Some(number) = number.filter(|_| is_segment(path)) else { return };
        self.watch.check(|known| {
            known.mark("segment given back");
            r13_durable_acknowledgement::given_back(known, self.node, number)
        });
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "segment")
}

fn take_frame(known: &mut Known, node: u64, frame: &Frame) -> Checked {
    for record in &frame.records {
        let shard = record.shard;
        let vote = match &record.content {
            Content::Vote { bytes } => match Voted::decode(bytes) {
                Some(voted) => Some((Ballot { term: voted.term, node: voted.node_id.0 }, voted.is_elected)),
                None => return broken("R9", format!("node {node} wrote a vote in {shard} that is none: {bytes:?}")),
            },
            _ => None,
        };
        r02_log_matching::durable(known, node, record)?;
        r06_committed_is_immutable::durable(known, node, record)?;
        r08_never_back::durable(known, node, shard, &record.content, vote)?;
        match &record.content {
            Content::Truncated { .. } => known.mark("log cut off"),
            Content::Copied { .. } => known.mark("entry copied forward"),
            _ => {}
        }
        known.durable.entry((node, shard)).or_default().take(frame.segment, &record.content, vote);
    }
    Ok(())
}
