//! Where a query stands: what to resume after.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cairn_client::{Error, Position, SequenceNumber, ShardId};
use serde::{Deserialize, Serialize};

/// Where a query stands. Exclusive: a query after it begins with what comes next. Its text, which is also its serialised form, can
/// be stored.
///
/// Akka: `Offset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Offset {
    /// Before the first event.
    ///
    /// Akka: `NoOffset`.
    #[default]
    Start,
    /// At an event of a single journal.
    ///
    /// Akka: `Sequence`.
    Sequence(SequenceNumber),
    /// At these positions of the shards of a cluster; a shard that is not named is at its start.
    Positions {
        /// How many shards the cluster has.
        shards: u16,
        /// The last event of each shard that was seen.
        positions: BTreeMap<ShardId, Position>,
    },
}

/// A text that is no offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no offset")]
pub struct OffsetError {
    text: String,
}

impl Offset {
    /// Before the first event.
    pub const START: Self = Self::Start;

    /// The positions of a cluster with so many shards.
    pub(super) fn positions(&self, shards: u16) -> Result<BTreeMap<ShardId, Position>, Error> {
        match self {
            Self::Start => Ok(BTreeMap::new()),
            Self::Positions { shards: found, positions } if *found == shards => Ok(positions.clone()),
            other => Err(Error::Invalid { message: format!("offset {other}: not one of events of {shards} shards") }),
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Sequence(number) => write!(f, "sequence:{}", number.0),
            Self::Positions { shards, positions } => {
                write!(f, "positions:{shards}")?;
                positions.iter().try_for_each(|(shard, position)| write!(f, ",{}={}", shard.0, position.0))
            }
        }
    }
}

impl FromStr for Offset {
    type Err = OffsetError;

    fn from_str(text: &str) -> Result<Self, OffsetError> {
        parse(text).ok_or_else(|| OffsetError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Offset> {
    if text == "start" {
        return Some(Offset::Start);
    }
    if let Some(number) = text.strip_prefix("sequence:") {
        return Some(Offset::Sequence(SequenceNumber(number.parse().ok()?)));
    }
    let mut fields = text.strip_prefix("positions:")?.split(',');
    let shards = fields.next()?.parse().ok()?;
    let mut positions = BTreeMap::new();
    for field in fields {
        let (shard, position) = field.split_once('=')?;
        let shard = shard.parse().ok().filter(|shard| *shard < shards)?;
        if positions.insert(ShardId(shard), Position(position.parse().ok()?)).is_some() {
            return None;
        }
    }
    Some(Offset::Positions { shards, positions })
}

impl From<Offset> for String {
    fn from(offset: Offset) -> Self {
        offset.to_string()
    }
}

impl TryFrom<String> for Offset {
    type Error = OffsetError;

    fn try_from(text: String) -> Result<Self, OffsetError> {
        text.parse()
    }
}
