//! Machines that lose what they keep, one at a time.
//!
//! Why no acknowledged write goes with them. Files are touched only while their node is down, and only when every shard has a leader
//! elsewhere whose term all other nodes have come to, and to which all of them, before some moment after the death, have answered that
//! they hold durably everything up to its last entry of that moment. That leader was elected, or went on to commit, without the dead
//! node, so that it holds all that was ever committed: every other node then holds it too, and the dead one is needed for nothing. No
//! vote that it gave counts either: nobody but that leader can be elected in a term that the others have come to, and a candidate of
//! a later term would not have answered that leader. The next machine has its turn only when this one is whole again, or when its place
//! is taken by a new node, whose taking in is itself committed on a quorum that does not count the old one.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_machine::{NodeId, ShardId};
use cairn_node::Node;
use cairn_raft::{GroupStatus, Role};

use crate::damage::{self, Copy};
use crate::fault::{Fault, Loss};
use crate::machine::{Ended, Machine, Tables};

use super::{Violation, World};

/// So long the others may take until the dead one is needed for nothing; then it comes back unharmed.
const WAIT_MAX: Duration = Duration::from_secs(12);
/// So long a leader must have led before and after the others answered: what it holds itself is then durable too.
const SETTLE: Duration = Duration::from_secs(1);
/// So long a node with such files is watched.
const WATCHED: Duration = Duration::from_secs(4);

/// What a node says that was found out to have an older copy of its files.
const OLDER_COPY: &str = "older copy";

/// A loss that is under way.
pub(super) struct Losing {
    loss: Loss,
    victim: u64,
    stage: Stage,
    /// What it kept before.
    copy: Option<Copy>,
    /// How far its shards' logs were then, at most.
    last: BTreeMap<ShardId, Option<u64>>,
    /// It has said that its files are an older copy.
    has_told: bool,
}

enum Stage {
    /// It goes down then.
    Before(Duration),
    /// It is down until the others need it for nothing.
    Waits { since: Duration, leaders: BTreeMap<ShardId, Led>, covered_since: Option<Duration> },
    /// It is back with what it has now.
    Watched { since: Duration, remembering: Vec<Remembering> },
    /// Another node comes into its place.
    Replaced { is_begun: bool },
}

/// A leader in a life that remembers that the victim has told it of more than it has now.
struct Remembering {
    shard: ShardId,
    node: u64,
    life: u64,
    term: u64,
}

/// How far a shard's leader was when it was seen first.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Led {
    node: u64,
    term: u64,
    last: Option<u64>,
}

impl World {
    /// Begins a loss; false if that cannot be begun now.
    pub(super) fn begin_loss(&mut self, machine: &Machine, loss: Loss, lasts: Duration) -> bool {
        let Tables::Memory(tables) = machine.tables() else { return false };
        let id = machine.id();
        let can_be_replaced = self.roster.spares_left > 0 && self.may_leave(id);
        let is_possible = self.losing.is_none() && self.roster.is_settled() && machine.node().is_some();
        if !is_possible || (loss.needs_replacement() && !can_be_replaced) {
            return false;
        }
        // What comes back old is what it keeps now; what is put back after foreign files is what it kept last.
        let copy = (loss == Loss::Old).then(|| Copy::take(machine.disk().files(), tables));
        let last = machine.node().iter().flat_map(Node::status).map(|status| (status.shard, status.last)).collect();
        self.losing = Some(Losing { loss, victim: id, stage: Stage::Before(self.now() + lasts), copy, last, has_told: false });
        true
    }

    /// Moves the loss along.
    pub(super) fn attend_loss(&mut self) -> Result<(), Violation> {
        let Some(mut losing) = self.losing.take() else { return Ok(()) };
        let goes_on = self.go_on(&mut losing)?;
        if goes_on {
            self.losing = Some(losing);
        }
        Ok(())
    }

    /// No loss begins any more: what is not lost yet comes back unharmed.
    pub(super) fn stop_losing(&mut self) {
        if let Some(Losing { stage: Stage::Before(_) | Stage::Waits { .. }, victim, .. }) = self.losing {
            self.roster.kept_down.remove(&victim);
            self.losing = None;
            let now = self.now();
            self.up_at.entry(victim).or_insert(now);
        }
    }

