//! The work itself, the same on every system: closed loops of writers and readers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cairn_bench::{Meter, finish};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::contender::{System, Writer};
use crate::failover::Record;
use crate::plan::{Append, Point, Sizes};

/// Writers that are made, or journals that are filled, at the same time.
const JOURNALS_IN_FLIGHT: usize = 16;
/// Journals read at the same time by replays that take turns.
const READERS: usize = 16;
/// Events of one atomic write while journals are filled.
const FILL_BATCH: usize = 100;
/// Payload of an event that is read, in bytes.
const FILL_BYTES: usize = 256;
/// How long the outcome of an append may stay unknown before the run fails.
const OUTCOME_DEADLINE: Duration = Duration::from_secs(60);
/// Between two tries: long enough for a leader to be elected meanwhile, short beside the time that takes.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How long a try may go unanswered while nothing is broken: a busy system is slow, not dead.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same while a leader dies: what a client sets who wants to go on soon.
const PATIENCE_IN_FAILOVER: Duration = Duration::from_millis(500);

/// A writer that does not stop before it knows.
struct Persistent {
    writer: Box<dyn Writer>,
    highest: u64,
}

impl Persistent {
    async fn new(system: &Arc<dyn System>, journal: &str, patience: Duration) -> Result<Self> {
        let writer = system.writer(journal, patience).await.with_context(|| format!("begin journal {journal}"))?;
        Ok(Self { writer, highest: 0 })
    }

    /// Stores events, whatever happens meanwhile. Trying again is safe: every system refuses an event whose number is taken.
    async fn store(&mut self, payload: &Bytes, events: usize) -> Result<()> {
        let wanted = self.highest + events as u64;
        let Err(mut error) = self.writer.append(payload, events).await else {
            self.highest = wanted;
            return Ok(());
        };
        let end = Instant::now() + OUTCOME_DEADLINE;
        while Instant::now() < end {
            tokio::time::sleep(RETRY_PAUSE).await;
            // The same once more, which is answered as soon as there is a leader; if it is refused, it may be its own first try that
            // is in its way.
            if self.writer.append(payload, events).await.is_ok() {
                self.highest = wanted;
                return Ok(());
            }
            match self.writer.resume().await {
                Ok(found) if found == wanted => {
                    self.highest = wanted;
                    return Ok(());
                }
                Ok(found) => ensure!(found == self.highest, "{found} events are stored, neither {} nor {wanted}", self.highest),
                Err(failed) => error = failed,
            }
        }
        Err(error.context("the outcome of an append stayed unknown"))
    }
}

async fn writers(system: &Arc<dyn System>, prefix: &str, count: usize, patience: Duration) -> Result<Vec<Persistent>> {
    let made = futures::stream::iter(0..count);
    let made = made.map(|ordinal| async move { Persistent::new(system, &journal(prefix, ordinal), patience).await });
    made.buffer_unordered(JOURNALS_IN_FLIGHT).try_collect().await
}

fn journal(prefix: &str, ordinal: usize) -> String {
    format!("{prefix}-{ordinal}")
}

/// Writers that are ready: connected, and with a journal claimed where that is needed.
pub(crate) struct Appenders(Vec<Persistent>);

impl Appenders {
    pub async fn new(system: &Arc<dyn System>, prefix: &str, append: Append) -> Result<Self> {
        Ok(Self(writers(system, prefix, append.writers, PATIENCE).await?))
    }

    /// Appends until the meter is over.
    pub async fn append(self, append: Append, meter: &Meter) -> Result<()> {
        let payload = cairn_bench::payload(append.payload_bytes);
        let mut tasks = JoinSet::new();
        for mut writer in self.0 {
            let (payload, meter) = (payload.clone(), meter.clone());
            tasks.spawn(async move {
                while !meter.is_over() {
                    let begun = Instant::now();
                    writer.store(&payload, append.batch).await?;
                    meter.done(begun, append.batch as u64);
                }
                Ok(())
            });
        }
        finish(tasks).await
    }
}

/// Writes so many events as batches of as many journals as are written at once.
pub(crate) async fn append_events(system: &Arc<dyn System>, prefix: &str, events: usize) -> Result<u64> {
    let each = events.div_ceil(JOURNALS_IN_FLIGHT);
    fill(system, (0..JOURNALS_IN_FLIGHT).map(|ordinal| (journal(prefix, ordinal), each)).collect()).await?;
    Ok((each * JOURNALS_IN_FLIGHT) as u64)
}

/// The journals that are read.
pub(crate) struct Library {
    sizes: Sizes,
}

impl Library {
    /// Writes them.
    pub async fn fill(system: &Arc<dyn System>, sizes: Sizes) -> Result<Self> {
        let many = (0..sizes.journals).map(|ordinal| (journal("many", ordinal), sizes.journal_events));
        let journals = std::iter::once(("one".to_owned(), sizes.long_events)).chain(many).collect();
        fill(system, journals).await?;
        Ok(Self { sizes })
    }

