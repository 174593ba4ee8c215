//! Rounds, turns and points. Knows no system.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cairn_bench::Meter;
use tokio::time::Instant;

use crate::contender::{Contender, System};
use crate::failover::Record;
use crate::machine::{Machine, ProcessorTime, disk_bytes, memory_bytes};
use crate::plan::{Append, Plan, Point};
use crate::report::{ContenderReport, ContenderSamples, Flow, PointReport, Report, Sample, Usage};
use crate::statistics;
use crate::work::{self, Appenders, Library};

/// How long data may take to settle.
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);
/// How often its size is looked at.
const SIZE_INTERVAL: Duration = Duration::from_millis(200);
/// How long a leader is under load before it is killed, beside the warm-up.
const BEFORE_KILL: Duration = Duration::from_secs(1);

/// How often a node is killed and started again.
const RESTARTS: usize = 5;

/// Is told how a run goes on.
pub trait Observer {
    /// A system takes no part.
    fn skipped(&self, title: &str, reason: &str);
    /// A system's turn begins.
    fn turn(&self, title: &str, round: usize, rounds: usize);
    /// A point was measured.
    fn measured(&self, point: Point, sample: &Sample);
    /// A point failed.
    fn failed(&self, point: Option<Point>, error: &anyhow::Error);
}

/// Measures every point on every system, in turn, so many rounds. What fails is told in the report; the run goes on.
///
/// # Errors
/// If a folder for the data cannot be made.
pub async fn run(contenders: &[Box<dyn Contender>], plan: &Plan, dir: &Path, observer: &dyn Observer) -> Result<Report> {
    let mut points = plan.points.clone();
    points.sort_unstable();
    points.dedup();
    let (mut takers, mut reports) = (Vec::new(), Vec::new());
    for contender in contenders {
        let version = contender.version();
        if let Err(reason) = &version {
            observer.skipped(contender.title(), &reason.0);
        } else {
            takers.push(contender.as_ref());
        }
        reports.push(ContenderReport {
            name: contender.name().to_owned(),
            title: contender.title().to_owned(),
            is_system: contender.is_system(),
            skipped: version.as_ref().err().map(ToString::to_string),
            version: version.ok(),
        });
    }
    let samples = |point: &Point| {
        let of = |taker: &&dyn Contender| ContenderSamples {
            name: taker.name().to_owned(),
            lacks: taker.lacks(*point).map(ToOwned::to_owned),
            failed: None,
            rounds: vec![None; plan.rounds],
        };
        PointReport { point: *point, contenders: takers.iter().map(of).collect() }
    };
    let mut report = Report {
        machine: Machine::this(),
        rounds: plan.rounds,
        warm_up_seconds: plan.warm_up.as_secs_f64(),
        seconds: plan.duration.as_secs_f64(),
        sizes: plan.sizes,
        contenders: reports,
        points: points.iter().map(samples).collect(),
    };
    for round in 0..plan.rounds {
        for turn in 0..takers.len() {
            // Another one begins each round, so that a drift of the machine favours nobody.
            let place = (turn + round) % takers.len();
            observer.turn(takers[place].title(), round, plan.rounds);
            let data =
                tempfile::Builder::new().prefix(takers[place].name()).tempdir_in(dir).context("make a folder for the data")?;
            let mut turn = Turn { plan, round, place, observer, report: &mut report };
            turn.take(takers[place], data.path()).await;
        }
    }
    Ok(report)
}

/// One system in one round.
struct Turn<'a> {
    plan: &'a Plan,
    round: usize,
    place: usize,
    observer: &'a dyn Observer,
    report: &'a mut Report,
}

