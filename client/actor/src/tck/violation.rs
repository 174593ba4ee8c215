//! What a store did that it must not.

use std::fmt::Debug;

use cairn_client::Error;

/// A claim that does not hold, and what was seen instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Violation {
    message: String,
}

/// What became of a case.
pub type Verdict = Result<(), Violation>;

impl Violation {
    /// A violation that says what was seen.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        Self::new(format!("the store failed: {error}"))
    }
}

/// Holds if both are the same.
pub(super) fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Verdict {
    if found == expected {
        return Ok(());
    }
    Err(Violation::new(format!("{what}: found {found:?}, expected {expected:?}")))
}

/// Holds if the condition does.
pub(super) fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(Violation::new(otherwise())) }
}
