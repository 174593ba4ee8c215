//! What became of one try of a call, apart from a result.

use cairn_api::v1::{Failure, Reason};
use tonic::Status;

use crate::connector::is_not_connected;

/// A try that gave no result.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// The server answered: this is why.
    Answered(Box<Failure>),
    /// The request never left: certainly not applied.
    NotSent(String),
    /// The request may have arrived; there is no answer.
    Lost(String),
}

impl Failed {
    /// What an error of a gRPC call says.
    pub(crate) fn from_status(status: &Status) -> Self {
        if let Some(failure) = Failure::from_status(status) {
            return Self::Answered(Box::new(failure));
        }
        let message = format!("{:?}: {}", status.code(), status.message());
        if is_not_connected(status) { Self::NotSent(message) } else { Self::Lost(message) }
    }

    /// Whether the command certainly was not applied by this try.
    pub(crate) fn is_not_applied(&self) -> bool {
        match self {
            Self::Answered(failure) => failure.reason().is_not_applied(),
            Self::NotSent(_) => true,
            Self::Lost(_) => false,
        }
    }

    /// Whether the same call may succeed at another time or place.
    pub(crate) fn is_worth_retrying(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Lost(_) => true,
            Self::Answered(failure) => matches!(
                failure.reason(),
                Reason::NotLeader
                    | Reason::NoLeader
                    | Reason::Overloaded
                    | Reason::Unavailable
                    | Reason::Behind
                    | Reason::Unknown
            ),
        }
    }

    /// The answer, if no other time or place would give another one.
    pub(crate) fn final_answer(&self) -> Option<&Failure> {
        match self {
            Self::Answered(failure) if !self.is_worth_retrying() => Some(failure),
            _ => None,
        }
    }

    /// For people.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Answered(failure) => &failure.message,
            Self::NotSent(message) | Self::Lost(message) => message,
        }
    }
}
