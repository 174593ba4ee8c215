//! One write, handed in until its outcome is known.
//!
//! Invariants
//! - Every try is the same write, so that it is stored once, whatever became of the tries before.
//! - An outcome is called unknown only when the time for trying is over, or no try can find it out any more.

use std::sync::Arc;

use cairn_client::{Error, Write, WriteReply};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::behavior::PersistOutcome;
use crate::kind::WriteRetry;
use crate::store::Store;

/// Why a write has no answer.
#[derive(Debug)]
pub(super) struct WriteFailure {
    pub(super) outcome: PersistOutcome,
    pub(super) error: Error,
}

impl From<Error> for WriteFailure {
    /// What an error that is worth no other try says, if no earlier try can have taken effect.
    fn from(error: Error) -> Self {
        let outcome = match &error {
            Error::Fenced { .. } | Error::EpochMoved { .. } | Error::Conflict { .. } => PersistOutcome::Superseded,
            error if error.is_definite() => PersistOutcome::NotStored,
            _ => PersistOutcome::Unknown,
        };
        Self { outcome, error }
    }
}

/// Hands a write in until its outcome is known or the time is over.
pub(super) async fn write_until_known(
    store: Arc<dyn Store>,
    write: Write,
    retry: WriteRetry,
    random: u64,
) -> Result<WriteReply, WriteFailure> {
    let deadline = Instant::now() + retry.time;
    let mut tries: u32 = 0;
    // Whether an earlier try may have taken effect.
    let mut may_be_stored = false;
    loop {
        let error = match timeout_at(deadline, store.write(write.clone())).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => error,
            Err(_) => Error::Unknown { message: "no answer came in time".to_owned() },
        };
        may_be_stored |= !error.is_definite();
        let next = Instant::now() + retry.backoff.delay(tries, random.rotate_left(tries));
        if !is_worth_a_try(&error) || next >= deadline {
            let failure = WriteFailure::from(error);
            // That a later try was not carried out says nothing about an earlier one; that others have taken the journal does.
            let is_open = may_be_stored && failure.outcome == PersistOutcome::NotStored;
            return Err(if is_open { WriteFailure { outcome: PersistOutcome::Unknown, ..failure } } else { failure });
        }
        tracing::debug!(persistence_id = %write.persistence_id, %error, "a write is handed in again");
        sleep_until(next).await;
        tries += 1;
    }
}

fn is_worth_a_try(error: &Error) -> bool {
    matches!(error, Error::Unknown { .. } | Error::Unavailable { .. } | Error::ReadOnly { .. })
}
