//! Following a journal, or a shard: what is there, and then what is to come.
//!
//! Invariants
//! - Events come in order, each once, none left out but deleted ones and those that were not asked for.
//! - A follower hears how far it has come, also where there was nothing to show.
//! - When the node stops, the stream ends cleanly: the follower goes on elsewhere from where it was.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1::{self, Failure, Reason};
use cairn_api::{Follow, FollowShard};
use cairn_machine::{PersistenceId, Position, SequenceNumber, Slice};
use cairn_storage::tables::{PositionedEvent, PositionsPage, PositionsRead, Replay as PageRead};
use tokio::time::Instant;

use super::replay::{PAGE_BYTES_TARGET, PAGE_EVENTS_MAX};
use super::stream::{Answers, End, Sink, produce};
use crate::core::{Core, Shard};

/// Most events in one message of a shard, and where it ends by its bytes. Larger than a replay's: each page looks its journals up anew, and
/// at rows of the shard or of a tag that it may have no room for.
const SHARD_PAGE_EVENTS_MAX: usize = 2_048;
const SHARD_PAGE_BYTES_TARGET: usize = 512 * 1024;
/// How often a follower hears how far it has come while nothing happens.
const PROGRESS_INTERVAL: Duration = cairn_api::FOLLOW_PROGRESS_INTERVAL;

/// Opens the following of a journal.
pub(super) async fn open(core: &Arc<Core>, follow: Follow) -> Result<Answers<v1::FollowResponse>, Failure> {
    let place = core.follow_place()?;
    let shard = core.shard_of(&follow.persistence_id).clone();
    let shared = Arc::clone(core);
    Ok(produce(core, |sink| async move {
        let _place = place;
        let stopping = shared.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.cancelled() => Ok(()),
            outcome = journal(&shared, &shard, follow, &sink) => outcome,
        }
    }))
}

async fn journal(core: &Core, shard: &Shard, follow: Follow, sink: &Sink<v1::FollowResponse>) -> Result<(), End> {
    let failed = |error| core.tables_failure(&error);
    let mut subscription = shard.tables().subscribe(&follow.persistence_id).await.map_err(failed)?;
    let mut followed_to = SequenceNumber(follow.from.0 - 1);
    loop {
        followed_to = journal_pages(core, shard, &follow.persistence_id, followed_to, sink).await?;
        match tokio::time::timeout(PROGRESS_INTERVAL, subscription.wait_above(followed_to)).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(_) => sink.send(v1::FollowResponse { events: Vec::new(), followed_to: followed_to.to_wire() }).await?,
        }
    }
}

/// Sends what is there above a number, and gives how far that was.
async fn journal_pages(
    core: &Core,
    shard: &Shard,
    persistence_id: &PersistenceId,
    mut followed_to: SequenceNumber,
    sink: &Sink<v1::FollowResponse>,
) -> Result<SequenceNumber, End> {
    let mut captured = None;
    loop {
        let read = PageRead {
            from: SequenceNumber(followed_to.0 + 1),
            to: SequenceNumber::MAX,
            events_max: PAGE_EVENTS_MAX,
            bytes_max: PAGE_BYTES_TARGET,
            include_deleted: false,
            captured,
        };
        let page = shard.tables().read_events(persistence_id, read).await.map_err(|error| core.tables_failure(&error))?;
        captured = Some(page.watermarks);
        let reached = match page.next {
            Some(next) => SequenceNumber(next.0 - 1),
            // A follower that starts above the highest number waits for its number, not for lower ones.
            None => page.watermarks.highest.max(followed_to),
        };
        if !page.events.is_empty() || reached > followed_to {
            followed_to = reached;
            core.metrics.replayed_events.increment(page.events.len() as u64);
            let events = page.events.into_iter().map(Into::into).collect();
            sink.send(v1::FollowResponse { events, followed_to: followed_to.to_wire() }).await?;
        }
        if page.next.is_none() {
            return Ok(followed_to);
        }
    }
}

