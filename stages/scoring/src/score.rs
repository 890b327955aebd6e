//! Stages that turn predictions into scores. All write `scores.json` of one shape, [`Scores`], and next to it
//! `utterances.parquet` (see [`crate::evidence`]), from which scores are compared in pairs.
//!
//! A stage implements [`Scorer`]: the kind of rows that it reads, and a [`Draft`] made from them. [`run`] does the rest.

mod classification;
mod intent;
mod slots;
mod synthesis;
mod tagging;
mod text;
mod verification;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::{Digest, Job, Slot, Stage, StageError};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::classification::{ClassScore, Confusion};
use crate::edit::Edits;
use crate::evidence::{self, Evidence, Ratio};
use crate::metric::{Direction, Metric};
use crate::picture::Picture;
use crate::predictions::{self, PredictionRow, UtteranceRow};
use crate::significance::{Interval, Resampling, intervals};
use crate::text::Unit;

pub use classification::ScoreClassification;
pub use intent::ScoreIntent;
pub use slots::ScoreSlots;
pub use synthesis::ScoreSynthesis;
pub(crate) use synthesis::speakers;
pub use tagging::ScoreTagging;
pub use text::ScoreText;
pub use verification::ScoreVerification;

/// Name of the file with the scores, within the artifact.
pub const FILE_NAME: &str = "scores.json";
/// Number of worst utterances that are kept with their texts.
const WORST: usize = 20;

/// Content of `scores.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Benchmark task, when the workflow names one.
    pub task: Option<String>,
    /// Corpus, when the workflow names one.
    pub corpus: Option<String>,
    /// Metric that methods are compared by.
    pub primary: Metric,
    /// Metrics by name.
    pub metrics: BTreeMap<Metric, Score>,
    /// Number of utterances, or of trials.
    pub utterances: u64,
    /// Parameters of the intervals.
    pub interval: Resampling,
    /// Digest of the sorted ids: scores can be compared utterance by utterance when it is equal.
    pub utterance_set: Digest,
    /// Value of each metric for the best answer that does not depend on the recording; empty in older files.
    #[serde(default)]
    pub chance: BTreeMap<Metric, f64>,
    /// Sentences that a reader of the scores should know.
    pub notes: Vec<String>,
    /// Parameter counts of the model, when a training was given that states them.
    pub parameters: Option<Parameters>,
    /// Details behind the metrics.
    pub detail: Detail,
    /// Content of `training.json`, when it was given.
    pub training: Option<Json>,
}

/// Value of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Value as a ratio, not percent.
    pub value: f64,
    /// Direction of improvement.
    pub direction: Direction,
    /// Confidence interval; none where all draws agree.
    pub interval: Option<Interval>,
}

/// Details behind the metrics of one kind of score.
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
        /// Utterances with most errors.
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
        /// Utterances whose slots have most errors.
        worst: Vec<Miss>,
    },
    /// Several classes per utterance.
    Intent {
        /// Answers by slot.
        slots: Vec<(String, ClassDetail)>,
    },
    /// Any number of labels per utterance.
    Tagging {
        /// Scores of each label, in order.
        labels: Vec<LabelScore>,
        /// Utterances without exactly the right labels, sorted by id.
        mistakes: Vec<Mistake>,
    },
    /// Synthesised speech.
    Synthesis {
        /// Errors of all utterances in each unit.
        edits: Vec<(Unit, Edits)>,
        /// Scores of each speaker, in order of the name.
        speakers: Vec<SpeakerDetail>,
        /// Utterances with most errors.
        worst: Vec<Miss>,
    },
    /// Trials.
    Verification {
        /// Trials of one voice.
        targets: u64,
        /// Trials of two voices.
        others: u64,
    },
}

/// Scores of the speech that was synthesised with one speaker's voice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeakerDetail {
    /// Name of the speaker.
    pub name: String,
    /// Number of utterances.
    pub utterances: u64,
    /// Word error rate; none where all texts are empty.
    pub wer: Option<f64>,
    /// Mean similarity.
    pub similarity: f64,
    /// Share of utterances whose voice is nearest to this speaker.
    pub accuracy: f64,
    /// Mean mel-cepstral distortion in dB; none without recordings.
    pub mcd: Option<f64>,
    /// Mean error of the length, relative to recordings: negative where speech is too short.
    pub duration_bias: Option<f64>,
}

