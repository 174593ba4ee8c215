//! The one table from domain error to gRPC code and reason, and the way both travel in a gRPC status.
//!
//! A status carries a `google.rpc.Status` with three details: our own [`v1::Failure`] with every fact, `google.rpc.ErrorInfo` with
//! the reason's name for generic tools, and `google.rpc.RetryInfo` where trying again later makes sense.
//!
//! Invariants
//! - Every reason has exactly one code; the compiler refuses a reason without one.
//! - Only reasons of [`v1::Reason::is_not_applied`] promise that the command took no effect. A status without our detail promises
//!   nothing.

use std::time::Duration;

use cairn_machine::{Invalid, NodeId, Refusal, SequenceNumber, TooMany, WriterEpoch};
use prost::{Message, Name};
use tonic::{Code, Status};
use tonic_types::pb;

use crate::event::writer_id;
use crate::number::signed;
use crate::v1::{self, Failure, Member, Reason};

/// The domain of [`pb::ErrorInfo`]: whose reasons they are.
const ERROR_DOMAIN: &str = "cairn";
/// Longest message of a failure, in bytes: it travels twice in HTTP/2 trailers, which are bounded.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The gRPC code of a reason.
#[must_use]
pub fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::Unspecified => Code::Unknown,
        // The caller must read again and decide anew.
        Reason::Conflict | Reason::EpochMoved => Code::Aborted,
        // Trying again changes nothing.
        Reason::Fenced | Reason::Forgotten | Reason::UploadIncomplete | Reason::Unsafe => Code::FailedPrecondition,
        Reason::TooMany | Reason::Overloaded | Reason::ReadOnly => Code::ResourceExhausted,
        Reason::Invalid | Reason::TooLarge => Code::InvalidArgument,
        Reason::NotLeader | Reason::NoLeader | Reason::Unavailable | Reason::Behind => Code::Unavailable,
        Reason::Unknown => Code::Unknown,
        Reason::Gone => Code::OutOfRange,
        Reason::Damaged => Code::DataLoss,
        Reason::NotFound => Code::NotFound,
    }
}

impl Reason {
    /// Whether a command that failed for this reason certainly took no effect.
    #[must_use]
    pub fn is_not_applied(self) -> bool {
        match self {
            Self::Unspecified | Self::Unknown | Self::Damaged => false,
            // Refused by the rules. `Forgotten` was not executed now, but may have been before.
            Self::Conflict | Self::Fenced | Self::EpochMoved | Self::UploadIncomplete | Self::TooMany => true,
            Self::Forgotten => false,
            Self::Invalid | Self::TooLarge => true,
            Self::NotLeader | Self::NoLeader | Self::Overloaded | Self::ReadOnly | Self::Unavailable | Self::Behind => true,
            Self::Gone | Self::NotFound | Self::Unsafe => true,
        }
    }
}

impl Failure {
    /// A failure with a message for people, which is cut at 1024 bytes.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
        }
        Self { reason: reason.into(), message, ..Self::default() }
    }

    /// The node does not lead the shard; `leader` does, with its client address, if that is known.
    #[must_use]
    pub fn not_leader(leader: Option<(NodeId, String)>) -> Self {
        match leader {
            None => Self::new(Reason::NoLeader, "the shard has no leader now"),
            Some((NodeId(node_id), client_address)) => {
                let mut failure = Self::new(Reason::NotLeader, format!("the shard is led by node {node_id} at {client_address}"));
                failure.leader = Some(Member { node_id, client_address });
                failure
            }
        }
    }

    /// The node has as much in flight as it admits.
    #[must_use]
    pub fn overloaded(what: &str, retry_after: Duration) -> Self {
        let mut failure = Self::new(Reason::Overloaded, format!("too much in flight: {what}"));
        failure.retry_after_millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        failure
    }

    /// The command may have been applied, or may still be.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Reason::Unknown, message)
    }

    /// When to try again, if that makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        (self.retry_after_millis > 0).then(|| Duration::from_millis(self.retry_after_millis))
    }

    /// The refusal of the rules that this failure carries; none if it is of another kind.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let (highest, epoch) = (SequenceNumber(number(self.highest)), WriterEpoch(number(self.epoch)));
        let writer = writer_id(self.writer_id.clone()).unwrap_or_default();
        Some(match self.reason() {
            Reason::Conflict => Refusal::Conflict { highest, writer, epoch },
            Reason::Fenced => Refusal::Fenced { epoch, writer, highest },
            Reason::EpochMoved => Refusal::EpochMoved { epoch, writer },
            Reason::Forgotten => Refusal::Forgotten,
            Reason::UploadIncomplete => Refusal::UploadIncomplete { chunks: self.chunks },
            Reason::TooMany => match self.too_many() {
                v1::TooMany::Uploads => Refusal::TooMany { what: TooMany::Uploads },
                v1::TooMany::Snapshots => Refusal::TooMany { what: TooMany::Snapshots },
                v1::TooMany::SnapshotBytes => Refusal::TooMany { what: TooMany::SnapshotBytes },
                v1::TooMany::Unspecified => return None,
            },
            _ => return None,
        })
    }

    /// The failure that a status carries; none if the status is not from a Cairn node but from what lies between, such as a
    /// broken connection.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = pb::Status::decode(status.details()).ok()?.details;
        let detail = details.iter().find(|detail| detail.type_url == Self::type_url())?;
        Self::decode(detail.value.as_slice()).ok()
    }
}

