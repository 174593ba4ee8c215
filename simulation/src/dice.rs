//! Everything drawn at random in a world, from one seed.
//!
//! Each part of a world draws from a stream of its own, named once: what one part draws moves no other, so that a changed workload
//! leaves the faults where they were.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One stream of draws.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    random: StdRng,
}

impl Dice {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, random: StdRng::seed_from_u64(seed) }
    }

    /// The stream of this name below this one: the same however much was drawn here.
    #[must_use]
    pub fn stream(&self, name: &str) -> Self {
        Self::new(xxh3_64_with_seed(name.as_bytes(), self.seed))
    }

    /// True so often, from 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability.clamp(0.0, 1.0))
    }

    /// A number from `least` to `most`, both inclusive.
    pub fn number(&mut self, least: u64, most: u64) -> u64 {
        self.random.random_range(least..=most.max(least))
    }

    /// As [`Dice::number`], for counts.
    pub fn count(&mut self, least: usize, most: usize) -> usize {
        self.random.random_range(least..=most.max(least))
    }

    /// A time from `least` to `most`, in whole milliseconds.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.number(millis(least), millis(most)))
    }

    /// One of several.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        from.choose(&mut self.random).expect("there is something to pick from")
    }

    /// One of several, each as likely as its weight says.
    ///
    /// # Panics
    /// If all weights are zero.
    pub fn weighted<'a, T>(&mut self, from: &'a [(u32, T)]) -> &'a T {
        let sum: u32 = from.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.random_range(0..sum);
        for (weight, item) in from {
            if drawn < *weight {
                return item;
            }
            drawn -= weight;
        }
        unreachable!("what was drawn is below the sum of the weights")
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A seed for a part that draws by itself.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_however_much_was_drawn_beside_it() {
        let mut dice = Dice::new(7);
        let before = dice.stream("disk").any();
        dice.any();
        assert_eq!(before, dice.stream("disk").any());
        assert_ne!(before, dice.stream("network").any());
    }

    #[test]
    fn weights_of_zero_are_never_picked() {
        let mut dice = Dice::new(1);
        for _ in 0..100 {
            assert_eq!(*dice.weighted(&[(0, "never"), (1, "always")]), "always");
        }
    }
}
