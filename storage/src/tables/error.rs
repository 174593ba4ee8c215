//! Why tables could not do what they were asked: by what the caller does next.

use cairn_machine::{DecodeError, SequenceNumber};

use crate::engine::EngineError;

/// Why a call of the tables failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TablesError {
    /// The tables cannot go on: the node stops.
    #[error("tables are broken: {reason}")]
    Broken {
        /// What happened.
        reason: String,
    },
    /// Something that must be there is missing or malformed: this answer cannot be given, and the operator must know.
    #[error("tables are damaged: {what}")]
    Damaged {
        /// What is missing or malformed.
        what: String,
    },
    /// What a reader was reading was permanently removed since it began.
    #[error("what was being read has been removed, up to {removed_to}")]
    Gone {
        /// Events up to this are gone; 0 for a snapshot.
        removed_to: SequenceNumber,
    },
    /// A bound of the tables themselves: try again later.
    #[error("too many {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
    },
}

impl TablesError {
    pub(crate) fn broken(reason: impl Into<String>) -> Self {
        Self::Broken { reason: reason.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

impl From<EngineError> for TablesError {
    fn from(error: EngineError) -> Self {
        Self::Broken { reason: error.to_string() }
    }
}

impl From<DecodeError> for TablesError {
    fn from(error: DecodeError) -> Self {
        Self::Damaged { what: error.to_string() }
    }
}
