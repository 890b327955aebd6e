//! The stages that turn predictions into scores. All write `scores.json` of one shape, [`Scores`], and beside it
//! `utterances.parquet` (see [`crate::evidence`]), from which scores are compared in pairs.

mod classification;
mod intent;
mod slots;
mod task;
mod text;
mod verification;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::{Digest, Job, Slot, StageError};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::classification::{ClassScore, Confusion};
use crate::edit::Edits;
use crate::evidence::{self, Evidence, Ratio};
use crate::metric::{Direction, Metric};
use crate::predictions::{self, Row};
use crate::significance::{Interval, Resampling, Units, intervals};
use crate::text::Unit;

pub use classification::{ScoreClassification, run as run_classification};
pub use intent::{ScoreIntent, run as run_intent};
pub use slots::{ScoreSlots, run as run_slots};
pub use task::{BenchmarkTask, ScoreTask, run as run_task};
pub use text::{ScoreText, run as run_text};
pub use verification::{ScoreVerification, run as run_verification};

/// The name of the file with the scores within the artifact.
pub const FILE_NAME: &str = "scores.json";
/// At most so many of the worst utterances are kept with their texts.
const WORST: usize = 20;

/// The content of `scores.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The benchmark task, when the workflow names one.
    pub task: Option<String>,
    /// The corpus, when the workflow names one.
    pub corpus: Option<String>,
    /// The metric that methods are compared by.
    pub primary: Metric,
    /// Every metric by name.
    pub metrics: BTreeMap<Metric, Score>,
    /// How many utterances, or trials, were scored.
    pub utterances: u64,
    /// How the intervals were made.
    pub interval: Resampling,
    /// Digest of the sorted ids: scores can be compared utterance by utterance when it is equal.
    pub utterance_set: Digest,
    /// What whoever reads the scores should know.
    pub notes: Vec<String>,
    /// Parameter counts of the model, when a training was given that states them.
    pub parameters: Option<Parameters>,
    /// What the metrics say in detail.
    pub detail: Detail,
    /// The whole of `training.json`, when it was given.
    pub training: Option<Json>,
}

/// A metric's value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// A ratio, not percent.
    pub value: f64,
    /// Which way it improves.
    pub direction: Direction,
    /// How far to trust it; none where the draws say nothing.
    pub interval: Option<Interval>,
}

/// What the metrics of one kind of task say in detail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Detail {
    /// One class per utterance.
    Classification(ClassDetail),
    /// Recognised text.
    Text {
        /// The errors of all utterances in each unit.
        edits: Vec<(Unit, Edits)>,
        /// Utterances whose reference is empty.
        empty_references: u64,
        /// The utterances with most errors.
        worst: Vec<Miss>,
    },
    /// Slots within text.
    Slots {
        /// Errors of words, markers left out.
        words: Edits,
        /// Errors of characters within the values of slots.
        values: Edits,
        /// How often each slot is in a reference, a hypothesis, and both.
        slots: BTreeMap<String, SlotCounts>,
        /// The utterances whose slots were found worst.
        worst: Vec<Miss>,
    },
    /// Several classes per utterance.
    Intent {
        /// Every slot.
        slots: Vec<(String, ClassDetail)>,
    },
    /// Trials.
    Verification {
        /// Of one voice.
        targets: u64,
        /// Of two voices.
        others: u64,
    },
}

/// The answers of a classifier, class by class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassDetail {
    /// The classes in order.
    pub labels: Vec<String>,
    /// Scores of each class.
    pub classes: Vec<ClassScore>,
    /// Counts: row = right class, column = answered class.
    pub confusion: Confusion,
    /// The utterances answered wrongly, sorted by id.
    pub mistakes: Vec<Mistake>,
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

/// A text that was not recognised as it should.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    /// The utterance.
    pub id: String,
    /// What was said.
    pub reference: String,
    /// What was recognised.
    pub hypothesis: String,
    /// How many errors there are.
    pub errors: u64,
}

