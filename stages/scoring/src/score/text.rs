//! Stage `score.text`.

use std::collections::BTreeMap;

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Common, Detail, Draft, Miss, Scorer, evidence_of, pooled, shares, worst};
use crate::edit::Edits;
use crate::evidence::Ratio;
use crate::metric::Metric;
use crate::predictions::Transcription;
use crate::significance::Resampling;
use crate::text::Unit;

/// Scores recognised text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreText {
    /// Unit of errors: `word` (WER, and CER next to it), `character` (CER), `phone` (PER).
    pub unit: Unit,
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

impl Stage for ScoreText {
    const KIND: &'static str = "score.text";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "word, character or phone error rate of recognised text";

    fn slots() -> Vec<Slot> {
        super::slots("an evaluation, or its predictions.parquet with reference and hypothesis")
    }
    fn outputs(&self) -> Vec<String> {
        super::outputs()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

impl Scorer for ScoreText {
    type Row = Transcription;

    fn common(&self) -> Common {
        Common { interval: self.interval, task: self.task.clone(), corpus: self.corpus.clone() }
    }

    fn draft(&self, rows: &[Transcription], _: &Job) -> Result<Draft, StageError> {
        Ok(draft(self.unit, rows))
    }
}

fn draft(unit: Unit, rows: &[Transcription]) -> Draft {
    let units: &[Unit] = match unit {
        Unit::Word => &[Unit::Word, Unit::Character],
        Unit::Character => &[Unit::Character],
        Unit::Phone => &[Unit::Phone],
    };
    let mut notes = Vec::new();
    let mut evidence = evidence_of(rows, &mut notes);
    let mut edits = Vec::new();
    let mut main: Vec<Edits> = Vec::new();
    // An empty text as the answer to every utterance has every token deleted.
    let mut chance = BTreeMap::from([(Metric::SentenceErrorRate, 1.0)]);
    for one in units {
        let counts: Vec<Edits> = rows.iter().map(|row| one.count(&row.reference, &row.hypothesis)).collect();
        evidence.ratios.insert(one.metric(), shares(&counts));
        edits.push((*one, pooled(&counts)));
        chance.insert(one.metric(), 1.0);
        if *one == unit {
            main = counts;
        }
    }
    let wrong = |edits: &Edits| Ratio { part: f64::from(u8::from(edits.errors() > 0)), whole: 1.0 };
    evidence.ratios.insert(Metric::SentenceErrorRate, main.iter().map(wrong).collect());
    let empty_references = main.iter().filter(|edits| edits.tokens == 0).count() as u64;
    if empty_references > 0 {
        let inserted: u64 = main.iter().filter(|edits| edits.tokens == 0).map(Edits::errors).sum();
        let (of, unit) = (rows.len(), unit.plural());
        notes.push(format!(
            "{empty_references} of {of} references are empty; the {inserted} {unit} recognised there count as insertions"
        ));
    }
    let first = &rows[0].hypothesis;
    if rows.iter().all(|row| row.hypothesis == *first) && rows.iter().any(|row| row.reference != rows[0].reference) {
        let answer = if first.is_empty() { "nothing".to_owned() } else { format!("`{first}`") };
        notes.push(format!("the model answers {answer} to every utterance"));
    }
    let miss = |(row, edits): (&Transcription, &Edits)| Miss {
        id: row.id.clone(),
        reference: row.reference.clone(),
        hypothesis: row.hypothesis.clone(),
        errors: edits.errors(),
    };
    let worst = worst(rows.iter().zip(&main).map(miss).collect());
    let detail = Detail::Text { edits, empty_references, worst };
    Draft { primary: unit.metric(), evidence, chance, notes, detail, confusion: None }
}
