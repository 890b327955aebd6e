//! The stage `score.text`.

use std::collections::BTreeMap;

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Detail, Draft, Miss, finish, losses, pooled, read_rows, shares, speakers, worst};
use crate::edit::Edits;
use crate::evidence::{Evidence, Ratio};
use crate::metric::Metric;
use crate::predictions::Transcription;
use crate::significance::Resampling;
use crate::text::Unit;

/// Scores recognised text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreText {
    /// What errors are counted in: `word` (WER, and CER beside it), `character` (CER), `phone` (PER).
    pub unit: Unit,
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

impl Stage for ScoreText {
    const KIND: &'static str = "score.text";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "word, character or phone error rate of recognised text";

    fn slots() -> Vec<Slot> {
        super::slots("an evaluation, or its predictions.parquet with reference and hypothesis")
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

/// Writes `scores.json` and `utterances.parquet`.
///
/// Errors: [`super::ScoreError`] and [`crate::predictions::PredictionsError`] wrapped as [`StageError::Failed`], or
/// [`StageError::Io`].
pub fn run(params: &ScoreText, job: &Job) -> Result<(), StageError> {
    finish(draft(params, &read_rows(job)?), job).map(drop)
}

fn draft(params: &ScoreText, rows: &[Transcription]) -> Draft {
    let units: &[Unit] = match params.unit {
        Unit::Word => &[Unit::Word, Unit::Character],
        Unit::Character => &[Unit::Character],
        Unit::Phone => &[Unit::Phone],
    };
    let mut notes = Vec::new();
    let mut ratios = BTreeMap::from([(Metric::Loss, losses(rows, |row| row.loss, &mut notes))]);
    let mut edits = Vec::new();
    let mut main: Vec<Edits> = Vec::new();
    for unit in units {
        let counts: Vec<Edits> = rows.iter().map(|row| unit.count(&row.reference, &row.hypothesis)).collect();
        ratios.insert(unit.metric(), shares(&counts));
        edits.push((*unit, pooled(&counts)));
        if *unit == params.unit {
            main = counts;
        }
    }
    let wrong = |edits: &Edits| Ratio { part: f64::from(u8::from(edits.errors() > 0)), whole: 1.0 };
    ratios.insert(Metric::SentenceErrorRate, main.iter().map(wrong).collect());
    let empty_references = main.iter().filter(|edits| edits.tokens == 0).count() as u64;
    if empty_references > 0 {
        let inserted: u64 = main.iter().filter(|edits| edits.tokens == 0).map(Edits::errors).sum();
        let (of, unit) = (rows.len(), params.unit.plural());
        notes.push(format!(
            "{empty_references} of {of} references are empty; the {inserted} {unit} recognised there count as insertions"
        ));
    }
    let miss = |(row, edits): (&Transcription, &Edits)| Miss {
        id: row.id.clone(),
        reference: row.reference.clone(),
        hypothesis: row.hypothesis.clone(),
        errors: edits.errors(),
    };
    let worst = worst(rows.iter().zip(&main).map(miss).collect());
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
        primary: params.unit.metric(),
        evidence,
        notes,
        detail: Detail::Text { edits, empty_references, worst },
    }
}
