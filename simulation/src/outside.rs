//! The workload and the judgement of a world, for a cluster outside of any: real processes, sockets, disks and time.
//!
//! What is found here has no seed that brings it back. It is for what a world does not have: threads, kernels, a disk that is really full.

use std::sync::Arc;

use crate::audit::{self, AUDITOR};
use crate::evidence::Evidence;
use crate::history::{Answer, History, Operation, Outcome, Written};
use crate::plan::Plan;
use crate::properties;
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
            acknowledged: count(is_acknowledged),
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
        for (property, check) in properties::OF_HISTORY {
            check(&evidence).map_err(|what| format!("{property}: {what}"))?;
        }
        let unserved =
            operations.iter().find(|operation| operation.client == AUDITOR && !matches!(operation.outcome, Outcome::Ok(_)));
        unserved.map_or(Ok(()), |operation| Err(format!("L1: a healed cluster does not serve: {operation:?}")))
    }
}

/// Whether its client was told that something is stored or deleted.
pub(crate) fn is_acknowledged(operation: &Operation) -> bool {
    let Outcome::Ok(answer) = &operation.outcome else { return false };
    match answer {
        Answer::Written(outcomes) => outcomes.iter().any(|outcome| matches!(outcome, Written::Stored { .. })),
        Answer::Deleted { .. } | Answer::Saved { .. } | Answer::SnapshotsDeleted => true,
        _ => false,
    }
}
