//! Scores of a classifier from pairs of right and answered class. Knows no files.

use serde::{Deserialize, Serialize};

use crate::metric::Metric;

/// Counts of each pair of right class (row) and answered class (column).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confusion(Vec<Vec<u64>>);

/// Precision, recall and F1 of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Share of right ones among the answers that name the class; 0 when none does.
    pub precision: f64,
    /// Share of the class that was answered as such; 0 when the class does not occur.
    pub recall: f64,
    /// Harmonic mean of the two; 0 when both are.
    pub f1: f64,
    /// How many utterances are of the class.
    pub support: u64,
}

/// A class outside the list of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pair {at} has class {found}, expected 0 to {}", .classes.saturating_sub(1))]
pub struct ClassOutOfRange {
    /// Position of the pair.
    pub at: usize,
    /// The class found.
    pub found: i64,
    /// How many classes there are.
    pub classes: usize,
}

impl Confusion {
    /// Counts pairs (right class, answered class) over `classes` classes.
    ///
    /// Errors: [`ClassOutOfRange`] at the first class that is negative or too large.
    pub fn count(classes: usize, pairs: impl IntoIterator<Item = (i64, i64)>) -> Result<Self, ClassOutOfRange> {
        let mut cells = vec![vec![0; classes]; classes];
        let index = |at, found| {
            usize::try_from(found).ok().filter(|&class| class < classes).ok_or(ClassOutOfRange { at, found, classes })
        };
        for (at, (label, prediction)) in pairs.into_iter().enumerate() {
            cells[index(at, label)?][index(at, prediction)?] += 1;
        }
        Ok(Self(cells))
    }

    /// The cells: row = right class, column = answered class.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.0
    }
    /// The counts of each class, which is all that the scores need.
    pub fn counts(&self) -> ClassCounts {
        let mut counts = ClassCounts::new(self.0.len());
        for (label, row) in self.0.iter().enumerate() {
            for (prediction, &times) in row.iter().enumerate() {
                counts.add(label, prediction, times);
            }
        }
        counts
    }
    /// How many utterances were counted.
    pub fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }
    /// How many answers are right.
    pub fn right(&self) -> u64 {
        (0..self.0.len()).map(|class| self.0[class][class]).sum()
    }
    /// See [`ClassCounts::accuracy`].
    pub fn accuracy(&self) -> f64 {
        self.counts().accuracy()
    }
    /// See [`ClassCounts::classes`].
    pub fn classes(&self) -> Vec<ClassScore> {
        self.counts().classes().collect()
    }
    /// See [`ClassCounts::macro_f1`].
    pub fn macro_f1(&self) -> f64 {
        self.counts().macro_f1()
    }
    /// See [`ClassCounts::unweighted_average_recall`].
    pub fn unweighted_average_recall(&self) -> f64 {
        self.counts().unweighted_average_recall()
    }
    /// See [`ClassCounts::weighted_f1`].
    pub fn weighted_f1(&self) -> f64 {
        self.counts().weighted_f1()
    }
    /// See [`ClassCounts::micro_f1`].
    pub fn micro_f1(&self) -> f64 {
        self.counts().micro_f1()
    }
    /// See [`ClassCounts::matthews`].
    pub fn matthews(&self) -> f64 {
        self.counts().matthews()
    }

    /// The pairs of different classes that were taken for each other most often: right class, answered class, times. Equally
    /// frequent ones are in order of class.
    pub fn confused(&self) -> Vec<(usize, usize, u64)> {
        let cells = self.0.iter().enumerate().flat_map(|(label, row)| {
            row.iter()
                .enumerate()
                .filter(move |(prediction, times)| **times > 0 && *prediction != label)
                .map(move |(k, n)| (label, k, *n))
        });
        let mut cells: Vec<_> = cells.collect();
        cells.sort_by_key(|&(label, prediction, times)| (std::cmp::Reverse(times), label, prediction));
        cells
    }
}

/// Counts of each class, from which the scores of a classifier are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCounts {
    /// Right answers that name the class.
    right: Vec<u64>,
    /// Utterances of the class.
    support: Vec<u64>,
    /// Answers that name the class.
    answered: Vec<u64>,
}

impl ClassCounts {
    /// Metrics of a classifier, all functions of these counts.
    pub const METRICS: [Metric; 6] = [
        Metric::Accuracy,
        Metric::MacroF1,
        Metric::WeightedF1,
        Metric::MicroF1,
        Metric::UnweightedAverageRecall,
        Metric::Matthews,
    ];

