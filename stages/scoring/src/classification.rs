//! Scores of a classifier from pairs of right and answered class. Knows no files.

use serde::{Deserialize, Serialize};

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
    /// How many utterances were counted.
    pub fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }
    /// How many answers are right.
    pub fn right(&self) -> u64 {
        (0..self.0.len()).map(|class| self.0[class][class]).sum()
    }
    fn support(&self, class: usize) -> u64 {
        self.0[class].iter().sum()
    }
    fn answered(&self, class: usize) -> u64 {
        self.0.iter().map(|row| row[class]).sum()
    }

    /// Share of right answers; 0 when there are none.
    pub fn accuracy(&self) -> f64 {
        ratio(self.right(), self.total())
    }

    /// Scores of every class, in order.
    pub fn classes(&self) -> Vec<ClassScore> {
        let score = |class: usize| {
            let (right, support, answered) = (self.0[class][class], self.support(class), self.answered(class));
            ClassScore {
                precision: ratio(right, answered),
                recall: ratio(right, support),
                f1: ratio(2 * right, answered + support),
                support,
            }
        };
        (0..self.0.len()).map(score).collect()
    }

    /// Mean over the classes that occur as a right or an answered class; 0 when none does.
    fn macro_mean(&self, of: fn(&ClassScore) -> f64) -> f64 {
        let scores = self.classes();
        let occurring: Vec<f64> =
            (0..scores.len()).filter(|&k| self.support(k) + self.answered(k) > 0).map(|k| of(&scores[k])).collect();
        if occurring.is_empty() { 0.0 } else { occurring.iter().sum::<f64>() / occurring.len() as f64 }
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
        let sum: f64 = self.classes().iter().map(|score| score.f1 * score.support as f64).sum();
        if self.total() == 0 { 0.0 } else { sum / self.total() as f64 }
    }

    /// F1 of the pooled decisions. With one class per utterance each mistake is one false positive and one false negative,
    /// so it equals accuracy; computed by its own definition all the same.
    pub fn micro_f1(&self) -> f64 {
        let mistakes = self.total() - self.right();
        ratio(2 * self.right(), 2 * self.right() + mistakes + mistakes)
    }

    /// Matthews correlation for several classes; 0 when either side names one class only.
    ///
    /// Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", equation 8.
    pub fn matthews(&self) -> f64 {
        let classes = 0..self.0.len();
        let total = self.total() as f64;
        let product = |a: fn(&Self, usize) -> u64, b: fn(&Self, usize) -> u64| -> f64 {
            classes.clone().map(|k| a(self, k) as f64 * b(self, k) as f64).sum()
        };
        let covariance = self.right() as f64 * total - product(Self::support, Self::answered);
        let variance_of_truth = total * total - product(Self::support, Self::support);
        let variance_of_answers = total * total - product(Self::answered, Self::answered);
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
