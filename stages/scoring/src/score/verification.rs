//! The stage `score.verification`.

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Detail, Draft, ScoreError, finish, read_rows};
use crate::evidence::{Evidence, Likeness};
use crate::metric::Metric;
use crate::predictions::Trial;
use crate::significance::{Resampling, Units};

/// Scores the trials of a verifier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreVerification {
    /// The confidence intervals; trials are drawn one by one.
    #[serde(default)]
    pub interval: Resampling,
    /// The benchmark task, for a table of several tasks.
    #[serde(default)]
    pub task: Option<String>,
    /// The corpus, for a table where the matrix does not name it.
    #[serde(default)]
    pub corpus: Option<String>,
}

impl Stage for ScoreVerification {
    const KIND: &'static str = "score.verification";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "equal error rate and minimum detection cost of verification trials";

    fn slots() -> Vec<Slot> {
        super::slots("trials, or their predictions.parquet")
    }
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = self.interval.check();
        if self.interval.by == Units::Speaker {
            mistakes.push(("interval", "trials can only be drawn one by one, `by = \"utterance\"`".to_owned()));
        }
        mistakes
    }
}

/// Writes `scores.json` and `utterances.parquet`.
///
/// Errors: [`ScoreError`] and [`crate::predictions::PredictionsError`] wrapped as [`StageError::Failed`], or [`StageError::Io`].
pub fn run(params: &ScoreVerification, job: &Job) -> Result<(), StageError> {
    finish(draft(params, &read_rows(job)?).map_err(StageError::failed)?, job).map(drop)
}

fn draft(params: &ScoreVerification, rows: &[Trial]) -> Result<Draft, ScoreError> {
    if let Some(trial) = rows.iter().find(|trial| trial.score.is_nan()) {
        let (enrol, test) = (trial.enrol_id.clone(), trial.test_id.clone());
        return Err(ScoreError::TrialScore { enrol, test, found: trial.score });
    }
    let targets = rows.iter().filter(|trial| trial.target).count() as u64;
    let likeness = Likeness {
        scores: rows.iter().map(|trial| trial.score).collect(),
        targets: rows.iter().map(|trial| trial.target).collect(),
    };
    let evidence = Evidence {
        ids: rows.iter().map(|trial| format!("{} {}", trial.enrol_id, trial.test_id)).collect(),
        trials: Some(likeness),
        ..Evidence::default()
    };
    Ok(Draft {
        task: params.task.clone(),
        corpus: params.corpus.clone(),
        interval: params.interval,
        primary: Metric::Eer,
        evidence,
        notes: Vec::new(),
        detail: Detail::Verification { targets, others: rows.len() as u64 - targets },
    })
}