impl Name for Failure {
    const NAME: &'static str = "Failure";
    const PACKAGE: &'static str = "cairn.v1";

    fn type_url() -> String {
        "type.googleapis.com/cairn.v1.Failure".to_owned()
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = code_of(failure.reason());
        let any = |type_url: &str, value: Vec<u8>| prost_types::Any { type_url: type_url.to_owned(), value };
        let info = pb::ErrorInfo {
            reason: failure.reason().as_str_name().trim_start_matches("REASON_").to_owned(),
            domain: ERROR_DOMAIN.to_owned(),
            metadata: Default::default(),
        };
        let mut details = vec![
            any(&Failure::type_url(), failure.encode_to_vec()),
            any("type.googleapis.com/google.rpc.ErrorInfo", info.encode_to_vec()),
        ];
        if let Some(delay) = failure.retry_after() {
            let retry_delay = prost_types::Duration::try_from(delay).ok();
            let retry = pb::RetryInfo { retry_delay };
            details.push(any("type.googleapis.com/google.rpc.RetryInfo", retry.encode_to_vec()));
        }
        // The message is not repeated in the details' status: trailers are bounded.
        let encoded = pb::Status { code: code.into(), message: String::new(), details }.encode_to_vec();
        Self::with_details(code, failure.message, encoded.into())
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        let reason = match invalid {
            Invalid::TooLarge { .. } => Reason::TooLarge,
            _ => Reason::Invalid,
        };
        Self::new(reason, invalid.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict { highest, writer, epoch } => Self {
                highest: signed(highest.0),
                epoch: signed(epoch.0),
                writer_id: writer.as_str().to_owned(),
                ..Self::new(
                    Reason::Conflict,
                    format!("conflict: the journal's highest number is {highest}, its writer {writer:?}"),
                )
            },
            Refusal::Fenced { epoch, writer, highest } => Self {
                highest: signed(highest.0),
                epoch: signed(epoch.0),
                writer_id: writer.as_str().to_owned(),
                ..Self::new(Reason::Fenced, format!("fenced: writer {writer:?} has the journal since epoch {epoch}"))
            },
            Refusal::EpochMoved { epoch, writer } => Self {
                epoch: signed(epoch.0),
                writer_id: writer.as_str().to_owned(),
                ..Self::new(Reason::EpochMoved, format!("the journal's epoch is {epoch}, its writer {writer:?}"))
            },
            Refusal::Forgotten => Self::new(
                Reason::Forgotten,
                "it may have been executed before, which is no longer known; it was not executed now",
            ),
            Refusal::UploadIncomplete { chunks } => Self {
                chunks,
                ..Self::new(Reason::UploadIncomplete, format!("the upload is incomplete: {chunks} chunks in order are there"))
            },
            Refusal::TooMany { what } => {
                let (what, message) = match what {
                    TooMany::Uploads => (v1::TooMany::Uploads, "too many snapshot uploads are in progress: try again later"),
                    TooMany::Snapshots => (v1::TooMany::Snapshots, "the persistence id has too many snapshots: delete some"),
                    TooMany::SnapshotBytes => (v1::TooMany::SnapshotBytes, "the snapshot has too many bytes"),
                };
                Self { too_many: what.into(), ..Self::new(Reason::TooMany, message) }
            }
            // `Refusal` may grow; a refusal that the wire does not know yet is still one: nothing was executed.
            other => Self::new(Reason::Forgotten, format!("refused: {other:?}")),
        }
    }
}
