//! Segments: given back, used again, and held by none longer than needed.

use super::*;

async fn segment_names(fs: &MemoryFs) -> Vec<String> {
    let mut names = Fs::list(fs, Path::new(DIR)).await.expect("list");
    names.retain(|name| name.ends_with(".segment"));
    names
}

/// One is written, one is ready, one was freed and waits to be used again.
const SEGMENTS_AT_REST: usize = 3;

#[tokio::test]
async fn segments_are_given_back_although_shards_move_at_different_speeds() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let (fast, slow) = (running.log.shard(A), running.log.shard(B));
    for round in 0..40 {
        append(&fast, entries(1, round * 10..round * 10 + 10, 200)).await.expect("append");
        append(&slow, entries(1, round..round + 1, 20)).await.expect("append");
        if round >= 2 {
            fast.purge(id(1, round * 10 - 1)).await.expect("purge");
            slow.purge(id(1, round - 2)).await.expect("purge");
        }
    }
    assert!(running.log.segment_count() <= 8, "{}", running.log.segment_count());
    until("freed files are gone", || running.log.shared.lock().freed.len() <= 1).await;
    assert!(segment_names(&fs).await.len() <= 10, "{:?}", segment_names(&fs).await);
    let expected = [content(&running.log, A).await.expect("read"), content(&running.log, B).await.expect("read")];
    running.kill().await;
    fs.crash(|| false);
    let (log, _writer, _) = open(&fs, small()).await.expect("open");
    assert_eq!([content(&log, A).await.expect("read"), content(&log, B).await.expect("read")], expected);
    assert_eq!(expected[1].entries, entries(1, 38..40, 20));
}

#[tokio::test]
async fn copying_forward_lets_go_what_a_slow_shard_pins() {
    let fs = MemoryFs::new();
    let settings = || LogSettings { cache_bytes_max: 500, ..small() };
    let running = start(&fs, settings()).await;
    let (fast, slow) = (running.log.shard(A), running.log.shard(B));
    slow.save_vote(Bytes::from_static(b"the vote of the slow one")).await.expect("vote");
    append(&slow, entries(1, 3..9, 100)).await.expect("append");
    append(&fast, entries(1, 0..100, 300)).await.expect("append");
    append(&slow, entries(1, 9..10, 100)).await.expect("append");
    slow.purge(id(1, 4)).await.expect("purge");
    fast.purge(id(1, 99)).await.expect("purge");
    let pins = running.log.pins();
    assert_eq!((pins[0].shard, pins[0].oldest_segment), (B, 1));
    assert!(pins[0].segments_behind >= 5 && running.log.segment_count() > 5, "{pins:?}");

    assert_eq!(running.log.copy_forward(B).await.expect("copy"), 4, "entries 5 to 8; 9 is in the current segment");
    until("the old ones are gone", || running.log.segment_count() <= 2).await;
    until("their files too", || running.log.shared.lock().freed.len() <= 1).await;
    assert!(segment_names(&fs).await.len() <= SEGMENTS_AT_REST + 1);
    append(&slow, entries(1, 10..12, 100)).await.expect("append");
    let expected = content(&running.log, B).await.expect("read");
    assert_eq!(expected.entries, entries(1, 5..12, 100));

    running.kill().await;
    fs.crash(|| false);
    let running = start(&fs, settings()).await;
    assert_eq!(content(&running.log, B).await.expect("read"), expected);
    // What was copied can be truncated and purged as any entry.
    let slow = running.log.shard(B);
    slow.truncate_after(Some(6)).await.expect("truncate");
    append(&slow, entries(2, 7..8, 10)).await.expect("append");
    slow.purge(id(1, 5)).await.expect("purge");
    running.kill().await;
    let (log, _writer, _) = open(&fs, settings()).await.expect("open");
    let mut left = entries(1, 6..7, 100);
    left.extend(entries(2, 7..8, 10));
    assert_eq!(content(&log, B).await.expect("read").entries, left);
}

#[tokio::test]
async fn copying_again_and_again_survives_each_restart() {
    let fs = MemoryFs::new();
    let mut running = start(&fs, small()).await;
    append(&running.log.shard(B), entries(1, 0..4, 300)).await.expect("append");
    for round in 0..6 {
        let fast = running.log.shard(A);
        append(&fast, entries(1, round * 20..round * 20 + 20, 300)).await.expect("append");
        fast.purge(id(1, round * 20 + 19)).await.expect("purge");
        running.log.copy_forward(B).await.expect("copy");
        until("old segments go", || running.log.segment_count() <= 2).await;
        running.kill().await;
        fs.crash(|| false);
        running = start(&fs, small()).await;
        assert_eq!(content(&running.log, B).await.expect("read").entries, entries(1, 0..4, 300));
    }
}

