//! The persistence contract's own list, as far as it is about rules: its section 7, and the replay cases that its compatibility
//! kits share. Each test drives the store with encoded batches and looks at it as a reader does.

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Batch, Change, Command, Criteria, DeleteSnapshot, DeleteSnapshots, Event, Head, MemoryStore, Payload, Refusal,
    Reply, SequenceNumber, SnapshotChunk, SnapshotData, Store, Timestamp, TooMany, Upload, View, Write, WriteOutcome, limits,
};

use crate::build::{
    atomic, claim, delete_to, event, is_stored, name, numbers, replay, save, save_id, send, send_at, send_write, singles, write,
    writer,
};

const MAX: SequenceNumber = SequenceNumber::MAX;

fn five_events() -> MemoryStore {
    let mut store = MemoryStore::new();
    assert!(send_write(&mut store, write("cart", "A", singles(1..=5))).outcomes.iter().all(is_stored));
    store
}

// Section 7, number 1.
#[test]
fn deleting_everything_does_not_swallow_later_events() {
    for permanent in [false, true] {
        let mut store = five_events();
        send(&mut store, delete_to("cart", MAX, permanent));
        send_write(&mut store, write("cart", "A", singles([6])));
        assert_eq!(numbers(&store, "cart"), [6]);
        assert_eq!(store.highest(&name("cart")), SequenceNumber(6));
    }
}

// Number 2.
#[test]
fn deleting_above_the_highest_leaves_it_and_the_next_event() {
    let mut store = five_events();
    send(&mut store, delete_to("cart", SequenceNumber(7), false));
    assert_eq!(store.highest(&name("cart")), SequenceNumber(5));
    send_write(&mut store, write("cart", "A", singles([6])));
    assert_eq!(numbers(&store, "cart"), [6]);
}

// Numbers 3 and 14: the highest number is a field of a record, and no events are needed to know it.
#[test]
fn highest_survives_deletion_of_everything_and_the_way_through_disk() {
    let mut store = five_events();
    send(&mut store, delete_to("cart", MAX, true));
    let head = store.journal(&name("cart")).expect("the journal is there");
    let mut record = Vec::new();
    head.encode(&mut record);
    let restarted = Head::decode(&Bytes::from(record)).expect("what was encoded decodes");
    assert_eq!(&restarted, head);
    assert_eq!(restarted.highest, SequenceNumber(5));
    assert_eq!(numbers(&store, "cart"), [0u64; 0]);
}

// Number 4.
#[test]
fn gaps_are_stored_and_replayed_as_they_are() {
    let mut store = five_events();
    let reply = send_write(&mut store, write("cart", "A", singles([6, 8])));
    assert!(reply.outcomes.iter().all(is_stored));
    assert_eq!(numbers(&store, "cart"), [1, 2, 3, 4, 5, 6, 8]);
    assert_eq!(reply.highest, SequenceNumber(8));
    assert!(send_write(&mut store, write("cart", "A", singles([9]))).outcomes.iter().all(is_stored));
}

// Number 5: the rejected event never came here, so its number is free.
#[test]
fn number_of_a_rejected_last_event_is_used_again_and_stored_once() {
    let mut store = five_events();
    send(&mut store, claim("cart", "B", 1));
    let reply = send_write(&mut store, write("cart", "B", singles([6])));
    assert!(reply.outcomes.iter().all(is_stored));
    assert_eq!(numbers(&store, "cart"), [1, 2, 3, 4, 5, 6]);
}

// Number 6.
#[test]
fn taken_number_is_refused_and_a_retry_is_stored_once() {
    let mut store = five_events();
    let before = replay(&store, "cart", 1, 5, 9);
    let foreign = send_write(&mut store, write("cart", "B", vec![atomic(&[event(5, "other")])]));
    let [WriteOutcome::Refused(Refusal::Conflict { highest, writer: holder, .. })] = foreign.outcomes.as_slice() else {
        panic!("the number is taken: {foreign:?}");
    };
    assert_eq!((*highest, holder), (SequenceNumber(5), &writer("A")));
    assert_eq!(replay(&store, "cart", 1, 5, 9), before);
    let first = send_write(&mut store, write("cart", "A", singles([6])));
    let again = send_write(&mut store, write("cart", "A", singles([6])));
    assert_eq!(first, again);
    assert_eq!(numbers(&store, "cart"), [1, 2, 3, 4, 5, 6]);
}

