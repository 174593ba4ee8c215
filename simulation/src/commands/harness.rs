//! `cargo simulate harness`: whether the properties catch wrong parts.
//!
//! Each bug meets the worlds of the general swarm, one seed after another, until a property breaks that the same seed keeps without the
//! bug. What only keeps a cluster from serving, or makes the harness itself stumble, does not count where the bug is about safety.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::Context as _;
use cairn_simulation::{Broken, Bug, Summary};
use comfy_table::{ContentArrangement, Table};

use crate::job::{Job, Shape};
use crate::workers;

use super::HarnessArguments;

/// What is known of one bug.
struct Hunt {
    bug: Bug,
    /// The seed that is tried next.
    next: u64,
    /// A world is under way.
    is_busy: bool,
    /// The property that caught it.
    caught: Option<String>,
    /// What broke without counting, and how often.
    uncounted: BTreeMap<String, u64>,
}

/// All of them, and which seeds break nothing without a bug.
struct Hunts {
    hunts: Vec<Hunt>,
    seeds: u64,
}

/// Whether every bug was caught.
pub(super) fn run(arguments: &HarnessArguments) -> anyhow::Result<bool> {
    let bugs = bugs(arguments)?;
    let hunt = |bug| Hunt { bug, next: 1, is_busy: false, caught: None, uncounted: BTreeMap::new() };
    let hunts = Mutex::new(Hunts { hunts: bugs.into_iter().map(hunt).collect(), seeds: arguments.seeds });
    let clean = Mutex::new(BTreeMap::new());
    let jobs = std::iter::from_fn(|| hunts.lock().expect("nobody panics while holding it").next());
    workers::run_all(jobs, |job, summary| {
        let bug = job.shape.bug.clone().and_then(|name| Bug::named(&name)).expect("every job here has one");
        let is_own = summary.broken.as_ref().is_some_and(|broken| counts(bug, broken)) && breaks_nothing(job.seed, &clean);
        hunts.lock().expect("nobody panics while holding it").take(bug, &summary, is_own);
    })?;
    let hunts = hunts.into_inner().expect("nobody panicked");
    println!("{}", hunts.table());
    Ok(hunts.report())
}

fn bugs(arguments: &HarnessArguments) -> anyhow::Result<Vec<Bug>> {
    let named = |name: &String| Bug::named(name).with_context(|| format!("--bug {name}: no such bug; there are {}", names()));
    match (arguments.bug.as_slice(), arguments.sample) {
        ([], None) => Ok(Bug::ALL.to_vec()),
        ([], Some(count)) => Ok((0..count).filter_map(|at| Bug::ALL.get(at * Bug::ALL.len() / count)).copied().collect()),
        (some, _) => some.iter().map(named).collect(),
    }
}

/// Whether this is a property that such a bug must break.
fn counts(bug: Bug, broken: &Broken) -> bool {
    match broken.property.as_str() {
        "panic" | "H1" => false,
        "L1" | "L2" | "L3" => bug.is_of_liveness(),
        _ => true,
    }
}

/// Whether a seed is whole without any bug; run once.
fn breaks_nothing(seed: u64, known: &Mutex<BTreeMap<u64, bool>>) -> bool {
    let mut known = known.lock().expect("nobody panics while holding it");
    *known.entry(seed).or_insert_with(|| {
        let plan = cairn_simulation::Plan::draw(seed);
        // Worlds were found to repeat here before any worker began.
        cairn_simulation::run(plan, cairn_simulation::Detail::Lines).is_ok_and(|report| report.violation.is_none())
    })
}

impl Hunts {
    /// One world at a time for each bug, so that the number of seeds is the same on every machine.
    fn next(&mut self) -> Option<Job> {
        let seeds = self.seeds;
        let is_open = |hunt: &&mut Hunt| !hunt.is_busy && hunt.caught.is_none() && hunt.next <= seeds;
        let hunt = self.hunts.iter_mut().find(is_open)?;
        hunt.is_busy = true;
        Some(Job { seed: hunt.next, shape: Shape { bug: Some(hunt.bug.name().to_owned()), ..Shape::default() } })
    }

    fn take(&mut self, bug: Bug, summary: &Summary, is_own: bool) {
        let hunt = self.hunts.iter_mut().find(|hunt| hunt.bug == bug).expect("it was handed out");
        hunt.is_busy = false;
        let seed = hunt.next;
        match &summary.broken {
            Some(Broken { property, what, .. }) if is_own => {
                eprintln!("{}: seed {seed}: {property}: {what}", bug.name());
                hunt.caught = Some(property.clone());
            }
            Some(Broken { property, .. }) => {
                *hunt.uncounted.entry(property.clone()).or_default() += 1;
                hunt.next += 1;
            }
            None => hunt.next += 1,
        }
        if hunt.next > self.seeds {
            eprintln!("{}: NOT CAUGHT within {} seeds", bug.name(), self.seeds);
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["bug", "what is wrong", "caught by", "seeds", "besides"]);
        for hunt in &self.hunts {
            let by = hunt.caught.as_deref().unwrap_or("NOT CAUGHT");
            let seeds = hunt.next.min(self.seeds).to_string();
            let besides: Vec<_> = hunt.uncounted.iter().map(|(property, count)| format!("{property} in {count}")).collect();
            table.add_row([hunt.bug.name(), hunt.bug.what(), by, &seeds, &besides.join(", ")]);
        }
        table
    }

    /// Whether every bug was caught.
    fn report(&self) -> bool {
        let mut needed: Vec<u64> = self.hunts.iter().filter(|hunt| hunt.caught.is_some()).map(|hunt| hunt.next).collect();
        needed.sort_unstable();
        let median = needed.get(needed.len() / 2).copied().unwrap_or_default();
        println!("{} of {} bugs caught, half of them within {median} seeds", needed.len(), self.hunts.len());
        let escaped: Vec<_> = self.hunts.iter().filter(|hunt| hunt.caught.is_none()).map(|hunt| hunt.bug.name()).collect();
        if !escaped.is_empty() {
            println!("not caught within {} seeds: {}", self.seeds, escaped.join(", "));
        }
        escaped.is_empty()
    }
}

fn names() -> String {
    Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ")
}
