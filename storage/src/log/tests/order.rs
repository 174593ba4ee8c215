//! What callers may rely on: order, durability, bounds, and errors that end the log.

use super::*;

#[tokio::test]
async fn callbacks_come_in_submission_order_over_all_shards() {
    let running = start(&MemoryFs::new(), small()).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    for number in 0..60_u64 {
        let shard = running.log.shard(if number % 3 == 0 { A } else { B });
        let next = shard.state().last.map_or(0, |last| last.index + 1);
        let heard = heard.clone();
        let on_durable: OnDurable = Box::new(move |result| {
            result.expect("durable");
            heard.lock().expect("unpoisoned").push(number);
        });
        shard.append(entries(1, next..next + 1 + number % 4, 100), on_durable);
    }
    until("all are durable", || heard.lock().expect("unpoisoned").len() == 60).await;
    assert!(heard.lock().expect("unpoisoned").is_sorted());
}

#[tokio::test]
async fn entries_are_readable_before_they_are_durable() {
    let (log, writer, _) = open(&MemoryFs::new(), small()).await.expect("open");
    let a = log.shard(A);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    a.append(entries(1, 0..5, 30), Box::new(|result| drop(sender.send(result))));
    assert_eq!(a.read(0..5, usize::MAX).await.expect("read"), entries(1, 0..5, 30));
    assert_eq!(a.durable_index(), None);
    let mut durable = a.durable();
    let writer = tokio::spawn(writer.run());
    receiver.await.expect("answered").expect("durable");
    durable.wait_for(|durable| *durable == Some(4)).await.expect("it follows");
    assert_eq!(a.durable_index(), Some(4));
    log.shutdown().await.expect("shut down");
    writer.await.expect("ended");
}

#[tokio::test]
async fn durable_goes_back_when_entries_are_truncated_and_replaced() {
    let (log, writer, _) = open(&MemoryFs::new(), small()).await.expect("open");
    let a = log.shard(A);
    let writer = tokio::spawn(writer.run());
    append(&a, entries(1, 0..10, 30)).await.expect("append");
    let truncated = a.truncate_after(Some(4));
    a.append(entries(2, 5..8, 30), Box::new(|_| {}));
    assert_eq!(a.durable_index(), Some(4), "the new entries are not synced");
    truncated.await.expect("truncate");
    until("the new entries are durable", || a.durable_index() == Some(7)).await;
    assert_eq!(a.entry_id(7), Some(id(2, 7)));
    writer.abort();
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let running = start(&MemoryFs::new(), small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 30)).await.expect("append");
    let before = content(&running.log, A).await.expect("read");
    assert!(matches!(append(&a, entries(1, 4..5, 30)).await, Err(LogError::Misplaced { .. })), "a gap");
    assert!(matches!(append(&a, entries(1, 2..3, 30)).await, Err(LogError::Misplaced { .. })), "written twice");
    let bytes_max = small().payload_bytes_max();
    assert!(matches!(append(&a, entries(1, 3..4, bytes_max + 1)).await, Err(LogError::EntryTooLarge { .. })));
    assert!(matches!(a.save_vote(Bytes::from(vec![1; VOTE_BYTES_MAX + 1])).await, Err(LogError::Misplaced { .. })));
    a.save_committed(Some(id(1, 1)));
    assert!(matches!(a.truncate_after(Some(0)).await, Err(LogError::Misplaced { .. })), "it is committed");
    assert_eq!(content(&running.log, A).await.expect("read").entries, before.entries);
    append(&a, entries(1, 3..4, bytes_max)).await.expect("the largest fits");
    a.purge(id(1, 2)).await.expect("purge");
    assert!(matches!(a.truncate_after(Some(1)).await, Err(LogError::Misplaced { .. })), "it is purged");
}

#[tokio::test]
async fn reads_are_contiguous_or_fail_and_end_early_only_by_bytes() {
    for cache_bytes_max in [0, 1 << 20] {
        let running = start(&MemoryFs::new(), LogSettings { cache_bytes_max, ..small() }).await;
        let a = running.log.shard(A);
        append(&a, entries(1, 0..20, 300)).await.expect("append");
        a.purge(id(1, 4)).await.expect("purge");
        assert_eq!(a.read(5..20, usize::MAX).await.expect("read"), entries(1, 5..20, 300));
        assert_eq!(a.read(5..20, 1000).await.expect("read"), entries(1, 5..8, 300));
        assert_eq!(a.read(5..20, 0).await.expect("read"), entries(1, 5..6, 300));
        assert_eq!(a.read(7..7, 1000).await.expect("read"), []);
        assert!(matches!(a.read(4..6, 1000).await, Err(LogError::Absent { index: 4, first: 5, last: Some(19), .. })));
        assert!(matches!(a.read(18..21, usize::MAX).await, Err(LogError::Absent { index: 20, .. })));
        assert_eq!((a.entry_id(4), a.entry_id(3), a.entry_id(19)), (Some(id(1, 4)), None, Some(id(1, 19))));
    }
}

