//! Writing through failures, against the real rules in memory. Time stands still unless everybody waits, so that deadlines cost
//! nothing.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_api::v1::{Failure, Reason};
use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{Cairn, Connector, Error, Event, NewEvent, Payload, SequenceNumber, Write, WriteOutcome, WriterId};
use cairn_machine::Command;

use writes::{events, fault_writes, payloads};

#[path = "common/writes.rs"]
mod writes;

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|index| index.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn events_come_back_as_they_were_written() {
    let cairn = MemoryCairn::new().client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    let payload = Payload { serializer_id: 17, manifest: "m".to_owned(), bytes: "bytes".into() };
    let metadata = Payload { serializer_id: -3, manifest: String::new(), bytes: "meta".into() };
    let event = NewEvent {
        payload: payload.clone(),
        adapter_manifest: "adapter".to_owned(),
        metadata: Some(metadata.clone()),
        tags: vec!["red".to_owned()],
    };
    let first = writer.append(event).await.unwrap();
    let second = writer.append_all(["a", "b", "c"]).await.unwrap();
    assert_eq!((first.first.0, first.last.0, first.previous.0), (1, 1, 0));
    assert_eq!((second.first.0, second.last.0, second.previous.0), (2, 4, 1));
    assert_eq!(second.position.0, first.position.0 + 1);
    let stored = events(&cairn, "account").await;
    assert_eq!(stored.len(), 4);
    assert_eq!(stored[0].event.payload, payload);
    assert_eq!(stored[0].event.metadata.as_ref(), Some(&metadata));
    assert_eq!(stored[0].event.adapter_manifest, "adapter");
    assert_eq!(stored[0].event.tags, ["red"]);
    assert_eq!(&stored[0].writer, writer.writer_id());
    assert!(stored[1..].iter().all(|stored| stored.write_first == SequenceNumber(2)));
}

#[tokio::test(start_paused = true)]
async fn several_atomic_writes_of_one_request_are_told_apart() {
    let cairn = MemoryCairn::new().client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    let appended = writer.write(vec![vec!["a".into(), "b".into()], vec!["c".into()]]).await.unwrap();
    assert_eq!(appended.iter().map(|one| (one.first.0, one.last.0, one.previous.0)).collect::<Vec<_>>(), [(1, 2, 0), (3, 3, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_and_the_write_is_stored_once() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    let seen = fault_writes(&cluster, |place| if place % 2 == 0 { Fault::LoseAnswer } else { Fault::None });
    for text in numbered(10) {
        writer.append(text).await.unwrap();
    }
    assert!(seen.load(Ordering::Relaxed) >= 20);
    assert_eq!(payloads(&cairn, "account").await, numbered(10));
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_sent_again() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |place| if place % 3 == 0 { Fault::LoseRequest } else { Fault::None });
    for text in numbered(10) {
        writer.append(text).await.unwrap();
    }
    assert_eq!(payloads(&cairn, "account").await, numbered(10));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_goes_elsewhere_after_the_attempt_timeout() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().attempt_timeout(Duration::from_secs(2)).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |place| if place == 0 { Fault::Silence } else { Fault::None });
    let before = tokio::time::Instant::now();
    writer.append("0").await.unwrap();
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&before.elapsed()));
    assert_eq!(payloads(&cairn, "account").await, numbered(1));
}

#[tokio::test(start_paused = true)]
async fn one_silent_request_does_not_hold_up_those_of_other_journals() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let mut silent = cairn.journal("silent").unwrap().claim().await.unwrap();
    let mut other = cairn.journal("other").unwrap().claim().await.unwrap();
    cluster.inject(|command| match command {
        Command::Write(write) if write.persistence_id.as_str() == "silent" => Fault::Silence,
        _ => Fault::None,
    });
    let waiting = silent.submit("never").await.unwrap();
    let before = tokio::time::Instant::now();
    for text in numbered(100) {
        other.append(text).await.unwrap();
    }
    assert!(before.elapsed() < Duration::from_secs(1));
    assert!(matches!(waiting.await, Err(Error::Unknown { .. })));
}

#[tokio::test(start_paused = true)]
async fn leader_changes_keep_the_order_with_hundreds_in_flight() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let names = ["a", "b", "c", "d", "e"];
    let mut writers = Vec::new();
    for name in names {
        writers.push(cairn.journal(name).unwrap().claim().await.unwrap());
    }
    let mut leader = 0;
    let mut waiting = Vec::new();
    for round in 0..300 {
        for writer in &mut writers {
            waiting.push(writer.submit(round.to_string()).await.unwrap());
        }
        match round % 60 {
            10 => {
                leader = (leader + 1) % 3;
                cluster.lead(leader);
            }
            25 => cluster.break_connections(),
            40 => cluster.stop(leader),
            _ => {}
        }
        if round % 60 == 45 {
            cluster.start(leader);
            cluster.lead((leader + 2) % 3);
            leader = (leader + 2) % 3;
        }
        // Lets some of it happen while more comes.
        tokio::task::yield_now().await;
    }
    for submitted in waiting {
        submitted.await.unwrap();
    }
    for name in names {
        assert_eq!(payloads(&cairn, name).await, numbered(300));
    }
}

