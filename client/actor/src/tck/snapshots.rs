//! What a snapshot store does: every case of the specifications of snapshot stores on the JVM and on .NET, in our terms.

use bytes::Bytes;
use cairn_client::{Criteria, Deletion, NewSnapshot, Payload, SequenceNumber};

use super::sample::{Examined, NO_BOUND, Sample, event, settled, text_payload};
use super::violation::{Verdict, Violation, holds, same};

/// A snapshot that was saved.
#[derive(Clone, Debug)]
struct Saved {
    snapshot: NewSnapshot,
    timestamp: i64,
}

fn snapshot(number: u64, text: impl Into<Bytes>) -> NewSnapshot {
    NewSnapshot { sequence_number: SequenceNumber(number), payload: text_payload(text), ..NewSnapshot::default() }
}

/// Up to a number.
fn up_to(number: u64) -> Criteria {
    Criteria { sequence_number_max: SequenceNumber(number), ..Criteria::LATEST }
}

/// Up to a number and a timestamp.
fn up_to_time(number: u64, timestamp: i64) -> Criteria {
    Criteria { timestamp_max: timestamp, ..up_to(number) }
}

/// A name with the snapshots "s-1" to "s-5" at the numbers 11 to 15, and what might go wrong after that.
async fn five_snapshots<'a>(examined: &Examined<'a>) -> Result<(Sample<'a>, Vec<Saved>), Violation> {
    let sample = examined.journal("1");
    let mut saved = Vec::new();
    for index in 1..=5 {
        let snapshot = snapshot(10 + index, format!("s-{index}"));
        let timestamp = sample.save(snapshot.clone()).await?;
        saved.push(Saved { snapshot, timestamp });
    }
    examined.between().await;
    Ok((sample, saved))
}

/// Whether the newest snapshot within the bounds is this one.
async fn loads(sample: &Sample<'_>, criteria: Criteria, expected: Option<&Saved>) -> Verdict {
    let loaded = sample.load(criteria).await?;
    let found = loaded.as_ref().map(|snapshot| {
        let info = &snapshot.info;
        (&info.persistence_id, info.sequence_number, info.timestamp, info.serializer_id, info.manifest.as_str(), &snapshot.bytes)
    });
    let expected = expected.map(|Saved { snapshot, timestamp }| {
        let payload = &snapshot.payload;
        let number = snapshot.sequence_number;
        (&sample.persistence_id, number, *timestamp, payload.serializer_id, payload.manifest.as_str(), &payload.bytes)
    });
    same(&format!("the newest snapshot within {criteria:?}"), &found, &expected)
}

pub(super) async fn a_name_without_snapshots_gives_none(examined: &Examined<'_>) -> Verdict {
    five_snapshots(examined).await?;
    loads(&examined.journal("another"), Criteria::LATEST, None).await
}

pub(super) async fn no_snapshot_is_given_when_all_are_newer_than_the_bound_in_time(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    loads(&sample, Criteria { timestamp_max: 100, ..Criteria::LATEST }, None).await
}

pub(super) async fn no_snapshot_is_given_when_all_are_above_the_bound(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    loads(&sample, up_to(7), None).await
}

pub(super) async fn the_newest_snapshot_is_given(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    loads(&sample, Criteria::LATEST, saved.last()).await
}

pub(super) async fn the_newest_snapshot_up_to_a_number_is_given(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    loads(&sample, up_to(13), Some(&saved[2])).await
}

pub(super) async fn the_newest_snapshot_up_to_a_number_and_a_time_is_given(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    loads(&sample, up_to_time(13, saved[2].timestamp), Some(&saved[2])).await
}

pub(super) async fn no_snapshot_is_given_below_a_lower_bound(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    let from = |number| Criteria { sequence_number_min: SequenceNumber(number), ..Criteria::LATEST };
    loads(&sample, from(16), None).await?;
    loads(&sample, from(15), saved.last()).await?;
    loads(&sample, Criteria { timestamp_min: i64::MAX, ..Criteria::LATEST }, None).await
}

async fn delete(sample: &Sample<'_>, number: u64, timestamp: Option<i64>) -> Verdict {
    Ok(settled(|| sample.store.delete(&sample.persistence_id, SequenceNumber(number), timestamp, None)).await?)
}

async fn delete_matching(sample: &Sample<'_>, criteria: Criteria) -> Verdict {
    Ok(settled(|| sample.store.delete_matching(&sample.persistence_id, criteria, None)).await?)
}

