//! Looking into segments.

use super::*;
use crate::log::inspect::{Content, Frame, FrameKind, FramesEnd, frame, frames};

fn segment(number: u32) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/log-v1/{number:010}.segment"));
    std::fs::read(path).expect("the fixture is checked in").into()
}

fn inspect(segment: Bytes) -> (Vec<Frame>, FramesEnd) {
    let mut frames = frames(segment);
    let found: Vec<_> = frames.by_ref().collect();
    assert_eq!(frames.offset(), found.iter().map(|frame| frame.bytes).sum::<usize>());
    (found, frames.end().expect("it has ended").clone())
}

/// What a shard's log holds after these frames: the vote, and the entries with their payloads.
fn replay(frames: &[Frame], shard: ShardId) -> (Option<Bytes>, Vec<LogEntry>) {
    let (mut vote, mut entries) = (None, Vec::<LogEntry>::new());
    for record in frames.iter().flat_map(|frame| &frame.records).filter(|record| record.shard == shard) {
        match record.content.clone() {
            Content::Entry { id, payload } => entries.push(LogEntry { id, payload }),
            Content::Copied { id, payload } => {
                assert!(entries.contains(&LogEntry { id, payload }), "a copy of an entry that is there");
            }
            Content::Truncated { last_kept } => entries.retain(|entry| Some(entry.id.index) <= last_kept.map(|id| id.index)),
            Content::Purged { up_to } => entries.retain(|entry| entry.id.index > up_to.index),
            Content::Vote { bytes } => vote = Some(bytes),
            Content::Committed { id } => assert!(entries.iter().any(|entry| entry.id == id)),
        }
    }
    (vote, entries)
}

#[test]
fn it_finds_in_the_fixture_what_the_log_finds() {
    let (mut all, end) = inspect(segment(1));
    assert_eq!(end, FramesEnd::Blank);
    let (second, end) = inspect(segment(2));
    assert_eq!(end, FramesEnd::Blank);
    assert_ne!(all[0].generation, second[0].generation);
    for (number, found) in [(1, &all), (2, &second)] {
        assert!(found.iter().all(|frame| frame.segment == number && frame.generation == found[0].generation));
        let openings = found.iter().map(|frame| frame.kind == FrameKind::Opening);
        assert!(openings.enumerate().all(|(at, is_opening)| is_opening == (at == 0)), "one opening, at first");
    }
    let a = second[0].opening.iter().find(|opening| opening.shard == A).expect("it is known");
    assert_eq!((a.vote.as_deref(), a.last, a.purged), (Some(&b"vote of A"[..]), Some(id(2, 5)), Some(id(1, 1))));
    all.extend(second);
    let batches: Vec<u64> = all.iter().map(|frame| frame.batch).collect();
    assert_eq!(batches, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(all.last().map(|frame| frame.kind), Some(FrameKind::Closing));
    let mut of_a = entries(1, 2..4, 200);
    of_a.extend(entries(2, 4..6, 300));
    assert_eq!(replay(&all, A), (Some(Bytes::from_static(b"vote of A")), of_a));
    let mut of_b = entries(1, 9..11, 500);
    of_b.extend(entries(1, 11..12, 900));
    assert_eq!(replay(&all, B), (None, of_b));
}

#[test]
fn a_flipped_bit_ends_the_frames_where_it_is() {
    let whole = segment(1);
    let (expected, _) = inspect(whole.clone());
    for at in 0..whole.len() {
        let mut changed = whole.to_vec();
        changed[at] ^= 1 << (at % 8);
        let before = expected.iter().take_while(|frame| frame.offset + frame.bytes <= at).count();
        let (found, end) = inspect(changed.into());
        assert_eq!(found, expected[..before], "byte {at}");
        let is_behind = before == expected.len();
        assert!(is_behind || end != FramesEnd::Blank, "byte {at}: {end:?}");
    }
}

#[test]
fn a_cut_segment_ends_with_its_last_whole_frame() {
    let whole = segment(1);
    let (expected, _) = inspect(whole.clone());
    for length in 0..whole.len() {
        let fitting = expected.iter().take_while(|frame| frame.offset + frame.bytes <= length).count();
        let (found, _) = inspect(whole.slice(..length));
        assert_eq!(found, expected[..fitting], "{length} bytes");
    }
}

#[test]
fn what_an_earlier_use_of_the_file_left_is_not_taken_for_frames() {
    let (first, second) = (segment(1), segment(2));
    let (expected, _) = inspect(second.clone());
    let opening = expected[0].bytes;
    // A segment that was begun over another one that had the same opening's length.
    let mixed = [&second[..opening], &first[opening..]].concat();
    let (found, end) = inspect(mixed.into());
    assert_eq!(found, expected[..1]);
    assert!(matches!(end, FramesEnd::Stale | FramesEnd::Garbage), "{end:?}");
}

#[test]
fn one_frame_is_found_wherever_in_its_segment_it_stands_and_only_whole() {
    let bytes = segment(1);
    let (all, _) = inspect(bytes.clone());
    for found in &all {
        let written = bytes.slice(found.offset..);
        assert_eq!(frame(&written).as_ref(), Some(found));
        assert_eq!(frame(&written.slice(..found.bytes - 1)), None, "its end is missing");
        let mut flipped = written[..found.bytes].to_vec();
        *flipped.last_mut().expect("it has bytes") ^= 1;
        assert_eq!(frame(&Bytes::from(flipped)), None, "its body is damaged");
    }
    assert_eq!(frame(&Bytes::from_static(&[0; 4096])), None);
    assert_eq!(frame(&Bytes::new()), None);
}
