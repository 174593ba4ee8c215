//! The workload and the judgement of a world, for a cluster outside of any: real processes, sockets, disks and time.
//!
//! What is found here has no seed that brings it back. It is for what a world does not have: threads, kernels, a disk that is really full.

use std::sync::Arc;

use crate::audit;
use crate::evidence::Evidence;
use crate::history::{History, Operation, Outcome};
use crate::plan::Plan;
use crate::properties::{self, linearizable};
use crate::site::Site;
use crate::workload::{self, Until};

/// A workload that runs against a cluster outside of any world.
#[derive(Debug)]
pub struct Outside {
    plan: Plan,
    site: Site,
    history: History,
    until: Until,
}

/// What clients were told, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Operations of any kind.
    pub operations: usize,
    /// Operations that stored or deleted something, and were acknowledged.
    pub acknowledged: usize,
    /// Operations whose outcome is unknown.
    pub unknown: usize,
    /// Operations that were certainly not executed.
    pub not_applied: usize,
}

impl Outside {
    /// A workload that is drawn from `seed`, for the nodes at these client addresses, by node id from 1.
    #[must_use]
    pub fn new(seed: u64, addresses: impl IntoIterator<Item = String>, shards: u16) -> Self {
        let addresses: Arc<[String]> = addresses.into_iter().collect();
        let plan = Plan { shards, ..Plan::draw_of(seed, addresses.len() as u64) };
        Self { plan, site: Site::Outside(addresses), history: History::in_real_time(), until: Until::default() }
    }

    /// Tells the clients to stop.
    #[must_use]
    pub fn until(&self) -> Until {
        self.until.clone()
    }

    /// Runs all clients until they are told to stop and have ended what they began.
    pub async fn run(&self) {
        let clients = (1..=self.plan.load.clients)
            .map(|client| workload::run(client, &self.plan, &self.site, self.history.clone(), self.until.clone()));
        futures::future::join_all(clients).await;
    }

    /// What clients have been told so far.
    #[must_use]
    pub fn told(&self) -> Told {
        let operations = self.history.operations();
        let count = |is: fn(&Operation) -> bool| operations.iter().filter(|operation| is(operation)).count();
        Told {
            operations: operations.len(),
            acknowledged: count(Operation::is_acknowledged),
            unknown: count(|operation| matches!(operation.outcome, Outcome::Unknown(_))),
            not_applied: count(|operation| matches!(operation.outcome, Outcome::NotApplied(_))),
        }
    }

    /// Reads everything from every node, writes to every journal once more, and holds all that was ever told against every property
    /// that can be judged from it.
    ///
    /// # Errors
    /// The property that does not hold, and what breaks it.
    pub async fn judge(&self) -> Result<(), String> {
        let nodes: Vec<u64> = (1..=self.plan.nodes).collect();
        audit::run(&self.plan, &self.site, &nodes, self.history.clone()).await;
        let operations = self.history.operations();
        let evidence = Evidence::new(&operations, self.plan.shards);
        properties::judge(&evidence)
            .and_then(|()| properties::check_served(&operations))
            .map_err(|(property, what)| format!("{property}: {what}"))?;
        let not_linearizable = |name: &&&str| linearizable::check(&evidence, name) == linearizable::Verdict::NotLinearizable;
        match evidence.journals.keys().find(not_linearizable) {
            None => Ok(()),
            Some(name) => Err(format!("J6: {name:?} is not linearizable, says an independent checker")),
        }
    }
}
