//! A plan: everything about a world that is drawn before it begins.
//!
//! Each seed draws another mixture: a swarm covers more with many unlike worlds than with one that does everything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::broken::Bug;
use crate::dice::Dice;
use crate::disk::{Access, DiskSpeed, Moment};
use crate::fault::{Cut, Fault, Loss, Scheduled, Who};

/// When faults begin: by then the cluster is born.
pub(crate) const FAULTS_FROM: Duration = Duration::from_secs(3);
/// For how long there are faults.
const FAULTS_FOR: Duration = Duration::from_secs(57);
/// A plan has so many kinds of faults at least, and they must fire.
pub(crate) const KINDS_MIN: usize = 4;

/// A world before it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where everything comes from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How many machines stand by that can be taken in.
    pub spares: u64,
    /// How many shards.
    pub shards: u16,
    /// How much time passes at once.
    pub tick: Duration,
    /// How long a message takes at most.
    pub latency_max: Duration,
    /// How many times slower than the default consensus is timed.
    pub timing_factor: u32,
    /// How long disks take.
    pub disk_speed: DiskSpeed,
    /// Whether tables are fjall's, on files.
    pub fjall: bool,
    /// Size at which tables are flushed, in bytes.
    pub memtable_bytes: usize,
    /// Entries that stay in the log.
    pub log_keep_entries: u64,
    /// The workload.
    pub load: Load,
    /// What goes wrong, in the order of its time.
    pub faults: Vec<Scheduled>,
    /// When faults end and everything is healed.
    pub faults_end: Duration,
    /// A wrong part; none outside the tests of the simulation itself.
    pub bug: Option<Bug>,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// How many clients, each with connections of its own.
    pub clients: u16,
    /// How many things a client does at the same time.
    pub sessions: u16,
    /// How many journals there are.
    pub journals: usize,
    /// How long a client pauses between two things at most.
    pub pause_max: Duration,
    /// How long a call may take.
    pub deadline: Duration,
    /// How long a try may take.
    pub attempt_timeout: Duration,
    /// Padding of a payload at most, in bytes.
    pub padding_max: u32,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let dice = Dice::new(seed).stream("plan");
        let nodes = *dice.stream("nodes").weighted(&[(7, 3), (2, 5), (1, 7)]);
        Self::draw_of(seed, nodes)
    }

    /// The plan of a seed, of so many nodes.
    #[must_use]
    pub fn draw_of(seed: u64, nodes: u64) -> Self {
        let dice = Dice::new(seed).stream("plan");
        let mut shape = dice.stream("shape");
        let shards = *shape.weighted(&[(3, 1), (4, 2), (1, 4)]);
        let disk_speed = match shape.number(0, 2) {
            0 => DiskSpeed::INSTANT,
            1 => disk_speed(0, 1, 3),
            _ => disk_speed(2, 1, 12),
        };
        let mut plan = Self {
            seed,
            nodes,
            spares: dice.stream("spares").number(0, 3).min(2),
            shards,
            tick: Duration::from_millis(*shape.pick(&[2, 5, 10])),
            latency_max: Duration::from_millis(*shape.pick(&[2, 10, 40])),
            timing_factor: *shape.pick(&[1, 2, 4]),
            disk_speed,
            fjall: shape.chance(0.1),
            memtable_bytes: *shape.pick(&[64 * 1024, 256 * 1024, 8 * 1024 * 1024]),
            log_keep_entries: *shape.pick(&[20, 200, 20_000]),
            load: Load::draw(&mut dice.stream("load")),
            faults: Vec::new(),
            faults_end: FAULTS_FROM + FAULTS_FOR,
            bug: None,
        };
        plan.faults = draw_faults(&mut dice.stream("faults"), &plan);
        plan
    }
}

fn disk_speed(access_max: u64, sync_min: u64, sync_max: u64) -> DiskSpeed {
    let millis = Duration::from_millis;
    DiskSpeed { access_max: millis(access_max), sync_min: millis(sync_min), sync_max: millis(sync_max) }
}