#[tokio::test]
async fn what_a_recycled_segment_held_before_is_never_read() {
    // Batches of one size, so that old frames stand exactly where the next one is looked for.
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    let mut old = Vec::new();
    for index in 0..60 {
        append(&a, entries(1, index..index + 1, 300)).await.expect("append");
        if index >= 20 {
            a.purge(id(1, index - 20)).await.expect("purge");
        }
        if old.is_empty() && running.log.segment_count() > 1 {
            old = file_bytes(&fs, "0000000001.segment").await.to_vec();
        }
    }
    let current = running.log.shared.lock().current;
    let expected = content(&running.log, A).await.expect("read");
    running.kill().await;
    let name = format!("{current:010}.segment");
    let bytes = file_bytes(&fs, &name).await;
    let opening = frame::FrameHeader::decode(&bytes).expect("an opening");
    let body = bytes.slice(64..opening.frame_bytes());
    assert!(opening::Opening::decode(body).expect("an opening").recycled, "the segment was used before");

    let (log, _writer, report) = open(&fs.duplicate(), small()).await.expect("open");
    assert_eq!(report.torn_tail, None);
    assert_eq!(content(&log, A).await.expect("read"), expected);

    // Even without the zeros behind the end, old frames are not taken for new ones.
    let end = running_end(&bytes);
    overwrite(&fs, &name, end, &old[end..]).await;
    let (log, _writer, _) = open(&fs, small()).await.expect("open");
    assert_eq!(content(&log, A).await.expect("read"), expected);
}

/// Where the frames of a segment end.
fn running_end(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Ok(header) = frame::FrameHeader::decode(&bytes[end..]) {
        end += header.frame_bytes();
    }
    end
}

#[tokio::test]
async fn a_reader_keeps_the_bytes_of_a_segment_that_goes() {
    let fs = MemoryFs::new();
    let running = start(&fs, LogSettings { cache_bytes_max: 0, ..small() }).await;
    let a = running.log.shard(A);
    for index in 0..25 {
        append(&a, entries(1, index..index + 1, 300)).await.expect("append");
    }
    let plan = read_plan(&running.log, 0..5);
    let first_of_second = (0..25).find(|index| place(&running.log, *index).segment == 2).expect("it has rolled");
    a.purge(id(1, first_of_second - 1)).await.expect("purge");
    // Now it waits to be used again, and soon is wanted.
    until("the segment is free", || {
        let state = running.log.shared.lock();
        state.freed.len() == 1 && state.spare.is_some()
    })
    .await;
    for index in 25..60 {
        append(&a, entries(1, index..index + 1, 300)).await.expect("append");
    }
    assert!(!segment_names(&fs).await.contains(&"0000000001.segment".to_owned()));
    let read = read::fetch(&running.log.shared, A, plan).await;
    assert_eq!(read.expect("read"), entries(1, 0..5, 300));
}

fn place(log: &Log, index: u64) -> index::Place {
    log.shared.lock().shards[&A].index.get(index).expect("in the log").place
}

fn read_plan(log: &Log, range: std::ops::Range<u64>) -> Vec<read::Planned> {
    let mut state = log.shared.lock();
    read::plan(&mut state, A, range, usize::MAX).expect("planned")
}

#[tokio::test]
async fn a_shard_without_entries_keeps_its_vote_and_purge_point_when_all_segments_before_go() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let (fast, quiet) = (running.log.shard(A), running.log.shard(B));
    quiet.save_vote(Bytes::from_static(b"the only vote")).await.expect("vote");
    quiet.purge(id(3, 77)).await.expect("purge");
    for round in 0..10 {
        append(&fast, entries(1, round * 10..round * 10 + 10, 300)).await.expect("append");
        fast.purge(id(1, round * 10 + 8)).await.expect("purge");
    }
    until("the first segment is gone", || !running.log.shared.lock().segments.contains_key(&1)).await;
    running.shut_down().await;
    let (log, _writer, _) = open(&fs, small()).await.expect("open");
    let state = log.shard(B).state();
    assert_eq!((state.vote, state.purged), (Some(Bytes::from_static(b"the only vote")), Some(id(3, 77))));
    assert_eq!(state.last, Some(id(3, 77)));
    assert_eq!(log.shards(), [A, B]);
}

#[tokio::test]
async fn another_segment_size_takes_effect_with_the_next_segment() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    append(&running.log.shard(A), entries(1, 0..30, 300)).await.expect("append");
    running.kill().await;
    let larger = || LogSettings { segment_bytes: 16384, ..small() };
    let running = start(&fs, larger()).await;
    append(&running.log.shard(A), entries(1, 30..90, 300)).await.expect("append");
    running.shut_down().await;
    let running = start(&fs, small()).await;
    assert_eq!(content(&running.log, A).await.expect("read").entries, entries(1, 0..90, 300));
    append(&running.log.shard(A), entries(1, 90..120, 300)).await.expect("append");
    assert_eq!(content(&running.log, A).await.expect("read").entries, entries(1, 0..120, 300));
}
