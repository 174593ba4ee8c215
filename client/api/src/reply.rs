//! Answers of the rules: as they leave the server, and as they reach the client.

use cairn_machine::{
    ClaimReply, DeleteReply, DeleteSnapshotsReply, Invalid, Refusal, SaveReply, Timestamp, WriteOutcome, WriteReply,
};

use crate::number::{epoch, position, save_number, sequence_number, signed};
use crate::v1::{self, Failure, write_outcome};

/// The answer to a write as it goes over the wire: a failure only if the write as a whole was refused.
///
/// # Errors
/// The failure for the caller of a check that did not hold.
pub fn write_response(reply: WriteReply) -> Result<v1::WriteResponse, Failure> {
    if let Some(refusal) = reply.check {
        return Err(refusal.into());
    }
    let outcomes = reply.outcomes.into_iter().map(v1::WriteOutcome::from).collect();
    Ok(v1::WriteResponse { highest: signed(reply.highest.0), outcomes })
}

impl From<WriteOutcome> for v1::WriteOutcome {
    fn from(outcome: WriteOutcome) -> Self {
        let kind = match outcome {
            WriteOutcome::Stored { previous, position, timestamp } => write_outcome::Kind::Stored(write_outcome::Stored {
                previous: signed(previous.0),
                position: signed(position.0),
                timestamp_micros: timestamp.0,
            }),
            WriteOutcome::Refused(refusal) => write_outcome::Kind::Refused(refusal.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::WriteOutcome> for WriteOutcome {
    type Error = Invalid;

    fn try_from(wire: v1::WriteOutcome) -> Result<Self, Invalid> {
        match wire.kind.ok_or(Invalid::Field { field: "outcomes", reason: "neither stored nor refused" })? {
            write_outcome::Kind::Stored(stored) => Ok(Self::Stored {
                previous: sequence_number(stored.previous)?,
                position: position("position", stored.position)?,
                timestamp: Timestamp(stored.timestamp_micros),
            }),
            write_outcome::Kind::Refused(failure) => match failure.refusal() {
                Some(refusal) => Ok(Self::Refused(refusal)),
                None => Err(Invalid::Field { field: "refused", reason: "not a refusal" }),
            },
        }
    }
}

impl TryFrom<v1::WriteResponse> for WriteReply {
    type Error = Invalid;

    fn try_from(wire: v1::WriteResponse) -> Result<Self, Invalid> {
        let outcomes = wire.outcomes.into_iter().map(WriteOutcome::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { highest: sequence_number(wire.highest)?, check: None, outcomes })
    }
}

/// Turns the rules' answer into the wire's.
///
/// # Errors
/// The failure for the caller of a command that was refused.
pub fn answer<Reply, Wire: From<Reply>>(reply: Result<Reply, Refusal>) -> Result<Wire, Failure> {
    Ok(reply?.into())
}

impl From<ClaimReply> for v1::ClaimResponse {
    fn from(reply: ClaimReply) -> Self {
        Self { epoch: signed(reply.epoch.0), highest: signed(reply.highest.0) }
    }
}

impl TryFrom<v1::ClaimResponse> for ClaimReply {
    type Error = Invalid;

    fn try_from(wire: v1::ClaimResponse) -> Result<Self, Invalid> {
        Ok(Self { epoch: epoch("epoch", wire.epoch)?, highest: sequence_number(wire.highest)? })
    }
}

impl From<DeleteReply> for v1::DeleteToResponse {
    fn from(reply: DeleteReply) -> Self {
        Self { deleted_to: signed(reply.deleted_to.0), highest: signed(reply.highest.0) }
    }
}

impl TryFrom<v1::DeleteToResponse> for DeleteReply {
    type Error = Invalid;

    fn try_from(wire: v1::DeleteToResponse) -> Result<Self, Invalid> {
        Ok(Self { deleted_to: sequence_number(wire.deleted_to)?, highest: sequence_number(wire.highest)? })
    }
}

impl From<u32> for v1::UploadResponse {
    fn from(chunks: u32) -> Self {
        Self { chunks }
    }
}

impl From<SaveReply> for v1::SaveResponse {
    fn from(reply: SaveReply) -> Self {
        Self { timestamp: reply.timestamp, save_number: signed(reply.save_number.0) }
    }
}

impl TryFrom<v1::SaveResponse> for SaveReply {
    type Error = Invalid;

    fn try_from(wire: v1::SaveResponse) -> Result<Self, Invalid> {
        Ok(Self { timestamp: wire.timestamp, save_number: save_number("save_number", wire.save_number)? })
    }
}

impl From<DeleteSnapshotsReply> for v1::DeleteSnapshotsResponse {
    fn from(reply: DeleteSnapshotsReply) -> Self {
        Self { deleted: reply.deleted }
    }
}

impl From<v1::DeleteSnapshotsResponse> for DeleteSnapshotsReply {
    fn from(wire: v1::DeleteSnapshotsResponse) -> Self {
        Self { deleted: wire.deleted }
    }
}
