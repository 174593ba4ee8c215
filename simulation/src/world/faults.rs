//! Faults as they begin and end.

use std::time::Duration;

use crate::disk::DiskSpeed;
use crate::fault::{Cut, Fault, Scheduled, Who};
use crate::links::Links;
use crate::machine::{Machine, Tables};

use super::World;
use super::operator::Order;

/// A flapping link changes this often.
const FLAP: Duration = Duration::from_millis(500);

/// A fault that has begun, with the machine that it hit.
#[derive(Clone, Debug)]
pub(super) struct Active {
    fault: Fault,
    node: u64,
    began: Duration,
    ends: Duration,
}

impl Active {
    /// Whether nothing that the node writes becomes durable as long as it goes on.
    pub(super) fn stops_disk_of(&self, node: u64) -> bool {
        self.node == node && matches!(self.fault, Fault::StuckDisk { .. } | Fault::Pause { .. })
    }
}

impl World {
    /// Begins the faults whose time has come.
    pub(super) fn begin_faults(&mut self) {
        while let Some(scheduled) = self.plan.faults.get(self.next_fault).copied() {
            if scheduled.at > self.now() {
                return;
            }
            self.next_fault += 1;
            let _ = self.begin(scheduled);
        }
    }

    /// Begins a fault; the node that it hit, none if there was none to hit.
    pub(super) fn begin(&mut self, Scheduled { lasts, fault, .. }: Scheduled) -> Option<u64> {
        let machine = self.find(fault)?;
        let is_begun = match fault {
            Fault::Add => self.losing.is_none() && self.begin_add(),
            Fault::Remove { .. } => self.losing.is_none() && self.begin_remove(machine.id()),
            Fault::Replace { .. } => self.losing.is_none() && self.begin_replace(machine.id()),
            Fault::Loss { loss, .. } => self.begin_loss(&machine, loss, lasts),
            _ => true,
        };
        if !is_begun {
            return None;
        }
        self.note(format!("{fault:?} at {} for {lasts:?}", machine.host()));
        if matches!(fault, Fault::Loss { .. }) {
            // Counted when it comes to it.
            return Some(machine.id());
        }
        *self.faults.entry(fault.kind()).or_default() += 1;
        match fault {
            Fault::Crash { power_cut, .. } => self.take_down(&machine, power_cut, lasts),
            Fault::CrashAll { power_cut } => {
                for machine in self.machines.clone() {
                    self.take_down(&machine, power_cut, lasts);
                }
            }
            Fault::Stop { .. } => machine.ask_to_stop(),
            Fault::DiskError { access, .. } => machine.disk().fail_next(access),
            Fault::SlowDisk { sync_max, .. } => {
                machine.disk().set_speed(DiskSpeed { sync_max, sync_min: sync_max / 4, access_max: sync_max / 10 });
            }
            Fault::StuckDisk { .. } => machine.disk().set_stuck(true),
            Fault::FullDisk { bytes, .. } => machine.disk().set_room(Some(bytes)),
            Fault::ClockJump { micros, .. } => machine.clock().jump(micros),
            Fault::HandOver => drop(self.operator.ask(Order::HandOver)),
            Fault::RollingRestart => self.rolling = self.present().into(),
            Fault::SlowLinks { latency_max, .. } => self.set_latency(&machine, latency_max),
            Fault::Pause { .. } => {
                machine.pace().stand_still();
                machine.disk().set_stuck(true);
            }
            Fault::ClockRate { thousandths, .. } => machine.pace().set_rate(Some(thousandths)),
            Fault::Reset { bytes_sent_max, .. } => machine.network().reset_all(bytes_sent_max),
            Fault::LostAnswers { .. } => machine.network().lose_answers(true),
            Fault::LateDelivery { .. } => machine.network().keep_back(),
            Fault::DiesIn { access, moment, .. } => machine.disk().strike_next(Some((access, moment))),
            Fault::DiesInFlush { flushes, .. } => {
                if let Tables::Memory(tables) = machine.tables() {
                    tables.crash_after(flushes);
                }
            }
            Fault::Spikes { latency_max, .. } => self.set_latency(&machine, latency_max),
            Fault::Add | Fault::Remove { .. } | Fault::Replace { .. } | Fault::Loss { .. } => {}
            Fault::Partition { .. } | Fault::Flap { .. } | Fault::Hold { .. } => {}
        }
        self.active.push(Active { fault, node: machine.id(), began: self.now(), ends: self.now() + lasts });
        self.set_links();
        Some(machine.id())
    }

