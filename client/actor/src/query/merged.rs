//! The events of several shards as one stream.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::pin::Pin;

use cairn_client::{Cairn, Error, FollowShard, PersistenceId, Position, ShardId};
use cairn_machine::SLICES;
use futures::future::join_all;
use futures::stream::{self, SelectAll, select_all};
use futures::{Stream, StreamExt};

use super::Envelopes;
use super::envelope::Envelope;
use super::offset::Offset;

/// Which events.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    /// With this tag.
    tag: Option<String>,
    /// Of these slices.
    slices: Option<RangeInclusive<u16>>,
    /// Of journals whose name begins so.
    prefix: Option<String>,
}

impl Selection {
    pub(super) fn of_tag(tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), ..Self::default() }
    }

    pub(super) fn of_slices(entity_type: Option<&str>, slices: RangeInclusive<u16>) -> Result<Self, Error> {
        if slices.is_empty() || *slices.end() >= SLICES {
            return Err(Error::Invalid { message: format!("slices {slices:?}: not within 0..={}", SLICES - 1) });
        }
        let prefix = entity_type.map(|entity_type| format!("{entity_type}|"));
        Ok(Self { slices: Some(slices), prefix, ..Self::default() })
    }

    /// What is stored after an offset, and what will be.
    pub(super) async fn live(self, cairn: &Cairn, offset: &Offset) -> Result<Envelopes, Error> {
        let shards = cairn.shards().await?;
        let positions = offset.positions(shards)?;
        let streams = self.shards(shards).map(|shard| {
            let followed = self.follow(cairn, shard, &positions, false);
            followed.map(move |event| (shard, event))
        });
        let streams = select_all(streams);
        Ok(self.merged(shards, positions, streams))
    }

    /// What is stored after an offset when this is answered: every shard is opened by then.
    pub(super) async fn current(self, cairn: &Cairn, offset: &Offset) -> Result<Envelopes, Error> {
        let shards = cairn.shards().await?;
        let positions = offset.positions(shards)?;
        let streams = self.shards(shards).map(|shard| {
            let followed = self.follow(cairn, shard, &positions, true);
            async move {
                let mut followed = Box::pin(followed.map(move |event| (shard, event)).peekable());
                followed.as_mut().peek().await;
                followed
            }
        });
        let streams = select_all(join_all(streams).await);
        Ok(self.merged(shards, positions, streams))
    }

    /// The shards that have such slices.
    fn shards(&self, shards: u16) -> impl Iterator<Item = ShardId> + use<> {
        let slices_each = SLICES / shards;
        let slices = self.slices.clone().unwrap_or(0..=SLICES - 1);
        (slices.start() / slices_each..=slices.end() / slices_each).map(ShardId)
    }

    fn follow(&self, cairn: &Cairn, shard: ShardId, after: &BTreeMap<ShardId, Position>, is_current: bool) -> FollowShard {
        let mut request = cairn.follow_shard(shard, after.get(&shard).copied().unwrap_or_default());
        if let Some(tag) = &self.tag {
            request = request.tag(tag.clone());
        }
        if let Some(slices) = &self.slices {
            request = request.slices(*slices.start(), *slices.end());
        }
        if is_current { request.current().start() } else { request.start() }
    }

    fn is_meant(&self, persistence_id: &PersistenceId) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| persistence_id.as_str().starts_with(prefix))
    }

    /// Takes from the shards in turn, and moves each one's position with what is handed out.
    fn merged<S>(self, shards: u16, positions: BTreeMap<ShardId, Position>, events: SelectAll<S>) -> Envelopes
    where
        S: Stream<Item = (ShardId, Result<cairn_client::ShardEvent, Error>)> + Send + Unpin + 'static,
    {
        let merging = Some((self, positions, Box::pin(events)));
        let merged = stream::unfold(merging, move |merging| async move {
            let (selection, mut positions, mut events): (Self, _, Pin<Box<SelectAll<S>>>) = merging?;
            loop {
                let (shard, event) = events.next().await?;
                let event = match event {
                    Ok(event) => event,
                    Err(error) => return Some((Err(error), None)),
                };
                positions.insert(shard, event.stored.position);
                if !selection.is_meant(&event.persistence_id) {
                    continue;
                }
                let offset = Offset::Positions { shards, positions: positions.clone() };
                let envelope = Envelope::new(event.persistence_id, event.stored, offset);
                return Some((Ok(envelope), Some((selection, positions, events))));
            }
        });
        merged.boxed()
    }
}
