//! Verdicts on the cells of a rebuild.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::significance::{SeedNoise, TTest, benjamini_hochberg, t_test};

/// Rule by which a change becomes an alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Share of false alarms among all alarms, on average. Default 0.05.
    #[serde(default = "default_false_discovery")]
    pub false_discovery: f64,
    /// Smallest difference that is an alarm, as a ratio. Default 0.005.
    #[serde(default = "default_at_least")]
    pub at_least: f64,
    /// Smallest difference for single metrics, in place of `at_least`.
    #[serde(default)]
    pub at_least_of: BTreeMap<Metric, f64>,
}

fn default_false_discovery() -> f64 {
    0.05
}

fn default_at_least() -> f64 {
    0.005
}

impl Rule {
    /// Smallest difference of a metric that is an alarm. Distortions in dB have ten times the common one, unless they have their own.
    pub fn smallest(&self, metric: Metric) -> f64 {
        let common = if metric == Metric::Mcd { 10.0 * self.at_least } else { self.at_least };
        self.at_least_of.get(&metric).copied().unwrap_or(common)
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self { false_discovery: default_false_discovery(), at_least: default_at_least(), at_least_of: BTreeMap::new() }
    }
}

/// Cell of a rebuild next to an earlier result.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Metric that the cell is judged by.
    pub metric: Metric,
    /// Difference between both results.
    pub state: State,
}

/// Difference between the earlier and the present result of a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// There is no earlier result.
    New,
    /// The cell is no longer part of the table.
    Gone,
    /// The present result could not be computed.
    Failed,
    /// Training, evaluation and score are the same artifacts.
    Same,
    /// The test sets or their right answers differ.
    OtherUtterances,
    /// Both results were measured on the same utterances.
    Measured(Measured),
}

/// Difference over the seeds that both results have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Mean over seeds of the present value less the earlier one.
    pub difference: f64,
    /// Variance of that mean when utterances are drawn again.
    pub utterance_variance: f64,
    /// Number of common seeds.
    pub seeds: usize,
    /// Noise of seeds; none where no training changed.
    pub noise: Option<SeedNoise>,
}

/// Verdict on a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The result is the same artifact.
    Same,
    /// The value moved within the noise, or by less than an alarm needs.
    Moved,
    /// The value is better.
    Better,
    /// The value is worse.
    Worse,
    /// The noise of seeds is not known well enough.
    NotJudged,
    /// The test set differs.
    NotComparable,
    /// The present result could not be computed.
    Failed,
    /// There is no earlier result.
    New,
    /// The cell is no longer part of the table.
    Gone,
}

/// Verdict on a cell with the numbers behind it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judgement {
    /// Verdict.
    pub verdict: Verdict,
    /// Test of the difference; none where nothing was tested.
    pub test: Option<TTest>,
}

/// Judges all cells of a rebuild together, because the correction for their number depends on all of them.
pub fn judge(changes: &[Change], rule: &Rule) -> Vec<Judgement> {
    let test = |change: &Change| match &change.state {
        State::Measured(found) => t_test(found.difference, found.utterance_variance, found.seeds, found.noise),
        _ => None,
    };
    let tests: Vec<Option<TTest>> = changes.iter().map(test).collect();
    let judged: Vec<f64> = tests.iter().flatten().map(|test| test.p).collect();
    let mut rejected = benjamini_hochberg(&judged, rule.false_discovery).into_iter();
    let verdict = |(change, test): (&Change, Option<TTest>)| {
        let shown = test.is_some() && rejected.next().unwrap_or(false);
        let verdict = match &change.state {
            State::New => Verdict::New,
            State::Gone => Verdict::Gone,
            State::Failed => Verdict::Failed,
            State::Same => Verdict::Same,
            State::OtherUtterances => Verdict::NotComparable,
            State::Measured(_) if test.is_none() => Verdict::NotJudged,
            State::Measured(found) => {
                let at_least = rule.smallest(change.metric);
                let better = change.metric.improves(found.difference, 0.0);
                match (shown && found.difference.abs() >= at_least, better) {
                    (false, _) => Verdict::Moved,
                    (true, true) => Verdict::Better,
                    (true, false) => Verdict::Worse,
                }
            }
        };
        Judgement { verdict, test }
    };
    changes.iter().zip(tests).map(verdict).collect()
}

