//! Steps in a series of results, for the plot of a cell. They are drawn, and never raise an alarm.
//!
//! Source: Matteson and James 2014, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data", Journal of the
//! American Statistical Association 109(505): E-divisive, with at least two points on each side.

use scoring::random::SplitMix;

/// Results from which steps are looked for.
const FEWEST: usize = 8;
/// Points on each side of a step.
const SIDE: usize = 2;
/// Permutations of the test of a step.
const PERMUTATIONS: usize = 99;
/// Share of permutations that may show as much.
const LEVEL: f64 = 0.05;

/// Returns the indices at which a new level begins, sorted.
pub(super) fn steps(values: &[f64]) -> Vec<usize> {
    let (mut found, mut todo) = (vec![], vec![(0, values.len())]);
    if values.len() < FEWEST {
        return found;
    }
    let mut random = SplitMix::new(20_261_129);
    while let Some((from, to)) = todo.pop() {
        let part = &values[from..to];
        let Some((at, size)) = best(part) else { continue };
        let mut shuffled = part.to_vec();
        let mut reached = 1;
        for _ in 0..PERMUTATIONS {
            for last in (1..shuffled.len()).rev() {
                shuffled.swap(last, (random.uniform() * (last + 1) as f64) as usize);
            }
            reached += usize::from(best(&shuffled).is_some_and(|(_, other)| other >= size));
        }
        if reached as f64 / (PERMUTATIONS + 1) as f64 <= LEVEL {
            found.push(from + at);
            todo.extend([(from, from + at), (from + at, to)]);
        }
    }
    found.sort_unstable();
    found
}

/// The split with the largest distance between both sides, and that distance; none where the series is too short or constant.
fn best(values: &[f64]) -> Option<(usize, f64)> {
    let count = values.len();
    if count < 2 * SIDE {
        return None;
    }
    // Sums of distances between the sides and within each, updated as points move from the right to the left side.
    let (mut between, mut left, mut right) = (0.0, 0.0, 0.0);
    for (at, one) in values.iter().enumerate() {
        right += values[at + 1..].iter().map(|other| (one - other).abs()).sum::<f64>();
    }
    let mut found: Option<(usize, f64)> = None;
    for split in 1..count {
        let moved = values[split - 1];
        let to_left: f64 = values[..split - 1].iter().map(|other| (moved - other).abs()).sum();
        let to_right: f64 = values[split..].iter().map(|other| (moved - other).abs()).sum();
        between += to_right - to_left;
        left += to_left;
        right -= to_right;
        if split < SIDE || count - split < SIDE {
            continue;
        }
        let (m, n) = (split as f64, (count - split) as f64);
        let distance = 2.0 * between / (m * n) - 2.0 * left / (m * (m - 1.0)) - 2.0 * right / (n * (n - 1.0));
        let size = m * n / (m + n) * distance;
        if size > 1e-12 && found.is_none_or(|(_, best)| size > best) {
            found = Some((split, size));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found_and_noise_and_spikes_are_none() {
        let mut random = SplitMix::new(4);
        let mut noise = |level: f64, count: usize| (0..count).map(|_| level + 0.01 * random.normal()).collect::<Vec<f64>>();
        assert_eq!(steps(&noise(0.9, 40)), [0; 0]);
        let two = [noise(0.9, 15), noise(0.8, 15)].concat();
        assert_eq!(steps(&two), [15]);
        let three = [noise(0.9, 12), noise(0.8, 12), noise(0.95, 12)].concat();
        assert_eq!(steps(&three), [12, 24]);
        let mut spike = noise(0.9, 30);
        spike[14] = 0.5;
        assert_eq!(steps(&spike), [0; 0]);
        assert_eq!(steps(&[0.5; 20]), [0; 0]);
        assert_eq!(steps(&[0.5, 0.9]), [0; 0]);
    }
}
