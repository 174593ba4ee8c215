//! Every limit of what a user may send, one below it, at it and one above it: what is over it is refused as too large, with the
//! name of what it is, what was found and the limit.

use cairn_api::v1::{self, Failure, Reason};
use cairn_api::{FollowShard, List, Replay};
use cairn_machine::limits::{
    ATOMIC_WRITE_BYTES_MAX, ATOMIC_WRITE_EVENTS_MAX, MANIFEST_BYTES_MAX, METADATA_BYTES_MAX, PERSISTENCE_ID_BYTES_MAX,
    SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX, WRITE_ATOMIC_WRITES_MAX, WRITE_BYTES_MAX,
    WRITER_ID_BYTES_MAX,
};
use cairn_machine::{
    AtomicWrite, Claim, DeleteSnapshots, DeleteTo, Invalid, PersistenceId, SaveSnapshot, SnapshotChunk, Write, WriterId,
};

/// Checks that `try_with` takes sizes up to `limit` and refuses the next one, as too large, by name.
fn check<T>(name: &str, limit: usize, try_with: impl Fn(usize) -> Result<T, Invalid>) {
    for size in [limit - 1, limit] {
        if let Err(refused) = try_with(size) {
            panic!("{name}: {size} is within the limit of {limit}, yet: {refused}");
        }
    }
    let refused = try_with(limit + 1).err().unwrap_or_else(|| panic!("{name}: {} is over the limit of {limit}", limit + 1));
    let Invalid::TooLarge { what, found, limit: named } = &refused else { panic!("{name}: {refused:?}") };
    assert_eq!((*found, *named), (limit as u64 + 1, limit as u64), "{name}: {what}");
    let failure = Failure::from(refused.clone());
    assert_eq!(failure.reason(), Reason::TooLarge, "{name}");
    assert!(failure.message.contains(&limit.to_string()), "{name}: {}", failure.message);
    let first_word = name.split(' ').next().unwrap();
    assert!(failure.message.contains(first_word), "the message names {first_word:?}: {}", failure.message);
}

fn event(number: i64) -> v1::Event {
    v1::Event { sequence_number: number, payload: Some(v1::Payload::default()), ..Default::default() }
}

fn atomic_write(events: Vec<v1::Event>) -> Result<AtomicWrite, Invalid> {
    v1::AtomicWrite { events }.try_into()
}

fn write(atomic_writes: Vec<v1::AtomicWrite>) -> v1::WriteRequest {
    v1::WriteRequest { persistence_id: "p".to_owned(), writer_id: "w".to_owned(), atomic_writes, ..Default::default() }
}

fn save() -> v1::SaveRequest {
    v1::SaveRequest {
        persistence_id: "p".to_owned(),
        save_id: vec![7; 16].into(),
        data: Some(v1::save_request::Data::Inline("state".into())),
        ..Default::default()
    }
}

fn upload(bytes: usize) -> v1::UploadRequest {
    v1::UploadRequest { persistence_id: "p".to_owned(), save_id: vec![7; 16].into(), index: 0, data: vec![1; bytes].into() }
}

#[test]
fn names_are_within_their_limits() {
    check("persistence_id", PERSISTENCE_ID_BYTES_MAX, |len| cairn_api::event::persistence_id("p".repeat(len)));
    check("writer_id", WRITER_ID_BYTES_MAX, |len| cairn_api::event::writer_id("w".repeat(len)));
    check("prefix", PERSISTENCE_ID_BYTES_MAX, |len| {
        List::try_from(v1::ListRequest { prefix: "p".repeat(len), limit: 1, ..Default::default() })
    });
    check("tag", TAG_BYTES_MAX, |len| {
        FollowShard::try_from(v1::FollowShardRequest { tag: "t".repeat(len), ..Default::default() })
    });
}

#[test]
fn every_message_that_names_a_journal_or_a_writer_parses_it() {
    let long = "p".repeat(PERSISTENCE_ID_BYTES_MAX + 1);
    let refused = [
        Write::try_from(v1::WriteRequest { persistence_id: long.clone(), ..Default::default() }).unwrap_err(),
        Claim::try_from(v1::ClaimRequest { persistence_id: long.clone(), ..Default::default() }).unwrap_err(),
        DeleteTo::try_from(v1::DeleteToRequest { persistence_id: long.clone(), ..Default::default() }).unwrap_err(),
        Replay::try_from(v1::ReplayRequest { persistence_id: long.clone(), ..Default::default() }).unwrap_err(),
        SnapshotChunk::try_from(v1::UploadRequest { persistence_id: long.clone(), ..upload(1) }).unwrap_err(),
        SaveSnapshot::try_from(v1::SaveRequest { persistence_id: long, ..save() }).unwrap_err(),
    ];
    for refused in refused {
        assert!(matches!(refused, Invalid::TooLarge { what: "persistence_id bytes", .. }), "{refused}");
    }
    for blank in ["", " ", "\t\n"] {
        let refused = Write::try_from(v1::WriteRequest { persistence_id: blank.to_owned(), ..Default::default() }).unwrap_err();
        assert!(matches!(refused, Invalid::PersistenceId { reason: "blank" }), "{blank:?}: {refused}");
    }
}