#[tokio::test]
async fn synced_payloads_leave_the_memory_beyond_the_bound() {
    let running = start(&MemoryFs::new(), LogSettings { cache_bytes_max: 2000, ..small() }).await;
    for shard in [A, B] {
        append(&running.log.shard(shard), entries(1, 0..10, 300)).await.expect("append");
    }
    let cached = |shard| running.log.shared.lock().shard(shard).index.cached_bytes();
    assert!(cached(A) + cached(B) <= 2000, "{} and {}", cached(A), cached(B));
    assert!(cached(A) > 0 && cached(B) > 0, "the newest stay");
    running.log.shard(B).set_cache_floor(10);
    assert_eq!(cached(B), 0);
}

#[tokio::test]
async fn one_append_may_take_many_batches() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    append(&running.log.shard(A), entries(1, 0..100, 400)).await.expect("append");
    assert!(running.log.segment_count() > 10);
    running.kill().await;
    let running = start(&fs, small()).await;
    assert_eq!(content(&running.log, A).await.expect("read").entries, entries(1, 0..100, 400));
}

#[tokio::test]
async fn a_failed_sync_or_write_ends_the_log_for_good() {
    for sync in [true, false] {
        let fs = MemoryFs::new();
        let running = start(&fs, small()).await;
        let (a, b) = (running.log.shard(A), running.log.shard(B));
        append(&a, entries(1, 0..2, 30)).await.expect("append");
        until("the next segment is ready", || running.log.shared.lock().spare.is_some()).await;
        if sync {
            fs.fail_sync_after(0)
        } else {
            fs.fail_write_after(0)
        }
        // Both wait for the same batch; a third comes later, when the disk would work again.
        let vote = b.save_vote(Bytes::from_static(b"vote"));
        assert!(matches!(append(&a, entries(1, 2..3, 30)).await, Err(LogError::Broken { .. })));
        assert!(matches!(vote.await, Err(LogError::Broken { .. })));
        assert!(matches!(append(&b, entries(1, 0..1, 30)).await, Err(LogError::Broken { .. })));
        assert!(matches!(a.truncate_after(None).await, Err(LogError::Broken { .. })));
        assert!(matches!(a.read(0..1, 10).await, Err(LogError::Broken { .. })));
        assert!(matches!(running.log.failed().await, LogError::Io { .. }));
        assert!(running.log.shutdown().await.is_err());
        assert_eq!(a.durable_index(), Some(1));
    }
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_is_gone() {
    let (log, writer, _) = open(&MemoryFs::new(), small()).await.expect("open");
    let vote = log.shard(A).save_vote(Bytes::from_static(b"vote"));
    drop(writer);
    assert!(matches!(vote.await, Err(LogError::Stopped)));
    assert!(matches!(append(&log.shard(A), entries(1, 0..1, 1)).await, Err(LogError::Stopped)));
    log.shutdown().await.expect("it has stopped");
}

#[tokio::test]
async fn a_shutdown_writes_what_waits_and_closes_the_log() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    a.append(entries(1, 0..3, 30), Box::new(|_| {}));
    a.save_committed(Some(id(1, 2)));
    running.shut_down().await;
    fs.crash(|| false);
    let (log, _writer, report) = open(&fs, small()).await.expect("open");
    assert!(report.closed && report.torn_tail.is_none());
    let state = log.shard(A).state();
    assert_eq!((state.last, state.committed), (Some(id(1, 2)), Some(id(1, 2))));
}

#[tokio::test]
async fn an_idle_log_closes_its_last_batch_once() {
    let fs = MemoryFs::new();
    let running = start(&fs, LogSettings { idle_close_after: Duration::from_millis(2), ..small() }).await;
    append(&running.log.shard(A), entries(1, 0..3, 30)).await.expect("append");
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let (_, _writer, report) = open(&fs.duplicate(), small()).await.expect("open");
        if report.closed {
            assert_eq!(report.last_batch, 3, "an opening, the entries, a marker");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it was never closed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (_, _writer, report) = open(&fs.duplicate(), small()).await.expect("open");
    assert_eq!(report.last_batch, 3, "one marker is enough");
    running.kill().await;
}

#[tokio::test]
async fn a_committed_entry_beyond_the_log_waits_for_it() {
    // As when a checkpoint is installed: committed is known before the log has been moved there.
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 30)).await.expect("append");
    a.save_committed(Some(id(2, 100)));
    append(&a, entries(1, 3..4, 30)).await.expect("append");
    a.truncate_after(Some(1)).await.expect("truncate");
    let (log, _writer, _) = open(&fs.duplicate(), small()).await.expect("it opens");
    assert_eq!(log.shard(A).state().committed, None);
    a.purge(id(2, 100)).await.expect("purge");
    append(&a, entries(2, 101..102, 30)).await.expect("append");
    let (log, _writer, _) = open(&fs.duplicate(), small()).await.expect("it opens");
    let state = log.shard(A).state();
    assert_eq!((state.committed, state.purged, state.last), (Some(id(2, 100)), Some(id(2, 100)), Some(id(2, 101))));
    running.kill().await;
}

