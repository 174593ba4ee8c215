//! Cairn's simulated world: the real node, the real client and the real rules in one deterministic process, from one seed.
//!
//! For users: [`Simulation`] runs their own workload in such a world, within a plain `#[test]`; [`Cluster`] is what their closures hold.
//! `examples/partition.rs` is a script, `examples/bank.rs` a swarm.
//!
//! Where to start reading the rest: [`Plan`] is everything that is drawn before a world begins, [`run`] runs one, [`Report`] is what came of it.
//! `world` moves it along, `machine` is where a node lives, `disk`, `pace` and `fault` are what goes wrong, `workload` is what clients do,
//! `history` what they were told, `watch` looks at every node meanwhile.
//!
//! Invariants
//! - The node is started by `Node::start`, the client built by its builder: what differs from production is parts.
//! - A seed and a commit reproduce everything: no thread, clock or generator of the system is used inside a world.

mod audit;
mod blocking;
mod broken;
mod chronicle;
mod clock;
mod cluster;
mod damage;
mod dice;
mod disk;
mod entropy;
mod evidence;
mod fault;
mod fold;
mod history;
mod links;
mod machine;
mod network;
mod outside;
mod pace;
mod plan;
mod properties;
mod replicas;
pub mod scenarios;
mod simulation;
mod site;
mod stamp;
mod summary;
mod watch;
mod workload;
mod world;

pub use audit::AUDITOR;
pub use broken::Bug;
pub use chronicle::{Chronicled, Detail, Line};
pub use cluster::Cluster;
pub use dice::Dice;
pub use disk::{Access, DiskSpeed, Moment};
pub use entropy::{NotDeterministic, check};
pub use fault::{Cut, Fault, Loss, Scheduled, Who};
pub use history::{Answer, Bounds, Call, Fresh, Operation, OperationId, Outcome, ReadEvent, ReadSnapshot, Written};
pub use outside::{Outside, Told};
pub use plan::{Load, Plan};
pub use simulation::Simulation;
pub use stamp::Stamp;
pub use summary::{Broken, Summary};
pub use world::{Report, Violation, run};
