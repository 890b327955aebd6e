//! Numbers that are the same on every machine.
//!
//! Addition, multiplication, division and rounding of `f64` are fixed by IEEE 754. Sine and exponential are not: the standard
//! library asks the platform's. Here they are short series of those fixed operations, good to about 1e-15.

use std::f64::consts::{LN_2, PI};

use crate::random::SplitMix;

/// `e^x` for |x| up to 700.
pub(super) fn exp(x: f64) -> f64 {
    let power = (x / LN_2).round();
    let rest = x - power * LN_2;
    let mut sum = 1.0;
    for n in (1..=18).rev() {
        sum = 1.0 + sum * rest / f64::from(n);
    }
    sum * f64::from_bits(((1023 + power as i64) as u64) << 52)
}

/// The cosine of a number of turns: `cos(2 pi t)`.
pub(super) fn cos_turns(turns: f64) -> f64 {
    // cos x = 1 - 2 sin^2(x / 2), with x / 2 within half a pi.
    let half = PI * (turns - turns.round());
    let square = half * half;
    let mut sum = 1.0;
    for n in (1..=11).rev() {
        let even = f64::from(2 * n);
        sum = 1.0 - sum * square / (even * (even + 1.0));
    }
    let sine = half * sum;
    1.0 - 2.0 * sine * sine
}

/// Random numbers of a list of numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(SplitMix);

impl Random {
    /// The generator of a list of numbers: any other list gives another.
    pub(super) fn of(key: &[u64]) -> Self {
        let mut random = SplitMix::new(0x5bd1_e995);
        for &number in key {
            random = SplitMix::new(random.next_u64() ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        Self(random)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Even in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.uniform()
    }

    /// Noise: mean 0, variance 1, nearly Gaussian (three even numbers added).
    pub(super) fn noise(&mut self) -> f64 {
        self.between(-1.0, 1.0) + self.between(-1.0, 1.0) + self.between(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_agree_with_the_platform() {
        for step in -4_000..=4_000 {
            let x = f64::from(step) * 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "exp {x}");
            assert!((cos_turns(x) - (2.0 * PI * x).cos()).abs() < 1e-12, "cos {x}");
        }
    }

    #[test]
    fn noise_has_mean_0_and_variance_1() {
        let mut random = Random::of(&[1]);
        let values: Vec<_> = (0..100_000).map(|_| random.noise()).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
