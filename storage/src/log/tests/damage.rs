//! Damage of every kind: found and named, or harmless; never a wrong answer.

use super::*;
use crate::log::frame::{FrameHeader, FrameKind, HEADER_BYTES, body_checksum};
use crate::log::last::{LastFile, Reached};

/// A small log of two shards over several segments, with every kind of record; and what it holds after each frame.
struct Sample {
    fs: MemoryFs,
    /// What the log held before its last frame, and after it.
    before_last: [Content; 2],
    whole: [Content; 2],
    files: Vec<String>,
}

async fn contents(log: &Log) -> Result<[Content; 2], LogError> {
    Ok([content(log, A).await?, content(log, B).await?])
}

async fn reopened(fs: &MemoryFs) -> [Content; 2] {
    let (log, _writer, _) = open(&fs.duplicate(), small()).await.expect("open");
    contents(&log).await.expect("read")
}

async fn sample(closed: bool) -> Sample {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let (a, b) = (running.log.shard(A), running.log.shard(B));
    a.save_vote(Bytes::from_static(b"vote of A")).await.expect("vote");
    append(&a, entries(1, 0..6, 60)).await.expect("append");
    append(&b, entries(1, 5..8, 150)).await.expect("append");
    a.truncate_after(Some(3)).await.expect("truncate");
    append(&a, entries(2, 4..9, 100)).await.expect("append");
    b.save_committed(Some(id(1, 6)));
    append(&b, entries(1, 8..9, 2000)).await.expect("append");
    a.purge(id(1, 1)).await.expect("purge");
    b.save_vote(Bytes::from_static(b"vote of B")).await.expect("vote");
    a.save_committed(Some(id(2, 5)));
    let mut before_last = reopened(&fs).await;
    append(&a, entries(3, 9..11, 90)).await.expect("append");
    if closed {
        before_last = reopened(&fs).await;
        running.shut_down().await;
    } else {
        running.kill().await;
    }
    let whole = reopened(&fs).await;
    let mut files = Fs::list(&fs, Path::new(DIR)).await.expect("list");
    files.retain(|name| !name.ends_with(".tmp"));
    assert_eq!(files.len(), 4, "two segments, the next one, and LAST: {files:?}");
    Sample { fs, before_last, whole, files }
}

#[derive(Debug, Default)]
struct Outcomes {
    named: usize,
    torn: usize,
    unharmed: usize,
}

impl Sample {
    /// Opens a damaged disk; whatever comes must be right.
    async fn check(&self, fs: MemoryFs, damage: &str, outcomes: &mut Outcomes) {
        match open(&fs, small()).await {
            Err(LogError::Damaged { .. } | LogError::UnsupportedVersion { .. }) => outcomes.named += 1,
            Err(other) => panic!("{damage}: not named: {other}"),
            Ok((log, _writer, report)) => {
                let found = contents(&log).await.unwrap_or_else(|error| panic!("{damage}: {error}"));
                if found == self.whole {
                    outcomes.unharmed += 1;
                } else {
                    assert!(report.torn_tail.is_some(), "{damage}: lost without a word: {found:?}");
                    assert_eq!(found, self.before_last, "{damage}: more than the unclosed batch is lost");
                    outcomes.torn += 1;
                }
            }
        }
    }
}

/// The second slot of LAST begins here; each slot uses less than this many bytes in these tests.
const LAST_SLOTS: [usize; 2] = [0, 16 << 10];
const LAST_USED_BYTES: usize = 96;