// Number 7.
#[test]
fn superseded_writer_with_a_higher_number_is_fenced() {
    let mut store = five_events();
    send_write(&mut store, write("cart", "B", singles([6])));
    let late = send_write(&mut store, write("cart", "A", singles([14])));
    assert!(matches!(late.outcomes.as_slice(), [WriteOutcome::Refused(Refusal::Fenced { .. })]), "{late:?}");
    assert_eq!(store.highest(&name("cart")), SequenceNumber(6));
}

// Number 10: whatever prefix of the batches a reader sees, it never sees the second call without the first.
#[test]
fn second_of_two_calls_is_never_seen_without_the_first() {
    let mut store = MemoryStore::new();
    for number in 1..=20 {
        let mut next = write("cart", "A", singles([number]));
        next.after = Some(SequenceNumber(number - 1));
        // Every third call is lost on its way: its successors must not be stored over the hole.
        if number % 3 != 0 {
            send_write(&mut store, next);
        }
        let seen = numbers(&store, "cart");
        assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    }
    assert_eq!(numbers(&store, "cart"), [1, 2]);
}

// Number 13, and the windows of number 11 as far as they are visible without a clock.
#[test]
fn limit_counts_events_shown_and_not_deleted_ones_or_gaps() {
    let mut store = MemoryStore::new();
    send_write(&mut store, write("cart", "A", singles((1..=9).map(|number| number * 10))));
    send(&mut store, delete_to("cart", SequenceNumber(35), false));
    let shown = |from, to, max| -> Vec<u64> {
        replay(&store, "cart", from, to, max).iter().map(|event| event.event.sequence_number.0).collect()
    };
    assert_eq!(shown(0, u64::MAX, 3), [40, 50, 60]);
    assert_eq!(shown(1, 35, 3), [0u64; 0]);
    assert_eq!(shown(30, 40, 3), [40]);
    assert_eq!(shown(41, 89, 9), [50, 60, 70, 80]);
}

// The replay cases J1 to J14d of the journal's kits.
#[test]
fn replay_windows_are_those_of_the_journal_kits() {
    let mut store = five_events();
    let check = |store: &MemoryStore, from, to, max, expected: &[u64]| {
        let shown: Vec<u64> = replay(store, "cart", from, to, max).iter().map(|event| event.event.sequence_number.0).collect();
        assert_eq!(shown, expected, "{from}..={to}, at most {max}");
    };
    let all = u64::MAX;
    let no_limit = usize::MAX;
    check(&store, 1, all, no_limit, &[1, 2, 3, 4, 5]);
    check(&store, 3, all, no_limit, &[3, 4, 5]);
    check(&store, 1, 3, no_limit, &[1, 2, 3]);
    check(&store, 1, all, 3, &[1, 2, 3]);
    check(&store, 2, 3, no_limit, &[2, 3]);
    check(&store, 2, 5, 2, &[2, 3]);
    check(&store, 2, 2, no_limit, &[2]);
    check(&store, 2, 4, 1, &[2]);
    check(&store, 2, 4, 0, &[]);
    check(&store, 3, 2, no_limit, &[]);
    send(&mut store, delete_to("cart", SequenceNumber(3), false));
    check(&store, 0, all, no_limit, &[4, 5]);
    check(&store, 3, all, no_limit, &[4, 5]);
    check(&store, 1, 2, no_limit, &[]);
    check(&store, 1, 3, no_limit, &[]);
    check(&store, 4, all, no_limit, &[4, 5]);
    check(&store, 1, 4, no_limit, &[4]);
    send(&mut store, delete_to("cart", MAX, false));
    check(&store, 0, all, no_limit, &[]);
    assert_eq!(store.highest(&name("cart")), SequenceNumber(5));
    assert_eq!(store.highest(&name("non-existing")), SequenceNumber(0));
}

fn delete_snapshot(number: u64, timestamp: Option<i64>) -> Command {
    Command::DeleteSnapshot(DeleteSnapshot {
        persistence_id: name("cart"),
        sequence_number: SequenceNumber(number),
        timestamp,
        saves_read: None,
        writer: writer(""),
        epoch: None,
    })
}

