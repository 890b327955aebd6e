//! The generator of random numbers.

/// `SplitMix64`: 64 bits of state, each output a hash of a counter.
///
/// Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17.
#[derive(Debug, Clone)]
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number from 0 to `bound - 1`, by the high half of a product; its bias is below `bound / 2^64`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Fair coins, 64 to a number.
#[derive(Debug)]
pub(super) struct Coins {
    random: SplitMix,
    bits: u64,
    left: u32,
}

impl Coins {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SplitMix(seed), bits: 0, left: 0 }
    }
    pub(super) fn toss(&mut self) -> bool {
        if self.left == 0 {
            (self.bits, self.left) = (self.random.next(), 64);
        }
        let heads = self.bits & 1 == 1;
        (self.bits, self.left) = (self.bits >> 1, self.left - 1);
        heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs for seed 1234567 of the reference code at prng.di.unimi.it/splitmix64.c.
        let mut random = SplitMix(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn coins_are_fair() {
        let mut coins = Coins::new(3);
        let heads = (0..10_000).filter(|_| coins.toss()).count();
        assert!((4850..5150).contains(&heads), "{heads}");
    }
}
