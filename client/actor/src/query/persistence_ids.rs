//! Which journals there are.

use std::collections::BTreeSet;

use cairn_client::{Cairn, Error, PersistenceId, Position, ShardId};
use futures::stream::{self, select_all};
use futures::{StreamExt, TryStreamExt};

use super::{Names, shards};

/// A tag that no event has, as tags are at most 256 bytes of what users chose: with it a shard tells how far it is, and nothing else.
const NO_TAG: &str = "\u{0}no event has this tag";

/// The journals that hold or held events, as of now.
pub(super) async fn current(cairn: &Cairn, after: Option<&PersistenceId>) -> Result<Names, Error> {
    let mut journals = cairn.journals("");
    if let Some(after) = after {
        journals = journals.after(after.as_str());
    }
    let mut names = Vec::new();
    while let Some(listing) = journals.next().await? {
        if listing.known.highest.0 > 0 {
            names.push(Ok(listing.persistence_id));
        }
    }
    Ok(stream::iter(names).boxed())
}

/// The journals there are, and then those whose first event comes.
pub(super) async fn live(cairn: &Cairn) -> Result<Names, Error> {
    let mut ends = Vec::new();
    for shard in shards(cairn).await? {
        ends.push((shard, end_of(cairn, shard).await?));
    }
    // Listed after the ends were read: what is stored in between is seen twice rather than not at all.
    let listed = current(cairn, None).await?;
    let coming = select_all(ends.into_iter().map(|(shard, end)| cairn.follow_shard(shard, end).start()));
    let mut named = BTreeSet::new();
    let names = listed.chain(coming.map_ok(|event| event.persistence_id));
    let new = names.try_filter(move |name| std::future::ready(named.insert(name.clone())));
    Ok(new.boxed())
}

/// The newest position of a shard.
async fn end_of(cairn: &Cairn, shard: ShardId) -> Result<Position, Error> {
    let mut followed = cairn.follow_shard(shard, Position(0)).tag(NO_TAG).current().start();
    while followed.next().await?.is_some() {}
    Ok(followed.followed_to())
}
