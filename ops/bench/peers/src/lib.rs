//! The same work on Cairn and on what a user would pick instead: etcd, NATS JetStream, PostgreSQL, and the floors of the machine.
//!
//! A figure alone says little: it does not repeat from machine to machine. What travels is how one system does beside another, on
//! the same machine, in the same minutes. So every system is a real cluster of three processes that this crate starts, gives the
//! same work, and stops again; they take turns within each round, and what is compared is compared within a round.
//!
//! Where to start reading: [`Point`] is the work; [`Contender`] and [`System`] are what a system must be able to do; [`run`]
//! measures; [`Report`] is what comes out, [`Comparison`] what is said of it.
//!
//! Invariants
//! - The runner knows no system, and a system knows no point.
//! - The loop is closed: each writer waits for its acknowledgement before it sends the next.
//! - Only what was acknowledged within the measured time counts.
//! - A server's process ends with its handle, in whatever way the run ends.

mod comparison;
mod contender;
mod document;
mod failover;
mod machine;
mod plan;
mod plots;
mod process;
mod report;
mod runner;
mod statistics;
pub mod systems;
mod tables;
mod work;

pub use comparison::{Better, Comparison, Figure, Measure};
pub use contender::{Contender, Skipped, System, Writer};
pub use document::{DocumentError, replace_figures};
pub use failover::Failover;
pub use machine::{Machine, RealDisk};
pub use plan::{Plan, Point, Sizes};
pub use plots::draw;
pub use report::{ContenderReport, Flow, LatencyBucket, PointReport, Report, Sample, Usage};
pub use runner::{Observer, run};
pub use statistics::{median, ratios};
pub use tables::{figures_markdown, figures_text, number};
