//! Stage `score.slots`.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Common, Detail, Draft, Miss, Scorer, SlotCounts, evidence_of, pooled, shares, worst};
use crate::edit::Edits;
use crate::evidence::Ratio;
use crate::metric::Metric;
use crate::predictions::Transcription;
use crate::significance::Resampling;
use crate::slots::{self, SlotScore};
use crate::text::Unit;

/// Scores text with slots marked in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreSlots {
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

impl Stage for ScoreSlots {
    const KIND: &'static str = "score.slots";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "F1 of the types of slots and character error rate of their values";

    fn slots() -> Vec<Slot> {
        super::slots("an evaluation, or its predictions.parquet with reference and hypothesis; slots as `B-name value E-name`")
    }
    fn outputs(&self) -> Vec<String> {
        super::outputs()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

impl Scorer for ScoreSlots {
    type Row = Transcription;

    fn common(&self) -> Common {
        Common { interval: self.interval, task: self.task.clone(), corpus: self.corpus.clone() }
    }

    fn draft(&self, rows: &[Transcription], _: &Job) -> Result<Draft, StageError> {
        Ok(draft(rows))
    }
}

fn draft(rows: &[Transcription]) -> Draft {
    let scores: Vec<SlotScore> = rows.iter().map(|row| slots::score(&row.reference, &row.hypothesis)).collect();
    let values: Vec<Edits> = scores.iter().map(SlotScore::edits).collect();
    let plain =
        |row: &Transcription| Unit::Word.count(&slots::without_markers(&row.reference), &slots::without_markers(&row.hypothesis));
    let words: Vec<Edits> = rows.iter().map(plain).collect();
    let mut notes = Vec::new();
    let mut evidence = evidence_of(rows, &mut notes);
    let types = scores.iter().map(|score| Ratio { part: score.type_f1, whole: 1.0 }).collect();
    evidence.ratios.insert(Metric::SlotTypeF1, types);
    evidence.ratios.insert(Metric::SlotValueCer, shares(&values));
    evidence.ratios.insert(Metric::Wer, shares(&words));
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
    let detail = Detail::Slots { words: pooled(&words), values: pooled(&values), slots: count_slots(rows), worst };
    Draft { primary: Metric::SlotTypeF1, evidence, chance: chance(rows), notes, detail, confusion: None }
}

/// Metrics of an empty text as the answer to every utterance.
fn chance(rows: &[Transcription]) -> BTreeMap<Metric, f64> {
    let empty = rows.iter().map(|row| slots::score(&row.reference, "").type_f1).sum::<f64>();
    BTreeMap::from([(Metric::SlotTypeF1, empty / rows.len() as f64), (Metric::SlotValueCer, 1.0), (Metric::Wer, 1.0)])
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
