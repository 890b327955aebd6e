//! Stage `score.intent`.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassDetail, Common, Detail, Draft, Mistake, ScoreError, Scorer, evidence_of};
use crate::classification::Confusion;
use crate::evidence::Ratio;
use crate::metric::Metric;
use crate::predictions::Intents;
use crate::significance::Resampling;

/// Scores intents: an utterance is right when every slot is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreIntent {
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

impl Stage for ScoreIntent {
    const KIND: &'static str = "score.intent";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "share of utterances with every slot of their intent right";

    fn slots() -> Vec<Slot> {
        super::slots("an evaluation, or its predictions.parquet with slots")
    }
    fn outputs(&self) -> Vec<String> {
        super::outputs()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

impl Scorer for ScoreIntent {
    type Row = Intents;

    fn common(&self) -> Common {
        Common { interval: self.interval, task: self.task.clone(), corpus: self.corpus.clone() }
    }

    fn draft(&self, rows: &[Intents], _: &Job) -> Result<Draft, StageError> {
        draft(rows).map_err(StageError::failed)
    }
}

fn draft(rows: &[Intents]) -> Result<Draft, ScoreError> {
    let names = slot_names(rows)?;
    let mut notes = Vec::new();
    let whole = |row: &Intents| Ratio { part: f64::from(u8::from(row.is_right())), whole: 1.0 };
    let each = |row: &Intents| Ratio { part: row.num_right() as f64, whole: row.slots.len() as f64 };
    let mut evidence = evidence_of(rows, &mut notes);
    evidence.ratios.insert(Metric::Accuracy, rows.iter().map(whole).collect());
    evidence.ratios.insert(Metric::SlotAccuracy, rows.iter().map(each).collect());
    let slots = names.iter().enumerate().map(|(at, name)| (name.clone(), detail(rows, at))).collect();
    if let Some(answer) = only_answer(rows) {
        notes.push(format!("the model answers `{answer}` to every utterance"));
    }
    let chance = BTreeMap::from([(Metric::Accuracy, chance(rows))]);
    Ok(Draft { primary: Metric::Accuracy, evidence, chance, notes, detail: Detail::Intent { slots }, confusion: None })
}

/// Share of the most frequent intent: the accuracy of always answering it.
fn chance(rows: &[Intents]) -> f64 {
    let mut counts: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row.slots.iter().map(|answer| answer.label.as_str()).collect()).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0) as f64 / rows.len() as f64
}

/// Answer that all utterances got, where their intents differ.
fn only_answer(rows: &[Intents]) -> Option<String> {
    let answers = |row: &Intents| row.slots.iter().map(|answer| answer.prediction.clone()).collect::<Vec<_>>();
    let labels = |row: &Intents| row.slots.iter().map(|answer| answer.label.clone()).collect::<Vec<_>>();
    let first = rows.first()?;
    let constant = rows.iter().all(|row| answers(row) == answers(first)) && rows.iter().any(|row| labels(row) != labels(first));
    constant.then(|| answers(first).join(", "))
}

/// Names of the slots, which must be the same in every utterance.
fn slot_names(rows: &[Intents]) -> Result<Vec<String>, ScoreError> {
    let names = |row: &Intents| row.slots.iter().map(|answer| answer.slot.clone()).collect::<Vec<_>>();
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let expected = names(first);
    match rows.iter().find(|row| expected.is_empty() || names(row) != expected) {
        Some(other) => Err(ScoreError::Slots { id: other.id.clone(), found: names(other), expected, first: first.id.clone() }),
        None => Ok(expected),
    }
}

/// Answers for one slot, as those of a classifier whose classes are the values that occur, in order of the alphabet.
fn detail(rows: &[Intents], at: usize) -> ClassDetail {
    let answers = || rows.iter().map(|row| &row.slots[at]);
    let values: BTreeSet<&String> = answers().flat_map(|answer| [&answer.label, &answer.prediction]).collect();
    let labels: Vec<String> = values.into_iter().cloned().collect();
    let class = |value: &String| labels.binary_search(value).map_or(-1, |class| class as i64);
    let pairs = answers().map(|answer| (class(&answer.label), class(&answer.prediction)));
    let confusion = Confusion::count(labels.len(), pairs).expect("every value is among the labels");
    let mistakes = rows.iter().filter(|row| row.slots[at].label != row.slots[at].prediction).map(|row| Mistake {
        id: row.id.clone(),
        label: row.slots[at].label.clone(),
        prediction: row.slots[at].prediction.clone(),
        loss: Some(row.loss).filter(|loss| loss.is_finite()),
    });
    ClassDetail { classes: confusion.classes(), mistakes: mistakes.collect(), labels, confusion }
}
