//! Early stopping, and which point was the best.

use serde::{Deserialize, Serialize};

/// Remembers the best value of a metric and how many evaluations have passed since it improved enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// Evaluations without improvement after which to stop; never when absent.
    limit: Option<u32>,
    higher_is_better: bool,
    /// Threshold that an improvement must exceed to count.
    threshold: f64,
    best: Option<f64>,
    without: u32,
}

/// Verdict on an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It is the best so far.
    pub best: bool,
    /// Training should end.
    pub stop: bool,
}

impl EarlyStopping {
    /// Counts evaluations that do not improve, up to `limit`.
    pub fn new(limit: Option<u32>, higher_is_better: bool, threshold: f64) -> Self {
        Self { limit, higher_is_better, threshold, best: None, without: 0 }
    }

    /// Takes the next evaluation, and whether its point is saved: only a saved one can be the best, and before the first of
    /// them every evaluation counts as an improvement. An improvement of at most the threshold is the new best, and still counts
    /// as none: this is how transformers keeps the best checkpoint and stops. What is not a number never improves.
    pub fn observe(&mut self, value: f64, saved: bool) -> Verdict {
        let gain = match self.best {
            None if value.is_nan() => f64::NAN,
            None => f64::INFINITY,
            Some(best) if self.higher_is_better => value - best,
            Some(best) => best - value,
        };
        let best = saved && gain > 0.0;
        self.without = if gain > self.threshold { 0 } else { self.without + 1 };
        if best {
            self.best = Some(value);
        }
        Verdict { best, stop: self.limit.is_some_and(|limit| self.without >= limit) }
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn stops_where_the_reference_stops() {
        let Some(cases) = golden::json("train", "early_stopping") else { return };
        for case in cases.as_array().unwrap() {
            let limit = case["patience"].as_u64().map(|limit| limit as u32);
            let higher = case["greater_is_better"].as_bool().unwrap();
            let mut patience = EarlyStopping::new(limit, higher, case["threshold"].as_f64().unwrap());
            let values: Vec<f64> = serde_json::from_value(case["values"].clone()).unwrap();
            let stopped = values.iter().position(|&value| patience.observe(value, true).stop);
            assert_eq!(stopped.map(|at| at as u64), case["stops_after_evaluation"].as_u64(), "{case}");
            assert_eq!(patience.best(), case["best"].as_f64(), "{case}");
            println!("GOLDEN early_stopping case 0"); // read by scripts/golden_table.py
        }
    }

    #[test]
    fn a_tie_is_no_improvement_and_the_first_value_is() {
        let mut patience = EarlyStopping::new(Some(2), true, 0.0);
        assert_eq!(patience.observe(0.5, true), Verdict { best: true, stop: false });
        assert_eq!(patience.observe(0.5, true), Verdict { best: false, stop: false });
        assert_eq!(patience.observe(f64::NAN, true), Verdict { best: false, stop: true });
    }
    #[test]
    fn with_rare_saves_the_earliest_stop_is_that_of_the_reference() {
        // Saves every 500 steps, evaluations every 25, patience 5: the published runs stopped at step 625 at the earliest.
        let mut patience = EarlyStopping::new(Some(5), true, 0.0);
        let stopped = (1..100).map(|k| 25 * k).find(|step| patience.observe(0.5, step % 500 == 0).stop);
        assert_eq!(stopped, Some(625));
        // A better evaluation between two saves resets the count, and is not the best.
        let mut patience = EarlyStopping::new(Some(2), true, 0.0);
        let verdicts: Vec<_> = [(0.5, true), (0.4, false), (0.9, false), (0.4, false), (0.6, true)]
            .map(|(value, saved)| patience.observe(value, saved))
            .into();
        assert!(verdicts.iter().all(|verdict| !verdict.stop));
        assert_eq!(patience.best(), Some(0.6));
    }
}
