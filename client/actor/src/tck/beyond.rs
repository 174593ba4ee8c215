//! What the specifications of others leave open, and actors rely on: deletions and later events, gaps, duplicates, writers that
//! were superseded, leaders that die.

use std::time::Duration;

use cairn_client::{Criteria, Deletion, Error, Event, NewSnapshot, SequenceNumber, Write, WriteOutcome};
use cairn_machine::Refusal;
use futures::StreamExt;
use futures::future::{Either, join, select};

use super::sample::{DELETIONS, Examined, NO_BOUND, Sample, event, first_event, settled, stored, text_payload};
use super::violation::{Verdict, Violation, holds, same};
use crate::store::Claim;

/// How many readers and rounds look at what a writer does meanwhile.
const LOOKS_MAX: u32 = 200;
/// How many moments there are at which a write is given up.
const GIVEN_UP_ROUNDS: u32 = 20;
/// Events of a journal that is longer than what may be sent ahead, and how long each is, in bytes.
const LONG_EVENTS: u64 = 2_048;
const LONG_EVENT_BYTES: usize = 8 * 1024;
/// How long nothing is asked for, so that it is seen what comes nevertheless.
const REST: Duration = Duration::from_millis(500);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

pub(super) async fn the_deletion_of_all_events_takes_none_that_is_written_later(examined: &Examined<'_>) -> Verdict {
    let samples = DELETIONS.map(|deletion| examined.journal(&format!("{deletion:?}")));
    for (sample, deletion) in samples.iter().zip(DELETIONS) {
        sample.store_five().await?;
        sample.delete_to(NO_BOUND, deletion).await?;
    }
    examined.between().await;
    for sample in samples {
        sample.store_each([event(6, "b-6")]).await?;
        sample.replays_events(1, NO_BOUND, NO_BOUND, &[event(6, "b-6")], 6).await?;
    }
    Ok(())
}

pub(super) async fn a_deletion_beyond_the_highest_number_does_not_raise_it(examined: &Examined<'_>) -> Verdict {
    let samples = DELETIONS.map(|deletion| examined.journal(&format!("{deletion:?}")));
    for sample in &samples {
        sample.store_five().await?;
    }
    examined.between().await;
    for (sample, deletion) in samples.iter().zip(DELETIONS) {
        sample.delete_to(7, deletion).await?;
        sample.replays_events(1, NO_BOUND, NO_BOUND, &[], 5).await?;
        sample.store_each([event(6, "b-6")]).await?;
        sample.replays_events(1, NO_BOUND, NO_BOUND, &[event(6, "b-6")], 6).await?;
    }
    Ok(())
}

pub(super) async fn what_was_stored_and_what_was_deleted_outlive_a_restart(examined: &Examined<'_>) -> Verdict {
    let (kept, emptied) = (examined.five_events().await?, examined.journal("emptied"));
    emptied.store_five().await?;
    emptied.delete_to(NO_BOUND, Deletion::Permanent).await?;
    kept.save(NewSnapshot { sequence_number: SequenceNumber(3), payload: text_payload("s-3"), ..NewSnapshot::default() }).await?;
    let snapshot = kept.load(Criteria::LATEST).await?;
    examined.subject.restart().await;
    kept.replays(1, NO_BOUND, NO_BOUND, &[1, 2, 3, 4, 5]).await?;
    emptied.replays(1, NO_BOUND, NO_BOUND, &[]).await?;
    same("the snapshot", &kept.load(Criteria::LATEST).await?, &snapshot)?;
    emptied.store_each([event(6, "b-6")]).await?;
    emptied.replays_events(1, NO_BOUND, NO_BOUND, &[event(6, "b-6")], 6).await
}

pub(super) async fn a_gap_that_a_rejected_event_left_is_legal(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    sample.store_all(vec![vec![event(6, "b-6")], vec![event(8, "b-8")]]).await?;
    sample.replays_events(6, NO_BOUND, NO_BOUND, &[event(6, "b-6"), event(8, "b-8")], 8).await?;
    sample.replays_events(7, 7, NO_BOUND, &[], 8).await?;
    sample.store_each([event(9, "b-9")]).await?;
    sample.replays_events(7, NO_BOUND, 2, &[event(8, "b-8"), event(9, "b-9")], 9).await
}

