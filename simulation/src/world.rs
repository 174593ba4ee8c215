//! A world: machines, clients and a network in one thread, driven from a plan.
//!
//! The world moves in ticks. Between two ticks nothing runs, and the world does what no program inside can do to itself: kill nodes, cut
//! power and links, damage disks, look at every node.

mod convergence;
mod faults;
mod guests;
mod judging;
mod losses;
mod members;
mod operator;
mod void;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_machine::ShardId;
use cairn_node::{FounderSettings, Role, Settings};
use turmoil::Sim;

use crate::audit;
use crate::chronicle::{Chronicle, Chronicled, Detail};
use crate::dice::Dice;
use crate::entropy::{self, Hold, NotDeterministic};
use crate::history::{History, Operation};
use crate::links::Links;
use crate::machine::{Machine, Tables, client_address, peer_address};
use crate::plan::Plan;
use crate::replicas;
use crate::site::Site;
use crate::watch::{Seen, Watch};
use crate::workload::{self, Until};

use faults::Active;
use guests::Guests;
use losses::Losing;
use members::Roster;
use operator::Operator;

pub(crate) use guests::{Ended, GuestList};

/// Messages that a socket holds; turmoil's default is too few for HTTP/2.
const TCP_CAPACITY: usize = 65_536;
/// How long clients may take to end when there are no faults any more, beyond their own deadline.
const CLIENTS_END_MAX: Duration = Duration::from_secs(20);
/// How long a healed cluster may take until every node is ready.
const READY_MAX: Duration = Duration::from_secs(40);
/// How long changes of the cluster may take once it is healed.
const CHANGES_MAX: Duration = Duration::from_secs(60);
/// How long the audit may take.
const AUDIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at every node.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How long nodes that nobody writes to may take until they hold the same.
const CONVERGE_MAX: Duration = Duration::from_secs(40);
/// How long a supervisor takes to start a process again at most.
const RESTART_MAX: Duration = Duration::from_secs(2);

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was.
    pub plan: Plan,
    /// What broke, if anything did.
    pub violation: Option<Violation>,
    /// What clients did.
    pub history: Vec<Operation>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What everybody said, and the marks that the run came by.
    pub chronicle: Chronicled,
    /// How long the world went on, in its own time.
    pub elapsed: Duration,
    /// What it cost: time of the thread that ran it.
    pub cpu: Duration,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one: J1 to J15, S1 to S7, R1 to R18, L1 to L3, H1, or `panic`.
    pub property: &'static str,
    /// When it was seen.
    pub at: Duration,
    /// What was seen.
    pub what: String,
}

/// Held by the world that runs.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a world on a thread of its own; worlds of one process run one after the other.
///
/// # Errors
/// [`NotDeterministic`] if this program cannot run worlds that repeat.
///
/// # Panics
/// If the system gives no thread.
pub fn run(plan: Plan, detail: Detail) -> Result<Report, NotDeterministic> {
    run_with(plan, detail, GuestList::default())
}

/// As [`run`], with guests in place of the workload if there are any.
pub(crate) fn run_with(plan: Plan, detail: Detail, guests: GuestList) -> Result<Report, NotDeterministic> {
    entropy::check()?;
    // One world at a time in a process: see `entropy::align_task_ids`.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = plan.seed;
    #[expect(
        clippy::disallowed_methods,
        reason = "a fresh thread, so that no hash key or generator carries over from another world"
    )]
    let thread = std::thread::spawn(move || run_here(plan, detail, guests));
    Ok(thread.join().unwrap_or_else(|_| panic!("world {seed}: the harness itself panicked")))
}