impl Turn<'_> {
    async fn take(&mut self, contender: &dyn Contender, dir: &Path) {
        let mine = |report: &PointReport| report.contenders[self.place].lacks.is_none();
        let mine: Vec<_> = (0..self.report.points.len()).filter(|place| mine(&self.report.points[*place])).collect();
        if mine.is_empty() {
            return;
        }
        let system = match contender.start(dir).await.with_context(|| format!("start {}", contender.title())) {
            Ok(system) => system,
            Err(error) => {
                self.observer.failed(None, &error);
                mine.into_iter().for_each(|place| self.fail(place, &error));
                return;
            }
        };
        let mut library = None;
        for place in mine {
            let point = self.report.points[place].point;
            match self.measure(&system, &mut library, point).await.with_context(|| point.to_string()) {
                Ok(sample) => {
                    self.observer.measured(point, &sample);
                    self.report.points[place].contenders[self.place].rounds[self.round] = Some(sample);
                }
                Err(error) => {
                    self.observer.failed(Some(point), &error);
                    self.fail(place, &error);
                }
            }
        }
        system.stop().await;
    }

    fn fail(&mut self, place: usize, error: &anyhow::Error) {
        self.report.points[place].contenders[self.place].failed = Some(format!("{error:#}"));
    }

    async fn measure(&self, system: &Arc<dyn System>, library: &mut Option<Library>, point: Point) -> Result<Sample> {
        let (warm_up, duration) = (self.plan.warm_up, self.plan.duration);
        if let Some(append) = point.append() {
            return self.measure_append(system, point, append).await;
        }
        if point.reads() && library.is_none() {
            *library = Some(Library::fill(system, self.plan.sizes).await.context("fill journals")?);
        }
        match (point, library) {
            (Point::ReplayOne, Some(library)) => {
                let meter = Meter::start(warm_up, duration);
                measured(system, None, Some(&meter), library.replay_one(system, &meter)).await
            }
            (Point::ReplayMany, Some(library)) => {
                let meter = Meter::start(warm_up, duration);
                measured(system, None, Some(&meter), library.replay_many(system, &meter)).await
            }
            (Point::Mixed, Some(library)) => {
                let appenders = Appenders::new(system, &point.name(), Point::background()).await?;
                let writes = Meter::start(warm_up, duration);
                let reads = writes.beside();
                let load = async {
                    let append = appenders.append(Point::background(), &writes);
                    tokio::try_join!(append, library.replay_many(system, &reads)).map(drop)
                };
                measured(system, Some(&writes), Some(&reads), load).await
            }
            (Point::Storm, Some(library)) => {
                let appenders = Appenders::new(system, &point.name(), Point::background()).await?;
                let writes = Meter::start(warm_up, duration);
                let reads = writes.beside();
                let mut seconds = 0.0;
                let load = async {
                    let append = appenders.append(Point::background(), &writes);
                    ((), seconds) = tokio::try_join!(append, library.storm(system, &reads))?;
                    Ok(())
                };
                let sample = measured(system, Some(&writes), Some(&reads), load).await?;
                Ok(Sample { storm_seconds: Some(seconds), ..sample })
            }
            (Point::Highest, _) => {
                let clients = self.plan.sizes.highest_clients;
                work::fill_highest(system, &point.name(), clients).await?;
                let meter = Meter::start(warm_up, duration);
                measured(system, None, Some(&meter), work::ask_highest(system, &point.name(), clients, &meter)).await
            }
            (Point::Idle, _) => self.measure_idle(system).await,
            (Point::Disk, _) => self.measure_disk(system).await,
            (Point::Restart, _) => self.measure_restart(system).await,
            _ => {
                let record: Record = work::lose_leader(system, &point.name(), warm_up + BEFORE_KILL, duration).await?;
                Ok(Sample { failover: Some(record.outcome()), ..Sample::default() })
            }
        }
    }

    async fn measure_append(&self, system: &Arc<dyn System>, point: Point, append: Append) -> Result<Sample> {
        let appenders = Appenders::new(system, &point.name(), append).await?;
        let meter = Meter::start(self.plan.warm_up, self.plan.duration);
        measured(system, Some(&meter), None, appenders.append(append, &meter)).await
    }

    async fn measure_idle(&self, system: &Arc<dyn System>) -> Result<Sample> {
        // What a start leaves to do is done by then.
        tokio::time::sleep(self.plan.calm).await;
        let servers = system.servers();
        let (before, begun) = (ProcessorTime::read(&servers)?, Instant::now());
        tokio::time::sleep(Duration::from_secs_f64(self.plan.sizes.idle_seconds)).await;
        let (after, seconds) = (ProcessorTime::read(&servers)?, begun.elapsed().as_secs_f64());
        let idle_percent = 100.0 * (after.servers - before.servers) / seconds;
        Ok(Sample { idle_percent: Some(idle_percent), ..Sample::default() })
    }

    async fn measure_restart(&self, system: &Arc<dyn System>) -> Result<Sample> {
        work::append_events(system, &Point::Restart.name(), self.plan.sizes.restart_events).await?;
        let mut seconds = Vec::with_capacity(RESTARTS);
        for _ in 0..RESTARTS {
            seconds.push(system.restart_node().await?.as_secs_f64());
        }
        Ok(Sample { restart_seconds: statistics::median(&seconds), ..Sample::default() })
    }

    async fn measure_disk(&self, system: &Arc<dyn System>) -> Result<Sample> {
        let before = settled_bytes(system, self.plan.calm).await?;
        let events = work::append_events(system, &Point::Disk.name(), self.plan.sizes.disk_events).await?;
        let after = settled_bytes(system, self.plan.calm).await?;
        let nodes = system.data_dirs().len();
        let bytes = after.saturating_sub(before) as f64 / events as f64 / nodes as f64;
        Ok(Sample { disk_bytes_per_event: Some(bytes), ..Sample::default() })
    }
}

