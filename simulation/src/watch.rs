//! Looking at every node while the world goes on: what must hold between replicas at every moment, and not only of what clients saw.
//!
//! It hears of three things. Each machine's disk tells what was written to the log and when it became durable ([`LogTap`]); each node's
//! tables tell what was applied ([`AppliedObserver`]); and between two ticks the world shows what every running node says of itself
//! ([`Watch::look`]). One file a property, under its number in the list of invariants.
//!
//! Consensus here orders ballots, pairs of a term and a node: a node may vote again in a term, for a greater node id, and the leader of the
//! smaller ballot is deposed by that as by a later term. So what is said of terms is meant, and checked, of ballots.
//!
//! Invariants
//! - Nothing is drawn and nothing is changed here: a world goes the same way with the watch and without.
//! - The first property that broke is kept; what follows from it is not looked at.

mod durable;
mod r01_one_leader_a_ballot;
mod r02_log_matching;
mod r03_leader_completeness;
mod r04_same_everywhere;
mod r05_committed_is_durable_on_a_quorum;
mod r06_committed_is_immutable;
mod r07_order_of_indexes;
mod r08_never_back;
mod r13_durable_acknowledgement;
mod r18_silent_after_damage;
mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_machine::ShardId;
use cairn_node::{AppliedEntry, AppliedObserver, EntryId, GroupStatus};

use durable::DurableShard;
pub(crate) use tap::{FileId, LogTap};

/// A property that broke: its name, and what was seen.
pub(crate) type Broken = (&'static str, String);
type Checked = Result<(), Broken>;

/// The watch over a world; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    known: Arc<Mutex<Known>>,
}

/// What a running node says of itself.
pub(crate) struct Seen {
    pub node: u64,
    /// Which of its lives it is in.
    pub life: u64,
    pub shards: Vec<GroupStatus>,
}

/// Everything that was seen so far.
#[derive(Debug, Default)]
struct Known {
    /// What each node has durably in its log.
    durable: BTreeMap<(u64, ShardId), DurableShard>,
    /// What a node's log had come to when its life began.
    at_start: BTreeMap<(u64, ShardId), r08_never_back::AtStart>,
    /// Entries that were ever durable anywhere.
    entries: r02_log_matching::Entries,
    /// What was applied, and what came of it.
    applied: r04_same_everywhere::AppliedEntries,
    /// The greatest index that was applied anywhere.
    applied_to: BTreeMap<ShardId, u64>,
    /// Ballots whose leader was seen.
    leaders: BTreeSet<(ShardId, Ballot)>,
    /// Who votes; not there while that changes.
    voters: BTreeMap<ShardId, Vec<u64>>,
    /// Nodes whose disk was changed under them: they may or may not hold what they held.
    forgotten: BTreeSet<u64>,
    /// What each node said last.
    last: BTreeMap<(u64, ShardId), (u64, GroupStatus)>,
    /// What nodes came by, and how often.
    marks: BTreeMap<&'static str, u64>,
    broken: Option<Broken>,
}

/// A term and a node that wants to lead in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Ballot {
    term: u64,
    node: u64,
}

impl Watch {
    /// Listens to the log of a machine.
    pub(crate) fn tap(&self, node: u64) -> LogTap {
        LogTap::new(node, self.clone())
    }

    /// Listens to what a node applies.
    pub(crate) fn observer(&self, node: u64) -> Arc<dyn AppliedObserver> {
        Arc::new(Observer { node, watch: self.clone() })
    }

    /// Who votes changes from now on: it is not known until a look after the change.
    pub(crate) fn voters_change(&self) {
        self.lock().voters.clear();
    }

    /// What a node held is not known any more, as its disk is another one.
    pub(crate) fn forget(&self, node: u64) {
        let mut known = self.lock();
        let is_other = |of: u64| of != node;
        known.durable.retain(|(of, _), _| is_other(*of));
        known.at_start.retain(|(of, _), _| is_other(*of));
        known.last.retain(|(of, _), _| is_other(*of));
        known.forgotten.insert(node);
    }

    /// Takes in what every running node says at one moment, and whether nobody is changing who they are.
    pub(crate) fn look(&self, seen: &[Seen], is_settled: bool) {
        self.check(|known| {
            if is_settled {
                known.note_voters(seen);
            }
            for of_node in seen {
                for status in &of_node.shards {
                    known.look_at(of_node, status)?;
                }
            }
            Ok(())
        });
    }

    /// The first property that broke; told once.
    pub(crate) fn take_broken(&self) -> Option<Broken> {
        self.lock().broken.take()
    }