#[test]
fn the_parts_of_an_event_are_within_their_limits() {
    let with = |change: &dyn Fn(&mut v1::Event)| {
        let mut event = event(1);
        change(&mut event);
        atomic_write(vec![event])
    };
    let manifest = |len| v1::Payload { manifest: "m".repeat(len), ..Default::default() };
    let data = |len| v1::Payload { data: vec![1; len].into(), ..Default::default() };
    check("bytes of a serializer manifest", MANIFEST_BYTES_MAX, |len| with(&|event| event.payload = Some(manifest(len))));
    check("bytes of an adapter manifest", MANIFEST_BYTES_MAX, |len| with(&|event| event.adapter_manifest = "m".repeat(len)));
    check("bytes of a metadata manifest", MANIFEST_BYTES_MAX, |len| with(&|event| event.metadata = Some(manifest(len))));
    check("bytes of metadata", METADATA_BYTES_MAX, |len| with(&|event| event.metadata = Some(data(len))));
    check("tags", TAGS_MAX, |count| with(&|event| event.tags = (0..count).map(|tag| tag.to_string()).collect()));
    check("bytes of a tag", TAG_BYTES_MAX, |len| with(&|event| event.tags = vec!["t".repeat(len)]));
    let refused = with(&|event| event.tags = vec![String::new()]).unwrap_err();
    assert!(matches!(refused, Invalid::Field { field: "tags", .. }), "{refused}");
}

#[test]
fn an_atomic_write_is_within_its_limits() {
    check("events", ATOMIC_WRITE_EVENTS_MAX, |count| atomic_write((1..=count).map(|number| event(number as i64)).collect()));
    let of_payload = |len| {
        let payload = Some(v1::Payload { data: vec![1; len].into(), ..Default::default() });
        atomic_write(vec![v1::Event { payload, ..event(1) }])
    };
    // The limit is on the encoded form: what encoding adds to a payload of this size is found out first.
    let added = of_payload(ATOMIC_WRITE_BYTES_MAX - 100).unwrap().body().len() - (ATOMIC_WRITE_BYTES_MAX - 100);
    check("bytes of an atomic write", ATOMIC_WRITE_BYTES_MAX, |len| of_payload(len - added));
    assert!(matches!(atomic_write(Vec::new()), Err(Invalid::Empty)));
}

#[test]
fn a_write_is_within_its_limits() {
    let of_count = |count: usize| {
        let atomic_writes = (1..=count).map(|number| v1::AtomicWrite { events: vec![event(number as i64)] });
        Write::try_from(write(atomic_writes.collect()))
    };
    check("atomic", WRITE_ATOMIC_WRITES_MAX, of_count);
    assert_eq!(of_count(0).unwrap().atomic_writes, [], "a check");

    let of_payloads = |first: usize, second: usize| {
        let atomic_write = |number, len| v1::AtomicWrite {
            events: vec![v1::Event {
                payload: Some(v1::Payload { data: vec![1; len].into(), ..Default::default() }),
                ..event(number)
            }],
        };
        Write::try_from(write(vec![atomic_write(1, first), atomic_write(2, second)]))
    };
    let (first, probe) = (ATOMIC_WRITE_BYTES_MAX - 100, 1_000);
    let size = |write: &Write| write.atomic_writes.iter().map(|one| one.body().len()).sum::<usize>() + 2;
    let added = size(&of_payloads(first, probe).unwrap()) - probe;
    check("bytes of a write", WRITE_BYTES_MAX, |len| of_payloads(first, len - added - 1));
}

#[test]
fn numbers_rise_strictly_over_a_whole_write_and_are_never_negative() {
    let of_numbers = |numbers: &[&[i64]]| {
        let atomic_writes =
            numbers.iter().map(|numbers| v1::AtomicWrite { events: numbers.iter().copied().map(event).collect() });
        Write::try_from(write(atomic_writes.collect()))
    };
    let good: [&[&[i64]]; 3] = [&[&[1, 2], &[3]], &[&[1, 5], &[9, 10]], &[&[i64::MAX - 1]]];
    for numbers in good {
        assert!(of_numbers(numbers).is_ok(), "{numbers:?}");
    }
    let bad: [&[&[i64]]; 7] = [&[&[0]], &[&[-1]], &[&[2, 1]], &[&[1, 1]], &[&[1], &[1]], &[&[3], &[2]], &[&[i64::MIN]]];
    for numbers in bad {
        let refused = of_numbers(numbers).expect_err(&format!("{numbers:?}"));
        assert!(matches!(refused, Invalid::SequenceNumber { .. }), "{numbers:?}: {refused}");
    }
    assert!(Write::try_from(v1::WriteRequest { after: Some(-1), ..write(Vec::new()) }).is_err());
    assert!(Write::try_from(v1::WriteRequest { epoch: Some(-1), ..write(Vec::new()) }).is_err());
    let replay = |from, to, max| {
        Replay::try_from(v1::ReplayRequest { persistence_id: "p".to_owned(), from, to, max, ..Default::default() })
    };
    assert!(replay(-1, 5, 5).is_err() && replay(1, -1, 5).is_err() && replay(1, 5, -1).is_err());
    assert_eq!(replay(0, i64::MAX, 5).unwrap(), replay(1, i64::MAX, 5).unwrap(), "0 is the same as 1");
}