/// Scores of a label, of which an utterance has any number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelScore {
    /// Name of the label.
    pub name: String,
    /// Precision, recall and F1.
    #[serde(flatten)]
    pub score: ClassScore,
    /// Average precision; none where no utterance has the label.
    pub average_precision: Option<f64>,
}

/// The answers of a classifier, class by class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassDetail {
    /// Classes in order.
    pub labels: Vec<String>,
    /// Scores of each class.
    pub classes: Vec<ClassScore>,
    /// Counts: row = right class, column = answered class.
    pub confusion: Confusion,
    /// Utterances answered wrongly, sorted by id.
    pub mistakes: Vec<Mistake>,
}

/// Wrong answer to one utterance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Id of the utterance.
    pub id: String,
    /// Right class.
    pub label: String,
    /// Class answered.
    pub prediction: String,
    /// Loss of the right class, natural log; none in older files, and where it is not a number.
    #[serde(default)]
    pub loss: Option<f32>,
}

/// Text that was recognised wrongly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    /// The utterance.
    pub id: String,
    /// Reference.
    pub reference: String,
    /// Hypothesis.
    pub hypothesis: String,
    /// Number of errors.
    pub errors: u64,
}

/// Occurrences of a slot, counted once per utterance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotCounts {
    /// Occurrences in references.
    pub reference: u64,
    /// Occurrences in hypotheses.
    pub hypothesis: u64,
    /// Occurrences in both texts of an utterance.
    pub both: u64,
}

/// Parameter counts of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Parameters that training changes.
    pub trainable: u64,
    /// All parameters.
    pub total: u64,
}

