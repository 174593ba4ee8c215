//! A disk is nearly full until the very end of the faults: the others learn only later that it has room again, and until then a leader
//! that cannot do without it refuses writes. It must not say that it is ready meanwhile.

use super::{Scenario, step};
use crate::fault::{Fault, Who};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "freed-at-last",
    steps: "two of the nodes have nearly no room for the last three seconds of the faults, and get it back at the healing",
    faults: || [1, 2].map(|node| step(57, 10, Fault::FullDisk { who: Who::Node(node), bytes: 15_000 })).to_vec(),
};
