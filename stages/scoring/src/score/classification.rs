//! Stage `score.classification`.

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassDetail, Common, Detail, Draft, Mistake, ScoreError, Scorer, evidence_of, read_json, within};
use crate::classification::Confusion;
use crate::evidence::Classes;
use crate::metric::Metric;
use crate::plot::{self, Layout};
use crate::predictions::Prediction;
use crate::significance::Resampling;

/// Scores the predictions of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreClassification {
    /// Metric that methods are compared by: `accuracy`, `weighted_f1`, `macro_f1`, `unweighted_average_recall` or `matthews`.
    /// Default `accuracy`.
    #[serde(default = "default_metric")]
    pub metric: Metric,
    /// Confidence intervals.
    #[serde(default)]
    pub interval: Resampling,
    /// Benchmark task, for a table of several tasks.
    #[serde(default)]
    pub task: Option<String>,
    /// Corpus, for a table where the matrix does not name it.
    #[serde(default)]
    pub corpus: Option<String>,
}

fn default_metric() -> Metric {
    Metric::Accuracy
}

/// Metrics that methods may be compared by.
const METRICS: [Metric; 5] =
    [Metric::Accuracy, Metric::WeightedF1, Metric::MacroF1, Metric::UnweightedAverageRecall, Metric::Matthews];

impl Default for ScoreClassification {
    fn default() -> Self {
        Self { metric: Metric::Accuracy, interval: Resampling::default(), task: None, corpus: None }
    }
}

impl Stage for ScoreClassification {
    const KIND: &'static str = "score.classification";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "accuracy, F1 and the confusion matrix of a classifier's predictions";

    fn slots() -> Vec<Slot> {
        super::slots_with_labels("labels.json: the classes in order, as a JSON list of strings")
    }
    fn outputs(&self) -> Vec<String> {
        super::outputs()
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        check(self.metric, &self.interval)
    }
}

pub(super) fn check(metric: Metric, interval: &Resampling) -> Vec<(&'static str, String)> {
    let mut mistakes = interval.check();
    if !METRICS.contains(&metric) {
        let known = METRICS.map(|metric| format!("`{}`", metric.name())).join(", ");
        mistakes.push(("metric", format!("expected one of {known}, found `{}`", metric.name())));
    }
    mistakes
}

impl Scorer for ScoreClassification {
    type Row = Prediction;

    fn common(&self) -> Common {
        Common { interval: self.interval, task: self.task.clone(), corpus: self.corpus.clone() }
    }

    fn draft(&self, rows: &[Prediction], job: &Job) -> Result<Draft, StageError> {
        let labels: Vec<String> = read_json(&within(job.inputs.one("labels"), "labels.json"), "a list of labels")?;
        let checked = rows.iter().try_for_each(|row| {
            check_label(&labels, row, row.label, &row.label_text)?;
            check_label(&labels, row, row.prediction, &row.prediction_text)
        });
        checked.map_err(|error| {
            StageError::failed(error).with_hint("the model was evaluated with another list of labels than the one given here")
        })?;
        Ok(draft(self.metric, labels, rows))
    }
}

fn draft(metric: Metric, labels: Vec<String>, rows: &[Prediction]) -> Draft {
    let pairs = rows.iter().map(|row| (row.label, row.prediction));
    let confusion = Confusion::count(labels.len(), pairs).expect("every class was checked against the labels");
    let mistakes = rows.iter().filter(|row| row.label != row.prediction).map(|row| Mistake {
        id: row.id.clone(),
        label: row.label_text.clone(),
        prediction: row.prediction_text.clone(),
        loss: Some(row.loss).filter(|loss| loss.is_finite()),
    });
    let mut notes = Vec::new();
    let occurring = confusion.classes().iter().filter(|class| class.support > 0).count();
    if occurring == 1 && labels.len() > 1 {
        notes.push("all utterances are of one class: the scores say nothing about the others".to_owned());
    }
    let mut evidence = evidence_of(rows, &mut notes);
    evidence.classes = Some(Classes {
        count: labels.len(),
        labels: rows.iter().map(|row| row.label as u32).collect(),
        predictions: rows.iter().map(|row| row.prediction as u32).collect(),
    });
    let title = format!("Confusion matrix: {} utterances, {:.2} % right", rows.len(), 100.0 * confusion.accuracy());
    let pictures = [Layout::Page, Layout::Column].map(|layout| plot::confusion_matrix(&title, &labels, &confusion, layout));
    let detail = ClassDetail { classes: confusion.classes(), mistakes: mistakes.collect(), labels, confusion };
    notes.extend(detail.only_answer().map(|class| format!("the model answers `{class}` to every utterance")));
    Draft {
        primary: metric,
        chance: evidence.chance(),
        evidence,
        notes,
        detail: Detail::Classification(detail),
        confusion: Some(pictures),
    }
}

fn check_label(labels: &[String], row: &Prediction, found: i64, text: &str) -> Result<(), ScoreError> {
    let label = usize::try_from(found).ok().and_then(|class| labels.get(class));
    if label.is_some_and(|label| label == text) {
        return Ok(());
    }
    Err(ScoreError::Label { id: row.id.clone(), found, text: text.to_owned(), classes: labels.len() })
}
