//! Slices: where a persistence id lives, for ever.
//!
//! The hash is the one that Akka and Pekko use (contract 4.3), so that a slice means the same on both sides: Java's 32-bit
//! string hash over UTF-16 code units, its remainder by 1024, made positive.

use crate::ids::{PersistenceId, ShardId};

/// The number of slices. Persisted: never changes.
pub const SLICES: u16 = 1024;

/// 0..1023: the unit in which journals are spread over shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice(u16);

impl Slice {
    /// The slice of a persistence id.
    #[must_use]
    pub fn of(persistence_id: &PersistenceId) -> Self {
        Self::of_text(persistence_id.as_str())
    }

    fn of_text(text: &str) -> Self {
        let hash = text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        let remainder = (hash % i32::from(SLICES)).unsigned_abs();
        Self(u16::try_from(remainder).expect("a remainder by 1024 fits"))
    }

    /// The shard that owns this slice in a cluster of `shards` shards: each owns one contiguous range of equal size.
    ///
    /// # Panics
    /// If `shards` is not a power of two up to 1024; a cluster is never born with another number.
    #[must_use]
    pub fn shard(self, shards: u16) -> ShardId {
        assert!(shards.is_power_of_two() && shards <= SLICES, "shards are a power of two: {shards}");
        ShardId(self.0 / (SLICES / shards))
    }

    /// The slice's number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_those_of_akka() {
        let vectors = [
            ("", 0),
            ("a", 97),
            ("p-1", 532),
            ("p-2", 533),
            ("TestEntity|p1", 1000),
            ("ShoppingCart|20220602-081454", 515),
            ("Zürich|ñ", 51),
            ("emoji-😀", 74),
            ("polygenelubricants", 0),
            ("user|00000000-0000-0000-0000-000000000001", 558),
        ];
        for (text, slice) in vectors {
            assert_eq!(Slice::of_text(text).number(), slice, "{text:?}");
        }
    }

    #[test]
    fn each_shard_owns_a_contiguous_range_of_equal_size() {
        for shards in [1u16, 2, 4, 64] {
            let owners: Vec<u16> = (0..SLICES).map(|slice| Slice(slice).shard(shards).0).collect();
            assert!(owners.is_sorted());
            for shard in 0..shards {
                assert_eq!(owners.iter().filter(|owner| **owner == shard).count(), usize::from(SLICES / shards));
            }
        }
    }
}
