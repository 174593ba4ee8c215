//! Killing a leader in the middle of the work, and the pace that makes the moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cairn_machine::ShardId;
use tokio::time::{Instant, MissedTickBehavior};

use super::narrator::Narrator;
use super::record::Record;
use super::{EVENTS_WHILE_DEAD_MIN, IN_FLIGHT_MIN, READY_DEADLINE};
use crate::local::LocalCluster;

/// Writes a second while everything is well: slow enough to be watched, and to leave work for the second kill.
const WRITES_PER_SECOND: u64 = 400;
/// Writes a second while a node comes back.
const WRITES_PER_SECOND_SLOW: u64 = 100;
/// How often writes are let through.
const PACE_INTERVAL: Duration = Duration::from_millis(10);
/// Writes let through at once just before a kill.
const BURST: usize = 192;
/// Writes in flight that the killer waits for: some are answered before the signal arrives.
const IN_FLIGHT_WANTED: usize = 40;
/// Writes of the burst that are answered before the kill.
const BURST_ANSWERED: usize = 8;
/// Bursts tried: a fast cluster may have answered one before anybody sees that it is under way.
const BURSTS_MAX: usize = 6;
/// Turns that other tasks get to write what was sent.
const TURNS_TO_WRITE: usize = 8;
/// How long one try may take.
const BURST_DEADLINE: Duration = Duration::from_secs(10);
/// How long the others may take to go on without the victim.
const TAKE_OVER_DEADLINE: Duration = Duration::from_secs(30);
/// Writes that may go and were not taken: more pile up only to become a burst.
const PERMITS_MAX: usize = 64;

/// One kill, as it went.
#[derive(Debug)]
pub struct Kill {
    /// Whom.
    node_id: u64,
    /// The shards that it led.
    shards: Vec<ShardId>,
    /// Writes in flight at that moment.
    in_flight: usize,
    /// Of these, on its shards.
    in_flight_led: usize,
    /// Events acknowledged between the kill and the restart.
    events_while_dead: u64,
    /// The longest time without an acknowledgement on its shards.
    pub gap: Duration,
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shards: Vec<_> = self.shards.iter().map(ToString::to_string).collect();
        write!(
            f,
            "node {}, leader of shard(s) {}, with {} writes in flight ({} of them there); {} events acknowledged before its \
             restart; longest gap on its shards {} ms",
            self.node_id,
            shards.join(", "),
            self.in_flight,
            self.in_flight_led,
            self.events_while_dead,
            self.gap.as_millis()
        )
    }
}

/// Lets writes through at a rate.
pub struct Pacer {
    writes_per_second: AtomicU64,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { writes_per_second: AtomicU64::new(WRITES_PER_SECOND) }
    }
}

impl Pacer {
    /// Lets everything through from now on.
    pub fn open(&self) {
        self.writes_per_second.store(u64::MAX, Ordering::Relaxed);
    }

    fn set(&self, writes_per_second: u64) {
        self.writes_per_second.store(writes_per_second, Ordering::Relaxed);
    }