// Number 15.
#[test]
fn last_of_several_saves_at_one_number_wins() {
    let mut store = MemoryStore::new();
    let saves = (0..4).map(|id| Command::SaveSnapshot(save("cart", 3, id, &format!("state {id}")))).collect();
    store.apply(&Batch { moment: Timestamp(1), commands: saves });
    let latest = store.latest_snapshot(&name("cart"), &Criteria::LATEST).expect("a snapshot is there");
    assert_eq!(store.snapshot_bytes(latest).as_deref(), Some("state 3".as_bytes()));
    assert_eq!(store.snapshots_of(&name("cart")).count(), 1);
    assert_eq!(store.chunks_count(), 1, "replaced snapshots leave no bytes behind");
}

// Number 15.
#[test]
fn timestamp_of_a_save_is_echoed_and_is_what_a_deletion_compares() {
    let mut store = MemoryStore::new();
    for timestamp in [i64::MIN, -1, 1, i64::MAX] {
        let mut saved = save("cart", 3, timestamp as u64, "state");
        saved.timestamp = Some(timestamp);
        saved.saves_read = store.journal(&name("cart")).map_or_else(Default::default, |head| head.saves);
        let Reply::SaveSnapshot(Ok(reply)) = send(&mut store, Command::SaveSnapshot(saved)) else { panic!("it is saved") };
        assert_eq!(reply.timestamp, timestamp);
        assert_eq!(send(&mut store, delete_snapshot(3, Some(2))), deleted(0), "a wrong timestamp");
        assert_eq!(send(&mut store, delete_snapshot(3, Some(timestamp))), deleted(1), "the exact timestamp");
    }
    send(&mut store, Command::SaveSnapshot(save("cart", 3, 99, "state")));
    assert_eq!(send(&mut store, delete_snapshot(3, None)), deleted(1), "any timestamp");
    assert_eq!(store.latest_snapshot(&name("cart"), &Criteria::LATEST), None);
    assert_eq!(store.chunks_count(), 0);
}

fn deleted(count: u64) -> Reply {
    Reply::DeleteSnapshots(Ok(cairn_machine::DeleteSnapshotsReply { deleted: count }))
}

// Number 15: criteria of none, and a load that fails is not a snapshot that is not there.
#[test]
fn snapshot_of_which_bytes_are_missing_is_not_taken_for_an_empty_one() {
    let mut store = MemoryStore::new();
    send(&mut store, Command::SaveSnapshot(save("cart", 3, 1, "state")));
    let none = Criteria { sequence_number_min: SequenceNumber(9), ..Criteria::LATEST };
    assert_eq!(store.latest_snapshot(&name("cart"), &none), None);
    let record = store.latest_snapshot(&name("cart"), &Criteria::LATEST).expect("a snapshot is there").clone();
    let drop_chunks = Change::DropChunks { journal: record.journal, save_id: record.save_id, chunks: record.chunks };
    store.change(drop_chunks).expect("memory does not fail");
    assert_eq!(store.snapshot_bytes(&record), None);
    assert!(store.latest_snapshot(&name("cart"), &Criteria::LATEST).is_some());
}

// Number 16.
#[test]
fn failed_save_leaves_the_earlier_snapshot_at_its_number() {
    let mut store = MemoryStore::new();
    send(&mut store, Command::SaveSnapshot(save("cart", 3, 1, "good")));
    send(&mut store, chunk("cart", 2, 0, b"half"));
    let mut late = save("cart", 3, 2, "");
    late.data = SnapshotData::Uploaded { chunks: 2, bytes_total: 8 };
    let refused = send(&mut store, Command::SaveSnapshot(late));
    assert_eq!(refused, Reply::SaveSnapshot(Err(Refusal::UploadIncomplete { chunks: 1 })));
    let kept = store.latest_snapshot(&name("cart"), &Criteria::LATEST).expect("the good one is there");
    assert_eq!(store.snapshot_bytes(kept).as_deref(), Some("good".as_bytes()));
}

