//! Where events are read: from whoever leads, through the client library, or from one given node.

use anyhow::Context;
use cairn_api::Freshness;
use cairn_client::Cairn;
use cairn_machine::{PersistenceId, Position, SequenceNumber, ShardId, StoredEvent};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::node_client::NodeClient;

/// A place to read from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Whoever leads; linearizable.
    Cluster(Cairn),
    /// One node and no other.
    Node(NodeClient, Freshness),
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
    /// The journals whose persistence id begins with a prefix, in bytewise order.
    pub fn journals(&self, prefix: &str) -> BoxStream<'static, anyhow::Result<PersistenceId>> {
        match self {
            Self::Cluster(cairn) => {
                cairn.journals(prefix).map_ok(|journal| journal.persistence_id).map_err(anyhow::Error::from).boxed()
            }
            Self::Node(node, freshness) => node
                .journals(prefix, *freshness)
                .map_err(anyhow::Error::from)
                .and_then(|journal| async { PersistenceId::new(journal.persistence_id).context("the node's answer") })
                .boxed(),
        }
    }

    /// Events of a journal, in order.
    ///
    /// # Errors
    /// If the reading cannot begin.
    pub async fn replay(
        &self,
        persistence_id: &PersistenceId,
        range: Range,
    ) -> anyhow::Result<BoxStream<'static, anyhow::Result<StoredEvent>>> {
        match self {
            Self::Cluster(cairn) => {
                let journal = cairn.journal_of(persistence_id.clone());
                let replay = journal.replay(range.from..=range.to).include_deleted(range.include_deleted);
                Ok(replay.map_err(anyhow::Error::from).boxed())
            }
            Self::Node(node, freshness) => {
                let events = node
                    .replay(persistence_id, range.from.0..=range.to.0, range.include_deleted, *freshness)
                    .await
                    .with_context(|| format!("read {persistence_id:?} from {}", node.address()))?;
                Ok(events.map_err(anyhow::Error::from).boxed())
            }
        }
    }

    /// How many shards there are.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn shards(&self) -> anyhow::Result<u16> {
        match self {
            Self::Cluster(cairn) => Ok(cairn.shards().await?),
            Self::Node(node, _) => Ok(u16::try_from(node.status().await?.shards).context("the node's answer")?),
        }
    }

    /// The events that a shard has now, in commit order.
    ///
    /// # Errors
    /// If the reading cannot begin.
    pub async fn shard(
        &self,
        shard: ShardId,
    ) -> anyhow::Result<BoxStream<'static, anyhow::Result<(PersistenceId, StoredEvent)>>> {
        match self {
            Self::Cluster(cairn) => {
                let events = cairn.follow_shard(shard, Position(0)).current();
                Ok(events.map_ok(|event| (event.persistence_id, event.event)).map_err(anyhow::Error::from).boxed())
            }
            Self::Node(node, _) => Ok(node.shard(shard).await?.map_err(anyhow::Error::from).boxed()),
        }
    }
}
