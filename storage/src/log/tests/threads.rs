//! The log as production runs it: real files, threads of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::blocking::ThreadBlocking;
use crate::fs::OsFs;

/// Small segments and a small cache, and threads for reads.
fn settings(reading_threads: usize) -> LogSettings {
    let readers = OsFs::through(Arc::new(ThreadBlocking::start("log-read", reading_threads).expect("threads")));
    LogSettings {
        segment_bytes: 1 << 18,
        batch_bytes_max: 1 << 16,
        entry_bytes_max: 1 << 15,
        cache_bytes_max: 1 << 14,
        read_fs: Some(Arc::new(readers)),
        ..LogSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_one_log_on_real_files_and_find_it_again() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let settings = settings(1);
    for generation in 0..3_u64 {
        if !dir.path().join("LAST").exists() {
            Log::create(&OsFs::inline(), dir.path()).await.expect("make");
        }
        let opened = Log::open(Arc::new(OsFs::inline()), dir.path().to_owned(), settings.clone()).await;
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

/// What one shard does: appends that nobody waits for, and in between it cuts its unsynced end off, votes and purges.
async fn churn(shard: ShardLog, seed: u64, synced: Arc<Mutex<Vec<u64>>>) -> u64 {
    const ROUNDS: u64 = 400;
    let (mut term, mut calls, mut dice) = (1, 0, seed);
    for round in 0..ROUNDS {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = dice >> 33;
        let next = shard.state().last.or(shard.state().purged).map_or(0, |last| last.index + 1);
        let (call, synced) = (calls, synced.clone());
        calls += 1;
        let done = move |result: Result<(), LogError>| {
            result.expect("nothing fails here");
            synced.lock().expect("no one panics").push(call);
        };
        shard.append(entries(term, next..next + 1 + draw % 7, 64 + (draw % 3000) as usize), Box::new(done));
        match draw % 16 {
            0 => {
                let keep = next.saturating_sub(draw % 5).max(shard.first_index());
                term += 1;
                shard.truncate_after(Some(keep).filter(|keep| *keep > 0)).await.expect("is cut");
            }
            1 => shard.save_vote(Bytes::from(round.to_le_bytes().to_vec())).await.expect("is saved"),
            2 => {
                if let Some(id) = shard.durable_index().and_then(|durable| shard.entry_id(durable.saturating_sub(40))) {
                    shard.purge(id).await.expect("is purged");
                }
            }
            _ => tokio::task::yield_now().await,
        }
    }
    calls
}

/// Reads whatever is there while it changes, until `over`: what is given is whole and in order; what is not there is said.
async fn look(shard: ShardLog, over: Arc<AtomicBool>) -> u64 {
    let mut entries_seen = 0;
    while !over.load(Ordering::Relaxed) {
        let (first, next) = (shard.first_index(), shard.state().last.map_or(0, |last| last.index + 1));
        if first < next {
            match shard.read(first..next, 1 << 16).await {
                Ok(read) => {
                    entries_seen += read.len() as u64;
                    for (index, found) in (first..).zip(read) {
                        let id = found.id;
                        assert_eq!(id.index, index);
                        assert_eq!(found, entries(id.term, index..index + 1, found.payload.len()).remove(0), "at {id}");
                    }
                }
                Err(LogError::Absent { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        tokio::task::yield_now().await;
    }
    entries_seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shards_append_cut_and_purge_at_once_while_others_read_and_every_answer_comes_in_order() {
    const SHARDS: u16 = 6;
    let dir = tempfile::tempdir().expect("a folder for the test");
    let settings = settings(2);
    Log::create(&OsFs::inline(), dir.path()).await.expect("make");
    let (log, writer, _) = Log::open(Arc::new(OsFs::inline()), dir.path().to_owned(), settings.clone()).await.expect("open");
    let thread = spawn_log_thread(writer).expect("threads");
    let over = Arc::new(AtomicBool::new(false));
    let looking: Vec<_> = (0..SHARDS).map(|shard| tokio::spawn(look(log.shard(ShardId(shard)), over.clone()))).collect();
    let churning: Vec<_> = (0..SHARDS)
        .map(|shard| {
            let synced = Arc::new(Mutex::new(Vec::new()));
            (synced.clone(), tokio::spawn(churn(log.shard(ShardId(shard)), u64::from(shard) + 1, synced)))
        })
        .collect();
    for (synced, task) in churning {
        let calls = tokio::time::timeout(DEADLINE, task).await.expect("in time").expect("no panic");
        until("every append is answered", || synced.lock().expect("no one panics").len() as u64 >= calls).await;
        let synced = synced.lock().expect("no one panics");
        assert!(synced.iter().copied().eq(0..calls), "each once, in the order of the calls: {synced:?}");
    }
    over.store(true, Ordering::Relaxed);
    for task in looking {
        assert!(task.await.expect("no reader panics") > 0, "it has read something");
    }
    let mut before = Vec::new();
    for shard in 0..SHARDS {
        before.push(content(&log, ShardId(shard)).await.expect("is read"));
    }
    log.shutdown().await.expect("shut down");
    tokio::task::block_in_place(|| thread.join()).expect("the log's thread");

    let (log, _writer, report) =
        Log::open(Arc::new(OsFs::inline()), dir.path().to_owned(), settings.clone()).await.expect("open");
    assert_eq!(report.torn_tail, None);
    for (shard, before) in (0..SHARDS).zip(before) {
        assert_eq!(content(&log, ShardId(shard)).await.expect("is read"), before, "shard {shard}");
    }
}