// Number 22: whatever a name, a payload or a manifest holds comes back as it was.
#[test]
fn every_field_comes_back_exactly_under_any_name() {
    let long = "n".repeat(limits::PERSISTENCE_ID_BYTES_MAX);
    let names = ["with blank", " lead", "a|b|c", "%", "-", "zero\0byte", "é", "語", "😀", "_\u{ffff}", long.as_str()];
    let mut store = MemoryStore::new();
    for text in names {
        let events = [
            Event { sequence_number: SequenceNumber(1), ..Event::default() },
            full_event(2, vec![0u8; 3 * 1024 * 1024]),
            full_event(7, b"small".to_vec()),
        ];
        let reply = send_write(&mut store, write(text, "Ä writer", vec![atomic(&events[..1]), atomic(&events[1..])]));
        assert!(reply.outcomes.iter().all(is_stored), "{text:?}");
        let shown = replay(&store, text, 0, u64::MAX, usize::MAX);
        let shown_events: Vec<Event> = shown.iter().map(|stored| stored.event.clone()).collect();
        assert!(shown_events == events, "{text:?}");
        assert!(shown.iter().all(|stored| stored.writer == writer("Ä writer")));
        assert_eq!(shown.iter().map(|stored| stored.write_first.0).collect::<Vec<_>>(), [1, 2, 2]);
    }
    assert_eq!(store.journals("", None, usize::MAX).len(), names.len(), "no two names are one");
}

fn full_event(number: u64, bytes: Vec<u8>) -> Event {
    Event {
        sequence_number: SequenceNumber(number),
        payload: Payload { serializer_id: i32::MIN, manifest: "m".repeat(limits::MANIFEST_BYTES_MAX), bytes: bytes.into() },
        adapter_manifest: "adapter \0 ä".to_owned(),
        metadata: Some(Payload { serializer_id: i32::MAX, manifest: "meta".to_owned(), bytes: Bytes::from_static(&[0, 255]) }),
        tags: vec!["blue".to_owned(), "red".to_owned()],
    }
}

fn chunk(journal: &str, id: u64, index: u32, bytes: &'static [u8]) -> Command {
    Command::SnapshotChunk(SnapshotChunk {
        persistence_id: name(journal),
        save_id: save_id(id),
        index,
        bytes: Bytes::from_static(bytes),
    })
}

#[test]
fn upload_that_idles_gives_way_and_a_busy_one_does_not() {
    let mut store = MemoryStore::new();
    let uploads = limits::UPLOADS_MAX as u64;
    for id in 0..uploads {
        assert_eq!(send_at(&mut store, chunk("cart", id, 0, b"abc"), 1_000 + id as i64), Reply::SnapshotChunk(Ok(1)));
    }
    let just_not = 1_000 + limits::UPLOAD_IDLE_MICROS_MAX;
    let refused = Reply::SnapshotChunk(Err(Refusal::TooMany { what: TooMany::Uploads }));
    assert_eq!(send_at(&mut store, chunk("cart", uploads, 0, b"abc"), just_not), refused);
    assert_eq!(send_at(&mut store, chunk("cart", 0, 1, b"def"), just_not), Reply::SnapshotChunk(Ok(2)), "it goes on");
    // Now number 1 has been idle for longest.
    assert_eq!(send_at(&mut store, chunk("cart", uploads, 0, b"abc"), just_not + 2), Reply::SnapshotChunk(Ok(1)));
    assert!(store.shard().uploads.contains_key(&save_id(0)));
    assert!(!store.shard().uploads.contains_key(&save_id(1)));
    assert_eq!(store.shard().uploads.len(), limits::UPLOADS_MAX);
    assert_eq!(store.chunks_count() as u64, uploads + 1, "what was given up left nothing behind");
}

#[test]
fn upload_beyond_the_greatest_snapshot_is_refused_without_a_trace() {
    let mut store = MemoryStore::new();
    send(&mut store, chunk("cart", 1, 0, b"abc"));
    let journal = store.journal(&name("cart")).expect("created by its upload").journal;
    let almost = Upload { journal, chunks: 1, bytes_total: limits::SNAPSHOT_BYTES_MAX - 2, timestamp: Timestamp(0) };
    store.change(Change::PutUpload { save_id: save_id(1), upload: almost.clone() }).expect("memory does not fail");
    let refused = Reply::SnapshotChunk(Err(Refusal::TooMany { what: TooMany::SnapshotBytes }));
    assert_eq!(send(&mut store, chunk("cart", 1, 1, b"abc")), refused);
    assert_eq!(store.shard().uploads[&save_id(1)], almost);
    assert_eq!(send(&mut store, chunk("cart", 1, 1, b"ab")), Reply::SnapshotChunk(Ok(2)));
}

