//! Where the cluster is that a workload runs against: in a world, or outside, as processes on sockets and disks.

use std::sync::Arc;

use cairn_client::Cairn;

use crate::broken::{self, Bug};
use crate::dice::Dice;
use crate::machine::client_address;
use crate::network;
use crate::plan::Plan;

/// The way to a cluster's nodes.
#[derive(Clone, Debug)]
pub(crate) enum Site {
    /// The world's nodes, over its network.
    World,
    /// Nodes outside of any world, at these client addresses, by node id from 1.
    Outside(Arc<[String]>),
}

impl Site {
    /// Where a node listens for clients.
    pub(crate) fn address(&self, node: u64) -> String {
        match self {
            Self::World => client_address(node),
            Self::Outside(addresses) => {
                let index = usize::try_from(node - 1).expect("few nodes");
                addresses[index].clone()
            }
        }
    }

    /// A client that knows all nodes of the plan.
    pub(crate) fn connect(&self, plan: &Plan, dice: &mut Dice) -> Cairn {
        let builder = Cairn::builder()
            .endpoints((1..=plan.nodes).map(|node| self.address(node)))
            .seed(dice.any())
            .deadline(plan.load.deadline)
            .attempt_timeout(plan.load.attempt_timeout);
        let builder = match (self, plan.bug) {
            (Self::World, Some(Bug::WireDamages)) => builder.connector(broken::connect_over_bad_wire),
            (Self::World, _) => builder.connector(network::connect),
            (Self::Outside(_), _) => builder,
        };
        builder.build().expect("the addresses are well formed")
    }
}
