//! Tests of differences between trainings, which account for seeds and utterances together.
//!
//! A test over utterances alone compares two trainings, not two methods: with a large test set, every retraining differs
//! "significantly". The rule here adds the variance that a training has by its seed:
//!
//! ```text
//! t = D / sqrt(V_u + 2 s2 / n)      Student's distribution with the degrees of freedom of s2
//! ```
//!
//! `D` is the mean difference over `n` seeds, `V_u` its variance when utterances (or speakers) are drawn again
//! ([`utterance_variance`]), and `s2` the variance of a value over seeds, pooled over cells of the same kind ([`SeedNoise`]). With
//! fewer than [`FEWEST_DEGREES`] degrees of freedom there is no verdict. A hierarchical bootstrap over seeds and utterances was the
//! alternative: from three seeds it draws the same seed three times in one of nine draws, and so finds too little variance.

use std::collections::BTreeMap;

use super::bootstrap::{Draws, Units, units};
use crate::evidence::{Evidence, Ratio};
use crate::metric::Metric;

/// Degrees of freedom below which the noise of seeds is not known well enough for a verdict.
pub const FEWEST_DEGREES: u32 = 4;
/// Draws for the variance of a metric that is not a ratio of sums.
const DRAWS: u32 = 400;

/// Variance of a value between trainings that differ in their seed only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeedNoise {
    /// Variance of one training's value.
    pub variance: f64,
    /// Degrees of freedom of the estimate.
    pub degrees: u32,
}

/// Outcome of the test over seeds and utterances.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct TTest {
    /// Difference over its standard error.
    pub t: f64,
    /// Degrees of freedom; none where no training differs, and the normal distribution holds.
    pub degrees: Option<u32>,
    /// Two-sided probability of a difference at least as large if there were none.
    pub p: f64,
}

impl SeedNoise {
    /// Pools the variances within groups of values; each group holds the values of one method over its seeds.
    pub fn pooled<'a>(groups: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let (mut squares, mut degrees) = (0.0, 0);
        for group in groups.into_iter().filter(|group| group.len() > 1) {
            let mean = group.iter().sum::<f64>() / group.len() as f64;
            squares += group.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            degrees += group.len() as u32 - 1;
        }
        Self { variance: if degrees == 0 { 0.0 } else { squares / f64::from(degrees) }, degrees }
    }

    /// Estimates the noise from the successive values of one seed: half the mean square of the changes between them. The caller
    /// leaves out changes that data or settings explain.
    pub fn of_changes(changes: &[f64]) -> Self {
        let squares: f64 = changes.iter().map(|change| change.powi(2)).sum();
        let count = changes.len();
        Self { variance: if count == 0 { 0.0 } else { squares / (2 * count) as f64 }, degrees: count as u32 }
    }
}

/// Tests a mean difference over `seeds` seeds. `noise` is none where no training differs.
///
/// Returns none when the noise has fewer than [`FEWEST_DEGREES`] degrees of freedom.
pub fn t_test(difference: f64, utterance_variance: f64, seeds: usize, noise: Option<SeedNoise>) -> Option<TTest> {
    let (of_seeds, degrees) = match noise {
        None => (0.0, None),
        Some(noise) if noise.degrees < FEWEST_DEGREES => return None,
        Some(noise) => (2.0 * noise.variance / seeds as f64, Some(noise.degrees)),
    };
    let error = (utterance_variance + of_seeds).sqrt();
    if difference.abs() <= f64::EPSILON {
        return Some(TTest { t: 0.0, degrees, p: 1.0 });
    }
    let t = difference / error; // infinite when nothing varies
    let p = match degrees {
        None => libm::erfc(t.abs() / std::f64::consts::SQRT_2),
        Some(degrees) => student(t, degrees),
    };
    Some(TTest { t, degrees, p })
}

