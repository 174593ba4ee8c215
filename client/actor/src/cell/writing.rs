//! One write, handed in until its outcome is known.
//!
//! Invariants
//! - Every try is the same write, so that it is stored once, whatever became of the tries before.
//! - An outcome is called unknown only when the time for trying is over, or no try can find it out any more.

use std::sync::Arc;

use cairn_client::{Error, Write, WriteReply};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::behavior::PersistOutcome;
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

impl WriteFailure {
    /// What a write comes to that is not handed in, as others have taken the journal.
    pub(super) fn superseded(error: Error) -> Self {
        Self { outcome: PersistOutcome::Superseded, error }
    }

    /// The time is over in the middle of a try.
    pub(super) fn out_of_time() -> Self {
        Error::Unknown { message: "no answer came in time".to_owned() }.into()
    }
}

/// Hands a write in until its outcome is known or no other try is worth while before the deadline. Whoever waits for this gives it
/// up at the deadline.
pub(super) async fn write_until_known(
    store: Arc<dyn Store>,
    write: Write,
    backoff: Backoff,
    deadline: Instant,
    random: u64,
) -> Result<WriteReply, WriteFailure> {
    let mut tries: u32 = 0;
    // Whether an earlier try may have taken effect.
    let mut may_be_stored = false;
    loop {
        let error = match store.write(&write).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        may_be_stored |= !error.is_definite();
        let next = Instant::now() + backoff.delay(tries, random.rotate_left(tries));
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
