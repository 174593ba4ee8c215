//! Where events are read: from whoever leads, or from one given node.

use cairn_api::Freshness;
use cairn_client::{Cairn, Error, FollowShard, Journals, Replay};
use cairn_machine::{PersistenceId, Position, SequenceNumber, ShardId};

/// A place to read from.
#[derive(Clone, Debug)]
pub struct Source {
    cairn: Cairn,
    /// One node and no other: its address.
    node: Option<String>,
    freshness: Freshness,
}

/// Which events of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first number, inclusive.
    pub from: SequenceNumber,
    /// The last number, inclusive.
    pub to: SequenceNumber,
    /// Logically deleted ones too.
    pub include_deleted: bool,
}

impl Range {
    /// Everything that is not deleted.
    pub const ALL: Self = Self { from: SequenceNumber(1), to: SequenceNumber::MAX, include_deleted: false };
}

impl Source {
    /// Whoever leads; linearizable.
    pub fn cluster(cairn: Cairn) -> Self {
        Self { cairn, node: None, freshness: Freshness::Strong }
    }

    /// One node.
    pub fn node(cairn: Cairn, address: String, freshness: Freshness) -> Self {
        Self { cairn, node: Some(address), freshness }
    }

    /// The journals whose persistence id begins with a prefix, in bytewise order.
    pub fn journals(&self, prefix: &str) -> Journals {
        let journals = self.cairn.journals(prefix).with_freshness(self.freshness);
        match &self.node {
            Some(address) => journals.read_at(address.as_str()),
            None => journals,
        }
    }

    /// Events of a journal, in order.
    pub fn replay(&self, persistence_id: &PersistenceId, range: Range) -> Replay {
        let mut journal = self.cairn.journal_of(persistence_id.clone()).with_freshness(self.freshness);
        if let Some(address) = &self.node {
            journal = journal.read_at(address.as_str());
        }
        let replay = journal.replay(range.from.0..=range.to.0);
        if range.include_deleted { replay.include_deleted().start() } else { replay.start() }
    }

    /// How many shards there are.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn shards(&self) -> Result<u16, Error> {
        self.cairn.shards().await
    }

    /// The events that a shard has now, in commit order.
    pub fn shard(&self, shard: ShardId) -> FollowShard {
        let events = self.cairn.follow_shard(shard, Position(0)).current();
        match &self.node {
            Some(address) => events.at(address.as_str()).start(),
            None => events.start(),
        }
    }
}
