//! Replays, and reads of the highest sequence number.

use cairn_client::{Cairn, Error};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;
use crate::append::{claim, event, journal_name, payload};
use crate::measure::{Measured, Meter, finish, measure};

/// Journals filled or replayed at the same time.
const JOURNALS_IN_FLIGHT: usize = 16;
/// Events of one atomic write while journals are filled.
const FILL_BATCH: usize = 100;
/// Atomic writes in flight for one journal while it is filled.
const FILL_IN_FLIGHT: usize = 32;

/// Measures whole replays, again and again.
pub(crate) async fn measure_replay(
    run: &Run<'_>,
    prefix: &str,
    journals: usize,
    events_each: usize,
    payload_bytes: usize,
) -> Result<Measured, Error> {
    fill(run.cairn, prefix, journals, events_each, payload_bytes).await?;
    let meter = Meter::start(run.warm_up, run.duration);
    let load = async {
        let mut tasks = JoinSet::new();
        for reader in 0..journals.min(JOURNALS_IN_FLIGHT) {
            let mine = (reader..journals).step_by(JOURNALS_IN_FLIGHT).map(|ordinal| journal_name(prefix, ordinal)).collect();
            tasks.spawn(replay_all(run.cairn.clone(), mine, events_each, meter.clone()));
        }
        finish(tasks).await
    };
    measure(run, &meter, load).await
}

/// Measures linearizable reads of the highest number, each client of a journal of its own.
pub(crate) async fn measure_highest(run: &Run<'_>, prefix: &str, clients: usize) -> Result<Measured, Error> {
    fill(run.cairn, prefix, clients, 1, 1).await?;
    let meter = Meter::start(run.warm_up, run.duration);
    let load = async {
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            tasks.spawn(read_highest(run.cairn.clone(), journal_name(prefix, client), meter.clone()));
        }
        finish(tasks).await
    };
    measure(run, &meter, load).await
}

async fn replay_all(cairn: Cairn, journals: Vec<String>, events_each: usize, meter: Meter) -> Result<(), Error> {
    while !meter.is_over() {
        for name in &journals {
            let begun = Instant::now();
            let journal = cairn.journal(name.as_str())?;
            let mut events = journal.replay(..).start();
            let mut count = 0;
            while events.next().await?.is_some() {
                count += 1;
            }
            assert_eq!(count, events_each, "a replay gives every event of {name}");
            meter.done(begun, count as u64);
            if meter.is_over() {
                break;
            }
        }
    }
    Ok(())
}

async fn read_highest(cairn: Cairn, name: String, meter: Meter) -> Result<(), Error> {
    let journal = cairn.journal(name)?;
    while !meter.is_over() {
        let begun = Instant::now();
        journal.highest().await?;
        meter.done(begun, 1);
    }
    Ok(())
}

/// Writes so many events into each of so many new journals.
async fn fill(cairn: &Cairn, prefix: &str, journals: usize, events_each: usize, payload_bytes: usize) -> Result<(), Error> {
    let payload = payload(payload_bytes);
    let writers = claim(cairn, prefix, journals).await?;
    futures::stream::iter(writers.into_iter().map(Ok))
        .try_for_each_concurrent(JOURNALS_IN_FLIGHT, |mut writer| {
            let payload = payload.clone();
            async move {
                let mut in_flight = futures::stream::FuturesUnordered::new();
                let mut left = events_each;
                while left > 0 {
                    let batch = left.min(FILL_BATCH);
                    left -= batch;
                    in_flight.push(writer.submit_all((0..batch).map(|_| event(&payload))).await?);
                    if in_flight.len() >= FILL_IN_FLIGHT {
                        in_flight.next().await.transpose()?;
                    }
                }
                in_flight.try_collect::<Vec<_>>().await.map(drop)
            }
        })
        .await
}