#[test]
fn journal_full_of_snapshots_takes_only_replacements() {
    let mut store = MemoryStore::new();
    send(&mut store, Command::SaveSnapshot(save("cart", 3, 1, "state")));
    let mut head = store.journal(&name("cart")).expect("created by its snapshot").clone();
    head.snapshots = limits::SNAPSHOTS_MAX as u32;
    store.change(Change::Head { persistence_id: name("cart"), head }).expect("memory does not fail");
    let refused = Reply::SaveSnapshot(Err(Refusal::TooMany { what: TooMany::Snapshots }));
    assert_eq!(send(&mut store, Command::SaveSnapshot(save("cart", 4, 2, "state"))), refused);
    assert!(matches!(send(&mut store, Command::SaveSnapshot(save("cart", 3, 3, "state"))), Reply::SaveSnapshot(Ok(_))));
}

#[test]
fn deletion_of_snapshots_leaves_no_bytes_behind() {
    let mut store = MemoryStore::new();
    send(&mut store, Command::SaveSnapshot(save("cart", 1, 1, "one")));
    for index in 0..3 {
        send(&mut store, chunk("cart", 2, index, b"abc"));
    }
    let mut large = save("cart", 2, 2, "");
    large.data = SnapshotData::Uploaded { chunks: 3, bytes_total: 9 };
    send(&mut store, Command::SaveSnapshot(large));
    assert_eq!(store.chunks_count(), 4);
    let all = DeleteSnapshots {
        persistence_id: name("cart"),
        criteria: Criteria::LATEST,
        saves_read: None,
        writer: writer(""),
        epoch: None,
    };
    assert_eq!(send(&mut store, Command::DeleteSnapshots(all)), deleted(2));
    assert_eq!(store.chunks_count(), 0);
}

#[test]
fn atomic_write_of_the_greatest_size_fits_one_write_and_one_batch() {
    let events: Vec<Event> = (1..=limits::ATOMIC_WRITE_EVENTS_MAX as u64).map(|number| event(number, "")).collect();
    let payload = limits::ATOMIC_WRITE_BYTES_MAX - 64;
    let large =
        atomic(&[Event { payload: Payload { bytes: vec![1; payload].into(), ..Payload::default() }, ..event(20_000, "") }]);
    for atomic_write in [atomic(&events), large] {
        let command = Command::Write(Write {
            persistence_id: name(&"n".repeat(limits::PERSISTENCE_ID_BYTES_MAX)),
            ..write("cart", &"w".repeat(limits::WRITER_ID_BYTES_MAX), vec![atomic_write])
        });
        command.check().expect("the greatest atomic write is admitted");
        let batch = Batch { moment: Timestamp(1), commands: vec![command] };
        assert!(batch.encode().len() <= limits::WRITE_BYTES_MAX);
    }
    let many: Vec<Event> = (1..=limits::ATOMIC_WRITE_EVENTS_MAX as u64 + 1).map(|number| event(number, "")).collect();
    assert!(AtomicWrite::new(&many).is_err());
}

#[test]
fn states_that_differ_have_different_chains() {
    let send_all = |commands: Vec<Command>| {
        let mut store = MemoryStore::new();
        store.apply(&Batch { moment: Timestamp(5), commands });
        store.shard().chain
    };
    let two = |first: &str, second: &str| {
        Command::Write(write("cart", "A", vec![atomic(&[event(1, first)]), atomic(&[event(2, second)])]))
    };
    let chains = [
        send_all(vec![two("a", "b")]),
        send_all(vec![two("a", "c")]),
        send_all(vec![two("c", "b")]),
        send_all(vec![claim("cart", "A", 0)]),
        send_all(vec![claim("cart", "B", 0)]),
        send_all(vec![Command::SaveSnapshot(save("cart", 1, 1, "a"))]),
        send_all(vec![Command::SaveSnapshot(save("cart", 1, 1, "b"))]),
        send_all(vec![chunk("cart", 1, 0, b"a")]),
        send_all(vec![chunk("cart", 1, 0, b"b")]),
        send_all(vec![]),
    ];
    for (index, chain) in chains.iter().enumerate() {
        assert!(!chains[..index].contains(chain), "number {index} has the chain of an earlier one");
    }
}