pub(super) async fn one_snapshot_is_deleted_by_its_number_whatever_its_time_is(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    delete(&sample, 13, None).await?;
    loads(&sample, up_to(13), Some(&saved[1])).await?;
    delete(&sample, 13, None).await
}

pub(super) async fn one_snapshot_is_deleted_by_its_number_and_its_exact_time(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    delete(&sample, 13, Some(saved[2].timestamp)).await?;
    loads(&sample, up_to(13), Some(&saved[1])).await
}

pub(super) async fn a_deletion_at_another_time_succeeds_and_deletes_nothing(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    delete(&sample, 13, Some(saved[2].timestamp - 2000)).await?;
    loads(&sample, up_to(13), Some(&saved[2])).await
}

pub(super) async fn all_snapshots_within_the_bounds_are_deleted(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    let criteria = up_to_time(13, saved[2].timestamp);
    delete_matching(&sample, criteria).await?;
    loads(&sample, criteria, None).await?;
    loads(&sample, up_to_time(14, saved[3].timestamp), Some(&saved[3])).await?;
    delete_matching(&sample, criteria).await
}

pub(super) async fn snapshots_outside_the_bounds_are_kept(examined: &Examined<'_>) -> Verdict {
    let (sample, saved) = five_snapshots(examined).await?;
    delete_matching(&sample, up_to_time(14, saved[3].timestamp - 1)).await?;
    loads(&sample, up_to_time(14, saved[3].timestamp), Some(&saved[3])).await
}

pub(super) async fn a_save_replaces_the_one_at_the_same_number(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    let snapshot = snapshot(15, "s-5-modified");
    let timestamp = sample.save(snapshot.clone()).await?;
    loads(&sample, up_to(15), Some(&Saved { snapshot, timestamp })).await?;
    delete(&sample, 15, None).await?;
    holds(sample.load(up_to(15)).await?.is_some_and(|left| left.info.sequence_number.0 == 14), || {
        "what was replaced is still there".to_owned()
    })
}

pub(super) async fn a_large_snapshot_is_saved_whole(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    for bytes in [10_000, examined.effort().snapshot_bytes_max] {
        let content: Vec<_> = (0..bytes).map(|index| (index % 251) as u8).collect();
        let snapshot = snapshot(100, content);
        let timestamp = sample.save(snapshot.clone()).await?;
        loads(&sample, Criteria::LATEST, Some(&Saved { snapshot, timestamp })).await?;
    }
    Ok(())
}

pub(super) async fn serializer_and_manifest_of_a_snapshot_come_back_as_they_were_saved(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    for (number, serializer_id, manifest) in [(100, 666, "A"), (101, -7, ""), (102, i32::MAX, "Schlüssel|ключ")] {
        let payload = Payload { serializer_id, manifest: manifest.to_owned(), bytes: Bytes::from_static(b"a test payload") };
        let snapshot = NewSnapshot { payload, ..snapshot(number, "") };
        let timestamp = sample.save(snapshot.clone()).await?;
        loads(&sample, Criteria::LATEST, Some(&Saved { snapshot, timestamp })).await?;
    }
    Ok(())
}

pub(super) async fn metadata_of_a_snapshot_comes_back_as_it_was_saved(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    let metadata = Payload { serializer_id: 17, manifest: "meta".to_owned(), bytes: Bytes::from_static(b"fictional metadata") };
    for (number, metadata) in [(100, Some(metadata)), (101, None)] {
        sample.save(NewSnapshot { metadata: metadata.clone(), ..snapshot(number, "snap") }).await?;
        let loaded = sample.load(Criteria::LATEST).await?;
        let found = loaded.map(|loaded| (loaded.info.sequence_number.0, loaded.bytes, loaded.info.metadata));
        same("the snapshot with its metadata", &found, &Some((number, Bytes::from_static(b"snap"), metadata)))?;
    }
    Ok(())
}

pub(super) async fn a_given_timestamp_is_kept_as_it_is(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    for (number, given) in [(3, 1), (3, 1_234_567), (4, i64::MAX - 1), (5, 0), (6, -62_135_596_800_000)] {
        let snapshot = NewSnapshot { timestamp: Some(given), ..snapshot(number, format!("at {given}")) };
        let timestamp = sample.save(snapshot.clone()).await?;
        same("the timestamp that a save gives", &timestamp, &given)?;
        loads(&sample, up_to(number), Some(&Saved { snapshot, timestamp })).await?;
    }
    Ok(())
}

