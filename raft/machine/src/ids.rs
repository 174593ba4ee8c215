//! The newtypes of the vocabulary: two numbers of different meaning never share a type.

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::Invalid;
use crate::limits::{PERSISTENCE_ID_BYTES_MAX, WRITER_ID_BYTES_MAX};

/// Names one journal: UTF-8, not blank, at most [`PERSISTENCE_ID_BYTES_MAX`] bytes; compared bytewise, never normalised
/// (contract 1.3). NUL and any other character is legal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistenceId(Bytes);

impl PersistenceId {
    /// Parses a persistence id.
    ///
    /// # Errors
    /// [`Invalid::PersistenceId`] if it is blank, too long or not UTF-8.
    pub fn new(text: impl Into<Bytes>) -> Result<Self, Invalid> {
        let bytes: Bytes = text.into();
        if bytes.len() > PERSISTENCE_ID_BYTES_MAX {
            return Err(Invalid::PersistenceId { reason: "longer than 1024 bytes" });
        }
        match std::str::from_utf8(&bytes) {
            Err(_) => Err(Invalid::PersistenceId { reason: "not UTF-8" }),
            Ok(text) if text.trim().is_empty() => Err(Invalid::PersistenceId { reason: "blank" }),
            Ok(_) => Ok(Self(bytes)),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was parsed")
    }

    /// The id as bytes of UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// A copy that owns its memory, so that keeping it does not keep the message it was parsed from.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl fmt::Display for PersistenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PersistenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// One incarnation of a persistent actor: a UUID of our client, any text of a foreign plugin, empty if unknown (contract 1.3).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(Bytes);

impl WriterId {
    /// Parses a writer id.
    ///
    /// # Errors
    /// [`Invalid::WriterId`] if it is too long or not UTF-8.
    pub fn new(text: impl Into<Bytes>) -> Result<Self, Invalid> {
        let bytes: Bytes = text.into();
        if bytes.len() > WRITER_ID_BYTES_MAX {
            return Err(Invalid::WriterId { reason: "longer than 128 bytes" });
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(Invalid::WriterId { reason: "not UTF-8" });
        }
        Ok(Self(bytes))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was parsed")
    }

    /// The id as bytes of UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether it is the empty id, which stands for an unknown writer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy that owns its memory.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl From<Uuid> for WriterId {
    fn from(uuid: Uuid) -> Self {
        Self(Bytes::from(uuid.to_string()))
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// An event's place in its journal, from 1; 0 stands before the first. At most [`SequenceNumber::MAX`], as the wire's and
    /// the actors' numbers are signed.
    SequenceNumber(u64)
}
number! {
    /// The number that a writer's claim of a journal got; a lower one is fenced for ever.
    WriterEpoch(u64)
}
number! {
    /// An event's place in its shard: dense, from 1, in commit order.
    Position(u64)
}
number! {
    /// A journal's number inside its shard, from 1; never reused.
    JournalId(u64)
}
number! {
    /// How many snapshots of one persistence id were ever saved; the n-th save has number n.
    SaveNumber(u64)
}
number! {
    /// A shard, from 0: exactly one Raft group.
    ShardId(u16)
}
number! {
    /// A node of the cluster; never reused.
    NodeId(u64)
}
number! {
    /// Microseconds since 1970 UTC by the leader's clock, made non-decreasing in each journal.
    Timestamp(i64)
}

impl SequenceNumber {
    /// The greatest sequence number: "no upper bound" in a replay, "everything" in a deletion (contract 1.2).
    pub const MAX: Self = Self(i64::MAX as u64);

    /// Parses a number or a bound of a range as it stands on the wire: 0 up to [`SequenceNumber::MAX`].
    ///
    /// # Errors
    /// [`Invalid::SequenceNumber`] if it is negative.
    pub fn from_wire(number: i64) -> Result<Self, Invalid> {
        match u64::try_from(number) {
            Ok(number) => Ok(Self(number)),
            Err(_) => Err(Invalid::SequenceNumber { found: number, reason: "negative" }),
        }
    }

    /// The number as it stands on the wire.
    #[must_use]
    pub fn to_wire(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

/// Names one save of a snapshot, so that a retry of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaveId(pub Uuid);
