//! The stage `score.intent`.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassDetail, Detail, Draft, Mistake, ScoreError, finish, losses, read_rows, speakers};
use crate::classification::Confusion;
use crate::evidence::{Evidence, Ratio};
use crate::metric::Metric;
use crate::predictions::Intents;
use crate::significance::Resampling;

/// Scores intents: an utterance is right when every slot is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreIntent {
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

impl Stage for ScoreIntent {
    const KIND: &'static str = "score.intent";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "share of utterances with every slot of their intent right";

    fn slots() -> Vec<Slot> {
        super::slots("an evaluation, or its predictions.parquet with slots")
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

/// Writes `scores.json` and `utterances.parquet`.
///
/// Errors: [`ScoreError`] and [`crate::predictions::PredictionsError`] wrapped as [`StageError::Failed`], or [`StageError::Io`].
pub fn run(params: &ScoreIntent, job: &Job) -> Result<(), StageError> {
    finish(draft(params, &read_rows(job)?).map_err(StageError::failed)?, job).map(drop)
}

fn draft(params: &ScoreIntent, rows: &[Intents]) -> Result<Draft, ScoreError> {
    let names = slot_names(rows)?;
    let mut notes = Vec::new();
    let whole = |row: &Intents| Ratio { part: f64::from(u8::from(row.is_right())), whole: 1.0 };
    let each = |row: &Intents| Ratio { part: row.num_right() as f64, whole: row.slots.len() as f64 };
    let ratios = BTreeMap::from([
        (Metric::Accuracy, rows.iter().map(whole).collect()),
        (Metric::SlotAccuracy, rows.iter().map(each).collect()),
        (Metric::Loss, losses(rows, |row| row.loss, &mut notes)),
    ]);
    let slots = names.iter().enumerate().map(|(at, name)| (name.clone(), detail(rows, at))).collect();
    let evidence = Evidence {
        ids: rows.iter().map(|row| row.id.clone()).collect(),
        speakers: speakers(rows, |row| row.speaker.as_ref()),
        ratios,
        ..Evidence::default()
    };
    Ok(Draft {
        task: params.task.clone(),
        corpus: params.corpus.clone(),
        interval: params.interval,
        primary: Metric::Accuracy,
        evidence,
        notes,
        detail: Detail::Intent { slots },
    })
}

/// The slots, which must be the same in every utterance.
fn slot_names(rows: &[Intents]) -> Result<Vec<String>, ScoreError> {
    let names = |row: &Intents| row.slots.iter().map(|answer| answer.slot.clone()).collect::<Vec<_>>();
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let expected = names(first);
    match rows.iter().find(|row| expected.is_empty() || names(row) != expected) {
        Some(other) => Err(ScoreError::Slots { id: other.id.clone(), found: names(other), expected, first: first.id.clone() }),
        None => Ok(expected),
    }
}

/// One slot as a classifier of its own; its classes are the values that occur, in order of the alphabet.
fn detail(rows: &[Intents], at: usize) -> ClassDetail {
    let answers = || rows.iter().map(|row| (&row.id, &row.slots[at]));
    let values: BTreeSet<&String> = answers().flat_map(|(_, answer)| [&answer.label, &answer.prediction]).collect();
    let labels: Vec<String> = values.into_iter().cloned().collect();
    let class = |value: &String| labels.binary_search(value).map_or(-1, |class| class as i64);
    let pairs = answers().map(|(_, answer)| (class(&answer.label), class(&answer.prediction)));
    let confusion = Confusion::count(labels.len(), pairs).expect("every value is among the labels");
    let mistakes = answers().filter(|(_, answer)| answer.label != answer.prediction).map(|(id, answer)| Mistake {
        id: id.clone(),
        label: answer.label.clone(),
        prediction: answer.prediction.clone(),
    });
    ClassDetail { classes: confusion.classes(), mistakes: mistakes.collect(), labels, confusion }
}