pub(super) async fn the_last_of_several_saves_at_one_number_wins(examined: &Examined<'_>) -> Verdict {
    let (without_events, with_events) = (examined.journal("without-events"), examined.journal("with-events"));
    with_events.store_each([event(1, "a-1"), event(2, "a-2")]).await?;
    examined.between().await;
    for (sample, number) in [(without_events, 0), (with_events, 2)] {
        for round in 0..5 {
            for index in 0..4 {
                sample.save(snapshot(number, format!("{round}-{index}"))).await?;
            }
            let loaded = sample.load(Criteria::LATEST).await?.map(|loaded| (loaded.info.sequence_number.0, loaded.bytes));
            same("the newest snapshot", &loaded, &Some((number, format!("{round}-3").into())))?;
        }
    }
    Ok(())
}

/// Four saves at one number that are under way together.
async fn save_four_together(sample: &Sample<'_>, number: u64, round: u32) -> Verdict {
    let save = |index: u32| sample.save(snapshot(number, format!("{round}-{index}")));
    futures::try_join!(save(0), save(1), save(2), save(3))?;
    Ok(())
}

pub(super) async fn saves_that_are_under_way_together_leave_one_of_them_whole(examined: &Examined<'_>) -> Verdict {
    let (sample, _) = five_snapshots(examined).await?;
    for round in 0..20 {
        save_four_together(&sample, 20, round).await?;
        let loaded = sample.load(Criteria::LATEST).await?.map(|loaded| loaded.bytes);
        let possible: Vec<_> = (0..4).map(|index| Bytes::from(format!("{round}-{index}"))).collect();
        holds(loaded.as_ref().is_some_and(|loaded| possible.contains(loaded)), || format!("round {round}: {loaded:?}"))?;
        same("the newest snapshot, loaded again", &sample.load(Criteria::LATEST).await?.map(|loaded| loaded.bytes), &loaded)?;
    }
    Ok(())
}

pub(super) async fn saves_that_are_under_way_together_are_applied_in_the_order_in_which_they_began(
    examined: &Examined<'_>,
) -> Verdict {
    let sample = examined.journal("1");
    examined.between().await;
    for round in 0..200 {
        save_four_together(&sample, 0, round).await?;
        let loaded = sample.load(Criteria::LATEST).await?.map(|loaded| loaded.bytes);
        same("the newest snapshot", &loaded, &Some(format!("{round}-3").into()))?;
    }
    Ok(())
}

pub(super) async fn snapshots_and_events_do_not_touch_each_other(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    sample.save(snapshot(100, "beyond the events")).await?;
    same("the highest number after a save", &sample.highest().await?, &5)?;
    sample.delete_to(NO_BOUND, Deletion::Permanent).await?;
    let loaded = sample.load(Criteria::LATEST).await?.map(|loaded| loaded.info.sequence_number.0);
    same("the snapshot after all events are deleted", &loaded, &Some(100))?;
    delete_matching(&sample, Criteria::LATEST).await?;
    same("the snapshots after all are deleted", &sample.load(Criteria::LATEST).await?, &None)?;
    same("the highest number after all", &sample.highest().await?, &5)
}

pub(super) async fn a_recovery_offers_the_newest_snapshot_and_the_events_after_it(examined: &Examined<'_>) -> Verdict {
    use futures::StreamExt;

    let sample = examined.five_events().await?;
    for number in [2, 4] {
        sample.save(snapshot(number, format!("s-{number}"))).await?;
    }
    let cases: [(Option<Criteria>, Option<u64>, &[u64]); 4] = [
        (Some(Criteria::LATEST), Some(4), &[5]),
        (Some(up_to(3)), Some(2), &[3, 4, 5]),
        (Some(up_to(1)), None, &[1, 2, 3, 4, 5]),
        (None, None, &[1, 2, 3, 4, 5]),
    ];
    for (criteria, offered, expected) in cases {
        let recovered = sample.recover(None, criteria, NO_BOUND, NO_BOUND).await?;
        let found = recovered.snapshot.as_ref().map(|snapshot| snapshot.info.sequence_number.0);
        same(&format!("the snapshot that is offered within {criteria:?}"), &found, &offered)?;
        same("the highest number", &recovered.highest.0, &5)?;
        let events: Vec<_> = recovered.events.collect().await;
        let numbers: Result<Vec<_>, _> = events.into_iter().map(|stored| stored.map(|s| s.event.sequence_number.0)).collect();
        same("the events after it", &numbers?, &expected.to_vec())?;
    }
    Ok(())
}
