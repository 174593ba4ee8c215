//! The binary form of batches, atomic writes and stored records.
//!
//! Written by hand: little, the same for ever, and total on any bytes. What is decoded shares the memory of what it was decoded
//! from wherever it can; nothing is allocated that the input's length does not justify.
//!
//! Invariants
//! - Equal values give equal bytes.
//! - No bytes whatsoever make a decoder panic.
//! - Every record opens with its format version, every batch with the version of the rules that decides it.

mod batch;
mod events;
mod record;
mod wire;

pub(crate) use batch::{command_len, decode_batch, encode_batch};
pub use events::{Events, TaggedEvent};
pub(crate) use events::{encode_events, has_tags};
pub(crate) use record::put_payload;
pub(crate) use wire::{Sink, bytes_field, option, signed, varint};

/// The version of the format of stored records that this build writes. Persisted: the first byte of each record.
pub const FORMAT_VERSION: u8 = 1;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The entry needs other rules than this build has.
    #[error("rules version {found} is not known to this build, which knows up to {known}")]
    UnknownRules {
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// The record has a format that this build does not read.
    #[error("format version {found} of {what} is not known to this build, which knows up to {known}")]
    UnknownFormat {
        /// What was being decoded.
        what: &'static str,
        /// The version found.
        found: u8,
        /// The newest version known.
        known: u8,
    },
    /// The bytes end too early or hold an impossible value.
    #[error("malformed {what}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