    /// Does it until it is dropped.
    pub async fn run(&self, record: &Record) {
        let mut ticks = tokio::time::interval(PACE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut credit = 0;
        loop {
            ticks.tick().await;
            let room = PERMITS_MAX.saturating_sub(record.waiting_permits());
            let rate = self.writes_per_second.load(Ordering::Relaxed);
            credit = (u128::from(rate) * PACE_INTERVAL.as_millis() + credit).min(PERMITS_MAX as u128 * 1_000);
            let permits = usize::try_from(credit / 1_000).unwrap_or(room).min(room);
            credit %= 1_000;
            record.let_through(permits);
        }
    }
}

/// Kills the node that leads most, waits until the others have gone on, and restarts it.
pub async fn kill_a_leader(
    cluster: &mut LocalCluster,
    record: &Record,
    pacer: &Pacer,
    narrator: &Narrator,
) -> anyhow::Result<Kill> {
    let (node_id, shards) = victim(cluster).await?;
    record.measure_gaps();
    fill_the_wire(record, &shards).await?;
    // Nothing is awaited from here to the signal, so no answer is taken in between: what is in flight here is in flight there.
    let (in_flight, in_flight_led) = (record.in_flight_everywhere(), record.in_flight(&shards));
    let events_before = record.events();
    cluster.node(node_id)?.kill()?;
    let begun = Instant::now();
    ensure!(in_flight >= IN_FLIGHT_MIN, "only {in_flight} writes were in flight at the kill");
    narrator
        .say(format_args!("killed node {node_id} with SIGKILL: it led {} shard(s), {in_flight} writes in flight", shards.len()));
    record.count_acknowledgements();
    let gone_on =
        record.until(|record| record.events() - events_before >= EVENTS_WHILE_DEAD_MIN && record.all_acknowledged(&shards));
    tokio::time::timeout(TAKE_OVER_DEADLINE, gone_on).await.with_context(|| {
        let events = record.events() - events_before;
        format!(
            "without node {node_id} only {events} events were acknowledged in {}",
            humantime::format_duration(TAKE_OVER_DEADLINE)
        )
    })?;
    let events_while_dead = record.events() - events_before;
    cluster.node(node_id)?.start()?;
    pacer.set(WRITES_PER_SECOND_SLOW);
    narrator.say(format_args!(
        "restarted node {node_id} after {} ms; {events_while_dead} events were acknowledged without it",
        begun.elapsed().as_millis()
    ));
    cluster.ready(READY_DEADLINE).await?;
    pacer.set(WRITES_PER_SECOND);
    let gap = record.gap_longest(&shards);
    narrator.say(format_args!("node {node_id} is back; longest gap on its shards {} ms", gap.as_millis()));
    Ok(Kill { node_id, shards, in_flight, in_flight_led, events_while_dead, gap })
}

/// Lets many writes go at once, and returns when enough of them are on the wire and not answered.
///
/// The right moment lasts a few milliseconds, and all answers may come in one message: a burst that was answered before it was seen is
/// followed by another one at once, while there is still work for it.
async fn fill_the_wire(record: &Record, shards: &[ShardId]) -> anyhow::Result<()> {
    let too_few = || format!("only {} writes are in flight at once, too few for a kill", record.in_flight_everywhere());
    for _ in 0..BURSTS_MAX {
        record.count_acknowledgements();
        let sent_before = record.in_flight_everywhere();
        record.let_through(BURST);
        let is_enough = |record: &Record| {
            record.acknowledged() >= sent_before + BURST_ANSWERED
                && record.in_flight_everywhere() >= IN_FLIGHT_WANTED
                && record.in_flight(shards) > 0
        };
        // From here on no more than the wanted number of the burst can be on the wire.
        let is_missed = |record: &Record| record.acknowledged() >= sent_before + BURST - IN_FLIGHT_WANTED;
        let seen = record.until(|record| is_enough(record) || is_missed(record));
        tokio::time::timeout(BURST_DEADLINE, seen).await.with_context(too_few)?;
        if !is_enough(record) {
            continue;
        }
        // What was only handed to the client just now is written by its own tasks.
        for _ in 0..TURNS_TO_WRITE {
            tokio::task::yield_now().await;
        }
        if record.in_flight_everywhere() >= IN_FLIGHT_MIN && record.in_flight(shards) > 0 {
            return Ok(());
        }
    }
    bail!(too_few())
}

/// The node that leads most shards, with these shards.
async fn victim(cluster: &mut LocalCluster) -> anyhow::Result<(u64, Vec<ShardId>)> {
    let statuses = cluster.ready(READY_DEADLINE).await?;
    let shards = &statuses[0].shard_states;
    let led_by = |node_id: u64| -> Vec<ShardId> {
        let led = shards.iter().filter(|shard| shard.leader == node_id);
        led.map(|shard| ShardId(u16::try_from(shard.shard).unwrap_or(u16::MAX))).collect()
    };
    let nodes = cluster.nodes().iter().map(|node| (node.node_id, led_by(node.node_id)));
    nodes.max_by_key(|(_, led)| led.len()).filter(|(_, led)| !led.is_empty()).context("no node leads a shard")
}

#[cfg(test)]
mod tests {
    use cairn_machine::{AtomicWrite, Event, Payload, PersistenceId, SequenceNumber, WriteReply};

    use super::*;
    use crate::import::{Group, Observer};

    fn group(number: usize) -> Vec<Group> {
        let event = Event {
            sequence_number: SequenceNumber(1),
            payload: Payload::default(),
            adapter_manifest: String::new(),
            metadata: None,
            tags: Vec::new(),
        };
        let atomic_write = AtomicWrite::new(std::slice::from_ref(&event)).expect("is legal");
        let persistence_id = PersistenceId::new(format!("account-{number}")).expect("is legal");
        vec![Group { persistence_id, line: 1, events: vec![event], atomic_write }]
    }

    #[tokio::test]
    async fn a_burst_that_was_answered_before_it_was_seen_is_followed_by_another_at_once() {
        let record = Record::new(1);
        let reply = WriteReply { highest: SequenceNumber(1), check: None, outcomes: Vec::new() };
        // All of a burst is answered without a pause; of the next one only so many that the rest is what is waited for.
        let cluster = async {
            for answered in [BURST, BURST_ANSWERED] {
                for number in 0..BURST {
                    record.ready().await;
                    record.sent(&group(number));
                }
                for number in 0..answered {
                    Observer::acknowledged(&record, group(number), &reply);
                }
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        let begun = Instant::now();
        tokio::select! {
            filled = fill_the_wire(&record, &[ShardId(0)]) => filled.expect("the second burst is there"),
            () = cluster => unreachable!("it goes on for ever"),
        }
        assert_eq!(record.in_flight_everywhere(), BURST - BURST_ANSWERED);
        assert!(begun.elapsed() < BURST_DEADLINE, "nobody waited for a deadline");
    }
}
