//! The metrics by name, each knowing whether more of it is better. Computes nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of right answers.
    Accuracy,
    /// F1 of each class, averaged over the classes that occur.
    MacroF1,
    /// F1 of each class, averaged by how often the class is the right answer.
    WeightedF1,
    /// F1 over all decisions pooled; equals accuracy when every utterance has one class.
    MicroF1,
    /// Recall of each class, averaged over the classes that occur.
    UnweightedAverageRecall,
    /// Correlation of answers and truth, from -1 to 1, 0 for guessing.
    Matthews,
    /// Mean cross entropy of the right class, natural log.
    Loss,
}

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    HigherIsBetter,
    /// Less is better.
    LowerIsBetter,
}

impl Metric {
    /// All of them, in the order of printing.
    pub const ALL: [Metric; 7] = [
        Metric::Accuracy,
        Metric::MacroF1,
        Metric::WeightedF1,
        Metric::MicroF1,
        Metric::UnweightedAverageRecall,
        Metric::Matthews,
        Metric::Loss,
    ];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::MacroF1 => "macro F1",
            Metric::WeightedF1 => "weighted F1",
            Metric::MicroF1 => "micro F1",
            Metric::UnweightedAverageRecall => "unweighted average recall",
            Metric::Matthews => "Matthews correlation",
            Metric::Loss => "loss",
        }
    }

    /// Which way it improves.
    pub fn direction(self) -> Direction {
        match self {
            Metric::Loss => Direction::LowerIsBetter,
            _ => Direction::HigherIsBetter,
        }
    }

    /// Whether `value` improves on `other`. Nothing improves on itself, and what is not a number improves on nothing.
    pub fn improves(self, value: f64, other: f64) -> bool {
        match self.direction() {
            Direction::HigherIsBetter => value > other,
            Direction::LowerIsBetter => value < other,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_loss_and_a_higher_accuracy_improve() {
        assert!(Metric::Loss.improves(0.1, 0.2) && !Metric::Loss.improves(0.2, 0.1));
        assert!(Metric::Accuracy.improves(0.2, 0.1) && !Metric::Accuracy.improves(0.1, 0.2));
        for metric in Metric::ALL {
            assert!(!metric.improves(0.5, 0.5) && !metric.improves(f64::NAN, 0.5));
        }
    }

    #[test]
    fn names_in_files_are_snake_case() {
        assert_eq!(serde_json::to_string(&Metric::UnweightedAverageRecall).unwrap(), "\"unweighted_average_recall\"");
        assert_eq!(serde_json::to_string(&Metric::MacroF1).unwrap(), "\"macro_f1\"");
    }
}
