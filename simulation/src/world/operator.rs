//! The operator: a client that changes the cluster while the world goes on.

use std::time::Duration;

use cairn_client::Cairn;
use tokio::sync::mpsc;
use turmoil::Sim;

use crate::dice::Dice;
use crate::plan::Plan;
use crate::workload;

/// How long an order may take.
const ORDER_MAX: Duration = Duration::from_secs(20);

/// What the operator is told to do.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Hand every shard's leadership to somebody else.
    HandOver,
}

/// A handle on the operator.
pub(super) struct Operator {
    orders: mpsc::UnboundedSender<Order>,
}

impl Operator {
    pub(super) fn start(sim: &mut Sim<'_>, plan: &Plan, dice: &Dice) -> Self {
        let (orders, mut waiting) = mpsc::unbounded_channel();
        let mut dice = dice.stream("operator");
        let cairn = workload::connect(plan, &mut dice);
        // A host and not a client: nobody waits for it to end.
        let cairn = std::sync::Mutex::new(Some((cairn, std::mem::replace(&mut waiting, mpsc::unbounded_channel().1))));
        sim.host("operator", move || {
            let taken = cairn.lock().expect("nobody panics while holding it").take();
            async move {
                let Some((cairn, mut orders)) = taken else { return Ok(()) };
                while let Some(order) = orders.recv().await {
                    carry_out(&cairn, order).await;
                }
                Ok(())
            }
        });
        Self { orders }
    }

    pub(super) fn tell(&self, order: Order) {
        // It lives as long as the world.
        let _ = self.orders.send(order);
    }
}

async fn carry_out(cairn: &Cairn, order: Order) {
    let cluster = cairn.cluster().with_change_deadline(ORDER_MAX);
    let outcome = match order {
        Order::HandOver => cluster.transfer_leader(None, None).await,
    };
    tracing::info!(target: "world", ?outcome, "an order was carried out");
}
