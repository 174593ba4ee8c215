//! The commands.

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use cairn_simulation::{Detail, Plan, Report, Summary};
use clap::{Args, Subcommand};
use quanta::Instant;

use crate::failures::Failures;
use crate::job::{Job, Shape};
use crate::progress::Progress;
use crate::tally::Tally;
use crate::workers;

/// Where failing seeds are kept, from where the command is typed.
const FAILURES: &str = "target/simulation-failures";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Runs worlds, each with another mixture of faults; first those that broke something before.
    Run(RunArguments),
    /// Runs one world again, to the letter.
    Replay(ReplayArguments),
    /// Runs worlds twice, in processes of their own, and compares their whole traces.
    Determinism(DeterminismArguments),
    /// Runs new worlds for a time, and keeps the seeds of those that break something.
    Soak(SoakArguments),
    /// Runs the worlds that it reads.
    #[command(hide = true)]
    Worker,
    /// Runs worlds with a bug planted, until it is caught: one bug after another.
    Harness(HarnessArguments),
}

#[derive(Args)]
pub(crate) struct RunArguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    #[command(flatten)]
    shape: Shape,
    /// The file of seeds that are tried first; those that break nothing any more leave it.
    #[arg(long, default_value = FAILURES)]
    failures: PathBuf,
}

#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// Which seed.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    shape: Shape,
    /// Prints every message and every answer.
    #[arg(long)]
    trace: bool,
    /// Runs the worlds of so many seeds before it first, without a word: whether what a process did before changes anything.
    #[arg(long, default_value_t = 0, hide = true)]
    preceded_by: u64,
    /// Writes what clients did, one operation a line, into this file.
    #[arg(long)]
    history: Option<PathBuf>,
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

#[derive(Args)]
pub(crate) struct SoakArguments {
    /// For how long.
    #[arg(long)]
    minutes: u64,
    /// The first seed; drawn if it is not given.
    #[arg(long)]
    from: Option<u64>,
    #[command(flatten)]
    shape: Shape,
    /// The file that keeps failing seeds.
    #[arg(long, default_value = FAILURES)]
    failures: PathBuf,
}

#[derive(Args)]
pub(crate) struct HarnessArguments {
    /// Only these bugs, by name; may be repeated.
    #[arg(long)]
    bug: Vec<String>,
    /// Only so many bugs, spread over all of them.
    #[arg(long, conflicts_with = "bug")]
    sample: Option<usize>,
    /// A bug must be caught within so many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
}

/// Whether nothing broke.
pub(crate) fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run(arguments) => run_many(arguments),
        Command::Replay(arguments) => replay(&arguments),
        Command::Determinism(arguments) => determinism(&arguments),
        Command::Soak(arguments) => soak(arguments),
        Command::Worker => workers::serve().map(|()| true),
        Command::Harness(arguments) => harness::run(&arguments),
    }
}

fn run_many(RunArguments { seeds, from, shape, failures }: RunArguments) -> anyhow::Result<bool> {
    Job { seed: from, shape: shape.clone() }.plan()?;
    let failures = Failures::open(&failures)?;
    let before: Vec<Job> = failures.jobs().cloned().collect();
    if !before.is_empty() {
        println!("first {} that broke something before", before.len());
    }
    let progress = Progress::new(Some(seeds + before.len() as u64))?;
    let jobs = (from..from + seeds).map(|seed| Job { seed, shape: shape.clone() });
    Course::new(progress, failures, |failures, job, is_broken| if is_broken { Ok(()) } else { failures.note(job, false) })
        .run(before.clone().into_iter().chain(jobs.filter(|job| !before.contains(job))))
}

fn soak(SoakArguments { minutes, from, shape, failures }: SoakArguments) -> anyhow::Result<bool> {
    let from = from.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    Job { seed: from, shape: shape.clone() }.plan()?;
    println!("from seed {from}");
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let jobs = (from..).map(|seed| Job { seed, shape: shape.clone() }).take_while(|_| Instant::now() < end);
    Course::new(Progress::new(None)?, Failures::open(&failures)?, Failures::note).run(jobs)
}

