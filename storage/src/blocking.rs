//! Where blocking work runs: files and tables that stop their caller must not stop the runtime that carries consensus.
//!
//! A part, so that production gives it threads and a simulation runs it inline, under its own clock.
//!
//! Invariants
//! - A job that was handed over runs exactly once, even when the caller stops waiting for it.
//! - The queue has a bound: a caller waits for room.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

/// Work that may stop its thread for a while.
pub type Job = Box<dyn FnOnce() + Send>;

/// How many jobs wait for a thread before callers wait for room.
const QUEUE_JOBS_MAX: usize = 256;

/// Runs jobs that block; see [`BlockingExt::run`] for the comfortable form.
#[async_trait]
pub trait Blocking: Send + Sync + 'static {
    /// Runs the job and returns when it is done.
    async fn run_boxed(&self, job: Job);
}

/// The comfortable form of [`Blocking`].
pub trait BlockingExt: Blocking {
    /// Runs `work` and hands back what it returned; a panic inside continues in the caller.
    fn run<T, F>(&self, work: F) -> impl Future<Output = T> + Send
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // The caller may have stopped waiting; the work is done all the same.
            drop(sender.send(outcome));
        });
        async move {
            self.run_boxed(job).await;
            match receiver.await.expect("a job that ran has sent its outcome") {
                Ok(value) => value,
                Err(panic) => resume_unwind(panic),
            }
        }
    }
}

impl<B: Blocking + ?Sized> BlockingExt for B {}

/// Runs every job at once on the caller's thread: for memory engines and simulations.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineBlocking;

#[async_trait]
impl Blocking for InlineBlocking {
    async fn run_boxed(&self, job: Job) {
        job();
    }
}

/// Runs jobs on threads of its own, first come first served; the threads end with the last handle.
#[derive(Clone, Debug)]
pub struct ThreadBlocking {
    jobs: mpsc::Sender<(Job, oneshot::Sender<()>)>,
}

impl ThreadBlocking {
    /// Starts `threads` threads (at least one) named `name`.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<(Job, oneshot::Sender<()>)>(QUEUE_JOBS_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads.max(1) {
            let waiting = waiting.clone();
            std::thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                loop {
                    // One thread waits inside the channel, the others behind the lock for their turn to wait.
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    let Some((job, done)) = next else { return };
                    job();
                    let _: Result<(), ()> = done.send(());
                }
            })?;
        }
        Ok(Self { jobs })
    }
}

#[async_trait]
impl Blocking for ThreadBlocking {
    async fn run_boxed(&self, job: Job) {
        let (done, finished) = oneshot::channel();
        self.jobs.send((job, done)).await.expect("the threads live as long as a handle");
        finished.await.expect("a job sends when it is done");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_returns_its_value_from_a_thread_and_inline() {
        let parts: [Arc<dyn Blocking>; 2] =
            [Arc::new(InlineBlocking), Arc::new(ThreadBlocking::start("blocking-test", 2).expect("threads"))];
        for part in parts {
            assert_eq!(part.run(|| 6 * 7).await, 42);
        }
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller_and_the_thread_lives_on() {
        let part = ThreadBlocking::start("blocking-test", 1).expect("threads");
        let waiting = part.clone();
        let outcome = tokio::spawn(async move { waiting.run(|| panic!("on purpose")).await }).await;
        assert!(outcome.expect_err("the panic goes on in the caller").is_panic());
        assert_eq!(part.run(|| 1).await, 1);
    }

    #[tokio::test]
    async fn more_jobs_than_the_queue_holds_all_run() {
        let part = Arc::new(ThreadBlocking::start("blocking-test", 2).expect("threads"));
        let jobs: Vec<_> = (0..QUEUE_JOBS_MAX * 3)
            .map(|number| {
                let part = part.clone();
                tokio::spawn(async move { part.run(move || number).await })
            })
            .collect();
        let mut sum = 0;
        for job in jobs {
            sum += job.await.expect("a job");
        }
        let count = QUEUE_JOBS_MAX * 3;
        assert_eq!(sum, count * (count - 1) / 2);
    }
}