    /// Ends the faults whose time is over.
    pub(super) fn end_faults(&mut self) {
        let now = self.now();
        let (over, active): (Vec<_>, Vec<_>) = std::mem::take(&mut self.active).into_iter().partition(|fault| fault.ends <= now);
        self.active = active;
        for fault in &over {
            self.end(fault);
        }
        if !over.is_empty() || self.active.iter().any(|active| matches!(active.fault, Fault::Flap { .. })) {
            self.set_links();
        }
        self.set_spikes();
    }

    /// Stops the next node of a rolling restart when the one before is back.
    pub(super) fn roll_on(&mut self) {
        let is_back = |id: &u64| self.machine(*id).node().is_some_and(|node| node.not_ready().is_empty());
        let Some(next) = self.rolling.front().copied() else { return };
        // A node that is down is not waited for: other faults see to it.
        let is_quiet = self.up_at.is_empty() && self.present().iter().all(|id| is_back(id) || self.roster.kept_down.contains(id));
        if is_quiet {
            self.rolling.pop_front();
            self.machine(next).ask_to_stop();
        }
    }

    /// Ends all faults and brings every machine up.
    pub(super) fn heal(&mut self) {
        self.note("heal");
        self.rolling.clear();
        self.stop_losing();
        for fault in std::mem::take(&mut self.active) {
            self.end(&fault);
        }
        self.set_links();
        let now = self.now();
        for at in self.up_at.values_mut() {
            *at = now;
        }
    }

    fn end(&mut self, active: &Active) {
        let machine = self.machine(active.node);
        match active.fault {
            Fault::SlowDisk { .. } => machine.disk().set_speed(self.plan.disk_speed),
            Fault::StuckDisk { .. } => machine.disk().set_stuck(false),
            Fault::FullDisk { .. } => machine.disk().set_room(None),
            Fault::SlowLinks { .. } | Fault::Spikes { .. } => self.set_latency(&machine, self.plan.latency_max),
            Fault::Pause { .. } => {
                machine.pace().go_on();
                machine.disk().set_stuck(false);
            }
            Fault::ClockRate { .. } => machine.pace().set_rate(None),
            Fault::LostAnswers { .. } => machine.network().lose_answers(false),
            Fault::LateDelivery { .. } => machine.network().deliver(),
            Fault::DiesIn { .. } => machine.disk().strike_next(None),
            Fault::DiesInFlush { .. } => {
                if let Tables::Memory(tables) = machine.tables() {
                    tables.restart();
                }
            }
            Fault::Reset { .. }
            | Fault::Add
            | Fault::Remove { .. }
            | Fault::Replace { .. }
            | Fault::RollingRestart
            | Fault::Loss { .. } => {}
            Fault::Crash { .. }
            | Fault::CrashAll { .. }
            | Fault::Stop { .. }
            | Fault::DiskError { .. }
            | Fault::ClockJump { .. }
            | Fault::HandOver
            | Fault::Partition { .. }
            | Fault::Flap { .. }
            | Fault::Hold { .. } => {}
        }
    }

    fn find(&self, fault: Fault) -> Option<Machine> {
        let who = match fault {
            Fault::Crash { who, .. }
            | Fault::Stop { who }
            | Fault::Partition { who, .. }
            | Fault::Flap { who, .. }
            | Fault::Hold { who }
            | Fault::SlowLinks { who, .. }
            | Fault::DiskError { who, .. }
            | Fault::SlowDisk { who, .. }
            | Fault::StuckDisk { who }
            | Fault::FullDisk { who, .. }
            | Fault::ClockJump { who, .. }
            | Fault::Pause { who }
            | Fault::Remove { who }
            | Fault::Replace { who }
            | Fault::Loss { who, .. }
            | Fault::ClockRate { who, .. }
            | Fault::Reset { who, .. }
            | Fault::LostAnswers { who }
            | Fault::LateDelivery { who }
            | Fault::Spikes { who, .. }
            | Fault::DiesIn { who, .. }
            | Fault::DiesInFlush { who, .. } => who,
            Fault::CrashAll { .. } | Fault::HandOver | Fault::Add | Fault::RollingRestart => Who::Node(*self.present().first()?),
        };
        let found = match who {
            Who::Node(id) => Some(self.machine(id)),
            Who::Leader(shard) => self.leader(shard).or_else(|| Some(self.machine(*self.present().first()?))),
            Who::Follower(shard) => {
                let leader = self.leader(shard).map(|leader| leader.id());
                self.machines.iter().find(|machine| Some(machine.id()) != leader && machine.node().is_some()).cloned()
            }
        };
        // Who has left is out of reach.
        found.filter(|machine| !self.roster.retired.contains(&machine.id()))
    }

