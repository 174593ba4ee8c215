//! Disks that refuse to change a name for want of room, as those do that never write in place.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::*;
use crate::fs::{DirLock, DiskSpace, File};

/// A disk that is full for names while it is told so.
#[derive(Clone, Debug, Default)]
struct Cramped {
    real: MemoryFs,
    refuses: Arc<Refuses>,
}

#[derive(Debug, Default)]
struct Refuses {
    removals: AtomicBool,
    renames: AtomicBool,
    syncs: AtomicBool,
}

fn full_if(refuses: &AtomicBool) -> io::Result<()> {
    if refuses.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

#[async_trait]
impl Fs for Cramped {
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.real.create_dir_all(dir).await
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.real.open(path, mode).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.real.list(dir).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        full_if(&self.refuses.removals)?;
        self.real.remove(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        full_if(&self.refuses.renames)?;
        self.real.rename(from, to).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        full_if(&self.refuses.syncs)?;
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

async fn start_cramped(fs: &Cramped) -> Running {
    Log::create(fs, Path::new(DIR)).await.expect("create");
    let (log, writer, _) = Log::open(Arc::new(fs.clone()), PathBuf::from(DIR), small()).await.expect("open");
    Running { log, writer: tokio::spawn(writer.run()) }
}

/// The disk is full until the preparer has met that.
async fn be_cramped(running: &Running, refuses: &AtomicBool, meet: impl Future<Output = ()>) {
    refuses.store(true, Ordering::SeqCst);
    meet.await;
    until("the disk is full", || running.log.shared.lock().disk_full).await;
    refuses.store(false, Ordering::SeqCst);
}

/// The log goes on in segments that it makes of old ones, and opens again.
async fn goes_on(fs: &Cramped, running: Running, from: u64) {
    let a = running.log.shard(A);
    for index in from..from + 60 {
        append(&a, entries(1, index..index + 1, 300)).await.expect("append");
        a.purge(id(1, index - 1)).await.expect("purge");
    }
    until("freed files are gone", || running.log.shared.lock().freed.len() <= 1).await;
    running.kill().await;
    let (log, _writer, _) = open(&fs.real, small()).await.expect("no segment is missing");
    assert_eq!(content(&log, A).await.expect("read").entries, entries(1, from + 59..from + 60, 300));
}

#[tokio::test]
async fn a_segment_that_cannot_be_removed_from_a_full_disk_stays_the_next_to_go() {
    let fs = Cramped::default();
    let running = start_cramped(&fs).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..60, 300)).await.expect("append");
    until("the next segment is ready", || running.log.shared.lock().spare.is_some()).await;
    let purge = async { a.purge(id(1, 59)).await.expect("purge") };
    be_cramped(&running, &fs.refuses.removals, purge).await;
    goes_on(&fs, running, 60).await;
}

#[tokio::test]
async fn a_segment_that_cannot_be_renamed_on_a_full_disk_stays_the_next_to_go() {
    let fs = Cramped::default();
    let running = start_cramped(&fs).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..1, 300)).await.expect("append");
    let mut end = 1;
    while running.log.segment_count() < 2 {
        append(&a, entries(1, end..end + 1, 300)).await.expect("append");
        end += 1;
    }
    until("the next segment is ready", || running.log.shared.lock().spare.is_some()).await;
    a.purge(id(1, end - 1)).await.expect("purge");
    until("one is free", || running.log.shared.lock().freed.len() == 1).await;
    let fill = async {
        while running.log.shared.lock().spare.is_some() {
            append(&a, entries(1, end..end + 1, 300)).await.expect("append");
            end += 1;
        }
    };
    be_cramped(&running, &fs.refuses.renames, fill).await;
    goes_on(&fs, running, end).await;
}

#[tokio::test]
async fn a_folder_that_does_not_sync_for_want_of_room_breaks_the_log() {
    let fs = Cramped::default();
    let running = start_cramped(&fs).await;
    until("the next segment is ready", || running.log.shared.lock().spare.is_some()).await;
    fs.refuses.syncs.store(true, Ordering::SeqCst);
    let failed = running.log.clone();
    let (_, failed) = tokio::join!(
        async {
            let a = running.log.shard(A);
            append(&a, entries(1, 0..60, 300)).await
        },
        tokio::time::timeout(DEADLINE, failed.failed())
    );
    assert!(matches!(failed, Ok(LogError::Io { operation: "sync", .. })), "{failed:?}");
}