#[test]
fn snapshots_are_within_their_limits() {
    check("data", SNAPSHOT_CHUNK_BYTES_MAX, |len| SnapshotChunk::try_from(upload(len)));
    assert!(matches!(SnapshotChunk::try_from(upload(0)), Err(Invalid::Field { field: "data", .. })));
    let inline = |len| v1::save_request::Data::Inline(vec![1; len].into());
    check("inline", SNAPSHOT_CHUNK_BYTES_MAX, |len| {
        SaveSnapshot::try_from(v1::SaveRequest { data: Some(inline(len)), ..save() })
    });
    let uploaded =
        |bytes: usize| v1::save_request::Data::Uploaded(v1::save_request::Uploaded { chunks: 1, bytes_total: bytes as u64 });
    check("bytes_total", SNAPSHOT_BYTES_MAX as usize, |len| {
        SaveSnapshot::try_from(v1::SaveRequest { data: Some(uploaded(len)), ..save() })
    });
    check("manifest", MANIFEST_BYTES_MAX, |len| SaveSnapshot::try_from(v1::SaveRequest { manifest: "m".repeat(len), ..save() }));
    let metadata = |len: usize| Some(v1::Payload { data: vec![1; len].into(), ..Default::default() });
    check("metadata", METADATA_BYTES_MAX, |len| SaveSnapshot::try_from(v1::SaveRequest { metadata: metadata(len), ..save() }));
    for id in [vec![], vec![1; 15], vec![1; 17], vec![0; 16]] {
        let refused = SaveSnapshot::try_from(v1::SaveRequest { save_id: id.clone().into(), ..save() }).unwrap_err();
        assert!(matches!(refused, Invalid::Field { field: "save_id", .. }), "{id:?}: {refused}");
    }
    assert!(SaveSnapshot::try_from(v1::SaveRequest { data: None, ..save() }).is_err());
    let forgotten = v1::DeleteSnapshotsRequest { persistence_id: "p".to_owned(), ..Default::default() };
    assert!(DeleteSnapshots::try_from(forgotten).is_err(), "no criteria is not all snapshots");
}

#[test]
fn listings_and_slices_are_within_their_limits() {
    check("limit", cairn_api::journal::LIST_LIMIT_MAX as usize, |limit| {
        List::try_from(v1::ListRequest { limit: u32::try_from(limit).unwrap(), ..Default::default() })
    });
    assert!(List::try_from(v1::ListRequest::default()).is_err(), "no limit is not all journals");
    let slices = |slice_min, slice_max| {
        FollowShard::try_from(v1::FollowShardRequest { slice_min, slice_max, ..Default::default() }).map(|follow| follow.slices)
    };
    assert_eq!(slices(None, None).unwrap(), None);
    assert_eq!(slices(Some(0), Some(0)).unwrap(), Some((0, 0)), "the first slice alone");
    assert_eq!(slices(Some(5), Some(1023)).unwrap(), Some((5, 1023)));
    for (min, max) in
        [(Some(5), Some(1024)), (Some(6), Some(5)), (Some(u32::MAX), Some(u32::MAX)), (Some(0), None), (None, Some(0))]
    {
        assert!(slices(min, max).is_err(), "{min:?} to {max:?}");
    }
    assert!(FollowShard::try_from(v1::FollowShardRequest { shard: 65_536, ..Default::default() }).is_err());
}

#[test]
fn what_the_client_checks_by_itself_agrees_with_the_server() {
    assert!(PersistenceId::new("p").is_ok() && WriterId::new("").is_ok());
    let claim = v1::ClaimRequest { persistence_id: "p".to_owned(), ..Default::default() };
    assert!(matches!(Claim::try_from(claim), Err(Invalid::Field { field: "writer_id", .. })), "a claim names its writer");
    for len in [TAG_BYTES_MAX, TAG_BYTES_MAX + 1] {
        let event = cairn_machine::Event::try_from(v1::Event { tags: vec!["t".repeat(len)], ..event(1) }).unwrap();
        assert_eq!(cairn_api::event::check_event(&event).is_ok(), AtomicWrite::new(&[event]).is_ok());
    }
}
