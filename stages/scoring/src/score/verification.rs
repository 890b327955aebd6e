//! Stage `score.verification`.

use std::collections::BTreeMap;

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Common, Detail, Draft, ScoreError, Scorer};
use crate::evidence::{Evidence, TrialScores};
use crate::metric::Metric;
use crate::predictions::Trial;
use crate::significance::Resampling;

/// Scores the trials of a verifier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreVerification {
    /// Confidence intervals. Speakers are drawn, and the recordings of each, whatever `by` says.
    #[serde(default)]
    pub interval: Resampling,
    /// Benchmark task, for a table of several tasks.
    #[serde(default)]
    pub task: Option<String>,
    /// Corpus, for a table where the matrix does not name it.
    #[serde(default)]
    pub corpus: Option<String>,
}

impl Stage for ScoreVerification {
    const KIND: &'static str = "score.verification";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "equal error rate and minimum detection cost of verification trials";

    fn slots() -> Vec<Slot> {
        super::slots("trials, or their predictions.parquet")
    }
    fn outputs(&self) -> Vec<String> {
        super::outputs()
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        self.interval.check()
    }
}

impl Scorer for ScoreVerification {
    type Row = Trial;

    fn common(&self) -> Common {
        Common { interval: self.interval, task: self.task.clone(), corpus: self.corpus.clone() }
    }

    fn draft(&self, rows: &[Trial], _: &Job) -> Result<Draft, StageError> {
        draft(rows).map_err(StageError::failed)
    }
}

fn draft(rows: &[Trial]) -> Result<Draft, ScoreError> {
    if let Some(trial) = rows.iter().find(|trial| trial.score.is_nan()) {
        let (enrol, test) = (trial.enrol_id.clone(), trial.test_id.clone());
        return Err(ScoreError::TrialScore { enrol, test, found: trial.score });
    }
    let targets = rows.iter().filter(|trial| trial.target).count() as u64;
    let mut known: BTreeMap<&str, u32> = BTreeMap::new();
    let mut number = |id| {
        let next = known.len() as u32;
        *known.entry(id).or_insert(next)
    };
    let trials = TrialScores {
        scores: rows.iter().map(|trial| trial.score).collect(),
        targets: rows.iter().map(|trial| trial.target).collect(),
        recordings: rows.iter().map(|trial| [number(&trial.enrol_id), number(&trial.test_id)]).collect(),
    };
    let evidence = Evidence {
        ids: rows.iter().map(|trial| format!("{} {}", trial.enrol_id, trial.test_id)).collect(),
        trials: Some(trials),
        ..Evidence::default()
    };
    let chance = BTreeMap::from([(Metric::Eer, 0.5), (Metric::MinDcf, 1.0)]);
    let detail = Detail::Verification { targets, others: rows.len() as u64 - targets };
    Ok(Draft { primary: Metric::Eer, evidence, chance, notes: Vec::new(), detail, confusion: None })
}
