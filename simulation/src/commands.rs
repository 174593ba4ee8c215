//! The commands.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use cairn_simulation::{Detail, Plan, Report};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::tally::Tally;

/// Lines of a world that are shown when it broke something.
const LINES_SHOWN: usize = 60;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Runs worlds, each with another mixture of faults.
    Run(RunArguments),
    /// Runs one world again, to the letter.
    Replay(ReplayArguments),
    /// Runs worlds twice, in processes of their own, and compares their whole traces.
    Determinism(DeterminismArguments),
}

#[derive(Args)]
pub(crate) struct RunArguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only worlds of so many nodes: 3, 5 or 7.
    #[arg(long)]
    nodes: Option<u64>,
}

#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// Which seed.
    #[arg(long)]
    seed: u64,
    /// As it was run: of so many nodes.
    #[arg(long)]
    nodes: Option<u64>,
    /// Prints every message and every answer.
    #[arg(long)]
    trace: bool,
    /// Runs the worlds of so many seeds before it first, without a word: whether what a process did before changes anything.
    #[arg(long, default_value_t = 0, hide = true)]
    preceded_by: u64,
    /// Writes what clients did, one operation a line, into this file.
    #[arg(long)]
    history: Option<std::path::PathBuf>,
    /// Prints the hash of the trace and nothing else.
    #[arg(long, hide = true)]
    hash: bool,
}

#[derive(Args)]
pub(crate) struct DeterminismArguments {
    /// How many seeds.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
}

/// Whether nothing broke.
pub(crate) fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run(arguments) => run_many(&arguments),
        Command::Replay(arguments) => replay(&arguments),
        Command::Determinism(arguments) => determinism(&arguments),
    }
}

fn plan(seed: u64, nodes: Option<u64>) -> anyhow::Result<Plan> {
    match nodes {
        None => Ok(Plan::draw(seed)),
        Some(nodes @ (3 | 5 | 7)) => Ok(Plan::draw_of(seed, nodes)),
        Some(nodes) => anyhow::bail!("--nodes {nodes}: a world has 3, 5 or 7 nodes"),
    }
}

fn run_many(arguments: &RunArguments) -> anyhow::Result<bool> {
    plan(arguments.from, arguments.nodes)?;
    let progress = ProgressBar::new(arguments.seeds).with_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {elapsed} of {duration}  {msg}")
            .context("the bar's template")?,
    );
    let (next, tally) = (AtomicU64::new(arguments.from), Mutex::new(Tally::default()));
    let end = arguments.from + arguments.seeds;
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return anyhow::Ok(());
                }
                let report = cairn_simulation::run(plan(seed, arguments.nodes)?, Detail::Lines)?;
                let mut tally = tally.lock().expect("nobody panics while holding it");
                tally.add(&report);
                progress.inc(1);
                progress.set_message(format!("{} violations", tally.violations.len()));
                if report.violation.is_some() {
                    progress.suspend(|| show(&report, arguments.nodes));
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    progress.finish_and_clear();
    let tally = tally.into_inner().expect("nobody panicked");
    println!("{}", tally.table());
    if !tally.violations.is_empty() {
        println!("violations at seeds {:?}", tally.violations);
    }
    Ok(tally.violations.is_empty())
}

/// Everything that a person needs to go on with a world that broke something.
fn show(report: &Report, nodes: Option<u64>) {
    let Some(violation) = &report.violation else { return };
    println!("\nseed {}: {} broken at {:?}", report.plan.seed, violation.property, violation.at);
    println!("  {}", violation.what);
    println!("  plan: {}", serde_json::to_string(&report.plan).expect("a plan serializes"));
    println!("  the last lines:");
    let lines = &report.chronicle.lines;
    for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
        println!("    {line}");
    }
    let nodes = nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
    println!("  again: cargo simulate replay --seed {}{nodes} --trace\n", report.plan.seed);
}

fn replay(arguments: &ReplayArguments) -> anyhow::Result<bool> {
    let detail = match (arguments.trace, arguments.hash) {
        (true, _) => Detail::TracePrinted,
        (false, true) => Detail::TraceHash,
        (false, false) => Detail::Lines,
    };
    for seed in arguments.seed.saturating_sub(arguments.preceded_by)..arguments.seed {
        cairn_simulation::run(plan(seed, arguments.nodes)?, Detail::TraceHash)?;
    }
    let report = cairn_simulation::run(plan(arguments.seed, arguments.nodes)?, detail)?;
    if arguments.hash {
        println!("{:016x} {}", report.chronicle.trace.0, report.chronicle.trace.1);
        return Ok(true);
    }
    if let Some(file) = &arguments.history {
        write_history(&report, file)?;
    }
    let mut tally = Tally::default();
    tally.add(&report);
    println!("{}", tally.table());
    show(&report, arguments.nodes);
    Ok(report.violation.is_none())
}

fn write_history(report: &Report, file: &std::path::Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for (id, operation) in report.history.iter().enumerate() {
        text.push_str(&format!("{id} {}\n", serde_json::to_string(operation).context("an operation as JSON")?));
    }
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Each seed in a process of its own, and all of them again one after another in this one.
fn determinism(arguments: &DeterminismArguments) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("find this program")?;
    let mut different = BTreeMap::new();
    for seed in arguments.from..arguments.from + arguments.seeds {
        let report = cairn_simulation::run(Plan::draw(seed), Detail::TraceHash)?;
        let here = format!("{:016x} {}", report.chronicle.trace.0, report.chronicle.trace.1);
        let output = std::process::Command::new(&program)
            .args(["replay", "--hash", "--seed", &seed.to_string()])
            .output()
            .context("run a world in a process of its own")?;
        let there = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("seed {seed}: {here} in the middle of a run, {there} alone{}", if here == there { "" } else { ": DIFFERENT" });
        if here != there {
            different.insert(seed, (here, there));
        }
    }
    println!("{} of {} seeds repeat to the letter", arguments.seeds - different.len() as u64, arguments.seeds);
    Ok(different.is_empty())
}
