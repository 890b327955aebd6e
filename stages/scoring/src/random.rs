//! Random numbers for draws and tests.

pub use datasets::random::SplitMix;

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
    fn coins_are_fair() {
        let mut coins = Coins::new(3);
        let heads = (0..10_000).filter(|_| coins.toss()).count();
        assert!((4850..5150).contains(&heads), "{heads}");
    }
}
