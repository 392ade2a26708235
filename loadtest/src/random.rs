//! Numbers nobody can guess a pattern in, at the cost of three shifts.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Marsaglia's xorshift with the multiplication of xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded anew in every process, by the seed the standard library draws for its maps.
    pub(crate) fn new() -> Random {
        Random(RandomState::new().build_hasher().finish() | 1)
    }

    /// Any 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to `limit - 1`, each as likely as any other; `limit` must not be 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        // The high half of a 128-bit product: no division, a bias below limit / 2^64.
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_the_limit_comes_about_equally_often() {
        let mut random = Random(42);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[random.below(10)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
