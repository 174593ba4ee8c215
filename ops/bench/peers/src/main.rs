//! The same work on Cairn and on what a user would pick instead.

mod arguments;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use arguments::Arguments;
use cairn_bench_peers::systems::{OURS, SystemName};
use cairn_bench_peers::{
    Measure, Observer, Plan, Point, RealDisk, Report, Sample, figures_markdown, figures_text, number, replace_figures,
};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-bench-peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<()> {
    // Before the first figure: a run takes minutes.
    arguments.document.as_deref().map(|page| write_page(page, None)).transpose()?;
    if let Some(json) = &arguments.json {
        fs::write(json, "").with_context(|| format!("write {}", json.display()))?;
    }
    if let Some(plots) = &arguments.plots {
        fs::create_dir_all(plots).with_context(|| format!("make {}", plots.display()))?;
    }
    if let Some(from) = &arguments.from {
        let kept = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        return tell(arguments, &serde_json::from_slice(&kept).with_context(|| format!("read {}", from.display()))?);
    }
    let disk = RealDisk::find(arguments.dir.as_deref())?;
    let cairn = match &arguments.cairn {
        None if arguments.systems().contains(&SystemName::Cairn) => build_cairn()?,
        given => given.clone(),
    };
    let dir = tempfile::Builder::new().prefix("cairn-peers-").tempdir_in(disk.path()).context("make a folder for the data")?;
    // PostgreSQL runs as another user if we are root, who must be able to enter, but not to look around.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).context("open the folder for the data")?;
    let mut builder = match arguments.client_threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if arguments.client_threads > 1 {
        builder.worker_threads(arguments.client_threads.into());
    }
    let runtime = builder.enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(until_signal(arguments, &arguments.plan(), cairn, dir.path()));
    // Tasks hold servers: they end before their folder goes.
    drop(runtime);
    dir.close().context("remove the data")?;
    tell(arguments, &report?)
}

async fn until_signal(arguments: &Arguments, plan: &Plan, cairn: Option<PathBuf>, dir: &Path) -> Result<Report> {
    let contenders: Vec<_> = arguments.systems().into_iter().map(|name| name.contender(cairn.clone())).collect();
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => bail!("interrupted; every server was stopped"),
        _ = terminate.recv() => bail!("terminated; every server was stopped"),
        report = cairn_bench_peers::run(&contenders, plan, dir, &Telling) => report,
    }
}

/// Puts figures into a page; without figures only finds out whether that can be done.
fn write_page(path: &Path, figures: Option<&str>) -> Result<()> {
    let page = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let written = replace_figures(&page, figures.unwrap_or_default()).with_context(|| path.display().to_string())?;
    match figures {
        Some(_) => fs::write(path, written).with_context(|| format!("write {}", path.display())),
        None => Ok(()),
    }
}

fn tell(arguments: &Arguments, report: &Report) -> Result<()> {
    println!("{}", figures_text(report, OURS));
    if let Some(json) = &arguments.json {
        fs::write(json, serde_json::to_vec_pretty(report)?).with_context(|| format!("write {}", json.display()))?;
    }
    if let Some(plots) = &arguments.plots {
        for (name, svg) in cairn_bench_peers::draw(report, OURS)? {
            let path = plots.join(name);
            fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
        }
    }
    if let Some(page) = &arguments.document {
        write_page(page, Some(&figures_markdown(report, OURS)))?;
    }
    let failed = report.points.iter().flat_map(|point| &point.contenders).any(|samples| samples.failed.is_some());
    ensure!(!failed, "not everything could be measured");
    Ok(())
}

/// Under cargo, Cairn's binary of the same profile is brought up to date: figures of yesterday's code would mislead.
fn build_cairn() -> Result<Option<PathBuf>> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(None) };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "cairn", "--bin", "cairn"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    ensure!(command.status().context("run cargo")?.success(), "Cairn's binary could not be built");
    Ok(None)
}

/// Tells on standard error how it goes: a run takes minutes.
struct Telling;

impl Observer for Telling {
    fn skipped(&self, title: &str, reason: &str) {
        eprintln!("{title}: skipped, {reason}");
    }

    fn turn(&self, title: &str, round: usize, rounds: usize) {
        eprintln!("[{}/{rounds}] {title}", round + 1);
    }

    fn measured(&self, point: Point, sample: &Sample) {
        let measure = Measure::headline(point);
        let told = |measure: Measure| measure.of(sample).map(|figure| format!("{} {}", number(figure), measure.title));
        let told: Vec<_> = [measure, Measure::P50, Measure::P99, Measure::OTHERS].into_iter().filter_map(told).collect();
        eprintln!("      {point}: {}", told.join(", "));
    }

    fn failed(&self, point: Option<Point>, error: &anyhow::Error) {
        let what = if point.is_some() { "failed" } else { "did not start" };
        eprintln!("      {what}: {error:#}");
    }
}