    /// How often something that was applied was looked for on disks.
    pub(crate) fn checked(&self) -> u64 {
        self.lock().marks.get(r05_committed_is_durable_on_a_quorum::MARK).copied().unwrap_or_default()
    }

    /// What nodes came by without saying so.
    pub(crate) fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.lock().marks.clone()
    }

    fn check(&self, check: impl FnOnce(&mut Known) -> Checked) {
        let mut known = self.lock();
        if known.broken.is_none()
            && let Err(broken) = check(&mut known)
        {
            known.broken = Some(broken);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Voters are known when nobody changes them and a majority of them says so: one that was left behind by a change says what was.
    fn note_voters(&mut self, seen: &[Seen]) {
        let mut said: BTreeMap<(ShardId, Vec<u64>), Vec<u64>> = BTreeMap::new();
        for of_node in seen {
            for status in of_node.shards.iter().filter(|status| !status.members.changing) {
                let mut voters: Vec<u64> = status.members.voters.iter().map(|voter| voter.node_id.0).collect();
                voters.sort_unstable();
                if voters.contains(&of_node.node) {
                    said.entry((status.shard, voters)).or_default().push(of_node.node);
                }
            }
        }
        let agreed = said.into_iter().filter(|((_, voters), nodes)| nodes.len() * 2 > voters.len());
        self.voters.extend(agreed.map(|(said, _)| said));
    }

    fn look_at(&mut self, seen: &Seen, status: &GroupStatus) -> Checked {
        let (node, shard) = (seen.node, status.shard);
        let before = self.last.get(&(node, shard)).filter(|(life, _)| *life == seen.life).map(|(_, status)| status);
        if before == Some(status) {
            return Ok(());
        }
        let new_leader = is_leader(node, status) && !self.leaders.contains(&(shard, ballot_of(status)));
        let marks = [
            ("new leader", new_leader),
            ("shard flushed", before.is_some_and(|before| before.flushed < status.flushed)),
            ("log purged", before.is_some_and(|before| before.purged < status.purged)),
        ];
        r07_order_of_indexes::look(node, status)?;
        r04_same_everywhere::look(self, node, status)?;
        r08_never_back::look(self, node, before, status)?;
        r05_committed_is_durable_on_a_quorum::look(self, node, before, status)?;
        r01_one_leader_a_ballot::look(self, node, status)?;
        r03_leader_completeness::look(self, node, status)?;
        r13_durable_acknowledgement::look(self, node, status)?;
        if is_leader(node, status) {
            self.leaders.insert((shard, ballot_of(status)));
        }
        self.last.insert((node, shard), (seen.life, status.clone()));
        marks.into_iter().filter(|(_, came_by)| *came_by).for_each(|(mark, _)| self.mark(mark));
        Ok(())
    }

    fn mark(&mut self, mark: &'static str) {
        *self.marks.entry(mark).or_default() += 1;
    }

    /// The voters that have an entry durably; none while it is not known who votes.
    fn holders(&self, shard: ShardId, has: impl Fn(&DurableShard) -> bool) -> Option<Holders> {
        let voters = self.voters.get(&shard)?;
        let has = |node: u64| self.forgotten.contains(&node) || self.durable.get(&(node, shard)).is_some_and(&has);
        let nodes: Vec<u64> = voters.iter().copied().filter(|voter| has(*voter)).collect();
        Some(Holders { nodes, voters: voters.len() })
    }
}

/// Voters that have something.
struct Holders {
    nodes: Vec<u64>,
    voters: usize,
}

impl Holders {
    fn are_a_quorum(&self) -> bool {
        self.nodes.len() * 2 > self.voters
    }
}

impl std::fmt::Display for Holders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} voters", self.nodes, self.voters)
    }
}

fn ballot_of(status: &GroupStatus) -> Ballot {
    Ballot { term: status.vote.term, node: status.vote.node_id.0 }
}

fn is_leader(node: u64, status: &GroupStatus) -> bool {
    status.role == cairn_node::Role::Leader && status.vote.is_elected && status.vote.node_id.0 == node
}

struct Observer {
    node: u64,
    watch: Watch,
}

impl AppliedObserver for Observer {
    fn applied(&self, entry: &AppliedEntry<'_>) {
        self.watch.check(|known| {
            r04_same_everywhere::applied(known, self.node, entry)?;
            r05_committed_is_durable_on_a_quorum::applied(known, self.node, entry.shard, entry.entry)
        });
    }
}

fn broken<T>(property: &'static str, what: String) -> Result<T, Broken> {
    Err((property, what))
}

fn named(id: EntryId) -> String {
    format!("{} of term {} by node {}", id.index, id.term, id.leader)
}
