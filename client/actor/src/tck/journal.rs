//! What a journal does: every case of the specifications of journals on the JVM and on .NET, in our terms.

use bytes::Bytes;
use cairn_client::{Deletion, Event, Payload, SequenceNumber, WriteOutcome};

use super::sample::{DELETIONS, Examined, NO_BOUND, Sample, event, first_event, settled, stored, text_payload};
use super::violation::{Verdict, Violation, holds, same};

pub(super) async fn a_replay_without_bounds_gives_every_event(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(1, NO_BOUND, NO_BOUND, &[1, 2, 3, 4, 5]).await
}

pub(super) async fn a_replay_begins_at_its_lower_bound(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(3, NO_BOUND, NO_BOUND, &[3, 4, 5]).await
}

pub(super) async fn a_replay_ends_at_its_upper_bound(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(1, 3, NO_BOUND, &[1, 2, 3]).await
}

pub(super) async fn a_replay_ends_after_as_many_events_as_were_asked_for(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(1, NO_BOUND, 3, &[1, 2, 3]).await
}

pub(super) async fn a_replay_keeps_both_bounds(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(2, 3, NO_BOUND, &[2, 3]).await
}

pub(super) async fn a_replay_keeps_both_bounds_and_a_count(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(2, 5, 2, &[2, 3]).await
}

pub(super) async fn a_replay_between_equal_bounds_gives_one_event(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(2, 2, NO_BOUND, &[2]).await
}

pub(super) async fn a_replay_of_at_most_one_gives_one_event(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(2, 4, 1, &[2]).await
}

pub(super) async fn a_replay_of_at_most_none_gives_no_event(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(2, 4, 0, &[]).await
}

pub(super) async fn a_replay_whose_lower_bound_is_above_the_upper_one_gives_no_event(examined: &Examined<'_>) -> Verdict {
    examined.five_events().await?.replays(3, 2, NO_BOUND, &[]).await
}

pub(super) async fn a_journal_that_was_never_written_has_no_events_and_the_highest_number_0(examined: &Examined<'_>) -> Verdict {
    let sample = examined.journal("never-written");
    examined.between().await;
    sample.replays_events(0, NO_BOUND, NO_BOUND, &[], 0).await
}

/// Runs a case once for each way to delete, on a journal of five events each.
async fn for_each_deletion(examined: &Examined<'_>, case: impl AsyncFn(&Sample<'_>, Deletion) -> Verdict) -> Verdict {
    let samples: Vec<_> = DELETIONS.iter().map(|deletion| (examined.journal(&format!("{deletion:?}")), *deletion)).collect();
    for (sample, _) in &samples {
        sample.store_five().await?;
    }
    examined.between().await;
    for (sample, deletion) in &samples {
        case(sample, *deletion).await.map_err(|violation| Violation::new(format!("{deletion:?}: {violation}")))?;
    }
    Ok(())
}

pub(super) async fn a_deletion_takes_the_events_up_to_its_number_and_can_be_repeated(examined: &Examined<'_>) -> Verdict {
    for_each_deletion(examined, async |sample, deletion| {
        sample.delete_to(3, deletion).await?;
        sample.replays(1, NO_BOUND, NO_BOUND, &[4, 5]).await?;
        sample.delete_to(3, deletion).await?;
        sample.delete_to(2, deletion).await?;
        sample.replays(1, NO_BOUND, NO_BOUND, &[4, 5]).await
    })
    .await
}

pub(super) async fn the_highest_number_outlives_the_deletion_of_some_events(examined: &Examined<'_>) -> Verdict {
    for_each_deletion(examined, async |sample, deletion| {
        sample.replays(0, NO_BOUND, NO_BOUND, &[1, 2, 3, 4, 5]).await?;
        sample.delete_to(3, deletion).await?;
        sample.replays(0, NO_BOUND, NO_BOUND, &[4, 5]).await
    })
    .await
}

pub(super) async fn the_highest_number_outlives_the_deletion_of_all_events(examined: &Examined<'_>) -> Verdict {
    for_each_deletion(examined, async |sample, deletion| {
        sample.replays(0, NO_BOUND, NO_BOUND, &[1, 2, 3, 4, 5]).await?;
        sample.delete_to(NO_BOUND, deletion).await?;
        sample.replays(0, NO_BOUND, NO_BOUND, &[]).await
    })
    .await
}

pub(super) async fn a_deletion_in_a_journal_that_was_never_written_succeeds(examined: &Examined<'_>) -> Verdict {
    let sample = examined.journal("never-written");
    examined.between().await;
    sample.delete_to(7, Deletion::Permanent).await?;
    sample.delete_to(NO_BOUND, Deletion::Logical).await?;
    sample.replays_events(0, NO_BOUND, NO_BOUND, &[], 0).await
}

/// Replays a range of a journal whose first three events are deleted.
async fn replays_behind_a_deletion(examined: &Examined<'_>, from: u64, to: u64, expected: &[u64]) -> Verdict {
    for_each_deletion(examined, async |sample, deletion| {
        sample.delete_to(3, deletion).await?;
        sample.replays(from, to, NO_BOUND, expected).await
    })
    .await
}

