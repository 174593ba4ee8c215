//! Floor: what the disk gives. Writers share syncs of three preallocated files, and hear of it when two are synced.
//!
//! One batch is under way while the next gathers. The file that lags takes what has come together meanwhile in one sync of its own.
//! No order is kept between processes, nothing is checked, nothing can be read: no system can do less.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::contender::{Contender, Skipped, System, Writer};
use crate::plan::Point;

const FILES: usize = 3;
const MAJORITY: usize = 2;
/// Each file is this long, in bytes, and begins anew at its end.
const FILE_BYTES: u64 = 64 << 20;

/// The floor.
pub struct SyncFloor;

#[async_trait(?Send)]
impl Contender for SyncFloor {
    fn name(&self) -> &'static str {
        "sync-floor"
    }

    fn title(&self) -> &'static str {
        "floor: sync of 2 of 3 files"
    }

    fn is_system(&self) -> bool {
        false
    }

    fn version(&self) -> Result<String, Skipped> {
        Ok("fdatasync".to_owned())
    }

    fn lacks(&self, point: Point) -> Option<&'static str> {
        super::floor_lacks(point)
    }

    async fn start(&self, dir: &Path) -> Result<Arc<dyn System>> {
        let mut queues = Vec::new();
        for index in 0..FILES {
            let file = preallocate(&dir.join(format!("file-{index}"))).context("preallocate a file")?;
            let (queue, batches) = channel();
            let name = format!("sync-{index}");
            std::thread::Builder::new().name(name).spawn(move || sync_batches(&file, &batches)).context("start a thread")?;
            queues.push(queue);
        }
        Ok(Arc::new(Files(Arc::new(Gatherer { queues, waiting: Mutex::default() }))))
    }
}

/// Zeros, written and synced, so that a later sync writes data alone.
fn preallocate(path: &Path) -> std::io::Result<File> {
    let mut file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    Ok(file)
}

struct Files(Arc<Gatherer>);

struct Gatherer {
    queues: Vec<Sender<Arc<Batch>>>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    records: Vec<u8>,
    writers: Vec<oneshot::Sender<()>>,
    /// Whether a batch is under way.
    busy: bool,
}

struct Batch {
    records: Vec<u8>,
    writers: Mutex<Vec<oneshot::Sender<()>>>,
    synced: AtomicUsize,
    /// Weak: the threads end with the last writer.
    gatherer: Weak<Gatherer>,
}

impl Gatherer {
    fn submit(self: &Arc<Self>, payload: &[u8], events: usize) -> oneshot::Receiver<()> {
        let (done, stored) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (0..events).for_each(|_| waiting.records.extend_from_slice(payload));
        waiting.writers.push(done);
        if !waiting.busy {
            self.send(&mut waiting);
        }
        stored
    }

    /// Sends what waits; with nothing to send, the next writer begins.
    fn send(self: &Arc<Self>, waiting: &mut Waiting) {
        waiting.busy = !waiting.writers.is_empty();
        if !waiting.busy {
            return;
        }
        let (records, writers) = (std::mem::take(&mut waiting.records), Mutex::new(std::mem::take(&mut waiting.writers)));
        let batch = Arc::new(Batch { records, writers, synced: AtomicUsize::new(0), gatherer: Arc::downgrade(self) });
        // A thread that failed has ended: with two of three gone, writers hear that nobody answers.
        self.queues.iter().for_each(|queue| drop(queue.send(batch.clone())));
    }
}

impl Batch {
    fn is_synced(&self) {
        if self.synced.fetch_add(1, Ordering::AcqRel) + 1 != MAJORITY {
            return;
        }
        let writers = std::mem::take(&mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(gatherer) = self.gatherer.upgrade() {
            gatherer.send(&mut gatherer.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        }
        for writer in writers {
            // It may have given up.
            let _ = writer.send(());
        }
    }
}

/// The life of one file's thread: it ends with the queue, or when the disk fails.
fn sync_batches(file: &File, batches: &Receiver<Arc<Batch>>) {
    let mut at = 0;
    while let Ok(first) = batches.recv() {
        let all: Vec<_> = std::iter::once(first).chain(batches.try_iter()).collect();
        for batch in &all {
            if at + batch.records.len() as u64 > FILE_BYTES {
                at = 0;
            }
            if file.write_all_at(&batch.records, at).is_err() {
                return;
            }
            at += batch.records.len() as u64;
        }
        if file.sync_data().is_err() {
            return;
        }
        all.iter().for_each(|batch| batch.is_synced());
    }
}

#[async_trait]
impl System for Files {
    fn servers(&self) -> Vec<u32> {
        Vec::new()
    }

    fn data_dirs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    async fn writer(&self, _: &str, _: Duration) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Submitter(self.0.clone())))
    }

    async fn replay(&self, _: &str) -> Result<u64> {
        bail!("a floor reads nothing")
    }

    async fn highest(&self, _: &str) -> Result<u64> {
        bail!("a floor reads nothing")
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn kill_leader(&self) -> Result<()> {
        bail!("a floor has no leader")
    }

    async fn stop(&self) {}
}

struct Submitter(Arc<Gatherer>);

#[async_trait]
impl Writer for Submitter {
    async fn append(&mut self, payload: &Bytes, events: usize) -> Result<()> {
        self.0.submit(payload, events).await.context("the disk failed")
    }

    async fn resume(&mut self) -> Result<u64> {
        bail!("a floor does not know what it holds")
    }
}
