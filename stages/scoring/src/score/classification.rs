//! The stage `score.classification`.

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassDetail, Detail, Draft, Mistake, ScoreError, finish, losses, read_json, read_rows, speakers, within, write};
use crate::classification::Confusion;
use crate::evidence::{Classes, Evidence};
use crate::metric::Metric;
use crate::plot;
use crate::predictions::Prediction;
use crate::significance::Resampling;

/// Scores the predictions of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreClassification {
    /// What methods are compared by: `accuracy`, `weighted_f1`, `macro_f1`, `unweighted_average_recall` or `matthews`. Default
    /// `accuracy`.
    #[serde(default = "default_metric")]
    pub metric: Metric,
    /// The confidence intervals.
    #[serde(default)]
    pub interval: Resampling,
    /// The benchmark task, for a table of several tasks.
    #[serde(default)]
    pub task: Option<String>,
    /// The corpus, for a table where the matrix does not name it.
    #[serde(default)]
    pub corpus: Option<String>,
}

fn default_metric() -> Metric {
    Metric::Accuracy
}

/// What methods may be compared by.
const METRICS: [Metric; 5] =
    [Metric::Accuracy, Metric::WeightedF1, Metric::MacroF1, Metric::UnweightedAverageRecall, Metric::Matthews];

impl Default for ScoreClassification {
    fn default() -> Self {
        Self { metric: Metric::Accuracy, interval: Resampling::default(), task: None, corpus: None }
    }
}

impl Stage for ScoreClassification {
    const KIND: &'static str = "score.classification";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "accuracy, F1 and the confusion matrix of a classifier's predictions";

    fn slots() -> Vec<Slot> {
        let mut slots = super::slots("an evaluation, or its predictions.parquet");
        slots.insert(1, Slot::one("labels", "labels.json: the classes in order, as a JSON list of strings"));
        slots
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = self.interval.check();
        if !METRICS.contains(&self.metric) {
            let known = METRICS.map(|metric| format!("`{}`", metric.name())).join(", ");
            mistakes.push(("metric", format!("expected one of {known}, found `{}`", self.metric.name())));
        }
        mistakes
    }
}

/// Writes `scores.json`, `utterances.parquet`, `confusion.svg` and `confusion.png`.
///
/// Errors: [`ScoreError`] and [`crate::predictions::PredictionsError`] wrapped as [`StageError::Failed`], or [`StageError::Io`].
pub fn run(params: &ScoreClassification, job: &Job) -> Result<(), StageError> {
    let labels: Vec<String> = read_json(&within(job.inputs.one("labels"), "labels.json"), "a list of labels")?;
    let draft = draft(params, labels, &read_rows(job)?).map_err(|error| {
        StageError::failed(error).with_hint("the model was evaluated with another list of labels than the one given here")
    })?;
    let scores = finish(draft, job)?;
    let Detail::Classification(detail) = &scores.detail else { unreachable!("the draft of this stage is one of classes") };
    let right = detail.confusion.accuracy();
    let title = format!("Confusion matrix: {} utterances, {:.2} % right", scores.utterances, 100.0 * right);
    let picture = plot::confusion_matrix(&title, &detail.labels, &detail.confusion);
    write(&job.out.join("confusion.svg"), picture.svg().as_bytes())?;
    write(&job.out.join("confusion.png"), &picture.png(2.0))
}

fn draft(params: &ScoreClassification, labels: Vec<String>, rows: &[Prediction]) -> Result<Draft, ScoreError> {
    for row in rows {
        check_label(&labels, row, row.label, &row.label_text)?;
        check_label(&labels, row, row.prediction, &row.prediction_text)?;
    }
    let pairs = rows.iter().map(|row| (row.label, row.prediction));
    let confusion = Confusion::count(labels.len(), pairs).expect("every class was checked against the labels");
    let mistakes = rows.iter().filter(|row| row.label != row.prediction).map(|row| Mistake {
        id: row.id.clone(),
        label: row.label_text.clone(),
        prediction: row.prediction_text.clone(),
    });
    let mut notes = Vec::new();
    let occurring = confusion.classes().iter().filter(|class| class.support > 0).count();
    if occurring == 1 && labels.len() > 1 {
        notes.push("all utterances are of one class: the scores say nothing about the others".to_owned());
    }
    let evidence = Evidence {
        ids: rows.iter().map(|row| row.id.clone()).collect(),
        speakers: speakers(rows, |row| row.speaker.as_ref()),
        ratios: [(Metric::Loss, losses(rows, |row| row.loss, &mut notes))].into(),
        classes: Some(Classes {
            count: labels.len(),
            labels: rows.iter().map(|row| row.label as u32).collect(),
            predictions: rows.iter().map(|row| row.prediction as u32).collect(),
        }),
        trials: None,
    };
    let detail = ClassDetail { classes: confusion.classes(), mistakes: mistakes.collect(), labels, confusion };
    Ok(Draft {
        task: params.task.clone(),
        corpus: params.corpus.clone(),
        interval: params.interval,
        primary: params.metric,
        evidence,
        notes,
        detail: Detail::Classification(detail),
    })
}

fn check_label(labels: &[String], row: &Prediction, found: i64, text: &str) -> Result<(), ScoreError> {
    let label = usize::try_from(found).ok().and_then(|class| labels.get(class));
    if label.is_some_and(|label| label == text) {
        return Ok(());
    }
    Err(ScoreError::Label { id: row.id.clone(), found, text: text.to_owned(), classes: labels.len() })
}