    /// Reads the one long journal until the meter is over.
    pub async fn replay_one(&self, system: &Arc<dyn System>, meter: &Meter) -> Result<()> {
        while !meter.is_over() {
            replay(system, "one", self.sizes.long_events, meter).await?;
        }
        Ok(())
    }

    /// Reads the many, some at a time, until the meter is over.
    pub async fn replay_many(&self, system: &Arc<dyn System>, meter: &Meter) -> Result<()> {
        let mut tasks = JoinSet::new();
        for reader in 0..READERS.min(self.sizes.journals) {
            let (system, meter, sizes) = (system.clone(), meter.clone(), self.sizes);
            tasks.spawn(async move {
                for ordinal in (reader..sizes.journals).step_by(READERS).cycle() {
                    if meter.is_over() {
                        break;
                    }
                    replay(&system, &journal("many", ordinal), sizes.journal_events, &meter).await?;
                }
                Ok(())
            });
        }
        finish(tasks).await
    }

    /// Reads the many all at once when the measured time begins; how long until all are there, in seconds.
    pub async fn storm(&self, system: &Arc<dyn System>, meter: &Meter) -> Result<f64> {
        tokio::time::sleep_until(meter.begin()).await;
        let mut tasks = JoinSet::new();
        for ordinal in 0..self.sizes.journals {
            let (system, meter, events) = (system.clone(), meter.clone(), self.sizes.journal_events);
            tasks.spawn(async move { replay(&system, &journal("many", ordinal), events, &meter).await });
        }
        finish(tasks).await?;
        Ok((Instant::now() - meter.begin()).as_secs_f64())
    }
}

async fn replay(system: &Arc<dyn System>, journal: &str, events: usize, meter: &Meter) -> Result<()> {
    let begun = Instant::now();
    let found = system.replay(journal).await.with_context(|| format!("replay {journal}"))?;
    ensure!(found == events as u64, "a replay of {journal} gives {found} of {events} events");
    meter.done(begun, found);
    Ok(())
}

/// Journals of one event, whose highest number is asked for.
pub(crate) async fn fill_highest(system: &Arc<dyn System>, prefix: &str, clients: usize) -> Result<()> {
    fill(system, (0..clients).map(|client| (journal(prefix, client), 1)).collect()).await
}

/// Asks for highest numbers, each client of a journal of its own, until the meter is over.
pub(crate) async fn ask_highest(system: &Arc<dyn System>, prefix: &str, clients: usize, meter: &Meter) -> Result<()> {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (system, journal, meter) = (system.clone(), journal(prefix, client), meter.clone());
        tasks.spawn(async move {
            while !meter.is_over() {
                let begun = Instant::now();
                let highest = system.highest(&journal).await.with_context(|| format!("highest number of {journal}"))?;
                ensure!(highest == 1, "the highest number of {journal} is 1, not {highest}");
                meter.done(begun, 1);
            }
            Ok(())
        });
    }
    finish(tasks).await
}

async fn fill(system: &Arc<dyn System>, journals: Vec<(String, usize)>) -> Result<()> {
    let payload = cairn_bench::payload(FILL_BYTES);
    let journals = futures::stream::iter(journals.into_iter().map(Ok));
    let filled = journals.try_for_each_concurrent(JOURNALS_IN_FLIGHT, |(journal, events)| {
        let payload = payload.clone();
        async move {
            let mut writer = Persistent::new(system, &journal, PATIENCE).await?;
            let mut left = events;
            while left > 0 {
                let batch = left.min(FILL_BATCH);
                left -= batch;
                writer.store(&payload, batch).await?;
            }
            Ok(())
        }
    });
    filled.await
}

/// Kills the leader after some time under load, and goes on until every writer has had an acknowledgement, at least for `after`.
pub(crate) async fn lose_leader(system: &Arc<dyn System>, prefix: &str, before: Duration, after: Duration) -> Result<Record> {
    let append = Point::background();
    let payload = cairn_bench::payload(append.payload_bytes);
    let writers = writers(system, prefix, append.writers, PATIENCE_IN_FAILOVER).await?;
    let begin = Instant::now();
    let record = Record::begin_at(begin);
    let end = begin + before + after;
    let mut tasks = JoinSet::new();
    for mut writer in writers {
        let (payload, record) = (payload.clone(), record.clone());
        tasks.spawn(async move {
            let mut last = Instant::now();
            while last < end || !record.is_after_kill(last) {
                writer.store(&payload, append.batch).await?;
                let now = Instant::now();
                record.acknowledged(last, now);
                last = now;
            }
            Ok(())
        });
    }
    let kill = async {
        tokio::time::sleep_until(begin + before).await;
        record.killed(Instant::now());
        system.kill_leader().await.context("kill the leader")
    };
    tokio::try_join!(finish(tasks), kill)?;
    Ok(record)
}
