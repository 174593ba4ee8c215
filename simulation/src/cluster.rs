//! A simulated cluster as a user's closure sees it: where its clients come from, and where it says what goes wrong.
//!
//! Invariants
//! - What is asked for happens between two moments of the world, and is in effect when the call has returned.
//! - The clients and dice of one closure are drawn from streams of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_client::{Builder, Cairn, NodeId};
use tokio::sync::oneshot;

use crate::dice::Dice;
use crate::fault::{Cut, Fault, Who};
use crate::history;
use crate::machine::client_address;
use crate::network;
use crate::plan::Plan;

/// How long a call of a client may take, all its tries together; its owner may say otherwise.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a try may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than any world.
const FOR_EVER: Duration = Duration::from_secs(100_000);

/// A handle on the simulated cluster; clones share it.
///
/// A fault that has no end of its own lasts until [`Cluster::heal`].
#[derive(Clone, Debug)]
pub struct Cluster {
    nodes: u64,
    requests: Requests,
    dice: Arc<Mutex<Dice>>,
}

impl Cluster {
    pub(crate) fn new(plan: &Plan, guest: u16, requests: Requests) -> Self {
        let dice = Dice::new(plan.seed).stream(&format!("guest-{guest}"));
        Self { nodes: plan.nodes, requests, dice: Arc::new(Mutex::new(dice)) }
    }

    /// A new client of the cluster, with connections of its own.
    #[must_use]
    pub fn client(&self) -> Cairn {
        self.client_builder().build().expect("the addresses are well formed")
    }

    /// A client of the cluster that is still to be built, for other settings.
    #[must_use]
    pub fn client_builder(&self) -> Builder {
        let addresses = (1..=self.nodes).map(client_address);
        let builder = Cairn::builder().endpoints(addresses).connector(network::connect).seed(self.lock_dice().any());
        builder.deadline(DEADLINE).attempt_timeout(ATTEMPT_TIMEOUT)
    }

    /// Dice for the closure's own choices, from the world's seed: another name, other dice.
    #[must_use]
    pub fn dice(&self, name: &str) -> Dice {
        self.lock_dice().stream(name)
    }

    /// How long the world has been going.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        history::now()
    }

    /// Waits until every node is ready.
    pub async fn ready(&self) {
        self.ask(Request::Ready).await;
    }

    /// Cuts links around a machine.
    pub async fn partition(&self, who: Who, cut: Cut) -> NodeId {
        self.begin(Fault::Partition { who, cut }).await
    }

    /// Kills a node; it stays down until [`Cluster::restart`] or [`Cluster::heal`].
    pub async fn crash(&self, who: Who) -> NodeId {
        self.begin(Fault::Crash { who, power_cut: false }).await
    }

    /// Cuts a machine's power: what its disk had not synced is lost in any subset. As [`Cluster::crash`] otherwise.
    pub async fn cut_power(&self, who: Who) -> NodeId {
        self.begin(Fault::Crash { who, power_cut: true }).await
    }

    /// Starts a node that is down.
    pub async fn restart(&self, node: NodeId) {
        self.ask(Request::Restart(node.0)).await;
    }

    /// Makes a node stand still, as a process that is stopped: nothing of its consensus moves, its disk answers nothing, and what is sent
    /// to it or from it waits. It goes on where it stopped at [`Cluster::heal`], or by itself after [`Cluster::begin_for`].
    pub async fn pause(&self, who: Who) -> NodeId {
        self.begin(Fault::Pause { who }).await
    }

    /// Makes a machine's disk slow: a sync takes up to this long.
    pub async fn slow_disk(&self, who: Who, sync_max: Duration) -> NodeId {
        self.begin(Fault::SlowDisk { who, sync_max }).await
    }

    /// Makes a machine's clock jump by so many microseconds, forwards or back; it does not jump back.
    pub async fn clock_jump(&self, who: Who, micros: i64) -> NodeId {
        self.begin(Fault::ClockJump { who, micros }).await
    }

    /// Begins any fault now, and says which machine it hit.
    pub async fn begin(&self, fault: Fault) -> NodeId {
        self.begin_for(fault, FOR_EVER).await
    }

    /// As [`Cluster::begin`], for a time.
    pub async fn begin_for(&self, fault: Fault, lasts: Duration) -> NodeId {
        NodeId(self.ask(Request::Begin { fault, lasts }).await)
    }

    /// Makes everything whole again: links, disks, and nodes that are down start.
    pub async fn heal(&self) {
        self.ask(Request::Heal).await;
    }

    /// Waits until the world is where closures begin: the cluster is up, or faults are about to come.
    pub(crate) async fn begun(&self) {
        self.ask(Request::Begun).await;
    }

    async fn ask(&self, request: Request) -> u64 {
        let (answer, answered) = oneshot::channel();
        self.requests.lock().push_back(Asked { request, answer });
        answered.await.expect("the world outlives what lives in it")
    }

    fn lock_dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a closure asks of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// To begin a fault; the answer is the node that it hit, 0 if there was none to hit.
    Begin {
        fault: Fault,
        lasts: Duration,
    },
    /// To start a node.
    Restart(u64),
    Heal,
    /// To be told when every node is ready.
    Ready,
    /// To be told when closures begin.
    Begun,
}

/// A request with the place of its answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub request: Request,
    pub answer: oneshot::Sender<u64>,
}

/// What was asked and not answered yet, in order; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Arc<Mutex<VecDeque<Asked>>>);

impl Requests {
    pub(crate) fn lock(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