/// Probability that a variable with Student's distribution is at least as far from 0 as `t`.
///
/// Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
fn student(t: f64, degrees: u32) -> f64 {
    if !t.is_finite() {
        return 0.0;
    }
    let angle = (t.abs() / f64::from(degrees).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    // Both series have the terms cos^k, each with the factor k / (k + 1) or (k - 1) / k of the one before.
    let odd = degrees % 2 == 1;
    let (mut term, mut sum) = if odd { (cosine, cosine) } else { (1.0, 1.0) };
    let mut power = if odd { 3 } else { 2 };
    while power < degrees {
        term *= cosine * cosine * f64::from(power - 1) / f64::from(power);
        sum += term;
        power += 2;
    }
    let inside = match degrees {
        1 => 2.0 * angle / std::f64::consts::PI,
        _ if odd => 2.0 / std::f64::consts::PI * (angle + sine * sum),
        _ => sine * sum,
    };
    (1.0 - inside).clamp(0.0, 1.0)
}

/// Returns which of several hypotheses to reject so that at most the share `rate` of the rejections is false, on average.
///
/// Source: Benjamini and Hochberg 1995, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57(1).
pub fn benjamini_hochberg(probabilities: &[f64], rate: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let passes = |rank: usize| probabilities[order[rank]] <= rate * (rank + 1) as f64 / order.len() as f64;
    let rejected = (0..order.len()).rev().find(|rank| passes(*rank)).map_or(0, |rank| rank + 1);
    let mut outcome = vec![false; order.len()];
    for &at in &order[..rejected] {
        outcome[at] = true;
    }
    outcome
}

/// Variance of the mean difference between the evidence of both sides, when utterances or speakers are drawn again, the same for
/// both. Each pair is of one seed. None when the metric was not measured, or speakers are asked for and not known.
///
/// For a ratio of sums it is the variance of its linear form; for F1, EER and minDCF that of draws. Source: Cochran 1977, "Sampling
/// Techniques", 3rd edition, section 6.3 (ratios), section 9A.4 (units as clusters).
pub fn utterance_variance(pairs: &[(&Evidence, &Evidence)], metric: Metric, by: Units, seed: u64) -> Option<f64> {
    let (leader, _) = pairs.first()?;
    if leader.shares(metric).is_some() {
        let (units, num_units) = units(leader, by)?;
        let mut sums = vec![0.0; num_units];
        for (first, second) in pairs {
            let (first, second) = (linear(&first.shares(metric)?), linear(&second.shares(metric)?));
            for ((a, b), &unit) in first.iter().zip(&second).zip(&units) {
                sums[unit as usize] += (a - b) / pairs.len() as f64;
            }
        }
        let count = num_units as f64;
        // The contributions add up to 0.
        return (num_units > 1).then(|| sums.iter().map(|sum| sum * sum).sum::<f64>() * count / (count - 1.0));
    }
    let mut draws = Draws::new(leader, by, seed)?;
    let both: Vec<_> = pairs.iter().map(|(first, second)| (first.weigher(), second.weigher())).collect();
    let mut drawn = Vec::new();
    for _ in 0..DRAWS {
        let weights = draws.draw();
        let value = |values: BTreeMap<Metric, f64>| values.get(&metric).copied();
        let mut mean = 0.0;
        for (first, second) in &both {
            mean += (value(first.values(weights))? - value(second.values(weights))?) / pairs.len() as f64;
        }
        if mean.is_finite() {
            drawn.push(mean);
        }
    }
    let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
    (drawn.len() > 1).then(|| drawn.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (drawn.len() - 1) as f64)
}

/// Contribution of every utterance to the difference of a ratio of sums from its value.
fn linear(shares: &[Ratio]) -> Vec<f64> {
    let (part, whole) = shares.iter().fold((0.0, 0.0), |sum, share| (sum.0 + share.part, sum.1 + share.whole));
    shares.iter().map(|share| (share.part - part / whole * share.whole) / whole).collect()
}

#[cfg(test)]
mod tests;
