//! Stage `score.task`: scores the predictions of any task of the benchmark, so that one workflow can hold all tasks.

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use scoring::Metric;
use scoring::score::{Common, outputs, run_kind, slots_with_labels};
use scoring::significance::Resampling;
use serde::{Deserialize, Serialize};

use crate::Task;

/// Scores predictions as the benchmark scores the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreTask {
    /// Task: one of the benchmark, whose targets and metrics are those of yours.
    pub task: Task,
    /// Name of a task of your own, in tables and on pages: `accent`. Default: that of `task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Metric that methods are compared by where a task has one class per utterance. Default `accuracy`; the benchmark takes
    /// `weighted_f1` for MELD.
    #[serde(default = "accuracy")]
    pub metric: Metric,
    /// Confidence intervals.
    #[serde(default)]
    pub interval: Resampling,
    /// Corpus, for a table where the matrix does not name it.
    #[serde(default)]
    pub corpus: Option<String>,
}

fn accuracy() -> Metric {
    Metric::Accuracy
}

impl Stage for ScoreTask {
    const KIND: &'static str = "score.task";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "scores predictions as the benchmark scores the task";

    fn slots() -> Vec<Slot> {
        slots_with_labels("labels.json: the classes in order, for tasks of one class")
    }
    fn outputs(&self) -> Vec<String> {
        outputs()
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        self.task.score().check(self.metric, &self.interval)
    }
}

/// Runs the scoring stage of the task's kind of predictions.
///
/// Errors: those of that stage.
pub fn run(params: &ScoreTask, job: &Job) -> Result<(), StageError> {
    let task = Some(params.name.clone().unwrap_or_else(|| params.task.name().to_owned()));
    let common = Common { interval: params.interval, task, corpus: params.corpus.clone() };
    run_kind(params.task.score(), params.metric, common, job)
}