    /// False when it is over.
    fn go_on(&mut self, losing: &mut Losing) -> Result<bool, Violation> {
        let (now, machine) = (self.now(), self.machine(losing.victim));
        match &mut losing.stage {
            Stage::Before(until) if *until > now => Ok(true),
            Stage::Before(_) => {
                self.take_down(&machine, true, Duration::ZERO);
                self.up_at.remove(&losing.victim);
                self.roster.kept_down.insert(losing.victim);
                losing.stage = Stage::Waits { since: now, leaders: BTreeMap::new(), covered_since: None };
                Ok(true)
            }
            Stage::Waits { since, leaders, covered_since } => {
                if !self.is_covered(losing.victim, leaders) {
                    *covered_since = None;
                } else if now >= *covered_since.get_or_insert(now) + SETTLE {
                    return Ok(self.lose(losing, &machine));
                }
                if now < *since + WAIT_MAX {
                    return Ok(true);
                }
                self.note(format!("{} comes back unharmed", machine.host()));
                self.bring_up(losing.victim);
                Ok(false)
            }
            Stage::Watched { since, remembering } => {
                self.check_watched(losing.loss, &machine)?;
                remembering.retain(|leader| self.still_remembers(leader));
                let must_tell = !losing.has_told && !remembering.is_empty();
                if now < *since + WATCHED || must_tell {
                    return Ok(true);
                }
                Ok(self.end_watch(losing, &machine))
            }
            Stage::Replaced { is_begun: true } => Ok(!self.roster.retired.contains(&losing.victim)),
            Stage::Replaced { is_begun } => {
                *is_begun = self.begin_replace(losing.victim);
                Ok(true)
            }
        }
    }

    /// Whether all others hold durably what any leader may have committed with the victim's help.
    fn is_covered(&self, victim: u64, leaders: &mut BTreeMap<ShardId, Led>) -> bool {
        let others: Vec<u64> = self.present().into_iter().filter(|id| *id != victim).collect();
        let is_slow = |id: &u64| self.active.iter().any(|active| active.stops_disk_of(*id));
        if others.iter().any(is_slow) {
            return false;
        }
        let statuses: BTreeMap<u64, Vec<GroupStatus>> =
            others.iter().filter_map(|id| Some((*id, self.machine(*id).node()?.status()))).collect();
        if statuses.len() < others.len() {
            return false;
        }
        (0..self.plan.shards).all(|shard| {
            let of_shard = |id: &u64| statuses[id].get(usize::from(shard));
            let leads = |id: &&u64| of_shard(id).is_some_and(|status| status.role == Role::Leader && status.vote.is_elected);
            // The newest of them, where an older one does not know yet that it was deposed.
            let Some(leader) = others.iter().filter(leads).max_by_key(|id| of_shard(id).map(|status| status.term)) else {
                return false;
            };
            let Some(status) = of_shard(leader) else { return false };
            let led = leaders.entry(status.shard).or_insert(Led { node: *leader, term: status.term, last: status.last });
            if (led.node, led.term) != (*leader, status.term) {
                *led = Led { node: *leader, term: status.term, last: status.last };
                return false;
            }
            let holds = |id: &u64| status.replication.get(&NodeId(*id)).is_some_and(|peer| peer.matched >= led.last);
            let has_come = |id: &u64| of_shard(id).is_some_and(|other| other.term == status.term);
            status.committed >= led.last && others.iter().filter(|id| *id != leader).all(|id| holds(id) && has_come(id))
        })
    }