    /// Value of one of [`Self::METRICS`]; not a number for any other metric.
    pub fn value(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Accuracy => self.accuracy(),
            Metric::MacroF1 => self.macro_f1(),
            Metric::WeightedF1 => self.weighted_f1(),
            Metric::MicroF1 => self.micro_f1(),
            Metric::UnweightedAverageRecall => self.unweighted_average_recall(),
            Metric::Matthews => self.matthews(),
            _ => f64::NAN,
        }
    }

    /// Of so many classes, nothing counted.
    pub fn new(classes: usize) -> Self {
        Self { right: vec![0; classes], support: vec![0; classes], answered: vec![0; classes] }
    }

    /// Counts an answer so many times.
    pub fn add(&mut self, label: usize, prediction: usize, times: u64) {
        self.support[label] += times;
        self.answered[prediction] += times;
        if label == prediction {
            self.right[label] += times;
        }
    }

    /// Counts one label of an utterance that has any number of them, so many times.
    pub fn add_label(&mut self, label: usize, wanted: bool, answered: bool, times: u64) {
        self.support[label] += if wanted { times } else { 0 };
        self.answered[label] += if answered { times } else { 0 };
        self.right[label] += if wanted && answered { times } else { 0 };
    }

    fn total(&self) -> u64 {
        self.support.iter().sum()
    }
    fn all_right(&self) -> u64 {
        self.right.iter().sum()
    }

    /// Share of right answers; 0 when there are none.
    pub fn accuracy(&self) -> f64 {
        ratio(self.all_right(), self.total())
    }

    /// Scores of every class, in order.
    pub fn classes(&self) -> impl Iterator<Item = ClassScore> {
        (0..self.right.len()).map(|class| {
            let (right, support, answered) = (self.right[class], self.support[class], self.answered[class]);
            ClassScore {
                precision: ratio(right, answered),
                recall: ratio(right, support),
                f1: ratio(2 * right, answered + support),
                support,
            }
        })
    }

    /// Mean over the classes that occur as a right or an answered class; 0 when none does.
    fn macro_mean(&self, of: fn(&ClassScore) -> f64) -> f64 {
        let (mut sum, mut occurring) = (0.0, 0_u32);
        for (class, score) in self.classes().enumerate() {
            if self.support[class] + self.answered[class] > 0 {
                (sum, occurring) = (sum + of(&score), occurring + 1);
            }
        }
        if occurring == 0 { 0.0 } else { sum / f64::from(occurring) }
    }

    /// F1 averaged over the classes that occur as a right or an answered class.
    pub fn macro_f1(&self) -> f64 {
        self.macro_mean(|score| score.f1)
    }

    /// Recall averaged over the same classes.
    pub fn unweighted_average_recall(&self) -> f64 {
        self.macro_mean(|score| score.recall)
    }

    /// F1 averaged by support.
    pub fn weighted_f1(&self) -> f64 {
        let sum: f64 = self.classes().map(|score| score.f1 * score.support as f64).sum();
        if self.total() == 0 { 0.0 } else { sum / self.total() as f64 }
    }

    /// F1 of the pooled decisions. With one class per utterance each mistake is one false positive and one false negative,
    /// so it equals accuracy; computed by its own definition all the same.
    pub fn micro_f1(&self) -> f64 {
        ratio(2 * self.all_right(), self.total() + self.answered.iter().sum::<u64>())
    }

    /// Matthews correlation for several classes; 0 when either side names one class only.
    ///
    /// Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", equation 8.
    pub fn matthews(&self) -> f64 {
        let total = self.total() as f64;
        let product = |a: &[u64], b: &[u64]| -> f64 { a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum() };
        let covariance = self.all_right() as f64 * total - product(&self.support, &self.answered);
        let variance_of_truth = total * total - product(&self.support, &self.support);
        let variance_of_answers = total * total - product(&self.answered, &self.answered);
        let scale = (variance_of_truth * variance_of_answers).sqrt();
        if scale > 0.0 { covariance / scale } else { 0.0 }
    }
}

/// 0 where undefined.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(classes: usize, pairs: &[(i64, i64)]) -> Confusion {
        Confusion::count(classes, pairs.iter().copied()).unwrap()
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-15, "{found} is not {expected}");
    }

    #[test]
    fn a_class_that_never_occurs_leaves_the_averages_alone() {
        let pairs = [(0, 0), (0, 1), (1, 1), (1, 1)];
        let (without, with) = (confusion(2, &pairs), confusion(5, &pairs));
        close(with.macro_f1(), without.macro_f1());
        close(with.unweighted_average_recall(), 0.75);
        close(with.matthews(), without.matthews());
        assert_eq!(with.classes()[4], ClassScore { precision: 0.0, recall: 0.0, f1: 0.0, support: 0 });
    }

    #[test]
    fn a_class_only_answered_counts_as_zero_in_macro_averages() {
        let found = confusion(3, &[(0, 0), (0, 2), (1, 1), (1, 1)]);
        close(found.macro_f1(), (2.0 / 3.0 + 1.0 + 0.0) / 3.0);
        close(found.weighted_f1(), f64::midpoint(2.0 / 3.0, 1.0));
    }

    #[test]
    fn nothing_counted_scores_zero() {
        let found = confusion(2, &[]);
        for value in [found.accuracy(), found.macro_f1(), found.weighted_f1(), found.micro_f1(), found.matthews()] {
            close(value, 0.0);
        }
    }

    #[test]
    fn one_answer_for_all_has_no_correlation() {
        close(confusion(2, &[(0, 0), (1, 0), (0, 0)]).matthews(), 0.0);
        close(confusion(2, &[(0, 0), (1, 1)]).matthews(), 1.0);
        close(confusion(2, &[(0, 1), (1, 0)]).matthews(), -1.0);
    }

    #[test]
    fn a_class_out_of_range_is_named() {
        let error = Confusion::count(3, [(0, 0), (1, 3)]).unwrap_err();
        assert_eq!(error.to_string(), "pair 1 has class 3, expected 0 to 2");
        assert_eq!(Confusion::count(3, [(-1, 0)]).unwrap_err().found, -1);
    }
}
