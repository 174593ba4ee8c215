//! Wrong clients: they ask for less than they were asked for, or tell more than they know.

use cairn_client::Freshness;

use super::Bug;
use crate::history::Outcome;

/// A follower that skips events skips one of so many.
const SKIPS_ONE_OF: u64 = 50;

/// How fresh an answer a client asks for, of whom this freshness was wanted.
pub(crate) fn freshness(bug: Option<Bug>, wanted: Freshness) -> Freshness {
    if bug == Some(Bug::BarrierSkipped) { Freshness::Local } else { wanted }
}

/// Whether a follower shows the event at a position.
pub(crate) fn shows(bug: Option<Bug>, position: u64) -> bool {
    bug != Some(Bug::FollowerSkips) || !position.is_multiple_of(SKIPS_ONE_OF)
}

/// What a client tells of an outcome.
pub(crate) fn told(bug: Option<Bug>, outcome: Outcome) -> Outcome {
    match (bug, outcome) {
        (Some(Bug::UnknownIsRefused), Outcome::Unknown(why)) => Outcome::NotApplied(why),
        (_, outcome) => outcome,
    }
}