/// Error of scoring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// No utterance was evaluated.
    #[error("`{path}` holds no predictions, expected at least one")]
    Empty {
        /// The file of predictions.
        path: PathBuf,
    },
    /// Class outside the labels, or with another name there.
    #[error("utterance `{id}` has class {found} (`{text}`), expected one of the {classes} labels under its own name")]
    Label {
        /// The utterance.
        id: String,
        /// The class found.
        found: i64,
        /// Name of the class in the predictions.
        text: String,
        /// Number of labels.
        classes: usize,
    },
    /// Utterances with other slots than the first.
    #[error("utterance `{id}` has the slots {found:?}, expected {expected:?} as in `{first}`")]
    Slots {
        /// The utterance.
        id: String,
        /// Slots found.
        found: Vec<String>,
        /// The slots of the first utterance.
        expected: Vec<String>,
        /// The first utterance.
        first: String,
    },
    /// Score of a trial that is not a number.
    #[error("the trial of `{enrol}` and `{test}` has the score {found}, expected a number")]
    TrialScore {
        /// First recording.
        enrol: String,
        /// Second recording.
        test: String,
        /// Score found.
        found: f64,
    },
    /// Metric to compare by without a value.
    #[error("`{}` has no value: {why}", .metric.name())]
    Undefined {
        /// The metric.
        metric: Metric,
        /// Cause.
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
        /// Expected content.
        expected: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Scores {
    /// Value of a metric; not a number when it was not measured.
    pub fn value(&self, metric: Metric) -> f64 {
        self.metrics.get(&metric).map_or(f64::NAN, |score| score.value)
    }
    /// The value of the metric that methods are compared by.
    pub fn primary_value(&self) -> f64 {
        self.value(self.primary)
    }
    /// Metrics besides the primary one that the task is reported by.
    pub fn further_metrics(&self) -> Vec<Metric> {
        let further: &[Metric] = match self.detail {
            Detail::Synthesis { .. } => &[Metric::Wer, Metric::SpeakerSimilarity, Metric::Mcd],
            Detail::Tagging { .. } => &[Metric::MacroF1],
            _ if self.primary == Metric::SlotTypeF1 => &[Metric::SlotValueCer],
            _ => &[],
        };
        further.iter().copied().filter(|metric| *metric != self.primary && self.metrics.contains_key(metric)).collect()
    }
    /// The interval of a metric.
    pub fn interval(&self, metric: Metric) -> Option<Interval> {
        self.metrics.get(&metric)?.interval
    }
}

impl ClassDetail {
    /// Class that every utterance was answered with, where there is more than one right class.
    pub fn only_answer(&self) -> Option<&String> {
        let answered = |class: usize| self.confusion.rows().iter().any(|row| row[class] > 0);
        let mut classes = (0..self.labels.len()).filter(|class| answered(*class));
        let (only, other) = (classes.next()?, classes.next());
        let several = self.confusion.rows().iter().filter(|row| row.iter().any(|count| *count > 0)).count() > 1;
        (other.is_none() && several).then(|| &self.labels[only])
    }
}

impl Scores {
    /// True if the model answers one class to every utterance.
    pub fn answers_one_class(&self) -> bool {
        match &self.detail {
            Detail::Classification(detail) => detail.only_answer().is_some(),
            Detail::Intent { slots } => {
                !slots.is_empty() && slots.iter().all(|(_, slot)| slot.labels.len() == 1 || slot.only_answer().is_some())
            }
            _ => false,
        }
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

/// Kind of score: which stage scores the predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One class per utterance: accuracy and F1.
    Classification,
    /// Several classes per utterance: the share with all of them right.
    Intent,
    /// Text with slots: F1 of their types, character error rate of their values.
    Slots,
    /// Text: errors in a unit.
    Text(Unit),
    /// Any number of labels per utterance: mean average precision.
    Tagging,
    /// Trials: equal error rate.
    Verification,
}

/// Parameters that every scoring stage has.
#[derive(Debug, Clone)]
pub struct Common {
    /// Confidence intervals.
    pub interval: Resampling,
    /// Benchmark task.
    pub task: Option<String>,
    /// Corpus.
    pub corpus: Option<String>,
}

/// Scores of one kind, before intervals are drawn and files are written.
#[derive(Debug)]
pub struct Draft {
    primary: Metric,
    evidence: Evidence,
    chance: BTreeMap<Metric, f64>,
    notes: Vec<String>,
    detail: Detail,
    /// Confusion matrix for a page and for a column of a paper.
    confusion: Option<[Picture; 2]>,
}

/// Scoring stage.
pub trait Scorer: Stage {
    /// Row of the file of predictions.
    type Row: PredictionRow;

    /// Parameters that every scoring stage has.
    fn common(&self) -> Common;

    /// Scores all rows, of which there is at least one.
    ///
    /// Errors: [`ScoreError`] as [`StageError::Failed`], an input that cannot be read.
    fn draft(&self, rows: &[Self::Row], job: &Job) -> Result<Draft, StageError>;
}

impl Kind {
    /// Returns the mistakes in the parameters of a kind, as pairs of parameter and sentence.
    pub fn check(self, metric: Metric, interval: &Resampling) -> Vec<(&'static str, String)> {
        match self {
            Kind::Classification => classification::check(metric, interval),
            _ => interval.check(),
        }
    }
}

/// Scores predictions of a kind; `metric` is the one that classifiers are compared by.
///
/// Errors: as [`run`].
pub fn run_kind(kind: Kind, metric: Metric, common: Common, job: &Job) -> Result<(), StageError> {
    let Common { interval, task, corpus } = common;
    match kind {
        Kind::Classification => run(&ScoreClassification { metric, interval, task, corpus }, job),
        Kind::Intent => run(&ScoreIntent { interval, task, corpus }, job),
        Kind::Slots => run(&ScoreSlots { interval, task, corpus }, job),
        Kind::Text(unit) => run(&ScoreText { unit, interval, task, corpus }, job),
        Kind::Tagging => run(&ScoreTagging { interval, task, corpus }, job),
        Kind::Verification => run(&ScoreVerification { interval, task, corpus }, job),
    }
}

/// Body of every scoring stage: writes `scores.json`, `utterances.parquet` and, for classes, the confusion matrix.
///
/// Errors: [`ScoreError`] and [`crate::predictions::PredictionsError`] as [`StageError::Failed`], or [`StageError::Io`].
pub fn run<S: Scorer>(params: &S, job: &Job) -> Result<(), StageError> {
    let path = within(job.inputs.one("predictions"), predictions::FILE_NAME);
    let rows: Vec<S::Row> = predictions::read(&path).map_err(StageError::failed)?;
    if rows.is_empty() {
        let hint = "is the test split of the corpus empty, or were all its recordings rejected?";
        return Err(StageError::failed(ScoreError::Empty { path }).with_hint(hint));
    }
    let draft = params.draft(&rows, job)?;
    let training = match job.inputs.optional("training") {
        Some(path) => Some(read_json(&within(path, "training.json"), "a training record")?),
        None => None,
    };
    evidence::write(&job.out.join(evidence::FILE_NAME), &draft.evidence).map_err(StageError::failed)?;
    if let Some([page, column]) = &draft.confusion {
        write(&job.out.join("confusion.svg"), page.svg().as_bytes())?;
        write(&job.out.join("confusion.png"), &page.png(2.0))?;
        write(&job.out.join("confusion.pdf"), &column.pdf())?;
    }
    let scores = assemble(params.common(), draft, training).map_err(|error| match error {
        ScoreError::NoSpeaker { .. } => StageError::failed(error).with_hint("set `interval.by = \"utterance\"`"),
        _ => StageError::failed(error),
    })?;
    let mut text = serde_json::to_string_pretty(&scores).map_err(StageError::failed)?;
    text.push('\n');
    write(&job.out.join(FILE_NAME), text.as_bytes())
}

/// Files that every scoring stage writes.
pub fn outputs() -> Vec<String> {
    [FILE_NAME, evidence::FILE_NAME].map(str::to_owned).to_vec()
}

/// Input slots of every scoring stage.
fn slots(predictions: &'static str) -> Vec<Slot> {
    vec![
        Slot::one("predictions", predictions),
        Slot::optional("training", "a training, or its training.json: parameter counts and curve for the report"),
    ]
}

/// Input slots of a stage that also reads the list of labels.
pub fn slots_with_labels(labels: &'static str) -> Vec<Slot> {
    let mut slots = slots("an evaluation, or its predictions.parquet");
    slots.insert(1, Slot::one("labels", labels));
    slots
}

fn assemble(common: Common, draft: Draft, training: Option<Json>) -> Result<Scores, ScoreError> {
    let Common { interval, task, corpus } = common;
    let Draft { primary, evidence, chance, notes, detail, .. } = draft;
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
            Detail::Tagging { .. } => "no utterance has a label",
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
        chance,
        notes,
        parameters: training.as_ref().and_then(parameters),
        detail,
        training,
    })
}

