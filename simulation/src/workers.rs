//! Worker processes: a world is alone in its process, so many worlds at a time are many processes.
//!
//! A worker reads jobs from its input and answers each with a summary, one JSON document a line. The parent hands out one job at a time.
//!
//! Invariants
//! - A worker that dies or falls silent is a violation of the seed that it had, and is replaced.
//! - A worker is replaced after [`WORLDS_MAX`] worlds as well: each leaves some memory behind, in statics of libraries.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context as _;
use cairn_simulation::{Detail, Summary};

use crate::job::Job;

/// A world that takes longer than this, in the system's time, hangs.
const WORLD_MAX: Duration = Duration::from_secs(600);

/// A worker runs so many worlds: what they leave behind, some 7 MB each, stays within half a gigabyte.
const WORLDS_MAX: usize = 64;

/// How many workers are worth having.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs jobs on workers until there are none; `took` is told of each.
pub(crate) fn run_all(jobs: impl Iterator<Item = Job> + Send, took: impl Fn(&Job, Summary) + Sync) -> anyhow::Result<()> {
    // Said once, and not by every worker.
    cairn_simulation::check()?;
    let program = std::env::current_exe().context("find this program")?;
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().expect("nobody panics while holding it").next();
    std::thread::scope(|scope| {
        let work = || {
            let mut worker = None;
            while let Some(job) = next() {
                let mut at_work = match worker.take() {
                    Some(at_work) => at_work,
                    None => Worker::start(Command::new(&program).arg("worker"))?,
                };
                match at_work.run(&job) {
                    Ok(summary) => {
                        took(&job, summary);
                        worker = Some(at_work).filter(|worker| worker.worlds < WORLDS_MAX);
                    }
                    Err(lost) => took(&job, Summary::of_lost(job.plan()?, at_work.end(&lost)?)),
                }
            }
            anyhow::Ok(())
        };
        let threads: Vec<_> = (0..count()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("nothing here panics"))
    })
}

/// What a worker does: jobs in, summaries out, until the parent closes the line.
pub(crate) fn serve() -> anyhow::Result<()> {
    for line in std::io::stdin().lines() {
        let job: Job = serde_json::from_str(&line.context("read a job")?).context("understand a job")?;
        let summary = Summary::of(&cairn_simulation::run(job.plan()?, Detail::Lines)?);
        println!("{}", serde_json::to_string(&summary).context("a summary as JSON")?);
    }
    Ok(())
}

struct Worker {
    child: Child,
    jobs: ChildStdin,
    answers: Receiver<String>,
    worlds: usize,
}

impl Worker {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a worker")?;
        let jobs = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, answers) = channel();
        // It ends with the worker's output.
        std::thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)))
            .context("a thread that reads answers")?;
        Ok(Self { child, jobs, answers, worlds: 0 })
    }

    /// The summary of a job, or why there is none.
    fn run(&mut self, job: &Job) -> Result<Summary, String> {
        self.worlds += 1;
        let line = serde_json::to_string(job).expect("a job serializes");
        writeln!(self.jobs, "{line}").map_err(|error| format!("took no job: {error}"))?;
        match self.answers.recv_timeout(WORLD_MAX) {
            Ok(answer) => serde_json::from_str(&answer).map_err(|error| format!("answered {answer:?}: {error}")),
            Err(RecvTimeoutError::Timeout) => Err(format!("gave no answer within {WORLD_MAX:?}")),
            Err(RecvTimeoutError::Disconnected) => Err("ended".to_owned()),
        }
    }

    /// Ends a worker that is of no use any more, and says how it went.
    fn end(mut self, lost: &str) -> anyhow::Result<String> {
        // One that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let status = self.child.wait().context("wait for a worker")?;
        Ok(format!("the process of this world {lost}: {status}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It is between two jobs, or was ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Shape;

    #[test]
    fn a_worker_that_dies_or_talks_nonsense_is_a_violation_of_its_seed() {
        let job = Job { seed: 7, shape: Shape::default() };
        for (program, said) in [("true", "exit status: 0"), ("false", "exit status: 1"), ("cat", "signal: 9")] {
            let mut worker = Worker::start(&mut Command::new(program)).expect("starts");
            let lost = worker.run(&job).expect_err("has no summary to give");
            let summary = Summary::of_lost(job.plan().expect("has a plan"), worker.end(&lost).expect("ends"));
            let described = summary.describe(&job.replay_command());
            for part in ["seed 7", "the process of this world", said, "replay --seed 7"] {
                assert!(described.contains(part), "{part:?} is missing: {described}");
            }
        }
    }
}
