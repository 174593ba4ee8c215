//! Who is in the cluster, and the changes of it that are under way.
//!
//! Invariants
//! - One change at a time, and it is asked for until it is made: a change that is half made is never left behind.
//! - A machine whose node has left never comes back.
//! - Clients know founders alone at first: two of them stay.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_machine::NodeId;
use tokio::sync::oneshot;

use crate::machine::peer_address;

use super::World;
use super::operator::Order;

/// How many founders stay at least.
const FOUNDERS_MIN: usize = 2;
/// No removal leaves fewer members: one of them must be able to fail.
const MEMBERS_MIN: usize = 3;
/// A change that was not made is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Who is in the cluster.
#[derive(Default)]
pub(super) struct Roster {
    /// Machines that are not there yet.
    pub spares_left: u64,
    /// Machines whose nodes have left for good.
    pub retired: BTreeSet<u64>,
    /// Machines that stay down for now.
    pub kept_down: BTreeSet<u64>,
    change: Option<Change>,
}

/// A change that is not done yet.
struct Change {
    order: Order,
    answer: Option<oneshot::Receiver<bool>>,
    ask_at: Duration,
}

impl Roster {
    /// Of a cluster that nobody has changed yet.
    pub(super) fn with_spares(spares_left: u64) -> Self {
        Self { spares_left, ..Self::default() }
    }

    /// Whether no change is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.change.is_none()
    }
}

impl World {
    /// The node ids of the machines that are there, also of one that only waits to be taken in.
    pub(super) fn present(&self) -> Vec<u64> {
        self.machines.iter().map(|machine| machine.id()).filter(|id| !self.roster.retired.contains(id)).collect()
    }

    /// Whether a node may leave for good.
    pub(super) fn may_leave(&self, id: u64) -> bool {
        let present = self.present();
        let founders = present.iter().filter(|other| **other <= self.plan.nodes && **other != id).count();
        present.contains(&id) && founders >= FOUNDERS_MIN
    }

    /// Takes a spare machine in; false if that cannot be begun now.
    pub(super) fn begin_add(&mut self) -> bool {
        if !self.roster.is_settled() || self.roster.spares_left == 0 {
            return false;
        }
        let id = self.enlist_spare();
        self.begin_change(Order::Add(peer_address(id)));
        true
    }

    /// Takes a node out; false if that cannot be begun now.
    pub(super) fn begin_remove(&mut self, id: u64) -> bool {
        let may = self.roster.is_settled() && self.may_leave(id) && self.present().len() > MEMBERS_MIN;
        if may {
            self.begin_change(Order::Remove(NodeId(id)));
        }
        may
    }

    /// Puts a spare machine into a node's place; false if that cannot be begun now.
    pub(super) fn begin_replace(&mut self, id: u64) -> bool {
        if !self.roster.is_settled() || self.roster.spares_left == 0 || !self.may_leave(id) {
            return false;
        }
        let spare = self.enlist_spare();
        self.begin_change(Order::Replace(NodeId(id), peer_address(spare)));
        true
    }

    fn begin_change(&mut self, order: Order) {
        self.note(format!("change: {order:?}"));
        self.watch.voters_change();
        self.roster.change = Some(Change { order, answer: None, ask_at: self.now() });
    }

    /// Asks for the change that is under way, until it is made.
    pub(super) fn attend_change(&mut self) {
        let now = self.now();
        let Some(change) = &mut self.roster.change else { return };
        match &mut change.answer {
            None if change.ask_at <= now => change.answer = Some(self.operator.ask(change.order.clone())),
            None => {}
            Some(answer) => match answer.try_recv() {
                Ok(true) => {
                    let order = change.order.clone();
                    self.roster.change = None;
                    self.note(format!("changed: {order:?}"));
                    if let Order::Remove(id) | Order::Replace(id, _) = order {
                        self.retire(id.0);
                    }
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
                Ok(false) | Err(oneshot::error::TryRecvError::Closed) => {
                    change.answer = None;
                    change.ask_at = now + ASK_AGAIN;
                }
            },
        }
    }

    /// The machine goes for good.
    fn retire(&mut self, id: u64) {
        self.roster.retired.insert(id);
        let machine = self.machine(id);
        self.take_down(&machine, true, Duration::ZERO);
        machine.disk().forget();
        self.up_at.remove(&id);
    }
}