/// Evidence of rows about one utterance each, with their losses as a ratio. Losses that are not numbers are left out, and a note
/// says how many.
fn evidence_of<R: UtteranceRow>(rows: &[R], notes: &mut Vec<String>) -> Evidence {
    let share = |row: &R| {
        let loss = row.loss();
        if loss.is_finite() { Ratio { part: f64::from(loss), whole: 1.0 } } else { Ratio::default() }
    };
    let losses: Vec<Ratio> = rows.iter().map(share).collect();
    let left_out = losses.iter().filter(|share| share.whole <= 0.0).count();
    if left_out > 0 {
        notes.push(format!("{left_out} of {} losses are not finite numbers; the mean loss leaves them out", rows.len()));
    }
    Evidence {
        ids: rows.iter().map(|row| row.id().to_owned()).collect(),
        speakers: rows.iter().map(|row| row.speaker().map(str::to_owned)).collect(),
        num_samples: Some(rows.iter().map(super::predictions::UtteranceRow::num_samples).collect()),
        ratios: BTreeMap::from([(Metric::Loss, losses)]),
        ..Evidence::default()
    }
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

/// Describes the intervals of scores: `95 % interval: bootstrap over utterances, 2000 draws`. Of a
/// verification, speakers and recordings are drawn.
pub(crate) fn describe<'a>(all: impl Iterator<Item = &'a Scores>) -> String {
    let mut kinds: Vec<(String, u32, Vec<&str>)> = Vec::new();
    for scores in all {
        let Resampling { confidence, resamples, by, .. } = scores.interval;
        let drawn = match &scores.detail {
            Detail::Verification { .. } => "speakers and their recordings",
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

/// Path of the file itself, or of the file of that name in a folder.
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
