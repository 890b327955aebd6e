//! How far a score can be trusted: the confidence interval of one, and whether two differ.
//!
//! Seeded by the caller; the generator is our own, so the same seed gives the same interval everywhere.

use serde::{Deserialize, Serialize};

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The interval of an accuracy of `right` among `total`, by the percentile bootstrap over utterances.
///
/// `confidence` lies between 0 and 1 (0.95), `resamples` is how many times `total` utterances are drawn with replacement.
/// When every answer is right, or none, all resamples agree and would claim certainty; the end that could move is then
/// that of Clopper and Pearson 1934: `(alpha / 2)^(1 / total)` from the other end. No utterances: the interval is 0 to 1.
///
/// Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
pub fn accuracy_interval(right: u64, total: u64, confidence: f64, resamples: u32, seed: u64) -> Interval {
    let tail = (1.0 - confidence) / 2.0;
    if total == 0 || resamples == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    if right == 0 || right == total {
        let reach = tail.powf(1.0 / total as f64);
        return if right == 0 { Interval { low: 0.0, high: 1.0 - reach } } else { Interval { low: reach, high: 1.0 } };
    }
    let mut random = SplitMix(seed);
    // Which utterances are right does not matter, only how many of those drawn are: number the right ones first.
    let mut counts: Vec<u64> =
        (0..resamples).map(|_| (0..total).filter(|_| random.below(total) < right).count() as u64).collect();
    counts.sort_unstable();
    Interval { low: quantile(&counts, tail) / total as f64, high: quantile(&counts, 1.0 - tail) / total as f64 }
}

/// The value below which the share `at` of the sorted counts lies, interpolated linearly between neighbours.
fn quantile(sorted: &[u64], at: f64) -> f64 {
    let place = at * (sorted.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] as f64 * (1.0 - share) + sorted[above] as f64 * share
}

/// Whether two classifiers that answered the same utterances differ: the exact two-sided `McNemar` test.
///
/// `only_first` utterances were answered rightly by the first alone, `only_second` by the second alone. Returns the
/// probability of a split at least as uneven if the two were equally good: 1 when both are 0.
///
/// Source: `McNemar` 1947, Psychometrika 12(2); exact form: binomial with probability one half.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let trials = only_first + only_second;
    let fewer = only_first.min(only_second);
    if 2 * fewer == trials {
        return 1.0;
    }
    // log C(trials, k), grown from k = 0; one half to the power of `trials` underflows unless kept as a logarithm.
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += f64::exp(log_choose - trials as f64 * std::f64::consts::LN_2);
        log_choose += ((trials - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    f64::min(1.0, 2.0 * tail)
}

/// `SplitMix64`: 64 bits of state, each output a hash of a counter.
///
/// Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number from 0 to `bound - 1`, by the high half of a product; its bias is below `bound / 2^64`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
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
    fn the_interval_is_that_of_the_binomial() {
        // For 276 of 300 the normal approximation gives 0.92 +- 1.96 * 0.01566.
        let found = accuracy_interval(276, 300, 0.95, 4000, 7);
        assert!((found.low - 0.8893).abs() < 0.005 && (found.high - 0.9507).abs() < 0.005, "{found:?}");
        assert_eq!(found, accuracy_interval(276, 300, 0.95, 4000, 7));
        let wider = accuracy_interval(276, 300, 0.99, 4000, 7);
        assert!(wider.low < found.low && wider.high > found.high);
    }

    #[test]
    fn a_perfect_score_is_not_a_certain_one() {
        let found = accuracy_interval(100, 100, 0.95, 1000, 7);
        assert!((found.low - 0.963_783).abs() < 1e-6 && found.high > 0.999_999, "{found:?}");
        let none = accuracy_interval(0, 100, 0.95, 1000, 7);
        assert!((none.high - (1.0 - found.low)).abs() < 1e-12, "{none:?}");
        assert_eq!(accuracy_interval(0, 0, 0.95, 1000, 7), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn mcnemar_agrees_with_the_binomial_by_hand() {
        let check = |first, second, expected: f64| {
            let found = mcnemar(first, second);
            assert!((found - expected).abs() < 1e-12, "{first} against {second}: {found}, expected {expected}");
        };
        check(0, 0, 1.0);
        check(4, 4, 1.0);
        check(0, 5, 2.0 / 32.0);
        check(6, 1, 2.0 * 8.0 / 128.0);
        check(2, 3, 1.0);
        assert!(mcnemar(900, 1200) > 0.0 && mcnemar(900, 1200) < 1e-9, "no underflow to 0 or 1");
    }
}
