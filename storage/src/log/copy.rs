//! Copying forward: a slow shard's live entries move to the current segment, so that old segments can go.

use cairn_machine::ShardId;
use tokio::sync::oneshot;

use super::entry::LogEntry;
use super::error::LogError;
use super::index::Place;
use super::read::{self, Planned, Source};
use super::shared::{Operation, Shared, State};

/// One step copies at most this many payload bytes, or one entry.
const STEP_BYTES_MAX: usize = 1 << 20;
/// One step copies at most this many entries.
const STEP_ENTRIES_MAX: usize = 4096;

/// See [`super::Log::copy_forward`].
pub(super) async fn copy_forward(shared: &Shared, shard: ShardId) -> Result<u64, LogError> {
    let (mut at, end, target) = {
        let mut state = shared.lock();
        state.check()?;
        let target = state.current;
        let Some(known) = state.shards.get_mut(&shard) else { return Ok(0) };
        (known.index.first(), known.index.next().unwrap_or(0), target)
    };
    let mut copied = 0;
    while at < end {
        let (plan, places, next) = {
            let state = shared.lock();
            state.check()?;
            plan_step(&state, shard, at..end, target)
        };
        at = next;
        let entries = read::fetch(shared, shard, plan).await?;
        copied += submit_step(shared, shard, entries.into_iter().zip(places).collect()).await?;
    }
    Ok(copied)
}

/// Picks the next entries that lie before segment `target`, and says where to go on.
fn plan_step(state: &State, shard: ShardId, range: std::ops::Range<u64>, target: u32) -> (Vec<Planned>, Vec<Place>, u64) {
    let index = &state.shards[&shard].index;
    let (mut plan, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
    let start = range.start.max(index.first());
    for at in start..range.end {
        let Some(indexed) = index.get(at) else { break };
        let place = indexed.place;
        if !place.is_stored() || place.segment >= target {
            continue;
        }
        if plan.len() == STEP_ENTRIES_MAX || (!plan.is_empty() && bytes + place.bytes as usize > STEP_BYTES_MAX) {
            return (plan, places, at);
        }
        bytes += place.bytes as usize;
        let source = match indexed.cached {
            Some(payload) => Source::Cached(payload),
            None => Source::Stored(place, state.segments[&place.segment].files.clone()),
        };
        plan.push(Planned { id: indexed.id, source });
        places.push(place);
    }
    (plan, places, range.end)
}

/// Queues those entries that are still where they were, and waits until they are durable.
async fn submit_step(shared: &Shared, shard: ShardId, entries: Vec<(LogEntry, Place)>) -> Result<u64, LogError> {
    let (sender, receiver) = oneshot::channel();
    let count = {
        let mut state = shared.lock();
        state.check()?;
        let index = &state.shard(shard).index;
        let mut entries = entries;
        entries.retain(|(entry, place)| index.get(entry.id.index).is_some_and(|now| now.id == entry.id && now.place == *place));
        let count = entries.len();
        if count == 0 {
            return Ok(0);
        }
        let done = Box::new(move |result| drop(sender.send(result)));
        state.submit(Operation::Copy { shard, entries, done });
        count
    };
    shared.work.notify_one();
    receiver.await.unwrap_or(Err(LogError::Stopped))?;
    Ok(count as u64)
}
