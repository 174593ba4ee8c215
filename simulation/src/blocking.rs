//! Blocking work inside a world: run in place, with a drawn time before and after it, so that a crash lands on either side.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cairn_storage::blocking::{Blocking, Job};

use crate::dice::Dice;

/// Runs jobs in place, after and before a wait.
#[derive(Clone, Debug)]
pub struct SimulatedBlocking {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    time_max: Duration,
    /// How often a job waits at all.
    probability: f64,
}

impl SimulatedBlocking {
    /// Jobs wait `time_max` at most on either side, so often.
    #[must_use]
    pub fn new(dice: Dice, time_max: Duration, probability: f64) -> Self {
        Self { state: Arc::new(Mutex::new(State { dice, time_max, probability })) }
    }

    async fn wait(&self) {
        let time = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (probability, time_max) = (state.probability, state.time_max);
            if state.dice.chance(probability) { state.dice.time(Duration::ZERO, time_max) } else { Duration::ZERO }
        };
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }
}

#[async_trait]
impl Blocking for SimulatedBlocking {
    async fn run_boxed(&self, job: Job) {
        self.wait().await;
        job();
        self.wait().await;
    }
}
