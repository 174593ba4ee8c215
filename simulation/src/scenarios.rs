//! Named scenarios: exact steps in place of drawn faults, one file each.
//!
//! Everything but the faults still comes from the seed: the shape of the world and what clients do. A bug that the swarm found in the
//! product leaves a scenario here.

mod all_down;
mod freed_at_last;
mod leader_isolated;

use std::time::Duration;

use crate::fault::{Fault, Scheduled};
use crate::plan::Plan;

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub steps: &'static str,
    faults: fn() -> Vec<Scheduled>,
}

impl Scenario {
    /// The plan with the steps of this scenario in place of its faults.
    #[must_use]
    pub fn plan(&self, plan: Plan) -> Plan {
        Plan { faults: (self.faults)(), ..plan }
    }
}

/// All of them.
pub const ALL: &[Scenario] = &[leader_isolated::SCENARIO, all_down::SCENARIO, freed_at_last::SCENARIO];

/// A step at this second, for so many seconds.
fn step(at: u64, lasts: u64, fault: Fault) -> Scheduled {
    Scheduled { at: Duration::from_secs(at), lasts: Duration::from_secs(lasts), fault }
}
