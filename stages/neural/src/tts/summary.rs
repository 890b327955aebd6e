//! `training.json` of a voice, a judge and a vocoder: what was trained, and how it went.

use std::collections::BTreeMap;
use std::path::Path;

use neural_spec::{Method, Precision, VoiceProtocol};
use pipeline::StageError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::data::Rejected;
use super::learner::AlignmentQuality;
use super::voice::VoiceParameters;
use crate::checkpoint::json::write_json;
use crate::error::ModelError;
use crate::train::fit::Progress;
use crate::train::history::Evaluation;

const FILE_NAME: &str = "training.json";

/// The file beside a trained voice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct VoiceSummary {
    /// Method of the training.
    pub method: Method,
    /// How faithfully the published code is followed.
    pub protocol: VoiceProtocol,
    /// How many parameters there are.
    pub parameters: VoiceParameters,
    /// Metric that was compared on the dev set.
    pub metric: String,
    /// Number format of the computation.
    pub precision: Precision,
    /// Best value of the metric; none when it never was a number, or there was no update.
    pub best_value: Option<f64>,
    /// The update after which the voice was as it is here.
    pub best_step: u64,
    /// Updates made in all.
    pub steps: u64,
    /// True if training ended because the metric no longer improved.
    pub stopped_early: bool,
    /// Learning rate at the top of the schedule.
    pub learning_rate: f64,
    /// Start of the speakers: `random`, `mean` of those of the base, or `kept` from it.
    pub speakers: BTreeMap<String, String>,
    /// Utterances and seconds that it learned from.
    pub utterances: u64,
    /// Seconds of them.
    pub secs: f64,
    /// Utterances that were not used, with the reason.
    pub rejected: Vec<Rejected>,
    /// Utterances without a voiced frame.
    pub unvoiced: Vec<String>,
    /// Words that the dictionary lacks, with the phonemes they got.
    pub guessed_words: BTreeMap<String, String>,
    /// Quality of the alignments of the training set at the end.
    pub alignment: AlignmentQuality,
    /// Every evaluation on the dev set.
    pub curve: Vec<Evaluation>,
}

impl VoiceSummary {
    /// Writes the file.
    ///
    /// Errors: a file that cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StageError> {
        Ok(write_json(&folder.join(FILE_NAME), self).map_err(ModelError::from)?)
    }
}

/// Writes the events and the file of a training of all `parameters` of a judge or a vocoder: `trained` is its key in the file, with its kind.
///
/// Errors: a file that cannot be written.
pub(super) fn write_fitted(
    artifact: &Path,
    progress: &Progress,
    parameters: usize,
    (trained, kind): (&str, Value),
    metric: Value,
) -> Result<(), StageError> {
    progress.history.save_events(artifact)?;
    let summary = json!({
        (trained): kind,
        "parameters": {"trainable": parameters, "total": parameters},
        "metric": metric,
        "best_value": progress.patience.best(),
        "best_step": progress.best_step.unwrap_or(progress.step),
        "steps": progress.step,
        "curve": progress.history.evaluations,
    });
    let path = artifact.join(FILE_NAME);
    let text = format!("{summary:#}\n");
    std::fs::write(&path, text).map_err(StageError::io("write", &path))
}
