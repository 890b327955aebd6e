//! The stage `score.classification`: predictions to scores and the picture of the confusion matrix.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::{Digest, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::classification::{ClassScore, Confusion};
use crate::metric::Metric;
use crate::plot;
use crate::predictions::{self, Prediction};
use crate::significance::{Interval, accuracy_interval};

/// The name of the file with the scores within the artifact.
pub const FILE_NAME: &str = "scores.json";

/// Scores the predictions of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreClassification {
    /// Share of repetitions in which the interval of the accuracy would hold the true value.
    #[serde(default = "default_confidence")]
    pub confidence: f64,
    /// How many times the utterances are drawn anew for that interval.
    #[serde(default = "default_resamples")]
    pub resamples: u32,
    /// Where the generator of those draws starts.
    #[serde(default)]
    pub seed: u64,
}

fn default_confidence() -> f64 {
    0.95
}

fn default_resamples() -> u32 {
    2000
}

impl Stage for ScoreClassification {
    const KIND: &'static str = "score.classification";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "accuracy, F1 and the confusion matrix of a classifier's predictions";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("predictions", "an evaluation, or its predictions.parquet"),
            Slot::one("labels", "labels.json: the classes in order, as a JSON list of strings"),
            Slot::optional("training", "a training, or its training.json: parameter counts and curve for the report"),
        ]
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            mistakes.push(("confidence", format!("expected a number between 0 and 1, found {}", self.confidence)));
        }
        if !(100..=1_000_000).contains(&self.resamples) {
            mistakes.push(("resamples", format!("expected 100 to 1000000, found {}", self.resamples)));
        }
        mistakes
    }
}

/// The content of `scores.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How many utterances were scored.
    pub utterances: u64,
    /// How many of them were answered rightly.
    pub right: u64,
    /// Every metric by name; ratios, not percent.
    pub metrics: BTreeMap<Metric, f64>,
    /// The interval of the accuracy.
    pub accuracy_interval: Interval,
    /// What the interval promises, for example 0.95.
    pub confidence: f64,
    /// The classes in order.
    pub labels: Vec<String>,
    /// Scores of each class.
    pub classes: Vec<ClassScore>,
    /// Counts: row = right class, column = answered class.
    pub confusion: Confusion,
    /// Digest of the sorted utterance ids: scores can be compared utterance by utterance when it is equal.
    pub utterance_set: Digest,
    /// The utterances answered wrongly, sorted by id.
    pub mistakes: Vec<Mistake>,
    /// Parameter counts of the model, when a training was given that states them.
    pub parameters: Option<Parameters>,
    /// The whole of `training.json`, when it was given.
    pub training: Option<Value>,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The utterance.
    pub id: String,
    /// Its right class.
    pub label: String,
    /// The class answered.
    pub prediction: String,
}

/// Parameter counts of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Those that training may change.
    pub trainable: u64,
    /// All of them.
    pub total: u64,
}

/// Why there are no scores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// Not a single utterance was evaluated.
    #[error("`{path}` holds no predictions, expected at least one")]
    Empty {
        /// The file of predictions.
        path: PathBuf,
    },
    /// A class outside the labels, or under another name there.
    #[error("utterance `{id}` has class {found} (`{text}`), expected one of the {classes} labels under its own name")]
    Label {
        /// The utterance.
        id: String,
        /// The class found.
        found: i64,
        /// What the predictions call it.
        text: String,
        /// How many labels there are.
        classes: usize,
    },
    /// A file is not the JSON that it should be.
    #[error("`{path}` is not {expected}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Writes `scores.json`, `confusion.svg` and `confusion.png`.
