//! Which journals there are.
//!
//! Listed page by page, as they are taken. Pages that are read later know of journals that began later; those are left out by what
//! is compared with the state of the start: when the journal was last written, which a page tells, and only where that may have been
//! after the start, where its first event stands.

use std::collections::{BTreeMap, BTreeSet};

use cairn_client::{Cairn, Error, Journals, Listing, PersistenceId, Position, SequenceNumber, ShardId, Timestamp};
use futures::stream::{self, select_all};
use futures::{StreamExt, TryStreamExt};

use super::{Names, shards};

/// A tag that no event has, as tags are at most 256 bytes of what users chose: with it a shard tells how far it is, and nothing else.
const NO_TAG: &str = "\u{0}no event has this tag";

/// A shard when a question began.
struct Start {
    /// Its newest position.
    end: Position,
    /// When the event there was stored; none if there is none, or none any more.
    newest: Option<Timestamp>,
}

type Starts = BTreeMap<ShardId, Start>;

/// The journals that hold or held events, as of now.
pub(super) async fn current(cairn: &Cairn, after: Option<&PersistenceId>) -> Result<Names, Error> {
    let starts = starts(cairn).await?;
    let listed = (cairn.clone(), starts, listing(cairn, after));
    let names = stream::try_unfold(listed, |(cairn, starts, mut journals)| async move {
        while let Some(listing) = next_written(&mut journals).await? {
            if !began_after(&cairn, &starts, &listing).await? {
                return Ok(Some((listing.persistence_id, (cairn, starts, journals))));
            }
        }
        Ok(None)
    });
    Ok(names.boxed())
}

/// The journals there are, and then those whose first event comes.
pub(super) async fn live(cairn: &Cairn) -> Result<Names, Error> {
    // Listed after the ends were read: what is stored in between is seen twice rather than not at all.
    let starts = starts(cairn).await?;
    let listed = stream::try_unfold(listing(cairn, None), |mut journals| async move {
        Ok(next_written(&mut journals).await?.map(|listing| (listing.persistence_id, journals)))
    });
    let coming = select_all(starts.iter().map(|(shard, start)| cairn.follow_shard(*shard, start.end).start()));
    let mut named = BTreeSet::new();
    let names = listed.chain(coming.map_ok(|event| event.persistence_id));
    let new = names.try_filter(move |name| std::future::ready(named.insert(name.clone())));
    Ok(new.boxed())
}

fn listing(cairn: &Cairn, after: Option<&PersistenceId>) -> Journals {
    let journals = cairn.journals("");
    match after {
        Some(after) => journals.after(after.as_str()),
        None => journals,
    }
}

/// The next journal that ever held an event.
async fn next_written(journals: &mut Journals) -> Result<Option<Listing>, Error> {
    while let Some(listing) = journals.next().await? {
        if listing.known.highest > SequenceNumber(0) {
            return Ok(Some(listing));
        }
    }
    Ok(None)
}

/// Whether a journal began after the start of a question. One that lost its first events is taken for older: it may be.
async fn began_after(cairn: &Cairn, starts: &Starts, listing: &Listing) -> Result<bool, Error> {
    let Some(start) = starts.get(&listing.shard) else { return Ok(false) };
    // A leader whose clock is behind that of the one before it lets a journal of the time between through.
    if start.newest.is_some_and(|newest| listing.timestamp < newest) || listing.known.deleted_to > SequenceNumber(0) {
        return Ok(false);
    }
    let mut replay = cairn.journal_of(listing.persistence_id.clone()).replay(..).max(1).start();
    let first = replay.next().await?;
    // At its end it tells whether events were deleted meanwhile.
    while replay.next().await?.is_some() {}
    let is_whole = replay.end().is_some_and(|end| end.deleted_to == SequenceNumber(0));
    Ok(is_whole && first.is_some_and(|first| first.position > start.end))
}

/// Every shard, as it is now.
async fn starts(cairn: &Cairn) -> Result<Starts, Error> {
    let mut starts = Starts::new();
    for shard in shards(cairn).await? {
        let end = end_of(cairn, shard).await?;
        starts.insert(shard, Start { end, newest: stored_at(cairn, shard, end).await? });
    }
    Ok(starts)
}

/// The newest position of a shard.
async fn end_of(cairn: &Cairn, shard: ShardId) -> Result<Position, Error> {
    let mut followed = cairn.follow_shard(shard, Position(0)).tag(NO_TAG).current().start();
    while followed.next().await?.is_some() {}
    Ok(followed.followed_to())
}

/// When the event at a position was stored; none if it is not there.
async fn stored_at(cairn: &Cairn, shard: ShardId, position: Position) -> Result<Option<Timestamp>, Error> {
    let Some(before) = position.0.checked_sub(1) else { return Ok(None) };
    let mut followed = cairn.follow_shard(shard, Position(before)).current().start();
    let event = followed.next().await?;
    Ok(event.filter(|event| event.stored.position == position).map(|event| event.stored.timestamp))
}