/// How often a slot occurs, counted once per utterance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotCounts {
    /// In references.
    pub reference: u64,
    /// In hypotheses.
    pub hypothesis: u64,
    /// In both of an utterance.
    pub both: u64,
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
    /// Utterances with other slots than the first.
    #[error("utterance `{id}` has the slots {found:?}, expected {expected:?} as in `{first}`")]
    Slots {
        /// The utterance.
        id: String,
        /// Its slots.
        found: Vec<String>,
        /// The slots of the first utterance.
        expected: Vec<String>,
        /// The first utterance.
        first: String,
    },
    /// A score of a trial that is not a number.
    #[error("the trial of `{enrol}` and `{test}` has the score {found}, expected a number")]
    TrialScore {
        /// The one recording.
        enrol: String,
        /// The other.
        test: String,
        /// What it has.
        found: f64,
    },
    /// The metric that methods are compared by has no value.
    #[error("`{}` has no value: {why}", .metric.name())]
    Undefined {
        /// The metric.
        metric: Metric,
        /// What is missing.
        why: &'static str,
    },
    /// Intervals over speakers without speakers.
    #[error("utterance `{id}` has no speaker, and intervals are to be drawn by speaker")]
    NoSpeaker {
        /// The first such utterance.
        id: String,
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

impl Scores {
    /// A metric's value; not a number when it was not measured.
    pub fn value(&self, metric: Metric) -> f64 {
        self.metrics.get(&metric).map_or(f64::NAN, |score| score.value)
    }
    /// The value of the metric that methods are compared by.
    pub fn primary_value(&self) -> f64 {
        self.value(self.primary)
    }
    /// The interval of a metric.
    pub fn interval(&self, metric: Metric) -> Option<Interval> {
        self.metrics.get(&metric)?.interval
    }
}

/// Reads the scores of an artifact.
///
/// Errors: [`StageError::Io`]; [`ScoreError::Json`] as [`StageError::Failed`].
pub fn read_scores(path: &Path) -> Result<Scores, StageError> {
    read_json(&within(path, FILE_NAME), "a file of scores")
}

/// Reads the metrics of an artifact by name, in the order of printing; for programs that show them beside others.
///
/// Errors: as [`read_scores`].
pub fn read_metrics(path: &Path) -> Result<Vec<(&'static str, Score)>, StageError> {
    Ok(read_scores(path)?.metrics.into_iter().map(|(metric, score)| (metric.name(), score)).collect())
}

/// What a stage hands over for its file.
struct Draft {
    task: Option<String>,
    corpus: Option<String>,
    interval: Resampling,
    primary: Metric,
    evidence: Evidence,
    notes: Vec<String>,
    detail: Detail,
}

/// The slots that every scoring stage has.
fn slots(predictions: &'static str) -> Vec<Slot> {
    vec![
        Slot::one("predictions", predictions),
        Slot::optional("training", "a training, or its training.json: parameter counts and curve for the report"),
    ]
}

/// Reads the predictions of a job.
fn read_rows<R: Row>(job: &Job) -> Result<Vec<R>, StageError> {
    let path = within(job.inputs.one("predictions"), predictions::FILE_NAME);
    let rows: Vec<R> = predictions::read(&path).map_err(StageError::failed)?;
    if rows.is_empty() {
        let hint = "is the test split of the corpus empty, or were all its recordings rejected?";
        return Err(StageError::failed(ScoreError::Empty { path }).with_hint(hint));
    }
    Ok(rows)
}

/// Writes `scores.json` and `utterances.parquet`.
fn finish(draft: Draft, job: &Job) -> Result<Scores, StageError> {
    let training = match job.inputs.optional("training") {
        Some(path) => Some(read_json(&within(path, "training.json"), "a training record")?),
        None => None,
    };
    let evidence_path = job.out.join(evidence::FILE_NAME);
    evidence::write(&evidence_path, &draft.evidence).map_err(StageError::failed)?;
    let scores = assemble(draft, training).map_err(|error| match error {
        ScoreError::NoSpeaker { .. } => StageError::failed(error).with_hint("set `interval.by = \"utterance\"`"),
        _ => StageError::failed(error),
    })?;
    let mut text = serde_json::to_string_pretty(&scores).map_err(StageError::failed)?;
    text.push('\n');
    write(&job.out.join(FILE_NAME), text.as_bytes())?;
    Ok(scores)
}

fn assemble(draft: Draft, training: Option<Json>) -> Result<Scores, ScoreError> {
    let Draft { task, corpus, interval, primary, evidence, notes, detail } = draft;
    let Some(intervals) = intervals(&evidence, &interval) else {
        // The evidence has no speakers when one utterance has none.
        return Err(ScoreError::NoSpeaker { id: evidence.ids.first().cloned().unwrap_or_default() });
    };
    let score = |(metric, value): (Metric, f64)| {
        (metric, Score { value, direction: metric.direction(), interval: intervals.get(&metric).copied() })
    };
    // A value that is not finite has no JSON.
    let metrics: BTreeMap<_, _> = evidence.values().into_iter().filter(|(_, value)| value.is_finite()).map(score).collect();
    if !metrics.contains_key(&primary) {
        let why = match &detail {
            Detail::Verification { .. } => "there must be trials of one voice and trials of two",
            _ => "all references are empty",
        };
        return Err(ScoreError::Undefined { metric: primary, why });
    }
    Ok(Scores {
        task,
        corpus,
        primary,
        metrics,
        utterances: evidence.ids.len() as u64,
        interval,
        utterance_set: Digest::of(evidence.ids.join("\n").as_bytes()),
        notes,
        parameters: training.as_ref().and_then(parameters),
        detail,
        training,
    })
}

/// The speakers, when every row has one.
fn speakers<R>(rows: &[R], of: impl Fn(&R) -> Option<&String>) -> Option<Vec<String>> {
    rows.iter().map(|row| of(row).cloned()).collect()
}

/// The losses as shares of their mean. Those that are not numbers are left out, and a note says how many.
fn losses<R>(rows: &[R], of: impl Fn(&R) -> f32, notes: &mut Vec<String>) -> Vec<Ratio> {
    let share = |loss: f32| {
        if loss.is_finite() { Ratio { part: f64::from(loss), whole: 1.0 } } else { Ratio::default() }
    };
    let shares: Vec<Ratio> = rows.iter().map(|row| share(of(row))).collect();
    let left_out = shares.iter().filter(|share| share.whole <= 0.0).count();
    if left_out > 0 {
        notes.push(format!("{left_out} of {} losses are not finite numbers; the mean loss leaves them out", rows.len()));
    }
    shares
}

/// Errors as shares of an error rate.
fn shares(edits: &[Edits]) -> Vec<Ratio> {
    edits.iter().map(|edits| Ratio { part: edits.errors() as f64, whole: edits.tokens as f64 }).collect()
}

fn pooled(edits: &[Edits]) -> Edits {
    let mut all = Edits::default();
    for one in edits {
        all += *one;
    }
    all
}

/// The first of those with most errors, worst first; equally bad ones by id.
fn worst(mut misses: Vec<Miss>) -> Vec<Miss> {
    misses.retain(|miss| miss.errors > 0);
    misses.sort_by(|a, b| (b.errors, &a.id).cmp(&(a.errors, &b.id)));
    misses.truncate(WORST);
    misses
}

fn parameters(training: &Json) -> Option<Parameters> {
    let counts = training.get("parameters")?;
    let count = |name: &str| counts.get(name).and_then(Json::as_u64);
    Some(Parameters { trainable: count("trainable")?, total: count("total")? })
}

/// How the intervals of all these scores were made: `95 % interval: bootstrap over utterances or trials, 2000 draws`. Of a verification it
/// is trials that are drawn.
pub(crate) fn describe<'a>(all: impl Iterator<Item = &'a Scores>) -> String {
    let mut kinds: Vec<(String, u32, Vec<&str>)> = Vec::new();
    for scores in all {
        let Resampling { confidence, resamples, by, .. } = scores.interval;
        let drawn = match (&scores.detail, by) {
            (Detail::Verification { .. }, Units::Utterance) => "trials",
            _ => by.plural(),
        };
        let percent = format!("{:.2}", 100.0 * confidence);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        match kinds.iter_mut().find(|(known, draws, _)| known == percent && *draws == resamples) {
            Some((.., list)) if list.contains(&drawn) => {}
            Some((.., list)) => list.push(drawn),
            None => kinds.push((percent.to_owned(), resamples, vec![drawn])),
        }
    }
    let kind = |(percent, resamples, drawn): &(String, u32, Vec<&str>)| {
        format!("{percent} % interval: bootstrap over {}, {resamples} draws", drawn.join(" or "))
    };
    kinds.iter().map(kind).collect::<Vec<_>>().join("; ")
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
