//! After a user's closures have ended and everything is healed: the cluster serves, and every node shows the same journals.

use std::time::Duration;

use cairn_client::{Cairn, Error, StoredEvent};

use crate::dice::Dice;
use crate::plan::Plan;
use crate::site::Site;

/// A healed cluster answers within this.
const DEADLINE: Duration = Duration::from_secs(20);
/// Journals that are written to, so that every shard has its part.
const JOURNALS: usize = 10;

/// Why a cluster is not whole: the property, and what was seen.
pub(crate) type NotWhole = (&'static str, String);

/// Writes to journals of its own, then compares every journal on every node.
pub(crate) async fn check(plan: &Plan, members: &[u64]) -> Result<(), NotWhole> {
    let mut dice = Dice::new(plan.seed).stream("replicas");
    let cairn = Site::World.connect(plan, &mut dice).with_deadline(DEADLINE);
    let not_served = |error: Error| ("L1", format!("a healed cluster does not serve: {error}"));
    for number in 0..JOURNALS {
        write(&cairn, &format!("(auditor) {number}")).await.map_err(not_served)?;
    }
    let listed = cairn.journals("").collect_all().await.map_err(not_served)?;
    for listing in listed {
        let mut first: Option<Vec<StoredEvent>> = None;
        for node in members {
            let journal = cairn.journal_of(listing.persistence_id.clone()).read_at(Site::World.address(*node));
            let events = journal.replay(..).include_deleted().start().collect_all().await.map_err(not_served)?;
            let first = first.get_or_insert_with(|| events.clone());
            if *first != events {
                return Err((
                    "R14",
                    format!("{:?} differs: node 1 has {first:?}, node {node} has {events:?}", listing.persistence_id.as_str()),
                ));
            }
        }
    }
    Ok(())
}

async fn write(cairn: &Cairn, persistence_id: &str) -> Result<(), Error> {
    cairn.journal(persistence_id)?.claim().await?.append("served").await?;
    Ok(())
}
