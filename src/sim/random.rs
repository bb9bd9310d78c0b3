//! Random numbers that depend on the seed and on nothing else.

use std::time::Duration;

/// A generator (SplitMix64) that anybody can write down in five lines: a seed means the same run for ever.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator of its own for each (seed, purpose), so that drawing more for one purpose shifts no other.
    pub fn new(seed: u64, purpose: u64) -> Random {
        let mut random = Random { state: seed ^ purpose.wrapping_mul(0xA076_1D64_78BD_642F) };
        random.bits();
        random
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice has at least one possibility");
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An index below `length`, which is above 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True in `per_thousand` of 1,000 cases.
    pub fn chance(&mut self, per_thousand: u64) -> bool {
        self.below(1000) < per_thousand
    }

    /// A duration from `low` to `high`, both possible.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.between(low.as_nanos() as u64, high.as_nanos() as u64))
    }

    /// A duration around `middle`: mostly near it, now and then several times as long (at most 24 times).
    pub fn around(&mut self, middle: Duration) -> Duration {
        let base = self.duration(middle / 2, middle * 3 / 2);
        match self.below(100) {
            0 => base * 16,
            1..=4 => base * 4,
            _ => base,
        }
    }

    /// One of several, each with its weight.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let total = choices.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.below(total);
        for (weight, choice) in choices {
            if drawn < *weight {
                return *choice;
            }
            drawn -= weight;
        }
        unreachable!("a number below the total falls to one of the choices")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut random = Random::new(1, 2);
        let numbers: Vec<u64> = (0..3).map(|_| random.below(1000)).collect();
        assert_eq!(numbers, {
            let mut again = Random::new(1, 2);
            (0..3).map(|_| again.below(1000)).collect::<Vec<_>>()
        });
        assert_ne!(Random::new(1, 3).bits(), Random::new(1, 2).bits());
    }

    #[test]
    fn weights_are_kept() {
        let mut random = Random::new(7, 0);
        let drawn = (0..10_000).filter(|_| random.weighted(&[(1, false), (9, true)])).count();
        assert!((8_800..9_200).contains(&drawn), "{drawn}");
    }
}
