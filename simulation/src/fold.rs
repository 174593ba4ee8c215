//! The state of a simulated actor: what the events of its journal come to, one after the other.
//!
//! A snapshot that an owner saves holds it, so that a snapshot and the events after it can be held against all events from the beginning.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::stamp::Stamp;

/// What the events of a journal above some number come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fold {
    /// It knows the events above this number; those up to it may have been deleted before anybody folded them.
    pub since: u64,
    hash: u64,
}

impl Fold {
    /// No event yet.
    #[must_use]
    pub fn since(number: u64) -> Self {
        Self { since: number, hash: 0 }
    }

    /// The next event; events are taken in the order of their numbers.
    pub fn take(&mut self, number: u64, stamp: Stamp) {
        if number > self.since {
            self.hash = xxh3_64_with_seed(format!("{number} {stamp}").as_bytes(), self.hash);
        }
    }

    /// Reads what [`Fold`]'s display wrote.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let (since, hash) = word.split_once(':')?;
        Some(Self { since: since.parse().ok()?, hash: u64::from_str_radix(hash, 16).ok()? })
    }
}

impl std::fmt::Display for Fold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:016x}", self.since, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(since: u64, events: &[(u64, u32)]) -> Fold {
        let mut fold = Fold::since(since);
        for (number, operation) in events {
            fold.take(*number, Stamp { client: 1, operation: *operation, index: 0, padding: 0, fold: None });
        }
        fold
    }

    #[test]
    fn a_missing_event_another_order_and_another_event_show() {
        let whole = fold(0, &[(1, 10), (2, 20), (3, 30)]);
        for other in [&[(1, 10), (3, 30)][..], &[(1, 20), (2, 10), (3, 30)], &[(1, 10), (2, 20), (3, 31)], &[(1, 10), (2, 20)]] {
            assert_ne!(fold(0, other), whole, "{other:?}");
        }
        assert_eq!(fold(1, &[(1, 10), (2, 20)]), fold(1, &[(2, 20)]), "what is before its beginning does not count");
        assert_eq!(Fold::parse(&whole.to_string()), Some(whole));
    }
}