///
/// Errors: [`ScoreError`] and [`predictions::PredictionsError`] wrapped as [`StageError::Failed`], or [`StageError::Io`].
pub fn run(params: &ScoreClassification, job: &Job) -> Result<(), StageError> {
    let labels: Vec<String> = read_json(&within(job.inputs.one("labels"), "labels.json"), "a list of labels")?;
    let path = within(job.inputs.one("predictions"), predictions::FILE_NAME);
    let rows = predictions::read(&path).map_err(StageError::failed)?;
    if rows.is_empty() {
        let hint = "is the test split of the corpus empty, or were all its recordings rejected?";
        return Err(StageError::failed(ScoreError::Empty { path }).with_hint(hint));
    }
    let training = match job.inputs.optional("training") {
        Some(path) => Some(read_json(&within(path, "training.json"), "a training record")?),
        None => None,
    };
    let scores = score(params, labels, rows, training).map_err(|error| {
        StageError::failed(error).with_hint("the model was evaluated with another list of labels than the one given here")
    })?;
    let title = format!("Confusion matrix: {} utterances, {:.2} % right", scores.utterances, 100.0 * scores.accuracy());
    let picture = plot::confusion_matrix(&title, &scores.labels, &scores.confusion);
    let mut text = serde_json::to_string_pretty(&scores).map_err(StageError::failed)?;
    text.push('\n');
    write(&job.out.join(FILE_NAME), text.as_bytes())?;
    write(&job.out.join("confusion.svg"), picture.svg().as_bytes())?;
    write(&job.out.join("confusion.png"), &picture.png(2.0))
}

impl Scores {
    /// Share of right answers.
    pub fn accuracy(&self) -> f64 {
        self.metric(Metric::Accuracy)
    }
    /// A metric; not a number when the file lacks it.
    pub fn metric(&self, metric: Metric) -> f64 {
        self.metrics.get(&metric).copied().unwrap_or(f64::NAN)
    }
}

/// Scores predictions; `labels` are the classes in order.
///
/// Errors: [`ScoreError::Label`] when predictions and labels disagree about a class.
pub fn score(
    params: &ScoreClassification,
    labels: Vec<String>,
    mut rows: Vec<Prediction>,
    training: Option<Value>,
) -> Result<Scores, ScoreError> {
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    for row in &rows {
        check_label(&labels, row, row.label, &row.label_text)?;
        check_label(&labels, row, row.prediction, &row.prediction_text)?;
    }
    let pairs = rows.iter().map(|row| (row.label, row.prediction));
    let confusion = Confusion::count(labels.len(), pairs).expect("every class was checked against the labels");
    let (right, utterances) = (confusion.right(), confusion.total());
    let loss = rows.iter().map(|row| f64::from(row.loss)).sum::<f64>() / rows.len() as f64;
    let metrics = Metric::ALL.map(|metric| (metric, value(metric, &confusion, loss)));
    let mistakes = rows.iter().filter(|row| row.label != row.prediction).map(|row| Mistake {
        id: row.id.clone(),
        label: row.label_text.clone(),
        prediction: row.prediction_text.clone(),
    });
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    Ok(Scores {
        utterances,
        right,
        // A loss that is not finite has no JSON.
        metrics: metrics.into_iter().filter(|(_, value)| value.is_finite()).collect(),
        accuracy_interval: accuracy_interval(right, utterances, params.confidence, params.resamples, params.seed),
        confidence: params.confidence,
        classes: confusion.classes(),
        confusion,
        labels,
        utterance_set: Digest::of(ids.join("\n").as_bytes()),
        mistakes: mistakes.collect(),
        parameters: training.as_ref().and_then(parameters),
        training,
    })
}

fn check_label(labels: &[String], row: &Prediction, found: i64, text: &str) -> Result<(), ScoreError> {
    let label = usize::try_from(found).ok().and_then(|class| labels.get(class));
    if label.is_some_and(|label| label == text) {
        return Ok(());
    }
    Err(ScoreError::Label { id: row.id.clone(), found, text: text.to_owned(), classes: labels.len() })
}

fn value(metric: Metric, confusion: &Confusion, loss: f64) -> f64 {
    match metric {
        Metric::Accuracy => confusion.accuracy(),
        Metric::MacroF1 => confusion.macro_f1(),
        Metric::WeightedF1 => confusion.weighted_f1(),
        Metric::MicroF1 => confusion.micro_f1(),
        Metric::UnweightedAverageRecall => confusion.unweighted_average_recall(),
        Metric::Matthews => confusion.matthews(),
        Metric::Loss => loss,
    }
}

fn parameters(training: &Value) -> Option<Parameters> {
    let counts = training.get("parameters")?;
    let count = |name: &str| counts.get(name).and_then(Value::as_u64);
    Some(Parameters { trainable: count("trainable")?, total: count("total")? })
}

/// The file itself, or the file of that name in a folder.
pub(crate) fn within(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, StageError> {
    let bytes = fs::read(path).map_err(StageError::io("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| StageError::failed(ScoreError::Json { path: path.to_owned(), expected, source }))
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    fs::write(path, bytes).map_err(StageError::io("write", path))
}
