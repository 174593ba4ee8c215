//! The front door for users: their own workload against a simulated cluster, in a plain `#[test]`.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;

use crate::chronicle::Detail;
use crate::cluster::Cluster;
use crate::fault::{Fault, Scheduled};
use crate::plan::Plan;
use crate::summary::Summary;
use crate::world::{self, Ended, GuestList, Report};

/// How long closures may take, in the world's time.
const TIME_MAX: Duration = Duration::from_secs(300);

/// A simulated cluster and what is to happen in it.
///
/// Closures are asynchronous programs with the real client, each on a host of its own. They begin when the cluster is up, and
/// use tokio for time and tasks. When all of them have ended, everything is healed; every node must become ready, the cluster must
/// serve, and every node must show the same journals.
///
/// The same seed and the same program give the same run, to the letter.
pub struct Simulation {
    seed: u64,
    nodes: u64,
    spares: u64,
    shards: u16,
    swarm: bool,
    faults: Vec<Scheduled>,
    detail: Detail,
    guests: GuestList,
}

impl Simulation {
    /// A world of three nodes and one shard in which nothing goes wrong yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            spares: 0,
            shards: 1,
            swarm: false,
            faults: Vec::new(),
            detail: Detail::Lines,
            guests: GuestList { guests: Vec::new(), time_max: TIME_MAX },
        }
    }

    /// Of so many nodes: 1 to 7.
    #[must_use]
    pub fn nodes(mut self, nodes: u64) -> Self {
        self.nodes = nodes;
        self
    }

    /// With so many machines that stand by, for faults that take one in. A swarm may have more.
    #[must_use]
    pub fn spares(mut self, spares: u64) -> Self {
        self.spares = spares;
        self
    }

    /// Of so many shards: a power of two, 64 at most.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// Faults drawn from the seed, as in the cluster's own tests: crashes, power cuts, partitions, failing disks and whatever else
    /// there is, for a minute of the world's time or until all closures have ended.
    #[must_use]
    pub fn swarm(mut self) -> Self {
        self.swarm = true;
        self
    }

    /// A fault at a moment, counted from the beginning of the world; the cluster is up after some two seconds.
    #[must_use]
    pub fn fault_at(mut self, at: Duration, lasts: Duration, fault: Fault) -> Self {
        self.faults.push(Scheduled { at, lasts, fault });
        self
    }

    /// How long closures may take, in the world's time; five minutes by default, half an hour at most.
    #[must_use]
    pub fn time_max(mut self, time_max: Duration) -> Self {
        self.guests.time_max = time_max.min(6 * TIME_MAX);
        self
    }

    /// How much is written down; [`Detail::TracePrinted`] prints every message.
    #[must_use]
    pub fn detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }

    /// Adds a closure with a client host of its own.
    #[must_use]
    pub fn client<Run, Running>(mut self, run: Run) -> Self
    where
        Run: FnOnce(Cluster) -> Running + Send + 'static,
        Running: Future<Output = Ended> + 'static,
    {
        self.guests.guests.push(Box::new(move |cluster| run(cluster).boxed_local()));
        self
    }

    /// Runs the world with this last closure, and says what it came to.
    ///
    /// # Panics
    /// If a closure panics, ends with an error or does not end; if the cluster breaks a promise; if this program cannot run worlds
    /// that repeat. The text has the seed, what happened last, and how to run it again.
    pub fn run<Run, Running>(self, run: Run) -> Report
    where
        Run: FnOnce(Cluster) -> Running + Send + 'static,
        Running: Future<Output = Ended> + 'static,
    {
        let this = self.client(run);
        let (plan, detail) = (this.plan(), this.detail);
        let report = world::run_with(plan, detail, this.guests).unwrap_or_else(|error| panic!("{error}"));
        if report.violation.is_some() {
            let again = format!(
                "this test with Simulation::new({}) alone; .detail(Detail::TracePrinted) prints every message",
                report.plan.seed
            );
            panic!("{}", Summary::of(&report).describe(&again));
        }
        report
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan::draw_of(self.seed, self.nodes);
        plan.shards = self.shards;
        plan.load.clients = u16::try_from(self.guests.guests.len()).expect("fewer closures than that");
        plan.spares = if self.swarm { plan.spares.max(self.spares) } else { self.spares };
        if !self.swarm {
            plan.fjall = false;
            plan.faults.clear();
            plan.faults_end = self.guests.time_max;
        }
        plan.faults.extend(&self.faults);
        plan.faults.sort_by_key(|fault| fault.at);
        plan
    }
}