fn run_here(plan: Plan, detail: Detail, guests: GuestList) -> Report {
    let chronicle = Chronicle::new(detail);
    let mut report = chronicle.record(|| {
        let hold = Hold::take(plan.seed);
        entropy::align_task_ids();
        let mut world = World::new(plan, hold, guests);
        let outcome = catch_unwind(AssertUnwindSafe(|| world.go()));
        let violation = match outcome {
            Ok(outcome) => outcome.err(),
            Err(panic) => Some(world.violation("panic", panic_text(&*panic))),
        };
        let report = world.report(violation);
        // What a world that broke in the middle leaves cannot always be dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(world)));
        report
    });
    let watched = std::mem::replace(&mut report.chronicle, chronicle.take()).marks;
    report.chronicle.marks.extend(watched);
    report.cpu = entropy::thread_cpu();
    report
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

pub(crate) struct World {
    plan: Plan,
    dice: Dice,
    hold: Hold,
    sim: Sim<'static>,
    machines: Vec<Machine>,
    /// When machines that are down come up again, by node id.
    up_at: BTreeMap<u64, Duration>,
    active: Vec<Active>,
    links: Links,
    operator: Operator,
    guests: Guests,
    roster: Roster,
    losing: Option<Losing>,
    /// Nodes that a rolling restart has yet to come to.
    rolling: VecDeque<u64>,
    history: History,
    until: Until,
    /// How many clients have ended.
    ended: Rc<Cell<u16>>,
    next_fault: usize,
    faults: BTreeMap<&'static str, u64>,
    watch: Watch,
    look_at: Duration,
}

impl World {
    fn new(plan: Plan, hold: Hold, guests: GuestList) -> Self {
        let dice = Dice::new(plan.seed).stream("world");
        let watch = Watch::default();
        let mut sim = turmoil::Builder::new()
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(plan.latency_max)
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .rng_seed(plan.seed)
            .build();
        let machines: Vec<_> = (1..=plan.nodes).map(|id| machine(&plan, &dice, id, &watch)).collect();
        for machine in &machines {
            house(&mut sim, machine);
        }
        let (history, until, ended) = (History::default(), Until::default(), Rc::new(Cell::new(0)));
        let guests = Guests::start(&mut sim, &plan, guests, &ended);
        let clients = if guests.are_here() { 0 } else { plan.load.clients };
        for client in 1..=clients {
            let (plan, history, until, ended) = (plan.clone(), history.clone(), until.clone(), ended.clone());
            sim.client(client_host(client), async move {
                workload::run(client, &plan, &Site::World, history, until).await;
                ended.set(ended.get() + 1);
                Ok(())
            });
        }
        let operator = Operator::start(&mut sim, &plan, &dice);
        let spares_left = plan.spares;
        Self {
            dice: dice.stream("course"),
            plan,
            hold,
            sim,
            machines,
            up_at: BTreeMap::new(),
            active: Vec::new(),
            links: Links::default(),
            roster: Roster::with_spares(spares_left),
            losing: None,
            rolling: VecDeque::new(),
            operator,
            guests,
            history,
            until,
            ended,
            next_fault: 0,
            faults: BTreeMap::new(),
            watch,
            look_at: Duration::ZERO,
        }
    }

    fn go(&mut self) -> Result<(), Violation> {
        while self.now() < self.plan.faults_end && !self.guests_are_done() {
            self.begin_faults();
            self.step()?;
        }
        self.heal();
        self.until.stop();
        let bound = self.clients_end_max();
        self.step_until("L3", "every operation ends by its deadline", bound, |world| world.clients_have_ended())?;
        self.step_until("L1", "changes of the cluster are made once it is healed", CHANGES_MAX, |world| {
            world.losing.is_none() && world.roster.is_settled()
        })?;
        self.step_until("L1", "every node is ready once the cluster is healed", READY_MAX, World::all_ready)?;
        if self.guests.are_here() {
            self.check_replicas()?;
            return self.converge();
        }
        let audited = Rc::new(Cell::new(false));
        let (plan, history, done) = (self.plan.clone(), self.history.clone(), audited.clone());
        let members = self.present();
        self.note("audit");
        self.sim.client("auditor", async move {
            audit::run(&plan, &Site::World, &members, history).await;
            done.set(true);
            Ok(())
        });
        self.step_until("L1", "a healed cluster serves", AUDIT_MAX, |_| audited.get())?;
        self.judge()?;
        self.converge()
    }

    /// What is audited after guests, whose journals hold what they like.
    fn check_replicas(&mut self) -> Result<(), Violation> {
        let checked = Rc::new(RefCell::new(None));
        let (plan, members, done) = (self.plan.clone(), self.present(), checked.clone());
        self.note("audit");
        self.sim.client("auditor", async move {
            *done.borrow_mut() = Some(replicas::check(&plan, &members).await);
            Ok(())
        });
        self.step_until("L1", "a healed cluster serves", AUDIT_MAX, |_| checked.borrow().is_some())?;
        let outcome = checked.borrow_mut().take().expect("it is there");
        outcome.map_err(|(property, what)| self.violation(property, what))
    }

    /// All nodes come to hold the same.
    fn converge(&mut self) -> Result<(), Violation> {
        self.note("converge");
        let outcome = Rc::new(RefCell::new(None));
        let machines: Vec<Machine> = self.present().into_iter().map(|id| self.machine(id)).collect();
        let (shards, told) = (self.plan.shards, outcome.clone());
        self.sim.client("inspector", async move {
            *told.borrow_mut() = Some(convergence::compare(&machines, shards).await);
            Ok(())
        });
        let what = "all nodes come to the same applied entry";
        self.step_until("L1", what, CONVERGE_MAX, |_| outcome.borrow().is_some())?;
        let compared = outcome.borrow_mut().take().unwrap_or(Ok(()));
        compared.map_err(|(property, what)| self.violation(property, what))
    }

    /// One tick of everything.
    fn step(&mut self) -> Result<(), Violation> {
        self.hold.set_elapsed(self.sim.elapsed());
        self.end_faults();
        self.kill_struck();
        self.attend_machines()?;
        self.serve_guests()?;
        self.roll_on();
        self.attend_change();
        self.attend_loss()?;
        let stepped = self.sim.step();
        stepped.map_err(|error| self.violation("panic", error.to_string()))?;
        self.look()
    }

    /// Looks at every node from time to time, and says what broke of what must hold between them.
    fn look(&mut self) -> Result<(), Violation> {
        if self.now() >= self.look_at {
            self.look_at = self.now() + LOOK_INTERVAL;
            let seen: Vec<Seen> = self.machines.iter().filter_map(Machine::seen).collect();
            self.watch.look(&seen, self.roster.is_settled());
        }
        match self.watch.take_broken() {
            Some((property, what)) => Err(self.violation(property, what)),
            None => Ok(()),
        }
    }

    fn step_until(
        &mut self,
        property: &'static str,
        what: &str,
        bound: Duration,
        is_met: impl Fn(&mut Self) -> bool,
    ) -> Result<(), Violation> {
        let end = self.now() + bound;
        while !is_met(self) {
            if self.now() > end {
                let why: Vec<_> = self.machines.iter().map(why_not_ready).collect();
                return Err(self.violation(property, format!("{what}: not within {bound:?}; {}", why.join("; "))));
            }
            self.step()?;
        }
        Ok(())
    }

    fn clients_have_ended(&self) -> bool {
        self.ended.get() == self.plan.load.clients
    }

    fn all_ready(&mut self) -> bool {
        let is_ready = |id: &u64| self.machine(*id).node().is_some_and(|node| node.not_ready().is_empty());
        self.present().iter().all(is_ready)
    }

    /// Takes down nodes that ended by themselves, and starts those whose time has come.
    fn attend_machines(&mut self) -> Result<(), Violation> {
        for machine in self.machines.clone() {
            if let Some(ended) = machine.take_ended() {
                self.note(format!("{} ended: {ended:?}", machine.host()));
                self.hear_ended(&machine, &ended)?;
                let after = self.dice.time(Duration::from_millis(100), RESTART_MAX);
                self.take_down(&machine, false, after);
            }
        }
        let now = self.now();
        let due: Vec<u64> = self.up_at.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.up_at.remove(&id);
            let host = self.machine(id).host();
            self.note(format!("{host} starts"));
            self.sim.bounce(host.as_str());
        }
        Ok(())
    }

    /// The node is gone at once; it comes back after a time.
    fn take_down(&mut self, machine: &Machine, power_cut: bool, down: Duration) {
        self.sim.crash(machine.host().as_str());
        machine.die(power_cut);
        if self.roster.retired.contains(&machine.id()) || self.roster.kept_down.contains(&machine.id()) {
            return;
        }
        let up_at = self.now() + down;
        self.up_at.entry(machine.id()).and_modify(|at| *at = up_at.max(*at)).or_insert(up_at);
    }

    /// A machine that was not there before, with a node that waits to be taken in; its id.
    fn enlist_spare(&mut self) -> u64 {
        self.roster.spares_left -= 1;
        let id = self.machines.len() as u64 + 1;
        let machine = machine(&self.plan, &Dice::new(self.plan.seed).stream("spares"), id, &self.watch);
        house(&mut self.sim, &machine);
        self.machines.push(machine);
        id
    }

    fn machine(&self, id: u64) -> Machine {
        self.machines[usize::try_from(id).expect("is small") - 1].clone()
    }

    fn leader(&self, shard: u16) -> Option<Machine> {
        let led_term = |machine: &&Machine| {
            let status = machine.node()?.status().into_iter().find(|status| status.shard == ShardId(shard))?;
            (status.role == Role::Leader).then_some(status.term)
        };
        // One that is cut off may take itself for the leader long after another was elected.
        self.machines.iter().filter(|machine| led_term(machine).is_some()).max_by_key(led_term).cloned()
    }

    fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.hold.set_elapsed(self.now());
        tracing::info!(target: "world", "{what}");
    }

    fn violation(&self, property: &'static str, what: impl Into<String>) -> Violation {
        Violation { property, at: self.now(), what: what.into() }
    }

    fn report(&self, violation: Option<Violation>) -> Report {
        Report {
            plan: self.plan.clone(),
            violation,
            history: self.history.operations(),
            faults: self.faults.clone(),
            chronicle: Chronicled { marks: self.watch.marks(), ..Chronicled::default() },
            elapsed: self.now(),
            cpu: Duration::ZERO,
        }
    }
}

