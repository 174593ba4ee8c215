//! The operator: a client that changes the cluster while the world goes on.

use std::time::Duration;

use cairn_client::Cairn;
use cairn_machine::NodeId;
use tokio::sync::{mpsc, oneshot};
use turmoil::Sim;

use crate::dice::Dice;
use crate::plan::Plan;
use crate::site::Site;

/// How long an order may take.
const ORDER_MAX: Duration = Duration::from_secs(20);

/// What the operator is told to do.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Hand every shard's leadership to somebody else.
    HandOver,
    /// Take in the node that waits at this address.
    Add(String),
    /// Take a node out.
    Remove(NodeId),
    /// Put the node that waits at this address into a node's place.
    Replace(NodeId, String),
}

/// A handle on the operator.
pub(super) struct Operator {
    orders: mpsc::UnboundedSender<(Order, oneshot::Sender<bool>)>,
}

impl Operator {
    pub(super) fn start(sim: &mut Sim<'_>, plan: &Plan, dice: &Dice) -> Self {
        let (orders, mut waiting) = mpsc::unbounded_channel::<(Order, oneshot::Sender<bool>)>();
        let mut dice = dice.stream("operator");
        let cairn = Site::World.connect(plan, &mut dice);
        // A host and not a client: nobody waits for it to end.
        let cairn = std::sync::Mutex::new(Some((cairn, std::mem::replace(&mut waiting, mpsc::unbounded_channel().1))));
        sim.host("operator", move || {
            let taken = cairn.lock().expect("nobody panics while holding it").take();
            async move {
                let Some((cairn, mut orders)) = taken else { return Ok(()) };
                while let Some((order, answer)) = orders.recv().await {
                    let is_done = carry_out(&cairn, order).await;
                    // Nobody may be interested.
                    let _ = answer.send(is_done);
                }
                Ok(())
            }
        });
        Self { orders }
    }

    /// Gives an order; whether it was carried out is told later.
    pub(super) fn ask(&self, order: Order) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        // It lives as long as the world.
        let _ = self.orders.send((order, answer));
        answered
    }
}

async fn carry_out(cairn: &Cairn, order: Order) -> bool {
    let cluster = cairn.cluster().with_change_deadline(ORDER_MAX);
    let outcome = match order {
        Order::HandOver => cluster.transfer_leader(None, None).await,
        Order::Add(peer_address) => cluster.add(peer_address).await,
        Order::Remove(node) => cluster.remove(node).await,
        Order::Replace(lost, peer_address) => cluster.replace(lost, peer_address).await,
    };
    tracing::info!(target: "world", ?outcome, "an order was carried out");
    outcome.is_ok()
}