/// Returns the cells whose loss is to be confirmed with new seeds: at most `most`, those with the largest `t` first.
pub fn to_confirm(judgements: &[Judgement], most: usize) -> Vec<usize> {
    let size = |at: &usize| judgements[*at].test.map_or(0.0, |test| test.t.abs());
    let mut worse: Vec<usize> = (0..judgements.len()).filter(|at| judgements[*at].verdict == Verdict::Worse).collect();
    worse.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    worse.truncate(most);
    worse
}

/// True if a test over all seeds, old and new ones, confirms the first test: the same sign, and a probability below `level`.
pub fn confirms(first: &TTest, all: Option<&TTest>, level: f64) -> bool {
    all.is_some_and(|all| all.p < level && all.t.signum().total_cmp(&first.t.signum()).is_eq())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(metric: Metric, difference: f64, degrees: u32) -> Change {
        let noise = Some(SeedNoise { variance: 1e-6, degrees });
        let found = Measured { difference, utterance_variance: 1e-6, seeds: 5, noise };
        Change { metric, state: State::Measured(found) }
    }

    fn verdicts(changes: &[Change]) -> Vec<Verdict> {
        judge(changes, &Rule::default()).into_iter().map(|judgement| judgement.verdict).collect()
    }

    #[test]
    fn direction_size_and_noise_decide() {
        let changes = [
            measured(Metric::Accuracy, 0.02, 20),
            measured(Metric::Accuracy, -0.02, 20),
            measured(Metric::Wer, 0.02, 20),
            measured(Metric::Accuracy, -0.004, 20),
            measured(Metric::Accuracy, -0.02, 3),
            measured(Metric::Accuracy, 0.0, 20),
        ];
        let expected = [Verdict::Better, Verdict::Worse, Verdict::Worse, Verdict::Moved, Verdict::NotJudged, Verdict::Moved];
        assert_eq!(verdicts(&changes), expected);
    }

    #[test]
    fn what_was_not_measured_is_named() {
        let states = [State::New, State::Gone, State::Failed, State::Same, State::OtherUtterances];
        let changes = states.map(|state| Change { metric: Metric::Wer, state });
        let expected = [Verdict::New, Verdict::Gone, Verdict::Failed, Verdict::Same, Verdict::NotComparable];
        assert_eq!(verdicts(&changes), expected);
    }

    #[test]
    fn a_smaller_change_counts_where_the_rule_says_so() {
        let rule = Rule { at_least_of: BTreeMap::from([(Metric::Eer, 0.001)]), ..Rule::default() };
        let changes = [measured(Metric::Eer, 0.004, 20), measured(Metric::Wer, 0.004, 20)];
        let found: Vec<Verdict> = judge(&changes, &rule).into_iter().map(|judgement| judgement.verdict).collect();
        assert_eq!(found, [Verdict::Worse, Verdict::Moved]);
    }

    #[test]
    fn many_cells_need_a_smaller_probability() {
        // Alone it would be an alarm; among forty cells without a change it is not.
        let noise = Some(SeedNoise { variance: 1e-5, degrees: 20 });
        let one = Measured { difference: -0.0068, utterance_variance: 5e-6, seeds: 4, noise };
        let cell = |found| Change { metric: Metric::Accuracy, state: State::Measured(found) };
        assert_eq!(verdicts(&[cell(one)]), [Verdict::Worse]);
        let mut all = vec![cell(Measured { difference: 0.0001, ..one }); 40];
        all.push(cell(one));
        assert_eq!(verdicts(&all)[40], Verdict::Moved);
    }

    #[test]
    fn the_largest_losses_are_confirmed_by_all_seeds() {
        let differences = [-0.02, -0.05, 0.03, -0.04, -0.03];
        let changes = differences.map(|difference| measured(Metric::Accuracy, difference, 20));
        let judgements = judge(&changes, &Rule::default());
        assert_eq!(to_confirm(&judgements, 3), [1, 3, 4]);
        let test = |t: f64, p: f64| TTest { t, degrees: Some(9), p };
        let first = test(-4.0, 0.001);
        assert!(confirms(&first, Some(&test(-3.0, 0.01)), 0.05));
        assert!(!confirms(&first, Some(&test(3.0, 0.01)), 0.05), "the other sign");
        assert!(!confirms(&first, Some(&test(-1.0, 0.3)), 0.05) && !confirms(&first, None, 0.05));
    }
}