    /// The others need the victim for nothing: its files change, and it comes back. False if there was nothing to change.
    fn lose(&mut self, losing: &mut Losing, machine: &Machine) -> bool {
        let Tables::Memory(tables) = machine.tables() else { return false };
        let files = machine.disk().files();
        let what = match losing.loss {
            Loss::Wiped => {
                damage::wipe(files, tables);
                Some("everything".to_owned())
            }
            Loss::Old => losing.copy.as_ref().map(|copy| {
                copy.put_back(files, tables);
                "back to what it was".to_owned()
            }),
            Loss::Foreign => {
                losing.copy = Some(Copy::take(files, tables));
                let other = self.present().into_iter().find(|id| *id != losing.victim).map(|id| self.machine(id));
                other.map(|other| {
                    damage::put_files(other.disk().files(), files);
                    format!("for those of {}", other.host())
                })
            }
            Loss::Flipped => damage::flip(files, &mut self.dice),
            Loss::Truncated => damage::truncate(files, &mut self.dice),
        };
        machine.disk().forget();
        self.note(format!("{} lost its files: {:?}, {what:?}", machine.host(), losing.loss));
        self.bring_up(losing.victim);
        if what.is_some() {
            *self.faults.entry(Fault::kind_of_loss(losing.loss)).or_default() += 1;
        }
        let remembering = if losing.loss == Loss::Old { self.remembering(losing) } else { Vec::new() };
        losing.stage = Stage::Watched { since: self.now(), remembering };
        what.is_some()
    }

    fn bring_up(&mut self, id: u64) {
        self.roster.kept_down.remove(&id);
        let now = self.now();
        self.up_at.insert(id, now);
    }

    /// Leaders to whom the victim has promised more than it has now.
    fn remembering(&self, losing: &Losing) -> Vec<Remembering> {
        let by_shard = |shard| {
            let machine = self.leader(shard)?;
            let status = machine.node()?.status().into_iter().find(|status| status.shard == ShardId(shard))?;
            let promised = status.replication.get(&NodeId(losing.victim))?.matched;
            let is_lost = losing.last.get(&status.shard).is_some_and(|last| promised > *last);
            is_lost.then(|| Remembering { shard: status.shard, node: machine.id(), life: machine.lives(), term: status.term })
        };
        (0..self.plan.shards).filter_map(by_shard).collect()
    }

    fn still_remembers(&self, leader: &Remembering) -> bool {
        let machine = self.machine(leader.node);
        let leads =
            |status: &GroupStatus| status.shard == leader.shard && status.role == Role::Leader && status.term == leader.term;
        machine.lives() == leader.life && machine.node().is_some_and(|node| node.status().iter().any(leads))
    }

    /// Hears why a node has ended: who says that its files are an older copy must be right.
    pub(super) fn hear_ended(&mut self, machine: &Machine, ended: &Ended) -> Result<(), Violation> {
        let (Ended::NotStarted(why) | Ended::Failed(why)) = ended else { return Ok(()) };
        if !why.contains(OLDER_COPY) {
            return Ok(());
        }
        match &mut self.losing {
            Some(losing) if losing.victim == machine.id() && losing.loss != Loss::Foreign => {
                losing.has_told = true;
                Ok(())
            }
            _ => Err(self.violation("R18", format!("{} has its own files, and says: {why}", machine.host()))),
        }
    }

    /// Who has nothing, or what is another's, serves nobody.
    fn check_watched(&self, loss: Loss, machine: &Machine) -> Result<(), Violation> {
        let Some(node) = machine.node() else { return Ok(()) };
        let host = machine.host();
        match loss {
            Loss::Wiped if node.not_ready().is_empty() || !node.leads().is_empty() => {
                Err(self.violation("R18", format!("{host} was wiped and serves under its old identity")))
            }
            Loss::Foreign => Err(self.violation("R18", format!("{host} started with another node's files"))),
            Loss::Wiped | Loss::Old | Loss::Flipped | Loss::Truncated => Ok(()),
        }
    }

    /// Whether the loss goes on.
    fn end_watch(&mut self, losing: &mut Losing, machine: &Machine) -> bool {
        match losing.loss {
            Loss::Old if !losing.has_told => false,
            Loss::Foreign => {
                self.take_down(machine, false, Duration::ZERO);
                if let (Some(copy), Tables::Memory(tables)) = (&losing.copy, machine.tables()) {
                    copy.put_back(machine.disk().files(), tables);
                }
                false
            }
            Loss::Wiped | Loss::Old | Loss::Flipped | Loss::Truncated => {
                losing.stage = Stage::Replaced { is_begun: false };
                true
            }
        }
    }
}