/// Damages every file of a sample in every way that `damage` does, a thread for each file.
fn damage_each_file(sample: &Sample, damage: impl AsyncFn(&Sample, &str, &mut Outcomes) + Sync) -> Outcomes {
    let damage = &damage;
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = sample
            .files
            .iter()
            .map(|name| {
                scope.spawn(move || {
                    let mut outcomes = Outcomes::default();
                    block_on(damage(sample, name, &mut outcomes));
                    outcomes
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no wrong answer")).collect::<Vec<_>>()
    });
    outcomes.into_iter().fold(Outcomes::default(), |sum, file| Outcomes {
        named: sum.named + file.named,
        torn: sum.torn + file.torn,
        unharmed: sum.unharmed + file.unharmed,
    })
}

async fn flip_every_bit(sample: &Sample, name: &str, outcomes: &mut Outcomes) {
    let bytes = file_bytes(&sample.fs, name).await;
    for offset in 0..bytes.len() {
        if name == "LAST" && !LAST_SLOTS.iter().any(|slot| (*slot..slot + LAST_USED_BYTES).contains(&offset)) {
            continue;
        }
        for bit in 0..8 {
            let fs = sample.fs.duplicate();
            overwrite(&fs, name, offset, &[bytes[offset] ^ (1 << bit)]).await;
            sample.check(fs, &format!("{name}, bit {bit} of byte {offset}"), outcomes).await;
        }
    }
}

async fn cut_at_every_byte(sample: &Sample, name: &str, outcomes: &mut Outcomes) {
    let len = file_bytes(&sample.fs, name).await.len();
    for cut in 0..len {
        if name == "LAST" && cut > LAST_SLOTS[1] + LAST_USED_BYTES {
            continue;
        }
        let fs = sample.fs.duplicate();
        let file = fs.open(&Path::new(DIR).join(name), OpenMode::ReadWrite).await.expect("open");
        file.set_len(cut as u64).await.expect("cut");
        sample.check(fs, &format!("{name} cut to {cut} bytes"), outcomes).await;
    }
}

#[test]
fn every_flipped_bit_of_a_closed_log_is_named_or_harmless() {
    let outcomes = damage_each_file(&block_on(sample(true)), flip_every_bit);
    assert!(outcomes.named > 10_000 && outcomes.unharmed > 10_000 && outcomes.torn == 0, "{outcomes:?}");
}

#[test]
fn every_flipped_bit_of_an_open_log_is_named_or_harmless_or_cut_with_the_last_batch() {
    let mut sample = block_on(sample(false));
    // The other files are as in a closed log.
    sample.files.retain(|name| ["0000000002.segment", "LAST"].contains(&name.as_str()));
    let outcomes = damage_each_file(&sample, flip_every_bit);
    assert!(outcomes.named > 10_000 && outcomes.unharmed > 10_000 && outcomes.torn > 1_000, "{outcomes:?}");
}

#[test]
fn every_cut_is_named_or_harmless() {
    for closed in [true, false] {
        let outcomes = damage_each_file(&block_on(sample(closed)), cut_at_every_byte);
        assert!(outcomes.named > 10_000, "{outcomes:?}");
        assert_eq!(outcomes.torn, 0, "a shorter file is never a torn write: {outcomes:?}");
    }
}

#[tokio::test]
async fn every_zeroed_sector_of_a_closed_log_is_named_or_harmless() {
    let sample = sample(true).await;
    let mut outcomes = Outcomes::default();
    for name in sample.files.iter().filter(|name| *name != "LAST") {
        for offset in (0..4096).step_by(512) {
            let fs = sample.fs.duplicate();
            overwrite(&fs, name, offset, &[0; 512]).await;
            sample.check(fs, &format!("{name}, zeros from {offset}"), &mut outcomes).await;
        }
    }
    assert!(outcomes.named > 5 && outcomes.unharmed > 5 && outcomes.torn == 0, "{outcomes:?}");
}

#[tokio::test]
async fn every_misdirected_sector_in_a_closed_log_is_named_or_harmless() {
    let sample = sample(true).await;
    let mut outcomes = Outcomes::default();
    let segments: Vec<_> = sample.files.iter().filter(|name| *name != "LAST").collect();
    for (source, target) in segments.iter().flat_map(|source| segments.iter().map(move |target| (*source, *target))) {
        let bytes = file_bytes(&sample.fs, source).await;
        for (from, to) in (0..64).map(|pair| (pair / 8 * 512, pair % 8 * 512)) {
            let fs = sample.fs.duplicate();
            overwrite(&fs, target, to, &bytes[from..from + 512]).await;
            let damage = format!("{source} from {from} written to {target} at {to}");
            sample.check(fs, &damage, &mut outcomes).await;
        }
    }
    assert!(outcomes.named > 100 && outcomes.unharmed > 50 && outcomes.torn == 0, "{outcomes:?}");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let sample = sample(true).await;
    for name in &sample.files {
        let fs = sample.fs.duplicate();
        let blank = file_bytes(&fs, name).await.iter().all(|byte| *byte == 0);
        fs.remove(&Path::new(DIR).join(name)).await.expect("remove");
        match open(&fs, small()).await {
            Err(LogError::Damaged { .. }) => assert!(!blank, "{name}"),
            other => assert!(blank, "{name} is gone: {other:?}"),
        }
    }
    let fs = sample.fs.duplicate();
    for name in sample.files.iter().filter(|name| *name != "LAST") {
        fs.remove(&Path::new(DIR).join(name)).await.expect("remove");
    }
    assert!(matches!(open(&fs, small()).await, Err(LogError::Damaged { .. })), "the whole log is gone");
    fs.remove(&Path::new(DIR).join("LAST")).await.expect("remove");
    assert!(matches!(open(&fs, small()).await, Err(LogError::Damaged { .. })), "nothing is left");
    let gone = Log::open(Arc::new(MemoryFs::new()), PathBuf::from(DIR), small()).await;
    assert!(matches!(gone, Err(LogError::Damaged { .. })), "not even the folder is left");
}

#[tokio::test]
async fn a_log_is_made_where_none_was_written_to() {
    let fs = MemoryFs::new();
    for _ in 0..2 {
        Log::create(&fs, Path::new(DIR)).await.expect("make");
        fs.crash(|| false);
    }
    let running = start(&fs, small()).await;
    append(&running.log.shard(A), entries(1, 0..1, 10)).await.expect("append");
    running.shut_down().await;
    assert!(matches!(Log::create(&fs, Path::new(DIR)).await, Err(LogError::Io { .. })), "it was written to");
    fs.remove(&Path::new(DIR).join("LAST")).await.expect("remove");
    assert!(matches!(Log::create(&fs, Path::new(DIR)).await, Err(LogError::Damaged { .. })), "it has lost a file");
}

#[tokio::test]
async fn an_older_copy_of_a_segment_is_named() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 500)).await.expect("append");
    let old = file_bytes(&fs, "0000000001.segment").await;
    append(&a, entries(1, 3..4, 500)).await.expect("append");
    append(&a, entries(1, 4..12, 500)).await.expect("append");
    running.shut_down().await;
    assert_ne!(old, file_bytes(&fs, "0000000001.segment").await);
    overwrite(&fs, "0000000001.segment", 0, &old).await;
    assert!(matches!(open(&fs, small()).await, Err(LogError::Damaged { .. })));
}

