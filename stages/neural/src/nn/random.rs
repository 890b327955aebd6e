//! A generator of our own, so that initial weights and masks are the same on every machine.
//!
//! Dropout draws from a generator of its own (`native/dropout.cpp`), which is seeded from here for every layer.

use scoring::random::SplitMix;

/// Random numbers of a training: [`SplitMix`], with a stream for every named thing.
#[derive(Debug, Clone)]
pub struct Rng(SplitMix);

impl Rng {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed))
    }

    /// A generator for one named thing: what it gives does not depend on what else was drawn.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a: small, fixed for ever, and mixed again by the generator.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self::new(Self::new(seed).next_u64() ^ hash)
    }

    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in [0, 1), all 53 bits of it random.
    pub fn uniform(&mut self) -> f64 {
        self.0.uniform()
    }

    /// An index below `limit`, which is above 0. The bias is below `limit / 2^64`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit)
    }

    /// A draw from the standard normal distribution.
    pub fn normal(&mut self) -> f64 {
        self.0.normal()
    }

    /// `count` different indices below `limit`, in random order.
    pub fn choose(&mut self, count: usize, limit: usize) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..limit).collect();
        for at in 0..count.min(limit) {
            let other = at + self.below(limit - at);
            indices.swap(at, other);
        }
        indices.truncate(count);
        indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_independent_generators() {
        assert_eq!(Rng::named(1, "a").next_u64(), Rng::named(1, "a").next_u64());
        assert_ne!(Rng::named(1, "a").next_u64(), Rng::named(1, "b").next_u64());
        assert_ne!(Rng::named(1, "a").next_u64(), Rng::named(2, "a").next_u64());
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(3);
        let draws: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "mean {mean}, variance {variance}");
        let share = (0..20_000).filter(|_| rng.uniform() < 0.25).count() as f64 / 20_000.0;
        assert!((share - 0.25).abs() < 0.02, "{share}");
    }

    #[test]
    fn chosen_indices_differ() {
        let mut chosen = Rng::new(5).choose(6, 9);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 6);
        assert!(chosen.iter().all(|&index| index < 9));
    }
}
