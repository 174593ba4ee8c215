//! What came of a world, in short: what travels between processes, is summed up, and is shown to people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::Outcome;
use crate::plan::Plan;
use crate::world::Report;

/// Lines that a world said last, kept if it broke something.
const LINES_SHOWN: usize = 60;

/// A report without its history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What the world was.
    pub plan: Plan,
    /// What broke, if anything did.
    pub broken: Option<Broken>,
    /// Operations of clients by outcome.
    pub operations: BTreeMap<String, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// How often the run came by each mark.
    pub marks: BTreeMap<String, u64>,
    /// How long the world went on, in its own time.
    pub elapsed: Duration,
    /// What it cost: time of the thread that ran it.
    pub cpu: Duration,
}

/// A promise that was broken, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which one.
    pub property: String,
    /// When it was seen.
    pub at: Duration,
    /// What was seen.
    pub what: String,
    /// What was said last.
    pub timeline: Vec<String>,
}

impl Summary {
    /// The short form of a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let mut operations = BTreeMap::<_, u64>::new();
        for operation in &report.history {
            *operations.entry(outcome(&operation.outcome).to_owned()).or_default() += 1;
        }
        let owned = |counts: &BTreeMap<&str, u64>| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let lines = &report.chronicle.lines;
        let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
        Self {
            plan: report.plan.clone(),
            broken: report.violation.as_ref().map(|violation| Broken {
                property: violation.property.to_owned(),
                at: violation.at,
                what: violation.what.clone(),
                timeline: last.iter().map(ToString::to_string).collect(),
            }),
            operations,
            faults: owned(&report.faults),
            marks: owned(&report.chronicle.marks),
            elapsed: report.elapsed,
            cpu: report.cpu,
        }
    }

    /// A world that took its process with it.
    #[must_use]
    pub fn of_lost(plan: Plan, what: String) -> Self {
        let broken = Broken { property: "panic".to_owned(), at: Duration::ZERO, what, timeline: Vec::new() };
        Self {
            plan,
            broken: Some(broken),
            operations: BTreeMap::new(),
            faults: BTreeMap::new(),
            marks: BTreeMap::new(),
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }

    /// Everything that a person needs to go on with a world that broke something; empty if it broke nothing. `again` says how to
    /// run it again.
    #[must_use]
    pub fn describe(&self, again: &str) -> String {
        let mut text = String::new();
        let Some(broken) = &self.broken else { return text };
        let plan = serde_json::to_string(&self.plan).expect("a plan serializes");
        // Writing to a string does not fail.
        let _ = writeln!(text, "seed {}: {} broken at {:?}\n  {}", self.plan.seed, broken.property, broken.at, broken.what);
        let _ = writeln!(text, "  plan: {plan}\n  the last lines:");
        for line in &broken.timeline {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "  again: {again}");
        text
    }
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "ok",
        Outcome::NotApplied(_) => "refused or not applied",
        Outcome::Unknown(_) => "unknown",
        Outcome::Pending => "pending",
        Outcome::Wrong(_) => "wrong",
    }
}
