//! `training.json`: what was trained, how it went, and what is needed to use it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use neural_spec::{HeadSpec, LastState, Method, Metric, Precision};
use pipeline::StageError;
use serde::{Deserialize, Serialize};

use super::history::Evaluation;
use crate::models::ParameterCounts;

/// The file beside a trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Method of the training.
    pub method: Method,
    /// The task layer.
    pub head: HeadSpec,
    /// Last entry of the mix of layers, where the head has one.
    #[serde(default = "LastState::of_old_files")]
    pub layer_sum_last: LastState,
    /// The names of its outputs, in order.
    pub outputs: Vec<String>,
    /// How many parameters there are.
    pub parameters: ParameterCounts,
    /// Metric that was compared on the dev set.
    pub metric: Metric,
    /// Number format of the computation.
    pub precision: Precision,
    /// Best value of the metric; none when it never was a number.
    pub best_value: Option<f64>,
    /// The update after which it was reached, whose parameters these are.
    pub best_step: u64,
    /// Updates made in all.
    pub steps: u64,
    /// True if training ended because the metric no longer improved.
    pub stopped_early: bool,
    /// Every evaluation on the dev set.
    pub curve: Vec<Evaluation>,
}

/// A training artifact that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SummaryError {
    /// Something else than a training.
    #[error("`{folder}` holds no trained model: expected `training.json` in it")]
    NoTraining {
        /// The folder.
        folder: PathBuf,
    },
    /// The file holds something else.
    #[error("`{path}` is not the summary of a training")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it departs.
        #[source]
        source: serde_json::Error,
    },
}

pub(crate) const FILE_NAME: &str = "training.json";

impl Summary {
    /// Reads the file of a training artifact.
    ///
    /// Errors: a file that cannot be read, [`SummaryError`].
    pub fn read(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(FILE_NAME);
        let text = std::fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                let error = StageError::failed(SummaryError::NoTraining { folder: folder.to_owned() });
                error.with_hint("a trained model is all that `peft.train` left, as in `inputs.model = \"train\"`")
            }
            _ => StageError::io("read", &path)(source),
        })?;
        serde_json::from_slice(&text).map_err(|source| StageError::failed(SummaryError::Json { path, source }))
    }

    /// Writes the file.
    ///
    /// Errors: a file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        let path = folder.join(FILE_NAME);
        let mut text = serde_json::to_vec_pretty(self).map_err(StageError::failed)?;
        text.push(b'\n');
        std::fs::write(&path, text).map_err(StageError::io("write", &path))
    }
}
