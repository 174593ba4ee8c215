//! The leader is cut off from everybody in the middle of writes, again and again: long enough that another one is elected, and once for
//! shorter than that.

use super::{Scenario, step};
use crate::fault::{Cut, Fault, Who};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "leader-isolated",
    steps: "the leader of shard 0 is cut off from all nodes and clients in the middle of writes, for 8 s, 8 s, 1 s and 12 s",
    faults: || {
        let fault = Fault::Partition { who: Who::Leader(0), cut: Cut::Isolate };
        [(5, 8), (18, 8), (31, 1), (38, 12)].map(|(at, lasts)| step(at, lasts, fault)).to_vec()
    },
};
