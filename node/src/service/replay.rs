//! Replay: the events of one journal in order, then its true highest number.
//!
//! The state is captured once, at the first page or before; the pages after it go by that, so that one replay never mixes two states. No
//! view is held: a slow reader costs nothing.

use std::sync::Arc;

use cairn_api::v1::{self, Failure};
use cairn_machine::{PersistenceId, SequenceNumber};
use cairn_storage::tables::{Replay as PageRead, Watermarks};
use tokio::time::Instant;

use super::stream::{Answers, End, Sink, produce};
use crate::core::{Core, Shard};

/// Most events in one message of a journal, replayed or followed, and where it ends by its bytes: what is read, encoded and sent stays in the processor's cache, and in memory
/// that the allocator keeps. Pages of 512 KiB were replayed at little more than half the rate.
pub(super) const PAGE_EVENTS_MAX: usize = 512;
pub(super) const PAGE_BYTES_TARGET: usize = 128 * 1024;

/// Which events are replayed.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub persistence_id: PersistenceId,
    pub from: SequenceNumber,
    pub to: SequenceNumber,
    pub max: u64,
    pub include_deleted: bool,
    /// The state that the events are of; none: that of the first page.
    pub state: Option<Watermarks>,
}

/// Opens a replay: when this returns, the replica is as fresh as was asked for.
pub(super) async fn open(
    core: &Arc<Core>,
    replay: cairn_api::Replay,
    deadline: Instant,
) -> Result<Answers<v1::ReplayResponse>, Failure> {
    let place = core.replay_place()?;
    let shard = core.shard_of(&replay.persistence_id).clone();
    core.freshen(&shard, &replay.persistence_id, replay.freshness, deadline).await?;
    let range = Range {
        persistence_id: replay.persistence_id,
        from: replay.from,
        to: replay.to,
        max: replay.max,
        include_deleted: replay.include_deleted,
        state: None,
    };
    let shared = Arc::clone(core);
    Ok(produce(core, |sink| async move {
        let _place = place;
        events(&shared, &shard, range, &sink, |events| events).await
    }))
}

/// Sends the events of a range page by page, the first one with the state that they are of, the last one with the end.
pub(super) async fn events<T>(
    core: &Core,
    shard: &Shard,
    range: Range,
    sink: &Sink<T>,
    wrap: impl Fn(v1::ReplayResponse) -> T,
) -> Result<(), End> {
    let mut left = range.max;
    let mut from = range.from;
    let mut captured = range.state;
    let mut is_first = true;
    loop {
        let read = PageRead {
            from,
            to: range.to,
            events_max: usize::try_from(left).unwrap_or(usize::MAX).min(PAGE_EVENTS_MAX),
            bytes_max: PAGE_BYTES_TARGET,
            include_deleted: range.include_deleted,
            captured,
        };
        let page = shard.tables().read_events(&range.persistence_id, read).await.map_err(|error| core.tables_failure(&error))?;
        let watermarks = page.watermarks;
        captured = Some(watermarks);
        left = left.saturating_sub(page.events.len() as u64);
        core.metrics.replayed_events.increment(page.events.len() as u64);
        let next = page.next.filter(|_| left > 0);
        let state = v1::ReplayEnd {
            highest: watermarks.highest.to_wire(),
            deleted_to: watermarks.deleted_to.to_wire(),
            removed_to: watermarks.removed_to.to_wire(),
        };
        let message = v1::ReplayResponse {
            events: page.events.into_iter().map(Into::into).collect(),
            end: next.is_none().then_some(state),
            state: is_first.then_some(state),
        };
        sink.send(wrap(message)).await?;
        is_first = false;
        match next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}