#[tokio::test]
async fn a_committed_entry_of_a_shard_that_never_wrote_leaves_no_trace() {
    // It once put the shard into the next opening frame, although no record named it: the log did not open again.
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    running.log.shard(B).save_committed(Some(id(1, 5)));
    append(&running.log.shard(A), entries(1, 0..30, 300)).await.expect("append");
    running.shut_down().await;
    let (log, _writer, _) = open(&fs, small()).await.expect("it opens");
    assert_eq!(log.shards(), [A]);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    for settings in [
        LogSettings { segment_bytes: 4000, ..small() },
        LogSettings { segment_bytes: 4096, shards_max: 64, ..small() },
        LogSettings { shards_max: 0, ..small() },
        LogSettings { segment_bytes: u32::MAX - 4095, ..small() },
    ] {
        assert!(matches!(open(&MemoryFs::new(), settings).await, Err(LogError::Io { .. })));
    }
}

#[tokio::test]
async fn a_full_disk_halts_the_log_and_room_lets_it_go_on() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 300)).await.expect("append");
    until("the next segment is ready", || running.log.shared.lock().spare.is_some()).await;
    fs.limit_growth(Some(1000));
    let log = a.clone();
    let waiting = tokio::spawn(async move { append(&log, entries(1, 3..40, 300)).await });
    until("the room that was there is used", || a.durable_index() > Some(2)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!waiting.is_finished() && a.durable_index() < Some(39));
    fs.limit_growth(None);
    waiting.await.expect("no panic").expect("it goes on");
    running.shut_down().await;
    let (log, _writer, _) = open(&fs, small()).await.expect("open");
    assert_eq!(content(&log, A).await.expect("read").entries, entries(1, 0..40, 300));
}

#[tokio::test]
async fn a_log_of_more_shards_than_the_settings_admit_is_refused() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    for shard in [A, B] {
        append(&running.log.shard(shard), entries(1, 0..1, 10)).await.expect("append");
    }
    running.shut_down().await;
    assert!(matches!(open(&fs, LogSettings { shards_max: 1, ..small() }).await, Err(LogError::Io { .. })));
    open(&fs, small()).await.expect("nothing was changed");
}

#[tokio::test]
async fn a_log_on_a_full_disk_can_be_shut_down() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 300)).await.expect("append");
    fs.limit_growth(Some(0));
    let (sender, waiting) = tokio::sync::oneshot::channel();
    a.append(entries(1, 3..60, 300), Box::new(|result| drop(sender.send(result))));
    until("the disk is full", || running.log.shared.lock().disk_full).await;
    tokio::time::timeout(DEADLINE, running.shut_down()).await.expect("in time");
    assert!(matches!(waiting.await.expect("answered"), Err(LogError::Stopped)));
    let (log, _writer, _) = open(&fs, small()).await.expect("open");
    assert!(log.shard(A).state().last >= Some(id(1, 2)));
}

#[tokio::test]
async fn a_panic_in_the_log_ends_it() {
    let running = start(&MemoryFs::new(), small()).await;
    let a = running.log.shard(A);
    a.append(entries(1, 0..1, 10), Box::new(|_| panic!("on purpose")));
    assert!(matches!(tokio::time::timeout(DEADLINE, running.log.failed()).await, Ok(LogError::Panicked)));
    assert!(matches!(append(&a, entries(1, 1..2, 10)).await, Err(LogError::Broken { .. })));
}

/// Counts what the observer hears.
#[derive(Default)]
struct Counter(Mutex<(usize, usize)>);

impl LogObserver for Counter {
    fn synced(&self, _: Duration, bytes: usize, records: usize) {
        let mut sums = self.0.lock().expect("unpoisoned");
        *sums = (sums.0 + bytes, sums.1 + records);
    }
}

#[tokio::test]
async fn the_observer_hears_of_every_sync() {
    let counter = Arc::new(Counter::default());
    let running = start(&MemoryFs::new(), LogSettings { observer: counter.clone(), ..small() }).await;
    for shard in [A, B] {
        append(&running.log.shard(shard), entries(1, 0..5, 100)).await.expect("append");
    }
    // The answer comes after the observation, so both batches have been told.
    let (bytes, records) = *counter.0.lock().expect("unpoisoned");
    assert_eq!(records, 10);
    assert!(bytes > 1000);
}
