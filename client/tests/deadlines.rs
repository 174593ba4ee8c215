//! Calls whose outcome is not known at their deadline, or that could not be made until then. Time stands still unless everybody waits.

use std::time::Duration;

use cairn_api::v1::Failure;
use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{Criteria, Deletion, Error, NewSnapshot, SequenceNumber, Write, WriterId};
use writes::{events, fault_writes, payloads};

#[path = "common/writes.rs"]
mod writes;

#[tokio::test(start_paused = true)]
async fn every_command_tells_unknown_from_unavailable_at_its_deadline() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().deadline(Duration::from_secs(3)).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    writer.append("0").await.unwrap();
    let journal = cairn.journal("account").unwrap();
    let write = Write {
        persistence_id: journal.persistence_id().clone(),
        writer: WriterId::new("checker").unwrap(),
        epoch: None,
        after: Some(SequenceNumber(1)),
        atomic_writes: Vec::new(),
    };
    let overloaded = Fault::Refuse(Box::new(Failure::overloaded("test", Duration::from_millis(3))));
    for (fault, is_applied) in [(Fault::LoseAnswer, true), (Fault::Silence, true), (overloaded, false)] {
        cluster.inject(move |_| fault.clone());
        let outcomes = [
            ("claim", journal.claim().await.map(drop)),
            ("write", cairn.write(&write).await.map(drop)),
            ("delete", journal.delete_to(SequenceNumber(1), Deletion::Logical).await.map(drop)),
            ("save", journal.save_snapshot(NewSnapshot::default()).await.map(drop)),
            ("delete snapshots", journal.delete_snapshots(Criteria::LATEST).await.map(drop)),
            ("recover", journal.recover().start().await.map(drop)),
        ];
        for (command, outcome) in outcomes {
            match outcome {
                Err(Error::Unknown { .. }) if is_applied => {}
                Err(Error::Unavailable { .. }) if !is_applied => {}
                other => panic!("{command}, may be applied: {is_applied}: {other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_stays_unknown_until_the_deadline_is_unknown() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().deadline(Duration::from_secs(5)).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |_| Fault::LoseRequest);
    let before = tokio::time::Instant::now();
    let error = writer.append("0").await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    assert!(!error.is_definite());
    assert!((Duration::from_secs(4)..=Duration::from_secs(6)).contains(&before.elapsed()));
    // What comes next could land behind it or not: the writer must look first.
    assert!(matches!(writer.append("1").await, Err(Error::Unknown { .. })));
    cluster.inject(|_| Fault::None);
    assert_eq!(writer.resume().await.unwrap(), SequenceNumber(0));
    assert_eq!(writer.append("2").await.unwrap().first, SequenceNumber(1));
    assert_eq!(payloads(&cairn, "account").await, ["2"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_without_an_answer_until_the_deadline_is_unknown_too() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().deadline(Duration::from_secs(5)).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |_| Fault::LoseAnswer);
    assert!(matches!(writer.append("0").await, Err(Error::Unknown { .. })));
    cluster.inject(|_| Fault::None);
    assert_eq!(writer.resume().await.unwrap(), SequenceNumber(1));
}

#[tokio::test(start_paused = true)]
async fn what_never_left_is_unavailable_and_the_writer_goes_on() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.builder().deadline(Duration::from_secs(5)).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    for node in 0..3 {
        cluster.stop(node);
    }
    // Lets the connection's end arrive, so that nothing is laid on it any more.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let first = writer.submit("lost").await.unwrap();
    let second = writer.submit("lost too").await.unwrap();
    for submitted in [first, second] {
        let error = submitted.await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.is_definite());
    }
    for node in 0..3 {
        cluster.start(node);
    }
    assert_eq!(writer.append("kept").await.unwrap().first, SequenceNumber(1));
    assert_eq!(payloads(&cairn, "account").await, ["kept"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_writes_are_unavailable_and_with_one_they_go_on() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.builder().deadline(Duration::from_secs(5)).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    cluster.depose();
    assert!(matches!(writer.append("0").await, Err(Error::Unavailable { .. })));
    let waiting = writer.submit("1").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.lead(2);
    assert_eq!(waiting.await.unwrap().first, SequenceNumber(1));
}

#[tokio::test(start_paused = true)]
async fn deadlines_may_be_as_short_or_as_long_as_one_likes() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().attempt_timeout(Duration::MAX).build().unwrap();
    let mut patient = cairn.with_deadline(Duration::MAX).journal("patient").unwrap().claim().await.unwrap();
    patient.append("0").await.unwrap();
    patient.journal().delete_to(SequenceNumber(1), Deletion::Logical).await.unwrap();
    let hasty = cairn.with_deadline(Duration::ZERO).journal("hasty").unwrap().claim().await;
    assert!(matches!(hasty, Err(Error::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_ends_the_writer_though_a_try_may_take_longer() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().deadline(Duration::from_secs(1)).attempt_timeout(Duration::from_secs(5)).build().unwrap();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |place| if place == 0 { Fault::Silence } else { Fault::None });
    assert!(matches!(writer.append("0").await, Err(Error::Unknown { .. })));
    let error = writer.append("0").await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "whoever writes must look first: {error:?}");
    let highest = writer.resume().await.unwrap();
    assert_eq!(events(&cairn, "account").await.len() as u64, highest.0);
}

#[tokio::test(start_paused = true)]
async fn waiting_until_enough_is_answered_ends_at_the_deadline() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().in_flight_bytes_max(8 << 20).build().unwrap();
    let mut stuck = cairn.journal("stuck").unwrap().claim().await.unwrap();
    let mut other = cairn.with_deadline(Duration::from_secs(1)).journal("other").unwrap().claim().await.unwrap();
    fault_writes(&cluster, |_| Fault::LoseRequest);
    // As much as may be in flight, but for less than one write counts at least.
    let half = vec![0; (4 << 20) - 1024 - 512];
    let _large = [stuck.submit(half.clone()).await.unwrap(), stuck.submit(half).await.unwrap()];
    let begun = tokio::time::Instant::now();
    let error = other.append("x").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "it never left: {error:?}");
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}
