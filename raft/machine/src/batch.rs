//! A batch: the commands of one Raft entry, with the leader's time and the version of the rules that decides them.

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::command::Command;
use crate::ids::Timestamp;

/// The newest version of the rules that this build knows. Persisted in every entry.
pub const RULES_VERSION: u16 = 1;

/// The commands of one Raft entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The leader's wall clock when it was gathered.
    pub moment: Timestamp,
    /// The commands, in order; later ones see what earlier ones did.
    pub commands: Vec<Command>,
}

impl Batch {
    /// Encodes the batch; the same bytes go to the log, to the other replicas and to the tables.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_behind(&[])
    }

    /// As [`Self::encode`], behind what a log puts before it: so that it need not be copied to get there.
    #[must_use]
    pub fn encode_behind(&self, header: &[u8]) -> Bytes {
        crate::codec::encode_batch(header, self)
    }

    /// Decodes a batch; the bodies of its atomic writes are slices of `bytes`, nothing is copied.
    ///
    /// # Errors
    /// [`DecodeError::UnknownRules`] for a version that this build does not know, else [`DecodeError::Malformed`]. Either stops
    /// the node: an entry that was accepted is never skipped.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        crate::codec::decode_batch(bytes)
    }
}
