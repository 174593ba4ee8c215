//! Commands of the journal: write, claim and delete-to.

use cairn_machine::limits::{ATOMIC_WRITE_EVENTS_MAX, WRITE_ATOMIC_WRITES_MAX, WRITE_BYTES_MAX};
use cairn_machine::{AtomicWrite, Claim, DeleteTo, Event, Invalid, SequenceNumber, Write};

use crate::event::{persistence_id, within, writer_id};
use crate::number::{epoch, sequence_number, signed};
use crate::v1;

impl TryFrom<v1::AtomicWrite> for AtomicWrite {
    type Error = Invalid;

    fn try_from(wire: v1::AtomicWrite) -> Result<Self, Invalid> {
        // Counted before the events are converted, so that the work is bounded by the limit.
        within("events of an atomic write", wire.events.len(), ATOMIC_WRITE_EVENTS_MAX)?;
        let events = wire.events.into_iter().map(Event::try_from).collect::<Result<Vec<_>, _>>()?;
        Self::new(&events)
    }
}

impl TryFrom<v1::WriteRequest> for Write {
    type Error = Invalid;

    fn try_from(wire: v1::WriteRequest) -> Result<Self, Invalid> {
        within("atomic writes of a write", wire.atomic_writes.len(), WRITE_ATOMIC_WRITES_MAX)?;
        let persistence_id = persistence_id(wire.persistence_id)?;
        let writer = writer_id(wire.writer_id)?;
        let epoch = wire.epoch.map(|number| epoch("epoch", number)).transpose()?;
        let after = wire.after.map(sequence_number).transpose()?;
        let mut atomic_writes = Vec::with_capacity(wire.atomic_writes.len());
        let mut bytes = persistence_id.as_bytes().len() + writer.as_bytes().len();
        let mut last = SequenceNumber(0);
        for wire in wire.atomic_writes {
            let atomic_write = AtomicWrite::try_from(wire)?;
            if atomic_write.first() <= last {
                let found = signed(atomic_write.first().0);
                return Err(Invalid::SequenceNumber { found, reason: "numbers rise strictly over all atomic writes of a write" });
            }
            last = atomic_write.last();
            bytes += atomic_write.body().len();
            within("bytes of a write", bytes, WRITE_BYTES_MAX)?;
            atomic_writes.push(atomic_write);
        }
        Ok(Self { persistence_id, writer, epoch, after, atomic_writes })
    }
}

impl TryFrom<v1::ClaimRequest> for Claim {
    type Error = Invalid;

    fn try_from(wire: v1::ClaimRequest) -> Result<Self, Invalid> {
        let claim = Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            writer: writer_id(wire.writer_id)?,
            epoch_read: epoch("epoch_read", wire.epoch_read)?,
        };
        if claim.writer.as_bytes().is_empty() {
            return Err(Invalid::Field { field: "writer_id", reason: "empty: a claim names its writer" });
        }
        Ok(claim)
    }
}

impl From<Claim> for v1::ClaimRequest {
    fn from(claim: Claim) -> Self {
        Self {
            persistence_id: claim.persistence_id.as_str().to_owned(),
            writer_id: claim.writer.as_str().to_owned(),
            epoch_read: signed(claim.epoch_read.0),
        }
    }
}

impl TryFrom<v1::DeleteToRequest> for DeleteTo {
    type Error = Invalid;

    fn try_from(wire: v1::DeleteToRequest) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            to: sequence_number(wire.to)?,
            permanent: wire.permanent,
            writer: writer_id(wire.writer_id)?,
            epoch: wire.epoch.map(|number| epoch("epoch", number)).transpose()?,
        })
    }
}

impl From<DeleteTo> for v1::DeleteToRequest {
    fn from(delete: DeleteTo) -> Self {
        Self {
            persistence_id: delete.persistence_id.as_str().to_owned(),
            to: signed(delete.to.0),
            permanent: delete.permanent,
            writer_id: delete.writer.as_str().to_owned(),
            epoch: delete.epoch.map(|epoch| signed(epoch.0)),
        }
    }
}
