//! Snapshots through failures, against the real rules in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{Criteria, Error, NewSnapshot, Payload, SequenceNumber};
use cairn_machine::Command;
use common::retried_after_a_foreign_one;

mod common;

fn snapshot(sequence_number: u64, bytes: Vec<u8>) -> NewSnapshot {
    let payload = Payload { serializer_id: 5, manifest: "state".to_owned(), bytes: bytes.into() };
    NewSnapshot { sequence_number: SequenceNumber(sequence_number), payload, ..NewSnapshot::default() }
}

/// Bytes that show when pieces of them are missing, doubled or swapped.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from((index / 7 + index % 251) % 256).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn snapshots_of_every_size_come_back_whole() {
    const CHUNK: usize = 512 * 1024;
    let cairn = MemoryCairn::new().client();
    let journal = cairn.journal("account").unwrap();
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17] {
        journal.save_snapshot(snapshot(3, pattern(len))).await.unwrap();
        let loaded = journal.load_snapshot(Criteria::LATEST).await.unwrap().unwrap();
        assert_eq!(loaded.info.bytes_total, len as u64);
        assert!(loaded.bytes == pattern(len), "{len} bytes");
        assert_eq!((loaded.info.serializer_id, loaded.info.manifest.as_str()), (5, "state"));
    }
    assert_eq!(journal.snapshots(Criteria::LATEST).await.unwrap().len(), 1, "saved at the same number: replaced");
}

#[tokio::test(start_paused = true)]
async fn what_no_server_takes_is_refused_before_anything_is_sent() {
    let cluster = MemoryCairn::new();
    cluster.inject(|command| panic!("sent: {command:?}"));
    let journal = cluster.client().journal("account").unwrap();
    let above = SequenceNumber(SequenceNumber::MAX.0 + 1);
    let error = journal.save_snapshot(snapshot(above.0, pattern(3))).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { message } if message.contains("9223372036854775808")), "{error}");
    let error = journal.delete_snapshot(above, None).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    let too_large = vec![0; 256 * 1024 * 1024 + 1];
    let error = journal.save_snapshot(snapshot(1, too_large)).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { message } if message.contains("268435457")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_after_lost_requests_and_lost_answers() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let mut count = 0;
    cluster.inject(move |command| match command {
        Command::SnapshotChunk(_) | Command::SaveSnapshot(_) => {
            count += 1;
            match count % 3 {
                0 => Fault::LoseRequest,
                1 => Fault::LoseAnswer,
                _ => Fault::None,
            }
        }
        _ => Fault::None,
    });
    let journal = cairn.journal("account").unwrap();
    let saved = journal.save_snapshot(snapshot(1, pattern(3_000_000))).await.unwrap();
    assert_eq!(saved.save_number.0, 1, "saved once, whatever was tried again");
    let loaded = journal.load_snapshot(Criteria::LATEST).await.unwrap().unwrap();
    assert!(loaded.bytes == pattern(3_000_000));
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_save_is_refused_as_incomplete_is_completed() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let mut refusals = 0;
    cluster.inject(move |command| match command {
        Command::SaveSnapshot(_) if refusals < 2 => {
            refusals += 1;
            let refusal = cairn_machine::Refusal::UploadIncomplete { chunks: 1 };
            Fault::Refuse(Box::new(refusal.into()))
        }
        _ => Fault::None,
    });
    let journal = cairn.journal("account").unwrap();
    journal.save_snapshot(snapshot(1, pattern(2_000_000))).await.unwrap();
    assert!(journal.load_snapshot(Criteria::LATEST).await.unwrap().unwrap().bytes == pattern(2_000_000));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_breaks_begins_anew_and_half_a_snapshot_is_never_given_out() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().deadline(std::time::Duration::from_secs(5)).build().unwrap();
    let journal = cairn.journal("account").unwrap();
    journal.save_snapshot(snapshot(1, pattern(2_000_000))).await.unwrap();
    cluster.break_streams_after(Some(2));
    let loading = tokio::spawn(async move { journal.load_snapshot(Criteria::LATEST).await });
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!loading.is_finished());
    cluster.break_streams_after(None);
    assert!(loading.await.unwrap().unwrap().unwrap().bytes == pattern(2_000_000));
}

