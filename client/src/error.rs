//! Errors, by what the caller does next.
//!
//! Invariant: [`Error::Unknown`] is never turned into anything more certain. What is not `Unknown` is a promise.

use cairn_api::v1::{Failure, Reason};
use cairn_machine::{Invalid, Refusal, SequenceNumber, TooMany, WriterEpoch, WriterId};

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The numbers are taken, or the journal's highest number is not the one that the write expected. Read the journal and decide
    /// anew.
    #[error("conflict: the journal's highest number is {highest}, its writer {writer:?} at epoch {epoch}")]
    Conflict {
        /// The journal's highest number.
        highest: SequenceNumber,
        /// The journal's writer.
        writer: WriterId,
        /// The journal's writer epoch.
        epoch: WriterEpoch,
    },
    /// A newer writer has taken the journal: stop writing to it.
    #[error("fenced: writer {writer:?} has taken the journal at epoch {epoch}")]
    Fenced {
        /// The journal's writer epoch.
        epoch: WriterEpoch,
        /// The journal's writer.
        writer: WriterId,
        /// The journal's highest number.
        highest: SequenceNumber,
    },
    /// Others claimed the journal again and again while this claim was tried.
    #[error("the journal was claimed by {writer:?} at epoch {epoch} meanwhile")]
    EpochMoved {
        /// The journal's writer epoch.
        epoch: WriterEpoch,
        /// The journal's writer.
        writer: WriterId,
    },
    /// The command may have been executed by an earlier try; what became of it can no longer be known. Read to find out.
    #[error("what became of an earlier try can no longer be known; nothing was executed now")]
    Forgotten,
    /// Chunks of a snapshot are missing on the server, even after they were sent again.
    #[error("the upload of the snapshot is incomplete: {chunks} chunks are there")]
    UploadIncomplete {
        /// How many chunks are there.
        chunks: u32,
    },
    /// Too many uploads are in progress, or the persistence id has too many snapshots.
    #[error("{}", Failure::from(Refusal::TooMany { what: *what }).message)]
    TooMany {
        /// What there is too much of.
        what: TooMany,
    },
    /// Input that no server will take; the message names the field, and the limit if there is one. Nothing was sent or applied.
    #[error("invalid: {message}")]
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// Nobody could serve the call before its deadline. It was not applied: try again later.
    #[error("unavailable, not applied: {message}")]
    Unavailable {
        /// The last obstacle.
        message: String,
    },
    /// The deadline ended without an answer: the command may have been applied, or may still be.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// The last obstacle.
        message: String,
    },
    /// The disks are nearly full; deletions and reads still work. Not applied.
    #[error("read-only: {message}")]
    ReadOnly {
        /// For people.
        message: String,
    },
    /// What was asked for was permanently removed while it was read.
    #[error("gone: {message}")]
    Gone {
        /// For people.
        message: String,
    },
    /// Stored data is damaged on the node that was asked.
    #[error("damaged: {message}")]
    Damaged {
        /// For people.
        message: String,
    },
    /// There is no such thing.
    #[error("not found: {message}")]
    NotFound {
        /// For people.
        message: String,
    },
    /// A change of the cluster was refused, as it is not safe now.
    #[error("refused as unsafe: {message}")]
    Unsafe {
        /// Why.
        message: String,
    },
    /// The server answered something that this version does not understand. For a command the outcome is unknown.
    #[error("protocol: {message}")]
    Protocol {
        /// What was not understood.
        message: String,
    },
}

impl Error {
    /// Whether the command certainly took no effect and never will.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown { .. } | Self::Forgotten | Self::Damaged { .. } | Self::Protocol { .. })
    }

    /// The error for a failure that is not worth another try.
    pub(crate) fn from_failure(failure: Failure) -> Self {
        if let Some(refusal) = failure.refusal() {
            return refusal.into();
        }
        let message = failure.message.clone();
        match failure.reason() {
            Reason::Invalid | Reason::TooLarge => Self::Invalid { message },
            Reason::ReadOnly => Self::ReadOnly { message },
            Reason::Gone => Self::Gone { message },
            Reason::Damaged => Self::Damaged { message },
            Reason::NotFound => Self::NotFound { message },
            Reason::Unsafe => Self::Unsafe { message },
            Reason::NotLeader
            | Reason::NoLeader
            | Reason::Overloaded
            | Reason::Unavailable
            | Reason::Behind
            // A refusal whose facts this version cannot read: not executed either way.
            | Reason::TooMany => Self::Unavailable { message },
            Reason::Unknown => Self::Unknown { message },
            reason => Self::Protocol { message: format!("{}: {message}", reason.as_str_name()) },
        }
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol { message: message.into() }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict { highest, writer, epoch } => Self::Conflict { highest, writer, epoch },
            Refusal::Fenced { epoch, writer, highest } => Self::Fenced { epoch, writer, highest },
            Refusal::EpochMoved { epoch, writer } => Self::EpochMoved { epoch, writer },
            Refusal::Forgotten => Self::Forgotten,
            Refusal::UploadIncomplete { chunks } => Self::UploadIncomplete { chunks },
            Refusal::TooMany { what } => Self::TooMany { what },
            other => Self::Protocol { message: format!("{other:?}") },
        }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid { message: invalid.to_string() }
    }
}
