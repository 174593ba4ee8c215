//! The log as production runs it: real files, threads of its own.

use super::*;
use crate::blocking::ThreadBlocking;
use crate::fs::OsFs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_one_log_on_real_files_and_find_it_again() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let readers = OsFs::through(Arc::new(ThreadBlocking::start("log-read", 1).expect("threads")));
    let settings = || LogSettings {
        segment_bytes: 1 << 18,
        batch_bytes_max: 1 << 16,
        entry_bytes_max: 1 << 15,
        cache_bytes_max: 1 << 14,
        read_fs: Some(Arc::new(readers.clone())),
        ..LogSettings::default()
    };
    for generation in 0..3_u64 {
        if !dir.path().join("LAST").exists() {
            Log::create(&OsFs::inline(), dir.path()).await.expect("make");
        }
        let opened = Log::open(Arc::new(OsFs::inline()), dir.path().to_owned(), settings()).await;
        let (log, writer, report) = opened.expect("open");
        assert_eq!(report.torn_tail, None);
        let thread = spawn_log_thread(writer).expect("threads");
        let tasks: Vec<_> = (0..8)
            .map(|shard| {
                let shard = log.shard(ShardId(shard));
                tokio::spawn(async move {
                    let first = shard.state().last.map_or(0, |last| last.index + 1);
                    assert_eq!(first, generation * 300);
                    for start in (first..first + 300).step_by(10) {
                        append(&shard, entries(generation, start..start + 10, 256)).await.expect("append");
                    }
                    let floor = first.saturating_sub(50);
                    if floor > 0 {
                        shard.purge(shard.entry_id(floor).expect("in the log")).await.expect("purge");
                    }
                    let start = shard.first_index();
                    let read = shard.read(start..first + 300, usize::MAX).await.expect("read");
                    assert_eq!(read.len() as u64, first + 300 - start);
                    assert_eq!(read[read.len() - 300..], entries(generation, first..first + 300, 256));
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a shard's task");
        }
        log.shutdown().await.expect("shut down");
        tokio::task::block_in_place(|| thread.join()).expect("the log's thread");
    }
}