#[tokio::test]
async fn a_log_below_its_committed_index_is_named() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    append(&running.log.shard(A), entries(1, 0..3, 50)).await.expect("append");
    running.shut_down().await;
    let (mut last, reached) = LastFile::open(&fs, Path::new(DIR)).await.expect("LAST");
    let committed = [(A, 3)].into_iter().collect();
    last.write(&Reached { batch: reached.batch, committed }).await.expect("write");
    let error = open(&fs, small()).await.expect_err("entry 3 is not there");
    assert!(error.to_string().contains("below the committed"), "{error}");
}

#[tokio::test]
async fn another_version_is_named_as_such() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    append(&running.log.shard(A), entries(1, 0..3, 50)).await.expect("append");
    running.kill().await;
    let name = "0000000001.segment";
    let mut header = file_bytes(&fs, name).await[..HEADER_BYTES].to_vec();
    FrameHeader::decode(&header).expect("an opening");
    header[4] = 2;
    let checksum = xxhash_rust::xxh3::xxh3_64(&header[..56]);
    header[56..].copy_from_slice(&checksum.to_le_bytes());
    overwrite(&fs, name, 0, &header).await;
    match open(&fs, small()).await {
        Err(LogError::UnsupportedVersion { found: 2, supported: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn damage_met_while_reading_ends_the_log() {
    let fs = MemoryFs::new();
    let running = start(&fs, LogSettings { cache_bytes_max: 0, ..small() }).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 50)).await.expect("append");
    let bytes = file_bytes(&fs, "0000000001.segment").await;
    let at = bytes.windows(4).position(|window| window == b"1.1 ").expect("the payload is on disk");
    overwrite(&fs, "0000000001.segment", at, b"X").await;
    assert!(matches!(a.read(0..3, usize::MAX).await, Err(LogError::Damaged { .. })));
    let failed = tokio::time::timeout(DEADLINE, running.log.failed()).await.expect("in time");
    assert!(matches!(failed, LogError::Damaged { .. }));
    assert!(matches!(append(&a, entries(1, 3..4, 50)).await, Err(LogError::Broken { .. })));
}

#[tokio::test]
async fn a_payload_that_looks_like_a_frame_is_not_taken_for_one() {
    // The batch that carries them is torn: now only the generation tells that they are no frames of a later batch.
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..1, 10)).await.expect("append");
    let mut payload = Vec::new();
    for offset in (0..3000).step_by(8) {
        let mut header = FrameHeader::decode(&file_bytes(&fs, "0000000001.segment").await).expect("an opening");
        (header.batch, header.offset, header.generation) = (99, offset, 7);
        payload.extend_from_slice(&header.encode());
        if payload.len() > 2000 {
            break;
        }
    }
    append(&a, vec![entry(1, 1, payload)]).await.expect("append");
    running.kill().await;
    let bytes = file_bytes(&fs, "0000000001.segment").await;
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("there are frames");
    overwrite(&fs, "0000000001.segment", last, &[bytes[last] ^ 1]).await;
    let (log, _writer, report) = open(&fs, small()).await.expect("open");
    assert!(report.torn_tail.is_some());
    assert_eq!(content(&log, A).await.expect("read").entries, entries(1, 0..1, 10));
}

