//! Scores of a verifier from the likeness of pairs of recordings. Knows no files.
//!
//! A trial is accepted when its score is at least the threshold. Raising the threshold from below all scores to above all of them
//! passes one operating point per distinct score.

/// The trials, sorted for going through the thresholds. Each may count more than once.
#[derive(Debug, Clone)]
pub struct Trials {
    /// Score, place in the list they were made from, whether it is a target; by rising score.
    sorted: Vec<(f64, usize, bool)>,
}

/// Errors at one threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OperatingPoint {
    /// Share of targets that are rejected.
    false_rejections: f64,
    /// Share of others that are accepted.
    false_acceptances: f64,
}

impl Trials {
    /// From scores, higher meaning more alike, and whether each is of a target.
    pub fn new(trials: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let mut sorted: Vec<_> = trials.into_iter().enumerate().map(|(at, (score, target))| (score, at, target)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { sorted }
    }

    /// How many trials of each kind there are: targets, others.
    pub fn counts(&self) -> (usize, usize) {
        let targets = self.sorted.iter().filter(|trial| trial.2).count();
        (targets, self.sorted.len() - targets)
    }

    /// The equal error rate: the mean of the two rates at the threshold where they are closest. Not a number without targets or
    /// without others.
    pub fn eer(&self) -> f64 {
        self.eer_weighted(|_| 1.0)
    }

    /// The equal error rate when the trial at a place counts so many times.
    pub fn eer_weighted(&self, weight: impl Fn(usize) -> f64) -> f64 {
        let mut closest = (f64::INFINITY, f64::NAN);
        self.each_point(weight, |point| {
            let apart = (point.false_acceptances - point.false_rejections).abs();
            if apart < closest.0 {
                closest = (apart, f64::midpoint(point.false_acceptances, point.false_rejections));
            }
        });
        closest.1
    }

    /// The least cost over all thresholds with unit costs of both errors, normalised by that of accepting, or rejecting, all:
    /// `min (p Pmiss + (1 - p) Pfa) / min(p, 1 - p)` with the probability `p` of a target.
    ///
    /// Source: NIST 2010 Speaker Recognition Evaluation plan, section 3; Sadjadi et al. 2017 for the normalisation.
    pub fn min_dcf(&self, p: f64) -> f64 {
        self.min_dcf_weighted(p, |_| 1.0)
    }

    /// The least cost when the trial at a place counts so many times.
    pub fn min_dcf_weighted(&self, p: f64, weight: impl Fn(usize) -> f64) -> f64 {
        let mut least = f64::NAN;
        self.each_point(weight, |point| {
            let cost = p * point.false_rejections + (1.0 - p) * point.false_acceptances;
            least = least.min(cost); // of a number and none, the number
        });
        least / p.min(1.0 - p)
    }

    /// Calls `visit` for every threshold, from below all scores to above all of them.
    fn each_point(&self, weight: impl Fn(usize) -> f64, mut visit: impl FnMut(OperatingPoint)) {
        let (mut targets, mut others) = (0.0, 0.0);
        for &(_, at, target) in &self.sorted {
            *(if target { &mut targets } else { &mut others }) += weight(at);
        }
        let (mut rejected, mut accepted) = (0.0, others);
        let mut point = |rejected: f64, accepted: f64| {
            visit(OperatingPoint { false_rejections: rejected / targets, false_acceptances: accepted / others });
        };
        point(rejected, accepted);
        for (at, &(score, place, target)) in self.sorted.iter().enumerate() {
            if target {
                rejected += weight(place);
            } else {
                accepted -= weight(place);
            }
            let last_of_equals = self.sorted.get(at + 1).is_none_or(|next| next.0 > score);
            if last_of_equals {
                point(rejected, accepted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn separable_trials_have_no_errors() {
        let trials = Trials::new([(0.1, false), (0.2, false), (0.8, true), (0.9, true)]);
        close(trials.eer(), 0.0);
        close(trials.min_dcf(0.01), 0.0);
    }

    #[test]
    fn scores_that_say_nothing_are_right_half_the_time() {
        let trials = Trials::new([(0.5, false), (0.5, true), (0.5, false), (0.5, true)]);
        close(trials.eer(), 0.5);
        close(trials.min_dcf(0.01), 1.0);
    }

    #[test]
    fn one_of_four_on_either_side() {
        let scores = [(1.0, false), (2.0, false), (3.0, false), (6.5, false), (4.0, true), (7.0, true), (8.0, true), (9.0, true)];
        // Between 4 and 6.5 one target is rejected and one other accepted.
        close(Trials::new(scores).eer(), 0.25);
        // Above 6.5 none is accepted and a quarter of the targets rejected: p / p.
        close(Trials::new(scores).min_dcf(0.01), 0.25);
    }

    #[test]
    fn without_one_kind_there_is_no_rate() {
        assert!(Trials::new([(0.1, true)]).eer().is_nan());
        assert!(Trials::new([]).eer().is_nan() && Trials::new([]).min_dcf(0.05).is_nan());
    }

    #[test]
    fn counting_a_trial_twice_is_having_it_twice() {
        let once = [(0.3, false), (0.6, true), (0.5, false), (0.4, true), (0.9, true)];
        let twice: Vec<_> = once.iter().chain(&once[2..4]).copied().collect();
        let weight = |at: usize| if (2..4).contains(&at) { 2.0 } else { 1.0 };
        let trials = Trials::new(once);
        close(trials.eer_weighted(weight), Trials::new(twice.clone()).eer());
        close(trials.min_dcf_weighted(0.05, weight), Trials::new(twice).min_dcf(0.05));
    }
}