pub(super) async fn the_number_of_a_last_event_that_was_rejected_is_used_again_after_a_restart_of_the_actor(
    examined: &Examined<'_>,
) -> Verdict {
    let sample = examined.five_events().await?;
    if let Some(payload) = examined.subject.unstorable() {
        let refused = sample.write(&sample.request(vec![vec![Event { payload, ..event(6, "") }]])).await;
        holds(refused.is_err() || refused.is_ok_and(|reply| stored(reply).is_err()), || "it was stored".to_owned())?;
    }
    let next = sample.by(sample.store, "writer-2");
    same("the highest number that the next incarnation is told", &next.highest().await?, &5)?;
    next.store_each([event(6, "b-6")]).await?;
    let replayed = next.replay(6, NO_BOUND, NO_BOUND).await?;
    next.are("the events from 6", &replayed, &[event(6, "b-6")])
}

pub(super) async fn a_taken_number_is_refused_to_another_writer_and_what_is_stored_stays(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let other = sample.by(sample.store, "writer-2");
    for events in [vec![event(5, "other")], vec![event(5, "other"), event(6, "other")], vec![first_event(3)]] {
        let reply = other.write(&other.request(vec![events])).await?;
        holds(matches!(reply.outcomes[..], [WriteOutcome::Refused(_)]), || format!("a taken number was given: {reply:?}"))?;
        sample.replays(1, NO_BOUND, NO_BOUND, &[1, 2, 3, 4, 5]).await?;
    }
    Ok(())
}

pub(super) async fn a_taken_number_is_refused_to_its_own_writer_if_the_event_is_another(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let reply = sample.write(&sample.request(vec![vec![event(3, "another")]])).await?;
    holds(matches!(reply.outcomes[..], [WriteOutcome::Refused(_)]), || format!("a taken number was given: {reply:?}"))?;
    sample.replays(1, NO_BOUND, NO_BOUND, &[1, 2, 3, 4, 5]).await
}

pub(super) async fn the_same_write_again_is_stored_once_and_gets_the_first_answer(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let request = sample.request(vec![vec![event(6, "b-6"), event(7, "b-7")]]);
    let first = sample.write(&request).await?;
    for _ in 0..3 {
        let again = sample.write(&request).await?;
        same("the outcome of the same write again", &again.outcomes, &first.outcomes)?;
    }
    sample.replays_events(6, NO_BOUND, NO_BOUND, &[event(6, "b-6"), event(7, "b-7")], 7).await
}

/// The outcome of a call, unless its caller gives it up before: later in each round.
async fn unless_given_up<T>(round: u32, call: impl Future<Output = T> + Unpin) -> Option<T> {
    let moment = async {
        for _ in 0..round * 8 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(u64::from(round / 8))).await;
    };
    match select(call, Box::pin(moment)).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(((), given_up)) => {
            drop(given_up);
            None
        }
    }
}

/// A write under a claim.
fn claimed(sample: &Sample<'_>, claim: &Claim, events: Vec<Event>) -> Write {
    Write { epoch: Some(claim.epoch), ..sample.request(vec![events]) }
}

fn is_fenced(outcome: &Result<cairn_client::WriteReply, Error>) -> bool {
    match outcome {
        Err(Error::Fenced { .. }) => true,
        Ok(reply) => matches!(reply.outcomes[..], [WriteOutcome::Refused(Refusal::Fenced { .. })]),
        Err(_) => false,
    }
}

pub(super) async fn a_superseded_writer_is_fenced_whatever_its_number_is(examined: &Examined<'_>) -> Verdict {
    let first = examined.five_events().await?;
    let second = first.by(examined.subject.second_store(), "writer-2");
    let first_claim = first.claim().await?;
    stored(first.write(&claimed(&first, &first_claim, vec![event(6, "b-6")])).await?)?;
    let second_claim = second.claim().await?;
    for number in [7, 14, 1000] {
        let outcome = first.write(&claimed(&first, &first_claim, vec![event(number, "of a zombie")])).await;
        holds(is_fenced(&outcome), || format!("a superseded writer at {number}: {outcome:?}"))?;
    }
    stored(second.write(&claimed(&second, &second_claim, vec![event(7, "b-7")])).await?)?;
    same("the highest number", &second.highest().await?, &7)
}