pub(super) async fn a_replay_from_the_last_deleted_event_gives_what_is_left(examined: &Examined<'_>) -> Verdict {
    replays_behind_a_deletion(examined, 3, NO_BOUND, &[4, 5]).await
}

pub(super) async fn a_replay_that_ends_among_deleted_events_gives_none(examined: &Examined<'_>) -> Verdict {
    replays_behind_a_deletion(examined, 1, 2, &[]).await
}

pub(super) async fn a_replay_that_ends_at_the_last_deleted_event_gives_none(examined: &Examined<'_>) -> Verdict {
    replays_behind_a_deletion(examined, 1, 3, &[]).await
}

pub(super) async fn a_replay_from_the_first_event_that_is_left_gives_what_is_left(examined: &Examined<'_>) -> Verdict {
    replays_behind_a_deletion(examined, 4, NO_BOUND, &[4, 5]).await
}

pub(super) async fn a_replay_over_a_deleted_prefix_gives_what_is_left_of_its_range(examined: &Examined<'_>) -> Verdict {
    replays_behind_a_deletion(examined, 1, 4, &[4]).await
}

pub(super) async fn a_deleted_prefix_takes_nothing_from_the_count_of_a_replay(examined: &Examined<'_>) -> Verdict {
    for_each_deletion(examined, async |sample, deletion| {
        sample.delete_to(3, deletion).await?;
        sample.replays(1, NO_BOUND, 1, &[4]).await?;
        sample.replays(1, NO_BOUND, 2, &[4, 5]).await
    })
    .await
}

pub(super) async fn what_cannot_be_stored_is_refused_for_ever_and_what_comes_beside_it_is_stored(
    examined: &Examined<'_>,
) -> Verdict {
    let sample = examined.five_events().await?;
    let payload = examined.subject.unstorable().ok_or_else(|| Violation::new("the subject has nothing that is unstorable"))?;
    let call =
        sample.request([event(6, "b-6"), Event { payload, ..event(7, "") }, event(8, "b-8")].map(|event| vec![event]).into());
    match sample.write(&call).await {
        Ok(reply) => {
            use WriteOutcome::{Refused, Stored};
            let is_apart = matches!(reply.outcomes[..], [Stored { .. }, Refused(_), Stored { .. }]);
            holds(is_apart, || format!("not the unstorable one alone was refused: {reply:?}"))?;
        }
        // The whole call: then nothing of it is there, and each of its writes is answered by itself.
        Err(error) => {
            holds(error.is_definite(), || format!("the refusal is not definite: {error}"))?;
            sample.replays_events(6, NO_BOUND, NO_BOUND, &[], 5).await?;
            let [before, unstorable, after] = [0, 1, 2].map(|index| sample.request(vec![call.atomic_writes[index].clone()]));
            stored(sample.write(&before).await?)?;
            match sample.write(&unstorable).await {
                Err(error) => holds(error.is_definite(), || format!("the refusal is not definite: {error}"))?,
                Ok(reply) => holds(stored(reply).is_err(), || "what cannot be stored was stored".to_owned())?,
            }
            stored(sample.write(&after).await?)?;
        }
    }
    sample.replays_events(6, NO_BOUND, NO_BOUND, &[event(6, "b-6"), event(8, "b-8")], 8).await
}

pub(super) async fn an_atomic_write_that_is_refused_takes_none_of_the_same_call_with_it(examined: &Examined<'_>) -> Verdict {
    use WriteOutcome::{Refused, Stored};

    let sample = examined.five_events().await?;
    // The third again, then two whose numbers others have, then new ones around a gap.
    let call = [first_event(3), event(5, "another"), event(6, "b-6"), event(8, "b-8")].map(|event| vec![event]);
    let reply = sample.write(&sample.request(call.into())).await?;
    let is_apart = matches!(reply.outcomes[..], [Stored { .. }, Refused(_), Stored { .. }, Stored { .. }]);
    holds(is_apart, || format!("a taken number was given, or took others with it: {reply:?}"))?;
    same("the highest number", &reply.highest, &SequenceNumber(8))?;
    let expected = [first_event(3), first_event(4), first_event(5), event(6, "b-6"), event(8, "b-8")];
    sample.replays_events(3, NO_BOUND, NO_BOUND, &expected, 8).await
}

pub(super) async fn serializer_manifest_and_bytes_come_back_as_they_were_written(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let payload = |serializer_id, manifest: &str, bytes: &'static [u8]| Payload {
        serializer_id,
        manifest: manifest.to_owned(),
        bytes: Bytes::from_static(bytes),
    };
    let events = [
        Event { payload: payload(666, "A", b"a test payload"), ..event(6, "") },
        Event { payload: payload(-1, "", b""), ..event(7, "") },
        Event { payload: payload(i32::MAX, "Schlüssel|ключ", &[0, 255, 10, 13, 0]), ..event(8, "") },
        Event { payload: payload(9, &"m".repeat(4096), b"x"), ..event(9, "") },
    ];
    sample.store_each(events.clone()).await?;
    sample.replays_events(6, NO_BOUND, NO_BOUND, &events, 9).await
}