#[tokio::test]
async fn a_frame_of_another_generation_is_not_the_next_batch() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    append(&running.log.shard(A), entries(1, 0..1, 10)).await.expect("append");
    running.kill().await;
    let name = "0000000001.segment";
    let bytes = file_bytes(&fs, name).await;
    let opening = FrameHeader::decode(&bytes).expect("an opening");
    let data = FrameHeader::decode(&bytes[opening.frame_bytes()..]).expect("a batch");
    let end = opening.frame_bytes() + data.frame_bytes();
    let next = FrameHeader {
        kind: FrameKind::Closing,
        offset: u32::try_from(end).expect("small"),
        generation: data.generation ^ 1,
        batch: data.batch + 1,
        body_bytes: 0,
        records: 0,
        body_checksum: body_checksum(&[]),
        ..data
    };
    overwrite(&fs, name, end, &next.encode()).await;
    let (_, _writer, report) = open(&fs.duplicate(), small()).await.expect("open");
    assert_eq!((report.last_batch, report.torn_tail.is_some()), (data.batch, true));
    // With the right generation it is.
    overwrite(&fs, name, end, &FrameHeader { generation: data.generation, ..next }.encode()).await;
    let (_, _writer, report) = open(&fs, small()).await.expect("open");
    assert_eq!((report.last_batch, report.torn_tail), (data.batch + 1, None));
}

#[tokio::test]
async fn a_segment_cut_to_whole_pages_is_named() {
    let fs = MemoryFs::new();
    let large = || LogSettings { segment_bytes: 16384, ..small() };
    let running = start(&fs, large()).await;
    append(&running.log.shard(A), entries(1, 0..1, 10)).await.expect("append");
    running.kill().await;
    for pages in 1..4 {
        let fs = fs.duplicate();
        let file = fs.open(&Path::new(DIR).join("0000000001.segment"), OpenMode::ReadWrite).await.expect("open");
        file.set_len(pages * 4096).await.expect("cut");
        assert!(matches!(open(&fs, large()).await, Err(LogError::Damaged { .. })), "cut to {pages} pages");
    }
}

#[tokio::test]
async fn another_entry_in_the_place_of_one_is_named_when_it_is_read() {
    let fs = MemoryFs::new();
    let running = start(&fs, LogSettings { cache_bytes_max: 0, ..small() }).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 50)).await.expect("append");
    let name = "0000000001.segment";
    let bytes = file_bytes(&fs, name).await;
    let place = |index| running.log.shared.lock().shards[&A].index.get(index).expect("in the log").place;
    let (source, target) = (place(0), place(1));
    assert_eq!(source.bytes, target.bytes);
    let whole = source.offset as usize..(source.offset + source.bytes) as usize;
    overwrite(&fs, name, target.offset as usize, &bytes[whole]).await;
    assert!(matches!(a.read(1..2, usize::MAX).await, Err(LogError::Damaged { .. })));
}
