//! The stage `score.slots`.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Detail, Draft, Miss, SlotCounts, finish, losses, pooled, read_rows, shares, speakers, worst};
use crate::edit::Edits;
use crate::evidence::{Evidence, Ratio};
use crate::metric::Metric;
use crate::predictions::Transcription;
use crate::significance::Resampling;
use crate::slots::{self, SlotScore};
use crate::text::Unit;

/// Scores text with slots marked in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreSlots {
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

impl Stage for ScoreSlots {
    const KIND: &'static str = "score.slots";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "F1 of the types of slots and character error rate of their values";

    fn slots() -> Vec<Slot> {
        super::slots("an evaluation, or its predictions.parquet with reference and hypothesis; slots as `B-name value E-name`")
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

/// Writes `scores.json` and `utterances.parquet`.
///
/// Errors: [`super::ScoreError`] and [`crate::predictions::PredictionsError`] wrapped as [`StageError::Failed`], or
/// [`StageError::Io`].
pub fn run(params: &ScoreSlots, job: &Job) -> Result<(), StageError> {
    finish(draft(params, &read_rows(job)?), job).map(drop)
}

fn draft(params: &ScoreSlots, rows: &[Transcription]) -> Draft {
    let scores: Vec<SlotScore> = rows.iter().map(|row| slots::score(&row.reference, &row.hypothesis)).collect();
    let values: Vec<Edits> = scores.iter().map(SlotScore::edits).collect();
    let plain =
        |row: &Transcription| Unit::Word.count(&slots::without_markers(&row.reference), &slots::without_markers(&row.hypothesis));
    let words: Vec<Edits> = rows.iter().map(plain).collect();
    let mut notes = Vec::new();
    let types = scores.iter().map(|score| Ratio { part: score.type_f1, whole: 1.0 }).collect();
    let ratios = BTreeMap::from([
        (Metric::Loss, losses(rows, |row| row.loss, &mut notes)),
        (Metric::SlotTypeF1, types),
        (Metric::SlotValueCer, shares(&values)),
        (Metric::Wer, shares(&words)),
    ]);
    if pooled(&values).tokens == 0 {
        notes.push("no reference has a slot with a value".to_owned());
    }
    // Missing slots first: a value that is not there counts with all its characters.
    let miss = |((row, score), values): ((&Transcription, &SlotScore), &Edits)| Miss {
        id: row.id.clone(),
        reference: row.reference.clone(),
        hypothesis: row.hypothesis.clone(),
        errors: values.errors() + u64::from(score.type_f1 < 1.0),
    };
    let worst = worst(rows.iter().zip(&scores).zip(&values).map(miss).collect());
    let evidence = Evidence {
        ids: rows.iter().map(|row| row.id.clone()).collect(),
        speakers: speakers(rows, |row| row.speaker.as_ref()),
        ratios,
        ..Evidence::default()
    };
    Draft {
        task: params.task.clone(),
        corpus: params.corpus.clone(),
        interval: params.interval,
        primary: Metric::SlotTypeF1,
        evidence,
        notes,
        detail: Detail::Slots { words: pooled(&words), values: pooled(&values), slots: count_slots(rows), worst },
    }
}

fn count_slots(rows: &[Transcription]) -> BTreeMap<String, SlotCounts> {
    let mut counts: BTreeMap<String, SlotCounts> = BTreeMap::new();
    for row in rows {
        let names = |text: &str| slots::slots(text).into_iter().map(|slot| slot.name).collect::<BTreeSet<_>>();
        let (reference, hypothesis) = (names(&row.reference), names(&row.hypothesis));
        for name in reference.union(&hypothesis) {
            let counts = counts.entry(name.clone()).or_default();
            counts.reference += u64::from(reference.contains(name));
            counts.hypothesis += u64::from(hypothesis.contains(name));
            counts.both += u64::from(reference.contains(name) && hypothesis.contains(name));
        }
    }
    counts
}