#[tokio::test(start_paused = true)]
async fn order_holds_when_answers_and_requests_are_lost_in_the_middle_of_the_window() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |place| match place % 7 {
        2 => Fault::LoseRequest,
        4 => Fault::LoseAnswer,
        5 => Fault::Refuse(Box::new(Failure::overloaded("test", Duration::from_millis(3)))),
        6 => Fault::Answer(Box::new(Failure::unknown("leadership was lost"))),
        _ => Fault::None,
    });
    let mut waiting = Vec::new();
    for text in numbered(200) {
        waiting.push(writer.submit(text).await.unwrap());
    }
    let mut positions = BTreeSet::new();
    for submitted in waiting {
        positions.insert(submitted.await.unwrap().position);
    }
    assert_eq!(positions.len(), 200);
    assert_eq!(payloads(&cairn, "account").await, numbered(200));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_stored_over_a_write_that_was_turned_away() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    for turned_away in [0, 3, 9] {
        let name = format!("account-{turned_away}");
        let mut writer = cairn.journal(&name).unwrap().claim().await.unwrap();
        // Those behind it reach the leader in the same message, and it takes what the rules let it take.
        fault_writes(&cluster, move |place| {
            let overloaded = || Fault::Refuse(Box::new(Failure::overloaded("test", Duration::from_millis(3))));
            if place == turned_away { overloaded() } else { Fault::None }
        });
        let mut waiting = Vec::new();
        for text in numbered(10) {
            waiting.push(writer.submit(text).await.unwrap());
        }
        for submitted in waiting {
            submitted.await.unwrap();
        }
        assert_eq!(payloads(&cairn, &name).await, numbered(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_said_at_once_and_nothing_is_given_up() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |place| match place {
        0..3 => Fault::Refuse(Box::new(Failure::new(Reason::ReadOnly, "the disks are full"))),
        _ => Fault::None,
    });
    assert!(matches!(writer.append("0").await, Err(Error::ReadOnly { .. })));
    let (first, second) = (writer.submit("1").await.unwrap(), writer.submit("2").await.unwrap());
    assert!(matches!(first.await, Err(Error::ReadOnly { .. })));
    assert!(matches!(second.await, Err(Error::ReadOnly { .. })));
    assert_eq!(writer.append("3").await.unwrap().first, SequenceNumber(1));
}

#[tokio::test(start_paused = true)]
async fn a_newer_claim_fences_the_writer_and_says_who_it_is() {
    let cairn = MemoryCairn::new().client();
    let journal = cairn.journal("account").unwrap();
    let mut old = journal.claim().await.unwrap();
    old.append("0").await.unwrap();
    let mut new = journal.claim().await.unwrap();
    new.append("1").await.unwrap();
    let error = old.append("stale").await.unwrap_err();
    let Error::Fenced { epoch, writer, highest } = &error else { panic!("{error:?}") };
    assert_eq!((Some(*epoch), writer, *highest), (new.epoch(), new.writer_id(), SequenceNumber(2)));
    assert!(matches!(old.resume().await, Err(Error::Fenced { .. })));
    assert_eq!(payloads(&cairn, "account").await, numbered(2));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_says_the_highest_number_and_ends_those_behind_it() {
    let cairn = MemoryCairn::new().client();
    let journal = cairn.journal("account").unwrap();
    let name = WriterId::new("importer").unwrap();
    let mut ahead = journal.writer(name.clone(), None, SequenceNumber(0));
    ahead.append_all(["0", "1", "2"]).await.unwrap();
    let mut behind = journal.writer(name, None, SequenceNumber(0));
    let (first, second) = (behind.submit("x").await.unwrap(), behind.submit("y").await.unwrap());
    for submitted in [first, second] {
        let error = submitted.await.unwrap_err();
        assert!(matches!(error, Error::Conflict { highest: SequenceNumber(3), .. }), "{error:?}");
    }
    assert!(matches!(behind.append("z").await, Err(Error::Conflict { .. })));
    assert_eq!(behind.resume().await.unwrap(), SequenceNumber(3));
    assert_eq!(behind.append("3").await.unwrap().first, SequenceNumber(4));
    assert_eq!(payloads(&cairn, "account").await, numbered(4));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_assumes_a_wrong_number_stores_nothing_behind_its_refused_write() {
    for name in ["importer", "another"] {
        let cairn = MemoryCairn::new().client();
        let journal = cairn.journal("account").unwrap();
        let mut first = journal.writer(WriterId::new("importer").unwrap(), None, SequenceNumber(0));
        first.append("0").await.unwrap();
        // The number that its second write expects is there, by somebody else's event.
        let mut behind = journal.writer(WriterId::new(name).unwrap(), None, SequenceNumber(0));
        let submitted = [behind.submit("x").await.unwrap(), behind.submit("y").await.unwrap()];
        for submitted in submitted {
            let error = submitted.await.unwrap_err();
            assert!(matches!(error, Error::Conflict { highest: SequenceNumber(1), .. }), "{error:?}");
        }
        assert_eq!(payloads(&cairn, "account").await, ["0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_assumes_the_right_number_has_many_in_flight_after_its_first() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let mut writer = cairn.journal("account").unwrap().writer(WriterId::new("importer").unwrap(), None, SequenceNumber(0));
    let mut waiting = Vec::new();
    for number in 0..10 {
        waiting.push(writer.submit(number.to_string()).await.unwrap());
    }
    for submitted in waiting {
        submitted.await.unwrap();
    }
    assert_eq!(payloads(&cairn, "account").await, numbered(10));
}

#[tokio::test(start_paused = true)]
async fn a_number_that_no_event_can_have_is_refused() {
    let cairn = MemoryCairn::new().client();
    let event = |number: u64| Event { sequence_number: SequenceNumber(number), ..Event::default() };
    let write = |number: u64| Write {
        persistence_id: cairn.journal("account").unwrap().persistence_id().clone(),
        writer: WriterId::new("importer").unwrap(),
        epoch: None,
        after: None,
        atomic_writes: vec![vec![event(number)]],
    };
    for number in [u64::MAX, SequenceNumber::MAX.0 + 1, 0] {
        assert!(matches!(cairn.write(&write(number)).await, Err(Error::Invalid { .. })), "{number}");
    }
    assert!(events(&cairn, "account").await.is_empty());
    let mut writer = cairn.journal("account").unwrap().writer(WriterId::default(), None, SequenceNumber(u64::MAX));
    assert!(matches!(writer.append("x").await, Err(Error::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_same_writer_sending_the_same_events_again_gets_the_first_answer() {
    let cairn = MemoryCairn::new().client();
    let event = |number: u64| Event {
        sequence_number: SequenceNumber(number),
        payload: Payload { bytes: number.to_string().into(), ..Payload::default() },
        ..Event::default()
    };
    let write = Write {
        persistence_id: cairn.journal("imported").unwrap().persistence_id().clone(),
        writer: WriterId::new("importer").unwrap(),
        epoch: None,
        after: Some(SequenceNumber(0)),
        atomic_writes: vec![vec![event(1), event(2)], vec![event(5)]],
    };
    let first = cairn.write(&write).await.unwrap();
    assert_eq!(first.outcomes.len(), 2);
    assert!(first.outcomes.iter().all(|outcome| matches!(outcome, WriteOutcome::Stored { .. })));
    assert_eq!(cairn.write(&write).await.unwrap(), first);
    // An empty write is a check of what it expects.
    let check = |after| Write { after: Some(SequenceNumber(after)), atomic_writes: Vec::new(), ..write.clone() };
    assert_eq!(cairn.write(&check(5)).await.unwrap().highest, SequenceNumber(5));
    assert!(matches!(cairn.write(&check(4)).await, Err(Error::Conflict { highest: SequenceNumber(5), .. })));
}

#[tokio::test(start_paused = true)]
async fn input_over_a_limit_is_refused_before_it_is_numbered() {
    let cairn = MemoryCairn::new().client();
    assert!(matches!(cairn.journal(" "), Err(Error::Invalid { .. })));
    assert!(matches!(cairn.journal("x".repeat(1025)), Err(Error::Invalid { .. })));
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    let refused = [
        NewEvent::from(vec![0; 4 * 1024 * 1024 + 1]),
        NewEvent::from("x").tagged(""),
        NewEvent::from("x").tagged("t".repeat(257)),
        NewEvent { adapter_manifest: "m".repeat(4097), ..NewEvent::default() },
    ];
    for event in refused {
        assert!(matches!(writer.append(event).await, Err(Error::Invalid { .. })));
    }
    assert!(matches!(writer.append_all(Vec::<NewEvent>::new()).await, Err(Error::Invalid { .. })));
    assert!(matches!(writer.append_all(vec!["x"; 10_001]).await, Err(Error::Invalid { .. })));
    assert_eq!(writer.append("0").await.unwrap().first, SequenceNumber(1));
}

#[tokio::test(start_paused = true)]
async fn every_write_that_the_client_lets_pass_is_within_the_server_s_limits() {
    let cairn = MemoryCairn::new().client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    let mut room = 4 * 1024 * 1024;
    // The largest payload that the client takes: whatever framing costs, the server takes it too.
    while writer.append(vec![7; room]).await.is_err_and(|error| matches!(error, Error::Invalid { .. })) {
        room -= 1;
    }
    assert!(room > 4 * 1024 * 1024 - 64);
    assert_eq!(writer.append_all(vec!["x"; 10_000]).await.unwrap().last, SequenceNumber(10_001));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_bounded() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().in_flight_bytes_max(8 * 1024 * 1024).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    cluster.depose();
    let mut waiting = Vec::new();
    let submitting = async {
        loop {
            waiting.push(writer.submit(vec![0; 1024 * 1024]).await.unwrap());
        }
    };
    // Stops by itself: what comes after the bound waits.
    assert!(tokio::time::timeout(Duration::from_secs(1), submitting).await.is_err());
    assert_eq!(waiting.len(), 7);
    cluster.lead(0);
    for submitted in waiting {
        submitted.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_is_made_once() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let mut lost = 0;
    cluster.inject(move |command| match command {
        Command::Claim(_) if lost < 3 => {
            lost += 1;
            Fault::LoseAnswer
        }
        _ => Fault::None,
    });
    let writer = cairn.journal("account").unwrap().claim().await.unwrap();
    assert_eq!(writer.epoch().unwrap().0, 1);
}

#[tokio::test(start_paused = true)]
async fn many_claimants_at_once_each_get_an_epoch_of_their_own() {
    let cairn = MemoryCairn::new().client();
    let claims = (0..8).map(|_| {
        let journal = cairn.journal("account").unwrap();
        tokio::spawn(async move { journal.claim().await })
    });
    let mut epochs = BTreeSet::new();
    for claim in claims.collect::<Vec<_>>() {
        epochs.insert(claim.await.unwrap().unwrap().epoch());
    }
    assert_eq!(epochs.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn any_endpoint_leads_to_the_others() {
    let cluster = MemoryCairn::with_nodes(3);
    cluster.lead(2);
    cluster.stop(0);
    let endpoints = cluster.addresses();
    let cairn = cluster.builder().endpoints([endpoints[0].clone(), endpoints[1].clone()]).connect().await.unwrap();
    assert_eq!(cairn.shards().await.unwrap(), 4);
    cairn.journal("account").unwrap().claim().await.unwrap().append("0").await.unwrap();
    assert_eq!(cairn.cluster().status().await.unwrap().nodes.len(), 3);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unavailable() {
    // Bound and dropped: nobody listens there now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let builder = Cairn::builder().endpoints([format!("127.0.0.1:{port}")]).deadline(Duration::from_millis(100));
    assert!(matches!(builder.connect().await, Err(Error::Unavailable { .. })));
    for endpoint in ["", "localhost", "http://127.0.0.1:7101", "127.0.0.1:7101/x"] {
        assert!(matches!(Cairn::builder().endpoints([endpoint]).build(), Err(Error::Invalid { .. })), "{endpoint:?}");
    }
    assert!(matches!(Cairn::builder().build(), Err(Error::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn any_function_that_connects_is_a_connector() {
    let cluster = MemoryCairn::new();
    let inner = cluster.clone();
    let connector = move |address: String| inner.connect(address);
    let cairn = cluster.builder().connector(connector).connect().await.unwrap();
    cairn.journal("account").unwrap().claim().await.unwrap().append("0").await.unwrap();
}

/// With several threads, and with real time: what the other tests cannot see.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_on_many_threads_survive_breaks() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let writing = (0..48).map(|writer| {
        let cairn = cairn.clone();
        tokio::spawn(async move {
            let mut writer = cairn.journal(format!("journal-{writer}")).unwrap().claim().await.unwrap();
            for round in 0..20 {
                let mut waiting = Vec::new();
                for number in 0..10 {
                    waiting.push(writer.submit((round * 10 + number).to_string()).await.unwrap());
                }
                for submitted in waiting {
                    submitted.await.unwrap();
                }
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    let mut round = 0;
    while !writing.iter().all(tokio::task::JoinHandle::is_finished) {
        round += 1;
        cluster.lead(round % 3);
        if round % 2 == 0 {
            cluster.break_connections();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for done in writing {
        done.await.unwrap();
    }
    for writer in 0..48 {
        assert_eq!(payloads(&cairn, &format!("journal-{writer}")).await, numbered(200));
    }
}