pub(super) async fn the_manifest_of_an_event_adapter_is_kept_beside_that_of_the_serializer(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let payload = Payload { serializer_id: 9, manifest: "serializer's".to_owned(), bytes: Bytes::from_static(b"item1") };
    let event = Event { payload, adapter_manifest: "First-Manifest".to_owned(), ..event(6, "") };
    sample.store_each([event.clone()]).await?;
    sample.replays_events(6, 6, 1, &[event], 6).await
}

pub(super) async fn tags_are_kept_apart_from_the_payload(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let tags = vec!["apple".to_owned(), "green".to_owned()];
    let event = Event { tags, ..event(6, "a green apple") };
    sample.store_each([event.clone()]).await?;
    sample.replays_events(6, 6, 1, &[event], 6).await
}

pub(super) async fn metadata_of_an_event_comes_back_as_it_was_written(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let metadata = Payload { serializer_id: 17, manifest: "meta".to_owned(), bytes: Bytes::from_static(b"meta-data") };
    let events = [
        Event { metadata: Some(metadata), ..event(6, "b-6") },
        Event { metadata: Some(Payload::default()), ..event(7, "b-7") },
        Event { metadata: None, ..event(8, "b-8") },
    ];
    sample.store_each(events.clone()).await?;
    sample.replays_events(6, 6, 1, &events[..1], 8).await?;
    sample.replays_events(6, NO_BOUND, NO_BOUND, &events, 8).await
}

pub(super) async fn the_events_of_an_atomic_write_are_stored_together(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let events: Vec<_> = (6..=55).map(|number| event(number, format!("b-{number}"))).collect();
    let highest = sample.store_all(vec![events.clone()]).await?;
    same("the highest number", &highest, &SequenceNumber(55))?;
    let replayed = sample.replay(6, NO_BOUND, NO_BOUND).await?;
    sample.are("an atomic write of fifty", &replayed, &events)
}

pub(super) async fn a_write_is_seen_by_whoever_reads_after_its_answer(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let elsewhere = sample.by(examined.subject.second_store(), "writer-1");
    for number in 6..=25 {
        sample.store_each([first_event(number)]).await?;
        same("the highest number elsewhere", &elsewhere.highest().await?, &number)?;
        let replayed = elsewhere.replay(number, NO_BOUND, NO_BOUND).await?;
        elsewhere.are("the replay elsewhere", &replayed, &[first_event(number)])?;
    }
    Ok(())
}

pub(super) async fn a_replay_that_is_followed_shows_what_is_there_and_then_what_comes(examined: &Examined<'_>) -> Verdict {
    use futures::StreamExt;

    let sample = examined.five_events().await?;
    let mut events = examined.store().follow(&sample.persistence_id, SequenceNumber(2));
    let mut next = async || match events.next().await {
        Some(stored) => Ok(stored?.event),
        None => Err(Violation::new("a stream of events to come has ended")),
    };
    for number in 2..=5 {
        same("an event that is there", &next().await?, &first_event(number))?;
    }
    for number in 6..=10 {
        sample.store_each([first_event(number)]).await?;
        same("an event that came", &next().await?, &first_event(number))?;
    }
    Ok(())
}

pub(super) async fn names_and_payloads_of_every_kind_are_taken(examined: &Examined<'_>) -> Verdict {
    let prefix = examined.subject.prefix();
    let names =
        ["with blanks ", "a|b|c", "100%25", "-", "Zürich|ñ", "привет", "emoji-😀", "日本", &"long-".repeat(60), "a/b\\c'\"\n"];
    let samples: Vec<_> = names.iter().map(|name| examined.journal_named(format!("{prefix}{name}"))).collect();
    for (index, sample) in samples.iter().enumerate() {
        sample.store_each([event(1, format!("in {index}")), event(2, "")]).await?;
    }
    examined.between().await;
    for (index, sample) in samples.iter().enumerate() {
        sample.replays_events(1, NO_BOUND, NO_BOUND, &[event(1, format!("in {index}")), event(2, "")], 2).await?;
    }
    let large = examined.journal("large");
    let payload = text_payload(vec![0xA5; examined.effort().payload_bytes_max]);
    let events = [Event { payload, ..event(1, "") }, event(2, "small")];
    large.store_each(events.clone()).await?;
    large.replays_events(1, NO_BOUND, NO_BOUND, &events, 2).await
}

pub(super) async fn a_recovery_tells_the_highest_number_whatever_its_bounds_are(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    for (to, max) in [(0, 0), (1, 1), (1000, 0), (NO_BOUND, NO_BOUND)] {
        let highest = settled(|| examined.store().highest(&sample.persistence_id)).await?;
        same("the highest number", &highest, &SequenceNumber(5))?;
        let recovered = sample.recover(None, None, to, max).await?;
        same("the highest number of a recovery", &recovered.highest, &SequenceNumber(5))?;
    }
    Ok(())
}