/// Gives a machine its place in the network, where its node lives from now on.
fn house(sim: &mut Sim<'_>, machine: &Machine) {
    let host = machine.clone();
    sim.host(machine.host(), move || {
        let machine = host.clone();
        async move {
            machine.live().await;
            Ok(())
        }
    });
}

fn machine(plan: &Plan, dice: &Dice, id: u64, watch: &Watch) -> Machine {
    let tables =
        if plan.fjall { Tables::fjall().expect("the system gives a folder") } else { Tables::Memory(Default::default()) };
    Machine::new(settings(plan, id), tables, dice, plan.disk_speed, watch.clone(), plan.bug)
}

fn settings(plan: &Plan, id: u64) -> Settings {
    let mut settings = Settings { insecure: true, ..Settings::default() };
    settings.cluster.id = uuid::Uuid::from_u128(0xCA1_0000 + u128::from(plan.seed));
    settings.cluster.shards = plan.shards;
    settings.cluster.founders = (1..=plan.nodes)
        .map(|id| FounderSettings { node_id: id, peer_address: peer_address(id), client_address: client_address(id) })
        .collect();
    if id > plan.nodes {
        settings.cluster.founders.clear();
        settings.cluster.join = true;
    }
    settings.node.id = id;
    settings.listen.client = client_address(id);
    settings.listen.peer = peer_address(id);
    settings.listen.http = String::new();
    settings.storage.segment_bytes = 8 * 1024 * 1024;
    settings.storage.memtable_bytes = plan.memtable_bytes;
    settings.raft.log_keep_entries = plan.log_keep_entries;
    let factor = u64::from(plan.timing_factor);
    settings.raft.heartbeat_interval_ms *= factor;
    settings.raft.election_timeout_ms_min *= factor;
    settings.raft.election_timeout_ms_max *= factor;
    settings.disk.read_only_below_bytes = 20_000;
    settings.disk.writable_above_bytes = 30_000;
    settings
}

fn client_host(client: u16) -> String {
    format!("client-{client}")
}

fn why_not_ready(machine: &Machine) -> String {
    let host = machine.host();
    match machine.node() {
        None => format!("{host} is down"),
        Some(node) => format!("{host}: {:?}", node.not_ready()),
    }
}
