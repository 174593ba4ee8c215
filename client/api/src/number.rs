//! Numbers: signed on the wire, unsigned in the vocabulary, never negative.

use cairn_machine::{Invalid, Position, SaveNumber, SequenceNumber, WriterEpoch};

/// A number as it goes over the wire.
///
/// Every number of the vocabulary counts events, claims or saves from 1 or was parsed by [`unsigned`], so it fits.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it comes from the wire.
pub(crate) fn unsigned(field: &'static str, number: i64) -> Result<u64, Invalid> {
    u64::try_from(number).map_err(|_| Invalid::Field { field, reason: "negative" })
}

pub(crate) fn sequence_number(number: i64) -> Result<SequenceNumber, Invalid> {
    match u64::try_from(number) {
        Ok(number) => Ok(SequenceNumber(number)),
        Err(_) => Err(Invalid::SequenceNumber { found: number, reason: "negative" }),
    }
}

pub(crate) fn epoch(field: &'static str, number: i64) -> Result<WriterEpoch, Invalid> {
    unsigned(field, number).map(WriterEpoch)
}

pub(crate) fn position(field: &'static str, number: i64) -> Result<Position, Invalid> {
    unsigned(field, number).map(Position)
}

pub(crate) fn save_number(field: &'static str, number: i64) -> Result<SaveNumber, Invalid> {
    unsigned(field, number).map(SaveNumber)
}