impl Load {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            clients: u16::try_from(dice.number(2, 4)).expect("is small"),
            sessions: u16::try_from(dice.number(2, 4)).expect("is small"),
            journals: dice.count(4, 24),
            pause_max: Duration::from_millis(*dice.pick(&[100, 300, 800])),
            deadline: Duration::from_millis(*dice.pick(&[1_500, 4_000, 10_000])),
            attempt_timeout: Duration::from_millis(*dice.pick(&[400, 1_000, 3_000])),
            padding_max: *dice.pick(&[16, 300, 4_000]),
        }
    }
}

/// The kinds of faults, each with its weight; a plan keeps some of them.
fn draw_faults(dice: &mut Dice, plan: &Plan) -> Vec<Scheduled> {
    let kinds = [
        "kill",
        "power",
        "all",
        "stop",
        "partition",
        "flap",
        "hold",
        "slow links",
        "disk error",
        "slow disk",
        "stuck disk",
        "full disk",
        "clock",
        "hand over",
        "add",
        "remove",
        "replace",
        "rolling restart",
        "loss",
        "pause",
        "clock rate",
        "reset",
        "lost answers",
        "late delivery",
        "spikes",
        "death in a call",
        "death in a flush",
    ];
    let mut weights: Vec<(u32, &'static str)> =
        kinds.iter().map(|kind| (*dice.weighted(&[(2, 0), (2, 1), (1, 4)]), *kind)).collect();
    for (weight, kind) in &mut weights {
        match *kind {
            "add" | "replace" | "loss" if plan.spares == 0 => *weight = 0,
            // The files of fjall are not the world's to damage.
            "loss" if plan.fjall => *weight = 0,
            // It needs more than others to come about.
            "loss" => *weight *= 3,
            _ => {}
        }
    }
    // Whether these can begin, and are a kind of their own, depends on what went before.
    let is_sure = |kind: &str| !matches!(kind, "add" | "remove" | "replace" | "loss");
    let sure = |weights: &[(u32, &'static str)]| -> Vec<&'static str> {
        weights.iter().filter(|(weight, kind)| *weight > 0 && is_sure(kind)).map(|(_, kind)| *kind).collect()
    };
    // Too narrow a world proves little: kinds that it lacks come in.
    while sure(&weights).len() < KINDS_MIN {
        let at = dice.count(0, weights.len() - 1);
        if !is_sure(weights[at].1) {
            continue;
        }
        weights[at].0 = weights[at].0.max(1);
    }
    let mut unused = sure(&weights);
    let mut faults = Vec::new();
    let mut at = FAULTS_FROM;
    while at < FAULTS_FROM + FAULTS_FOR {
        let lasts = dice.time(Duration::from_millis(300), Duration::from_secs(4));
        // Some kinds come for certain, and early; then it is as the weights have it.
        let is_certain = faults.len() < KINDS_MIN;
        let kind = if is_certain { unused.swap_remove(dice.count(0, unused.len() - 1)) } else { *dice.weighted(&weights) };
        faults.push(Scheduled { at, lasts, fault: draw_fault(dice, kind, plan.nodes, plan.shards) });
        at += dice.time(Duration::from_millis(500), Duration::from_secs(6));
    }
    faults
}

fn draw_fault(dice: &mut Dice, kind: &str, nodes: u64, shards: u16) -> Fault {
    let shard = u16::try_from(dice.number(0, u64::from(shards) - 1)).expect("is small");
    let who = match dice.number(0, 3) {
        0 | 1 => Who::Leader(shard),
        2 => Who::Follower(shard),
        _ => Who::Node(dice.number(1, nodes)),
    };
    let cut = *dice.pick(&[Cut::Isolate, Cut::Isolate, Cut::Mute, Cut::Deaf, Cut::Pair, Cut::Bridge, Cut::FromNodes]);
    match kind {
        "kill" => Fault::Crash { who, power_cut: false },
        "power" => Fault::Crash { who, power_cut: true },
        "all" => Fault::CrashAll { power_cut: dice.chance(0.7) },
        "stop" => Fault::Stop { who },
        "partition" => Fault::Partition { who, cut },
        "flap" => Fault::Flap { who, cut },
        "hold" => Fault::Hold { who },
        "slow links" => Fault::SlowLinks { who, latency_max: dice.time(Duration::from_millis(30), Duration::from_millis(400)) },
        "disk error" => Fault::DiskError { who, access: *dice.pick(&[Access::Read, Access::Write, Access::Sync, Access::Sync]) },
        "slow disk" => Fault::SlowDisk { who, sync_max: dice.time(Duration::from_millis(20), Duration::from_millis(300)) },
        "stuck disk" => Fault::StuckDisk { who },
        "full disk" => Fault::FullDisk { who, bytes: dice.number(0, 40_000) },
        "clock" => {
            let hour = 3_600_000_000;
            let micros = *dice.pick(&[-hour, -1_000_000, 1_000, 1_000_000, hour]);
            Fault::ClockJump { who, micros }
        }
        "add" => Fault::Add,
        "remove" => Fault::Remove { who },
        "replace" => Fault::Replace { who },
        "rolling restart" => Fault::RollingRestart,
        "loss" => {
            // Most of them need a machine that stands by, and come to nothing without one.
            let losses = [(2, Loss::Wiped), (3, Loss::Old), (1, Loss::Foreign), (2, Loss::Flipped), (2, Loss::Truncated)];
            Fault::Loss { who, loss: *dice.weighted(&losses) }
        }
        "pause" => Fault::Pause { who },
        "clock rate" => Fault::ClockRate { who, thousandths: *dice.pick(&[800, 900, 1_100, 1_200]) },
        "reset" => Fault::Reset { who, bytes_sent_max: dice.count(0, 2_000) },
        "lost answers" => Fault::LostAnswers { who },
        "late delivery" => Fault::LateDelivery { who },
        "spikes" => Fault::Spikes { who, latency_max: dice.time(Duration::from_millis(50), Duration::from_millis(800)) },
        "death in a call" => Fault::DiesIn {
            who,
            access: *dice.pick(&[Access::Read, Access::Write, Access::Write, Access::Sync, Access::Sync]),
            moment: *dice.pick(&[Moment::Before, Moment::After]),
            power_cut: dice.chance(0.6),
        },
        "death in a flush" => Fault::DiesInFlush { who, flushes: dice.number(0, 2) },
        _ => Fault::HandOver,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_plan_has_four_kinds_of_faults_and_a_fifth_of_them_hits_disks() {
        let plans: Vec<_> = (1..=200).map(Plan::draw).collect();
        for plan in &plans {
            let kinds: BTreeSet<_> = plan.faults.iter().map(|scheduled| scheduled.fault.kind()).collect();
            assert!(kinds.len() >= KINDS_MIN, "seed {}: {kinds:?}", plan.seed);
        }
        let hits_disks = |plan: &&Plan| plan.faults.iter().any(|scheduled| scheduled.fault.is_of_disk());
        let count = plans.iter().filter(hits_disks).count();
        assert!(count >= 40, "{count} of 200");
    }

    #[test]
    fn no_plan_loses_files_that_the_world_cannot_damage_or_replace() {
        let loses = |plan: &Plan| plan.faults.iter().any(|scheduled| matches!(scheduled.fault, Fault::Loss { .. }));
        let (losing, others): (Vec<_>, Vec<_>) = (1..=400).map(Plan::draw).partition(loses);
        assert!(losing.len() >= 80, "{} of 400", losing.len());
        assert!(losing.iter().all(|plan| !plan.fjall && plan.spares > 0));
        assert!(others.iter().any(|plan| plan.fjall));
    }
}