pub(super) async fn a_claim_in_an_empty_journal_fences_too(examined: &Examined<'_>) -> Verdict {
    let first = examined.journal("empty");
    let second = first.by(examined.subject.second_store(), "writer-2");
    let first_claim = first.claim().await?;
    let second_claim = second.claim().await?;
    examined.between().await;
    let outcome = first.write(&claimed(&first, &first_claim, vec![event(1, "of a zombie")])).await;
    holds(is_fenced(&outcome), || format!("a superseded writer: {outcome:?}"))?;
    stored(second.write(&claimed(&second, &second_claim, vec![event(1, "a-1")])).await?)?;
    second.replays_events(1, NO_BOUND, NO_BOUND, &[event(1, "a-1")], 1).await
}

pub(super) async fn deletions_and_saves_of_a_superseded_writer_are_fenced(examined: &Examined<'_>) -> Verdict {
    let first = examined.five_events().await?;
    let first_claim = first.claim().await?;
    first.by(examined.subject.second_store(), "writer-2").claim().await?;
    let (store, persistence_id) = (first.store, &first.persistence_id);
    let fenced = |what: &str, outcome: Result<(), Error>| {
        holds(matches!(outcome, Err(Error::Fenced { .. })), || format!("{what} of a superseded writer: {outcome:?}"))
    };
    let delete = || store.delete_to(persistence_id, SequenceNumber(3), Deletion::Permanent, Some(&first_claim));
    fenced("a deletion", settled(delete).await)?;
    let snapshot = NewSnapshot { sequence_number: SequenceNumber(5), payload: text_payload("s-5"), ..NewSnapshot::default() };
    let save = || store.save(persistence_id, snapshot.clone(), Some(&first_claim));
    fenced("a save", settled(save).await.map(drop))?;
    first.replays(1, NO_BOUND, NO_BOUND, &[1, 2, 3, 4, 5]).await?;
    same("the snapshot", &first.load(Criteria::LATEST).await?, &None)
}

pub(super) async fn reads_fence_nobody(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let claim = sample.claim().await?;
    let reader = sample.by(examined.subject.second_store(), "reader");
    reader.recover(None, Some(Criteria::LATEST), NO_BOUND, NO_BOUND).await?;
    reader.replay(1, NO_BOUND, NO_BOUND).await?;
    reader.highest().await?;
    reader.load(Criteria::LATEST).await?;
    stored(sample.write(&claimed(&sample, &claim, vec![event(6, "b-6")])).await?)?;
    Ok(())
}

pub(super) async fn a_write_that_nobody_waits_for_any_more_is_there_after_the_next_claim_or_never(
    examined: &Examined<'_>,
) -> Verdict {
    let first = examined.five_events().await?;
    let mut highest = 5;
    for round in 0..GIVEN_UP_ROUNDS {
        let writer = first.by(first.store, &format!("writer-{round}-a"));
        let claim = writer.claim().await?;
        let write = claimed(&writer, &claim, vec![event(highest + 1, format!("given up in round {round}"))]);
        let given_up = unless_given_up(round, writer.store.write(&write)).await;
        let next = first.by(examined.subject.second_store(), &format!("writer-{round}-b"));
        let next_claim = next.claim().await?;
        let told = next.highest().await?;
        holds(told == highest || told == highest + 1, || format!("round {round}: the highest number is {told}"))?;
        if given_up.is_some_and(|answered| answered.is_ok_and(|reply| stored(reply).is_ok())) {
            same("the highest number after an acknowledged write", &told, &(highest + 1))?;
        }
        highest = told + 1;
        stored(next.write(&claimed(&next, &next_claim, vec![event(highest, "the next one's")])).await?)?;
        let numbers: Vec<_> = next.replay(6, NO_BOUND, NO_BOUND).await?.iter().map(|s| s.event.sequence_number.0).collect();
        same(&format!("round {round}: the events"), &numbers, &(6..=highest).collect())?;
    }
    Ok(())
}

