//! Scores of a model that gives each utterance any number of labels. Knows no files.

use crate::classification::ClassCounts;
use crate::metric::Metric;

/// Metrics of such a model beside the share of utterances with exactly the right labels.
pub const METRICS: [Metric; 3] = [Metric::MacroF1, Metric::MicroF1, Metric::MeanAveragePrecision];

/// Right labels, answered labels and probabilities of every utterance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tags {
    /// Number of labels.
    pub count: usize,
    /// Right labels.
    pub labels: Vec<Vec<u32>>,
    /// Labels answered.
    pub predictions: Vec<Vec<u32>>,
    /// Probability of each label.
    pub scores: Vec<Vec<f32>>,
}

/// Utterances in order of the probability of each label, for computing metrics many times.
#[derive(Debug)]
pub struct RankedTags<'a> {
    tags: &'a Tags,
    /// Utterances by label, most probable first.
    order: Vec<Vec<u32>>,
}

impl Tags {
    /// Sorts the utterances by the probability of each label.
    pub fn ranked(&self) -> RankedTags<'_> {
        let order = |label: usize| {
            let mut order: Vec<u32> = (0..self.scores.len() as u32).collect();
            let score = |at: u32| self.scores[at as usize][label];
            order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
            order
        };
        RankedTags { tags: self, order: (0..self.count).map(order).collect() }
    }

    /// Counts of each label when utterance k counts `weights[k]` times.
    pub fn counts(&self, weights: &[u32]) -> ClassCounts {
        let mut counts = ClassCounts::new(self.count);
        for ((labels, predictions), &weight) in self.labels.iter().zip(&self.predictions).zip(weights) {
            for label in 0..self.count {
                let (wanted, answered) = (labels.contains(&(label as u32)), predictions.contains(&(label as u32)));
                counts.add_label(label, wanted, answered, u64::from(weight));
            }
        }
        counts
    }
}

impl RankedTags<'_> {
    /// Every metric of [`METRICS`]; not a number where no utterance has a label.
    pub fn values(&self, weights: &[u32]) -> [(Metric, f64); 3] {
        let counts = self.tags.counts(weights);
        let precisions: Vec<f64> = (0..self.tags.count).filter_map(|label| self.average_precision(label, weights)).collect();
        let mean = precisions.iter().sum::<f64>() / precisions.len() as f64;
        [(Metric::MacroF1, counts.macro_f1()), (Metric::MicroF1, counts.micro_f1()), (Metric::MeanAveragePrecision, mean)]
    }

    /// Precision at each utterance that has the label, averaged, where utterances come in order of their probability; equally probable
    /// ones come together. None where no utterance has the label.
    ///
    /// Source: Zhu 2004, "Recall, precision and average precision"; as `average_precision_score` of scikit-learn.
    pub fn average_precision(&self, label: usize, weights: &[u32]) -> Option<f64> {
        let order = &self.order[label];
        let score = |at: u32| self.tags.scores[at as usize][label];
        let (mut found, mut looked_at, mut sum) = (0_u64, 0_u64, 0.0);
        for alike in order.chunk_by(|a, b| score(*a).total_cmp(&score(*b)).is_eq()) {
            let mut right = 0;
            for &at in alike {
                let weight = u64::from(weights[at as usize]);
                looked_at += weight;
                right += if self.tags.labels[at as usize].contains(&(label as u32)) { weight } else { 0 };
            }
            found += right;
            sum += if right > 0 { right as f64 * found as f64 / looked_at as f64 } else { 0.0 };
        }
        (found > 0).then(|| sum / found as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags() -> Tags {
        Tags {
            count: 3,
            labels: vec![vec![0, 1], vec![1], vec![], vec![0]],
            predictions: vec![vec![0], vec![0, 1], vec![], vec![0]],
            scores: vec![vec![0.9, 0.4, 0.1], vec![0.8, 0.7, 0.2], vec![0.1, 0.45, 0.3], vec![0.6, 0.1, 0.3]],
        }
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    /// `sklearn.metrics` 1.9 on the same arrays: `average_precision_score` by label, `f1_score(average="micro")`.
    #[test]
    fn precision_and_f1_are_those_of_scikit_learn() {
        let (tags, once) = (tags(), [1; 4]);
        let ranked = tags.ranked();
        close(ranked.average_precision(0, &once).unwrap(), f64::midpoint(1.0, 2.0 / 3.0));
        close(ranked.average_precision(1, &once).unwrap(), f64::midpoint(1.0, 2.0 / 3.0));
        assert_eq!(ranked.average_precision(2, &once), None, "no utterance has it");
        let [(_, macro_f1), (_, micro_f1), (_, map)] = ranked.values(&once);
        close(micro_f1, 0.75); // 3 right, 1 too many, 1 missed
        close(macro_f1, f64::midpoint(4.0 / 5.0, 2.0 / 3.0)); // the label that never occurs is left out
        close(map, 5.0 / 6.0);
    }

    #[test]
    fn utterances_count_as_often_as_they_are_drawn() {
        let tags = tags();
        let twice = Tags {
            count: 3,
            labels: [&tags.labels[..], &tags.labels[..2]].concat(),
            predictions: [&tags.predictions[..], &tags.predictions[..2]].concat(),
            scores: [&tags.scores[..], &tags.scores[..2]].concat(),
        };
        let (weighted, plain) = (tags.ranked().values(&[2, 2, 1, 1]), twice.ranked().values(&[1; 6]));
        for ((metric, found), (_, expected)) in weighted.into_iter().zip(plain) {
            assert!((found - expected).abs() < 1e-12, "{metric}: {found} {expected}");
        }
    }

    #[test]
    fn equally_probable_utterances_come_together() {
        let tags = Tags {
            count: 1,
            labels: vec![vec![0], vec![], vec![0]],
            predictions: vec![vec![]; 3],
            scores: vec![vec![0.5], vec![0.5], vec![0.5]],
        };
        close(tags.ranked().average_precision(0, &[1; 3]).unwrap(), 2.0 / 3.0);
    }
}
