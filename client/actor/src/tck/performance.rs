//! How fast a journal is: every case of the performance specifications of journals on the JVM and on .NET, for the store alone.
//!
//! Each round must end in the time that the [`Effort`](super::Effort) gives it, with every event in its place. By default that is 10 s
//! for 10,000 events: where each waits for the one before it, a mean of 1 ms. What was measured stands in the report, beside its bar.

use std::time::Duration;

use cairn_client::{Deletion, SequenceNumber};
use futures::StreamExt;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::report::Measured;
use super::sample::{Examined, NO_BOUND, Sample, event};
use super::violation::{Verdict, Violation, holds, same};

/// Events of one atomic write, where several are persisted at once.
const ATOMIC_WRITE_EVENTS: u64 = 50;
/// Events of one atomic write, where a long prefix is made.
const PREFIX_WRITE_EVENTS: u64 = 1_000;
/// Atomic writes of one request, where many are under way.
const REQUEST_ATOMIC_WRITES: u64 = 200;
/// How much longer a replay may take behind a deleted prefix than without one.
const PREFIX_FACTOR_MAX: u32 = 10;
/// What a short replay may take anyway.
const REPLAY_TIME_LEAST: Duration = Duration::from_millis(50);

/// Stores the numbers of a range, so many atomic writes a request, each of so many events.
async fn store_range(sample: &Sample<'_>, first: u64, last: u64, events: u64, atomic_writes: u64) -> Verdict {
    let mut next = first;
    while next <= last {
        let mut request = Vec::new();
        while next <= last && (request.len() as u64) < atomic_writes {
            let end = last.min(next + events - 1);
            request.push((next..=end).map(|number| event(number, format!("event {number}"))).collect());
            next = end + 1;
        }
        let highest = sample.store_all(request).await?;
        same("the highest number", &highest.0, &(next - 1))?;
    }
    Ok(())
}

/// Replays a journal from a number on, in order and without a gap.
async fn replay_range(sample: &Sample<'_>, first: u64, last: u64) -> Verdict {
    let mut events = sample.store.replay(&sample.persistence_id, first..=NO_BOUND, NO_BOUND);
    for number in first..=last {
        let stored = events.next().await.ok_or_else(|| Violation::new(format!("the replay ends before {number}")))??;
        same("the next event", &stored.event.sequence_number.0, &number)?;
    }
    holds(events.next().await.is_none(), || "the replay goes on".to_owned())
}

/// Measures rounds of some work.
async fn measured(examined: &Examined<'_>, what: &str, events: u64, work: impl AsyncFn(u32) -> Verdict) -> Verdict {
    let effort = examined.effort();
    let mut total = Duration::ZERO;
    for round in 0..effort.rounds {
        let begun = Instant::now();
        work(round).await?;
        let took = begun.elapsed();
        total += took;
        holds(took <= effort.round_time_max, || {
            format!("{what}: round {round} took {took:?}, more than {:?}", effort.round_time_max)
        })?;
    }
    let (rounds, mean) = (effort.rounds, total / effort.rounds.max(1));
    examined.measured(Measured { what: what.to_owned(), events, rounds, mean, bar: effort.round_time_max });
    Ok(())
}

/// Writes by so many journals together, so many events in all a round.
async fn persisted(examined: &Examined<'_>, journals: u64, events: u64, atomic_writes: u64) -> Verdict {
    let each = (examined.effort().events / journals).max(1);
    let samples: Vec<_> = (0..journals).map(|index| examined.journal(&index.to_string())).collect();
    examined.between().await;
    measured(examined, &format!("{journals} journals, {events} events, {atomic_writes} writes"), each * journals, async |round| {
        let first = u64::from(round) * each + 1;
        let writes = samples.iter().map(|sample| store_range(sample, first, first + each - 1, events, atomic_writes));
        try_join_all(writes).await.map(drop)
    })
    .await
}

pub(super) async fn events_persisted_one_after_the_other_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 1, 1, 1).await
}

pub(super) async fn events_persisted_fifty_at_once_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 1, ATOMIC_WRITE_EVENTS, 1).await
}

pub(super) async fn events_persisted_without_waiting_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 1, 1, REQUEST_ATOMIC_WRITES).await
}

pub(super) async fn events_persisted_fifty_at_once_without_waiting_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 1, ATOMIC_WRITE_EVENTS, REQUEST_ATOMIC_WRITES / ATOMIC_WRITE_EVENTS).await
}

pub(super) async fn events_persisted_by_10_journals_together_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 10, 1, 1).await
}

pub(super) async fn events_persisted_by_25_journals_together_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 25, 1, 1).await
}

pub(super) async fn events_persisted_by_50_journals_together_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 50, 1, 1).await
}

pub(super) async fn events_persisted_by_100_journals_together_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 100, 1, 1).await
}

pub(super) async fn events_persisted_by_200_journals_together_come_in_time(examined: &Examined<'_>) -> Verdict {
    persisted(examined, 200, 1, 1).await
}

/// Recovers so many journals together.
async fn recovered(examined: &Examined<'_>, journals: u64) -> Verdict {
    let events = examined.effort().events;
    let samples: Vec<_> = (0..journals).map(|index| examined.journal(&index.to_string())).collect();
    try_join_all(samples.iter().map(|sample| store_range(sample, 1, events, 1, REQUEST_ATOMIC_WRITES))).await?;
    examined.between().await;
    measured(examined, &format!("{journals} recoveries"), events * journals, async |_| {
        try_join_all(samples.iter().map(|sample| replay_range(sample, 1, events))).await.map(drop)
    })
    .await
}

pub(super) async fn a_journal_is_recovered_in_time(examined: &Examined<'_>) -> Verdict {
    recovered(examined, 1).await
}

pub(super) async fn two_journals_are_recovered_together_in_time(examined: &Examined<'_>) -> Verdict {
    recovered(examined, 2).await
}

pub(super) async fn four_journals_are_recovered_together_in_time(examined: &Examined<'_>) -> Verdict {
    recovered(examined, 4).await
}

pub(super) async fn a_deleted_prefix_does_not_slow_a_replay_down(examined: &Examined<'_>) -> Verdict {
    let events = examined.effort().prefix_events;
    let (plain, prefixed) = (examined.journal("plain"), examined.journal("prefixed"));
    store_range(&plain, 1, 10, 1, REQUEST_ATOMIC_WRITES).await?;
    store_range(&prefixed, 1, events, PREFIX_WRITE_EVENTS, 2).await?;
    prefixed.delete_to(events, Deletion::Permanent).await?;
    store_range(&prefixed, events + 1, events + 10, 1, REQUEST_ATOMIC_WRITES).await?;
    examined.between().await;
    let begun = Instant::now();
    replay_range(&plain, 1, 10).await?;
    let without_prefix = begun.elapsed();
    let mut events_left = prefixed.store.replay(&prefixed.persistence_id, 1..=NO_BOUND, NO_BOUND);
    let begun = Instant::now();
    let first = events_left.next().await.ok_or_else(|| Violation::new("nothing is left"))??;
    let behind_prefix = begun.elapsed();
    same("the first event that is left", &first.event.sequence_number, &SequenceNumber(events + 1))?;
    let allowed = without_prefix.max(REPLAY_TIME_LEAST) * PREFIX_FACTOR_MAX;
    let what = format!("the first event behind {events} deleted ones");
    examined.measured(Measured { what, events: 1, rounds: 1, mean: behind_prefix, bar: allowed });
    holds(behind_prefix <= allowed, || format!("{behind_prefix:?} behind {events} deleted events, {without_prefix:?} without"))
}