pub(super) async fn no_reader_sees_a_write_without_the_one_before_it(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let write = async {
        for number in 0..40 {
            let first = 6 + number * 2;
            sample.store_all(vec![vec![event(first, "x")], vec![event(first + 1, "y")]]).await?;
        }
        Ok::<_, Violation>(())
    };
    let reader = sample.by(examined.subject.second_store(), "reader");
    let read = async {
        let mut seen = 5;
        for _ in 0..LOOKS_MAX {
            let numbers: Vec<_> = reader.replay(1, NO_BOUND, NO_BOUND).await?.iter().map(|s| s.event.sequence_number.0).collect();
            let count = numbers.len() as u64;
            same("what a reader sees", &numbers, &(1..=count).collect())?;
            holds(count >= seen, || format!("a reader saw {seen} events and then {count}"))?;
            seen = count;
            if seen == 85 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok::<_, Violation>(())
    };
    let (written, read) = join(write, read).await;
    written.and(read)?;
    same("the highest number", &sample.highest().await?, &85)
}

pub(super) async fn an_atomic_write_is_whole_whatever_is_broken_meanwhile(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let mut highest = 5;
    for round in 0..examined.effort().disturbances {
        let breaking = examined.subject.disturb();
        let writing = async {
            let mut acknowledged = highest;
            // Writes go on through the whole disturbance, so that each of its moments meets one.
            for write in 0..LOOKS_MAX {
                let first = highest + u64::from(write) * 20 + 1;
                let events: Vec<_> = (first..first + 20).map(|number| event(number, format!("in {round}"))).collect();
                acknowledged = sample.store_all(vec![events]).await?.0;
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            Ok::<_, Violation>(acknowledged)
        };
        let ((), acknowledged) = join(breaking, writing).await;
        highest = acknowledged?;
        let numbers: Vec<_> = sample.replay(1, NO_BOUND, NO_BOUND).await?.iter().map(|s| s.event.sequence_number.0).collect();
        same(&format!("disturbance {round}: the events"), &numbers, &(1..=highest).collect())?;
    }
    Ok(())
}

pub(super) async fn an_atomic_write_that_nobody_waits_for_any_more_is_whole_or_not_there(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let mut highest = 5;
    for round in 0..GIVEN_UP_ROUNDS {
        let writer = sample.by(sample.store, &format!("atomic-{round}"));
        let claim = writer.claim().await?;
        let events = (highest + 1..=highest + 30).map(|number| event(number, "whole")).collect();
        drop(unless_given_up(round, writer.store.write(&claimed(&writer, &claim, events))).await);
        let next = sample.by(examined.subject.second_store(), &format!("next-{round}"));
        next.claim().await?;
        let numbers: Vec<_> =
            next.replay(highest + 1, NO_BOUND, NO_BOUND).await?.iter().map(|s| s.event.sequence_number.0).collect();
        let whole: Vec<_> = (highest + 1..=highest + 30).collect();
        holds(numbers.is_empty() || numbers == whole, || format!("round {round}: a part of it is there: {numbers:?}"))?;
        highest += numbers.len() as u64;
        same("the highest number", &next.highest().await?, &highest)?;
    }
    Ok(())
}

pub(super) async fn events_that_come_are_shown_once_and_in_order_whatever_is_broken_meanwhile(
    examined: &Examined<'_>,
) -> Verdict {
    let sample = examined.five_events().await?;
    let total = 5 + 100 * u64::from(examined.effort().disturbances);
    let write = async {
        for number in 6..=total {
            sample.store_each([event(number, "seen")]).await?;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok::<_, Violation>(())
    };
    let disturb = async {
        for _ in 0..examined.effort().disturbances {
            examined.subject.disturb().await;
        }
    };
    let follow = async {
        let mut events = examined.subject.second_store().follow(&sample.persistence_id, SequenceNumber(1));
        for number in 1..=total {
            let stored = events.next().await.ok_or_else(|| Violation::new("a stream of events to come has ended"))??;
            same("the next event", &stored.event.sequence_number.0, &number)?;
        }
        Ok::<_, Violation>(())
    };
    let (written, (followed, ())) = join(write, join(follow, disturb)).await;
    written.and(followed)
}

pub(super) async fn a_replay_that_is_dropped_early_leaves_the_others_whole(examined: &Examined<'_>) -> Verdict {
    let sample = examined.journal("long");
    let events: Vec<_> = (1..=2000).map(|number| event(number, vec![7; 1024])).collect();
    for chunk in events.chunks(500) {
        sample.store_all(vec![chunk.to_vec()]).await?;
    }
    examined.between().await;
    for _ in 0..100 {
        let taken: Vec<_> = sample.store.replay(&sample.persistence_id, 1..=NO_BOUND, NO_BOUND).take(10).collect().await;
        let taken = taken.into_iter().collect::<Result<Vec<_>, _>>()?;
        sample.are("the first ten", &taken, &events[..10])?;
    }
    sample.replays_events(1, NO_BOUND, NO_BOUND, &events, 2000).await
}

pub(super) async fn a_replay_whose_reader_waits_is_not_sent_ahead_of_it_and_ends_when_it_is_dropped(
    examined: &Examined<'_>,
) -> Verdict {
    let sent = || examined.subject.sent_bytes().ok_or_else(|| Violation::new("what the subject sends is not counted"));
    let sample = examined.journal("long");
    let events: Vec<_> = (1..=LONG_EVENTS).map(|number| event(number, vec![7; LONG_EVENT_BYTES])).collect();
    for chunk in events.chunks(256) {
        sample.store_all(vec![chunk.to_vec()]).await?;
    }
    examined.between().await;
    let before = sent()?;
    let mut replay = sample.store.replay(&sample.persistence_id, 1..=NO_BOUND, NO_BOUND);
    for expected in &events[..10] {
        let stored = replay.next().await.ok_or_else(|| Violation::new("the replay ends early"))??;
        same("an event", &stored.event, expected)?;
    }
    tokio::time::sleep(REST).await;
    let ahead = sent()? - before;
    let ahead_max = examined.effort().read_ahead_bytes_max;
    holds(ahead <= ahead_max, || format!("{ahead} bytes were sent to a reader of ten events"))?;
    drop(replay);
    tokio::time::sleep(REST).await;
    let left = sent()?;
    holds(left - before <= ahead_max, || format!("{} bytes were sent, although the reader is gone", left - before))?;
    // And what is counted is what is sent.
    let replayed = sample.replay(1, NO_BOUND, NO_BOUND).await?;
    sample.are("the whole journal", &replayed, &events)?;
    let whole = sent()? - left;
    let least = LONG_EVENTS * LONG_EVENT_BYTES as u64;
    holds(whole >= least, || format!("only {whole} bytes of a journal of {least} were counted"))
}

pub(super) async fn the_count_of_a_replay_counts_events_and_not_numbers(examined: &Examined<'_>) -> Verdict {
    let sample = examined.journal("sparse");
    let events: Vec<_> = [10, 1_000, 100_000, 10_000_000, 1_000_000_000].map(|number| event(number, "sparse")).to_vec();
    sample.store_each(events.clone()).await?;
    examined.between().await;
    sample.replays_events(1, NO_BOUND, 3, &events[..3], 1_000_000_000).await?;
    sample.replays_events(11, NO_BOUND, 3, &events[1..4], 1_000_000_000).await
}

pub(super) async fn a_failed_save_leaves_the_snapshot_that_was_there(examined: &Examined<'_>) -> Verdict {
    let sample = examined.five_events().await?;
    let payload = examined.subject.unstorable().ok_or_else(|| Violation::new("the subject has nothing that is unstorable"))?;
    let good = NewSnapshot { sequence_number: SequenceNumber(5), payload: text_payload("good"), ..NewSnapshot::default() };
    sample.save(good).await?;
    let before = sample.load(Criteria::LATEST).await?;
    let bad = NewSnapshot { sequence_number: SequenceNumber(5), metadata: Some(payload), ..NewSnapshot::default() };
    let refused = settled(|| sample.store.save(&sample.persistence_id, bad.clone(), None)).await;
    holds(refused.is_err(), || "it was saved".to_owned())?;
    same("the snapshot", &sample.load(Criteria::LATEST).await?, &before)
}
