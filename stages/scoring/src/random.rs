//! Random numbers from a seed, the same on every machine.

/// `SplitMix64`: 64 bits of state, each output a hash of a counter.
///
/// Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17.
#[derive(Debug, Clone)]
pub struct SplitMix(u64);

impl SplitMix {
    /// Returns a generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number in [0, 1), all 53 bits of it random.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a number from 0 to `bound - 1`, by the high half of a product; the bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Returns a draw from the standard normal distribution (Marsaglia and Bray 1964, the polar method).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }
}

/// Fair coins, 64 to a number.
#[derive(Debug)]
pub(crate) struct Coins {
    random: SplitMix,
    bits: u64,
    left: u32,
}

impl Coins {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SplitMix::new(seed), bits: 0, left: 0 }
    }
    pub(crate) fn toss(&mut self) -> bool {
        if self.left == 0 {
            (self.bits, self.left) = (self.random.next_u64(), 64);
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
        let mut random = SplitMix::new(1_234_567);
        assert_eq!([random.next_u64(), random.next_u64()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn coins_are_fair() {
        let mut coins = Coins::new(3);
        let heads = (0..10_000).filter(|_| coins.toss()).count();
        assert!((4850..5150).contains(&heads), "{heads}");
    }
}
