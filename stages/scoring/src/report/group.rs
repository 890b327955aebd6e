//! Groups of runs that differ by seed only.

use super::Run;
use crate::metric::Metric;
use crate::score::Parameters;
use crate::significance::Interval;

/// Mark of a model that answers one class to every utterance.
pub(super) const ONE_CLASS: &str = " †";

/// Sentence that explains [`ONE_CLASS`].
pub(super) fn one_class_note() -> String {
    format!("{}: the model answers one class to every utterance.", ONE_CLASS.trim())
}

/// Runs that differ by seed only.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) runs: Vec<&'a Run>,
}

/// Groups runs, in order of first appearance.
pub(super) fn groups(runs: &[Run]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| same_but_for_seed(group.runs[0], run)) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { runs: vec![run] }),
        }
    }
    groups
}

fn same_but_for_seed(a: &Run, b: &Run) -> bool {
    let key = |run: &Run| (run.task.clone(), run.corpus.clone(), run.method.clone(), run.scores.primary);
    key(a) == key(b) && a.others == b.others
}

impl Group<'_> {
    /// Mean over seeds; not a number when a run lacks the metric.
    pub(super) fn mean(&self, metric: Metric) -> f64 {
        self.runs.iter().map(|run| run.scores.value(metric)).sum::<f64>() / self.runs.len() as f64
    }

    /// Standard deviation over seeds, of the sample; none for one seed.
    pub(super) fn deviation(&self, metric: Metric) -> Option<f64> {
        let mean = self.mean(metric);
        let squares: f64 = self.runs.iter().map(|run| (run.scores.value(metric) - mean).powi(2)).sum();
        (self.runs.len() > 1).then(|| (squares / (self.runs.len() - 1) as f64).sqrt())
    }

    /// The interval over utterances; its ends averaged over seeds. None when a run has none.
    pub(super) fn interval(&self, metric: Metric) -> Option<Interval> {
        let intervals = self.runs.iter().map(|run| run.scores.interval(metric)).collect::<Option<Vec<_>>>()?;
        let mean = |of: fn(&Interval) -> f64| intervals.iter().map(of).sum::<f64>() / intervals.len() as f64;
        Some(Interval { low: mean(|one| one.low), high: mean(|one| one.high) })
    }

    pub(super) fn parameters(&self) -> Option<Parameters> {
        self.runs.iter().find_map(|run| run.scores.parameters)
    }

    /// Values of a metric over seeds.
    pub(super) fn values(&self, metric: Metric) -> Vec<f64> {
        self.runs.iter().map(|run| run.scores.value(metric)).collect()
    }

    /// Value for the best answer that does not depend on the recording; not a number when it is not known.
    pub(super) fn chance(&self, metric: Metric) -> f64 {
        self.runs[0].scores.chance.get(&metric).copied().unwrap_or(f64::NAN)
    }

    /// True if a model of the group answers one class to every utterance.
    pub(super) fn answers_one_class(&self) -> bool {
        self.runs.iter().any(|run| run.scores.answers_one_class())
    }

    /// Prints `93.33`, with the deviation when there are several seeds: `93.33 ± 0.40`. A mark follows where a model answers one
    /// class only.
    pub(super) fn print(&self, metric: Metric) -> String {
        let mean = metric.print(self.mean(metric));
        let mark = if self.answers_one_class() { ONE_CLASS } else { "" };
        match self.deviation(metric) {
            Some(deviation) if deviation.is_finite() => format!("{mean} ± {}{mark}", metric.print(deviation)),
            _ => format!("{mean}{mark}"),
        }
    }
}