/// How the file of failures is kept.
type Keep = fn(&mut Failures, &Job, bool) -> anyhow::Result<()>;

/// Many worlds under way.
struct Course {
    progress: Progress,
    tally: Tally,
    failures: Failures,
    keep: Keep,
    broken: Vec<Job>,
}

impl Course {
    fn new(progress: Progress, failures: Failures, keep: Keep) -> Self {
        Self { progress, tally: Tally::default(), failures, keep, broken: Vec::new() }
    }

    /// Whether nothing broke.
    fn run(self, jobs: impl Iterator<Item = Job> + Send) -> anyhow::Result<bool> {
        let this = Mutex::new((self, Ok(())));
        workers::run_all(jobs, |job, summary| {
            let mut locked = this.lock().expect("nobody panics while holding it");
            let (course, kept) = &mut *locked;
            let noted = course.take(job, &summary);
            if kept.is_ok() {
                *kept = noted;
            }
        })?;
        let (course, kept) = this.into_inner().expect("nobody panicked");
        course.progress.finish();
        println!("{}", course.tally.table());
        for job in &course.broken {
            println!("broken: {}", job.replay_command());
        }
        kept?;
        Ok(course.tally.is_whole())
    }

    fn take(&mut self, job: &Job, summary: &Summary) -> anyhow::Result<()> {
        self.tally.add(summary);
        self.progress.advance(self.tally.line());
        let is_broken = summary.broken.is_some();
        if is_broken {
            self.progress.print(&summary.describe(&job.replay_command()));
            self.broken.push(job.clone());
        }
        (self.keep)(&mut self.failures, job, is_broken)
    }
}

fn replay(arguments: &ReplayArguments) -> anyhow::Result<bool> {
    let detail = match (arguments.trace, arguments.hash) {
        (true, _) => Detail::TracePrinted,
        (false, true) => Detail::TraceHash,
        (false, false) => Detail::Lines,
    };
    let job = |seed| Job { seed, shape: arguments.shape.clone() };
    for seed in arguments.seed.saturating_sub(arguments.preceded_by)..arguments.seed {
        cairn_simulation::run(job(seed).plan()?, Detail::TraceHash)?;
    }
    let job = job(arguments.seed);
    let report = cairn_simulation::run(job.plan()?, detail)?;
    if arguments.hash {
        println!("{}", trace(&report));
        return Ok(true);
    }
    if let Some(file) = &arguments.history {
        write_history(&report, file)?;
    }
    let summary = Summary::of(&report);
    let mut tally = Tally::default();
    tally.add(&summary);
    println!("{}\n{}", tally.table(), summary.describe(&job.replay_command()));
    Ok(tally.is_whole())
}

fn write_history(report: &Report, file: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for (id, operation) in report.history.iter().enumerate() {
        text.push_str(&format!("{id} {}\n", serde_json::to_string(operation).context("an operation as JSON")?));
    }
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Each seed in a process of its own, and all of them again one after another in this one.
fn determinism(arguments: &DeterminismArguments) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("find this program")?;
    let mut repeated = 0;
    for seed in arguments.from..arguments.from + arguments.seeds {
        let alone = Process::new(&program)
            .args(["replay", "--hash", "--seed", &seed.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .context("run a world in a process of its own")?;
        let here = trace(&cairn_simulation::run(Plan::draw(seed), Detail::TraceHash)?);
        let output = alone.wait_with_output().context("wait for a world in a process of its own")?;
        let there = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("seed {seed}: {here} in the middle of a run, {there} alone{}", if here == there { "" } else { ": DIFFERENT" });
        repeated += u64::from(here == there);
    }
    println!("{repeated} of {} seeds repeat to the letter", arguments.seeds);
    Ok(repeated == arguments.seeds)
}

fn trace(report: &Report) -> String {
    format!("{:016x} {}", report.chronicle.trace.0, report.chronicle.trace.1)
}