#[tokio::test(start_paused = true)]
async fn all_four_bounds_choose_and_the_caller_s_timestamp_is_kept() {
    let cairn = MemoryCairn::new().client();
    let journal = cairn.journal("account").unwrap();
    for number in 1..=5 {
        let saved = NewSnapshot { timestamp: Some(100 * i64::try_from(number).unwrap()), ..snapshot(number, vec![1]) };
        assert_eq!(journal.save_snapshot(saved).await.unwrap().timestamp, 100 * i64::try_from(number).unwrap());
    }
    let load = |criteria| {
        let journal = journal.clone();
        async move { journal.load_snapshot(criteria).await.unwrap().map(|loaded| loaded.info.sequence_number.0) }
    };
    assert_eq!(load(Criteria::LATEST).await, Some(5));
    assert_eq!(load(Criteria { sequence_number_max: SequenceNumber(3), ..Criteria::LATEST }).await, Some(3));
    assert_eq!(load(Criteria { timestamp_max: 250, ..Criteria::LATEST }).await, Some(2));
    assert_eq!(load(Criteria { timestamp_max: 250, sequence_number_min: SequenceNumber(3), ..Criteria::LATEST }).await, None);
    assert_eq!(load(Criteria { timestamp_min: 501, ..Criteria::LATEST }).await, None);
    assert_eq!(journal.delete_snapshot(SequenceNumber(5), Some(499)).await.unwrap(), 0);
    assert_eq!(journal.delete_snapshot(SequenceNumber(5), None).await.unwrap(), 1);
    assert_eq!(journal.delete_snapshots(Criteria { timestamp_max: 200, ..Criteria::LATEST }).await.unwrap(), 2);
    let left: Vec<u64> = journal.snapshots(Criteria::LATEST).await.unwrap().iter().map(|info| info.sequence_number.0).collect();
    assert_eq!(left, [3, 4]);
    let without_timestamp = journal.save_snapshot(snapshot(9, Vec::new())).await.unwrap();
    assert!(without_timestamp.timestamp >= 1_700_000_000_000, "the leader's clock, in milliseconds");
}

#[tokio::test(start_paused = true)]
async fn a_retried_deletion_spares_what_was_saved_meanwhile() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let journal = cairn.journal("account").unwrap();
    journal.save_snapshot(snapshot(1, vec![1])).await.unwrap();
    let is_saved = Arc::new(AtomicBool::new(false));
    cluster.inject(retried_after_a_foreign_one(is_saved.clone(), |command| matches!(command, Command::DeleteSnapshots(_))));
    let deleting = journal.clone();
    let deleting = tokio::spawn(async move { deleting.delete_snapshots(Criteria::LATEST).await });
    while !journal.snapshots(Criteria::LATEST).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    journal.save_snapshot(snapshot(2, vec![2])).await.unwrap();
    is_saved.store(true, Ordering::Relaxed);
    deleting.await.unwrap().unwrap();
    let left = journal.snapshots(Criteria::LATEST).await.unwrap();
    assert_eq!(left.iter().map(|info| info.sequence_number.0).collect::<Vec<_>>(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_over_the_limits_is_refused_by_name() {
    let cairn = MemoryCairn::new().client();
    let journal = cairn.journal("account").unwrap();
    let long = Payload { manifest: "m".repeat(4097), ..Payload::default() };
    let error = journal.save_snapshot(NewSnapshot { payload: long, ..NewSnapshot::default() }).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { message } if message.contains("manifest") && message.contains("4096")), "{error}");
    let metadata = Some(Payload { bytes: vec![0; 64 * 1024 + 1].into(), ..Payload::default() });
    let error = journal.save_snapshot(NewSnapshot { metadata, ..NewSnapshot::default() }).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { message } if message.contains("metadata")), "{error}");
}