/// Opens the following of a shard.
pub(super) async fn open_shard(
    core: &Arc<Core>,
    follow: FollowShard,
    deadline: Instant,
) -> Result<Answers<v1::FollowShardResponse>, Failure> {
    let place = core.follow_place()?;
    let shard = core.shard(follow.shard)?.clone();
    // Everything acknowledged before the call belongs to the state at which it ends.
    if follow.current {
        core.barrier(&shard, deadline).await?;
    } else {
        wait_for_cursor(&shard, follow.after, deadline).await?;
    }
    let end = follow.current.then(|| shard.newest_position());
    let shared = Arc::clone(core);
    Ok(produce(core, |sink| async move {
        let _place = place;
        let stopping = shared.stopping.clone();
        let mut cursor = Cursor { core: &shared, shard: &shard, follow: &follow, end, followed_to: follow.after };
        tokio::select! {
            biased;
            () = stopping.cancelled() => Ok(()),
            outcome = cursor.run(&sink) => outcome,
        }
    }))
}

/// Waits until this replica has come as far as the cursor: until then it would look as if nothing had happened since.
async fn wait_for_cursor(shard: &Shard, after: Position, deadline: Instant) -> Result<(), Failure> {
    let mut newest = shard.tables().newest_position();
    match tokio::time::timeout_at(deadline, newest.wait_for(|newest| *newest >= after)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Failure::new(Reason::Unavailable, "the node is stopping")),
        Err(_) => {
            let reason = format!("the replica has not reached position {} within the deadline", after.0);
            Err(Failure::new(Reason::Behind, reason))
        }
    }
}

/// Where a follower of a shard is.
struct Cursor<'a> {
    core: &'a Core,
    shard: &'a Shard,
    follow: &'a FollowShard,
    /// The last position to show, inclusive; none = there is no end.
    end: Option<Position>,
    followed_to: Position,
}

impl Cursor<'_> {
    async fn run(&mut self, sink: &Sink<v1::FollowShardResponse>) -> Result<(), End> {
        let mut newest = self.shard.tables().newest_position();
        loop {
            self.pages(sink).await?;
            if let Some(end) = self.end {
                self.followed_to = self.followed_to.max(end);
                return sink.send(v1::FollowShardResponse { end: true, ..self.response(Vec::new()) }).await;
            }
            let followed_to = self.followed_to;
            let moved = async { newest.wait_for(|newest| *newest > followed_to).await.is_ok() };
            match tokio::time::timeout(PROGRESS_INTERVAL, moved).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(_) => sink.send(self.response(Vec::new())).await?,
            }
        }
    }

    /// Sends what is there behind the cursor, and moves it.
    async fn pages(&mut self, sink: &Sink<v1::FollowShardResponse>) -> Result<(), End> {
        let mut told = Instant::now();
        loop {
            let target = self.end.unwrap_or_else(|| self.shard.newest_position());
            if self.followed_to >= target {
                return Ok(());
            }
            let page = self.page().await?;
            let events: Vec<_> = page.events.into_iter().filter(|event| self.is_asked_for(event)).collect();
            let reached = Position(page.next.0.saturating_sub(1));
            self.followed_to = self.end.map_or(reached, |end| reached.min(end)).max(self.followed_to);
            self.core.metrics.replayed_events.increment(events.len() as u64);
            if !events.is_empty() || told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                sink.send(self.response(events)).await?;
            }
            if page.is_at_end {
                return Ok(());
            }
        }
    }

    async fn page(&self) -> Result<PositionsPage, Failure> {
        let read = PositionsRead {
            from: Position(self.followed_to.0 + 1),
            events_max: SHARD_PAGE_EVENTS_MAX,
            bytes_max: SHARD_PAGE_BYTES_TARGET,
            include_deleted: false,
        };
        let page = match &self.follow.tag {
            Some(tag) => self.shard.tables().read_tag(tag, read).await,
            None => self.shard.tables().read_positions(read).await,
        };
        page.map_err(|error| self.core.tables_failure(&error))
    }

    fn is_asked_for(&self, event: &PositionedEvent) -> bool {
        let within_end = self.end.is_none_or(|end| event.event.position <= end);
        within_end
            && self.follow.slices.is_none_or(|(min, max)| {
                let slice = Slice::of(&event.persistence_id).number();
                min <= slice && slice <= max
            })
    }

    fn response(&self, events: Vec<PositionedEvent>) -> v1::FollowShardResponse {
        let events = events.into_iter().map(|event| v1::ShardEvent {
            persistence_id: event.persistence_id.as_str().to_owned(),
            event: Some(event.event.into()),
        });
        let followed_to = i64::try_from(self.followed_to.0).unwrap_or(i64::MAX);
        v1::FollowShardResponse { events: events.collect(), followed_to, end: false }
    }
}