/// Puts load on a system and reads what it costs. `load` must end by itself once the meters are over.
async fn measured(
    system: &Arc<dyn System>,
    writes: Option<&Meter>,
    reads: Option<&Meter>,
    load: impl Future<Output = Result<()>>,
) -> Result<Sample> {
    let meter = writes.or(reads).context("nothing is counted")?;
    let servers = system.servers();
    let gauges = async {
        tokio::time::sleep_until(meter.begin()).await;
        let (before, begun) = (ProcessorTime::read(&servers)?, Instant::now());
        tokio::time::sleep_until(meter.end()).await;
        let (after, ended) = (ProcessorTime::read(&servers)?, Instant::now());
        let memory = if servers.is_empty() { None } else { Some(memory_bytes(&servers)?) };
        Ok(usage(before, after, (ended - begun).as_secs_f64(), memory))
    };
    let ((), usage) = tokio::try_join!(load, gauges)?;
    let seconds = (meter.end() - meter.begin()).as_secs_f64();
    let flow = |meter: &Meter| Flow::of(&meter.counts(), seconds);
    Ok(Sample { writes: writes.map(flow), reads: reads.map(flow), usage: Some(usage), ..Sample::default() })
}

fn usage(before: ProcessorTime, after: ProcessorTime, seconds: f64, servers_memory_bytes: Option<u64>) -> Usage {
    // A server that ended in between takes its time with it.
    let servers = (after.servers - before.servers).max(0.0);
    let own = after.own - before.own;
    let others = (after.everybody - before.everybody - servers - own).max(0.0);
    Usage {
        servers_processor_seconds: servers_memory_bytes.map(|_| servers),
        client_processor_seconds: own,
        others_processors: others / seconds,
        servers_memory_bytes,
    }
}

/// What all data occupies once it does not change any more.
async fn settled_bytes(system: &Arc<dyn System>, calm: Duration) -> Result<u64> {
    system.settle().await.context("settle")?;
    let dirs = system.data_dirs();
    let size = || dirs.iter().map(|dir| disk_bytes(dir)).sum::<u64>();
    let end = Instant::now() + SETTLE_DEADLINE;
    let (mut last, mut since) = (size(), Instant::now());
    while since.elapsed() < calm && Instant::now() < end {
        tokio::time::sleep(SIZE_INTERVAL).await;
        let now = size();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_the_servers_nor_ours_is_others() {
        let before = ProcessorTime { everybody: 100.0, servers: 10.0, own: 5.0 };
        let after = ProcessorTime { everybody: 104.0, servers: 12.0, own: 6.0 };
        let usage = usage(before, after, 2.0, Some(7));
        assert_eq!(
            (usage.servers_processor_seconds, usage.client_processor_seconds, usage.others_processors),
            (Some(2.0), 1.0, 0.5)
        );
    }

    #[test]
    fn floors_have_no_servers_time_of_their_own() {
        let before = ProcessorTime { everybody: 1.0, servers: 0.0, own: 1.0 };
        let after = ProcessorTime { everybody: 2.0, servers: 0.0, own: 2.5 };
        let usage = usage(before, after, 1.0, None);
        assert_eq!((usage.servers_processor_seconds, usage.others_processors), (None, 0.0));
    }
}