    fn hosts(&self) -> (Vec<String>, Vec<String>) {
        let nodes = self.present().into_iter().map(|id| self.machine(id).host()).collect();
        let clients = (1..=self.plan.load.clients).map(super::client_host).collect();
        (nodes, clients)
    }

    fn set_latency(&self, machine: &Machine, latency_max: Duration) {
        let (nodes, clients) = self.hosts();
        for other in nodes.iter().chain(&clients).filter(|other| **other != machine.host()) {
            self.sim.set_link_max_message_latency(machine.host().as_str(), other.as_str(), latency_max);
        }
    }

    /// Latency that comes and goes.
    fn set_spikes(&mut self) {
        for active in self.active.clone() {
            if let Fault::Spikes { latency_max, .. } = active.fault {
                let is_spike = is_first_phase(active.began, self.now());
                if is_spike == is_first_phase(active.began, self.now().saturating_sub(self.plan.tick)) {
                    continue;
                }
                let latency_max = if is_spike { latency_max } else { self.plan.latency_max };
                self.set_latency(&self.machine(active.node), latency_max);
            }
        }
    }

    /// Kills nodes that wait for their end in a deadly call.
    pub(super) fn kill_struck(&mut self) {
        for machine in self.machines.clone() {
            if !machine.disk().is_struck() {
                continue;
            }
            let deadly = self.active.iter().find_map(|active| match active.fault {
                Fault::DiesIn { power_cut, .. } if active.node == machine.id() => Some(power_cut),
                _ => None,
            });
            self.note(format!("{} dies in a call", machine.host()));
            let down = self.dice.time(Duration::from_millis(100), super::RESTART_MAX);
            self.take_down(&machine, deadly.unwrap_or(false), down);
        }
    }

    fn set_links(&mut self) {
        let mut links = Links::default();
        for active in &self.active {
            match active.fault {
                Fault::Partition { cut, .. } => self.cut(&mut links, active.node, cut),
                Fault::Flap { cut, .. } if is_first_phase(active.began, self.now()) => self.cut(&mut links, active.node, cut),
                Fault::Hold { .. } | Fault::Pause { .. } => self.hold_links(&mut links, active.node),
                _ => {}
            }
        }
        if links != self.links {
            links.apply(&self.links, &self.sim);
            self.links = links;
        }
    }

    fn hold_links(&self, links: &mut Links, node: u64) {
        let (nodes, clients) = self.hosts();
        let host = self.machine(node).host();
        for other in nodes.iter().chain(&clients) {
            links.hold(&host, other);
        }
    }

    fn cut(&self, links: &mut Links, node: u64, cut: Cut) {
        let (nodes, clients) = self.hosts();
        let host = self.machine(node).host();
        let all = || nodes.iter().chain(&clients);
        match cut {
            Cut::Isolate => all().for_each(|other| cut_both(links, &host, other)),
            Cut::Mute => all().for_each(|other| links.cut(&host, other)),
            Cut::Deaf => all().for_each(|other| links.cut(other, &host)),
            Cut::FromNodes => nodes.iter().for_each(|other| cut_both(links, &host, other)),
            Cut::Pair => {
                let present = self.present();
                if let Some(next) = present.iter().find(|id| **id > node).or(present.first()) {
                    cut_both(links, &host, &self.machine(*next).host());
                }
            }
            Cut::Bridge => {
                let (low, high): (Vec<&String>, Vec<&String>) =
                    nodes.iter().filter(|other| **other != host).partition(|other| **other < host);
                // Halves of at least one each, whoever is the bridge.
                let others: Vec<&String> = low.into_iter().chain(high).collect();
                let (one, other) = others.split_at(others.len() / 2);
                for a in one {
                    for b in other {
                        cut_both(links, a, b);
                    }
                }
            }
        }
    }
}

fn cut_both(links: &mut Links, one: &str, other: &str) {
    links.cut(one, other);
    links.cut(other, one);
}

/// Whether what comes and goes is in the first of its two phases.
fn is_first_phase(began: Duration, now: Duration) -> bool {
    let phases = now.saturating_sub(began).as_millis() / FLAP.as_millis();
    phases.is_multiple_of(2)
}
