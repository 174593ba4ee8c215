//! Every node goes down at once in the middle of writes: once as processes, twice with the power, so that what was not synced is lost
//! everywhere at the same time.

use super::{Scenario, step};
use crate::fault::Fault;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "all-down",
    steps: "every node is killed at once, comes back after 3 s, and loses its power at once twice later",
    faults: || {
        [(10, 3, false), (25, 3, true), (40, 6, true)]
            .map(|(at, lasts, power_cut)| step(at, lasts, Fault::CrashAll { power_cut }))
            .to_vec()
    },
};
