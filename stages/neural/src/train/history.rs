//! History of a training: every update and every evaluation.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;

use pipeline::StageError;
use serde::{Deserialize, Serialize};

use crate::tensorboard::{EventWriter, FILE_NAME};

/// Updates and evaluations of a training, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// One entry per update.
    pub updates: Vec<Update>,
    /// One entry per evaluation on the dev set.
    pub evaluations: Vec<Evaluation>,
}

/// One update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Mean loss of its utterances, before the update, in nats.
    pub loss: f32,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f32,
    /// Learning rate.
    pub learning_rate: f64,
}

/// One evaluation on the dev set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Updates before it.
    pub step: u64,
    /// Passes over the training data before it, whole or in part.
    pub epoch: f64,
    /// Mean loss of the updates since the evaluation before.
    pub train_loss: f32,
    /// Measured values, by the metric's name behind `dev_`; none where it was not a number.
    #[serde(flatten)]
    pub dev: BTreeMap<String, Option<f64>>,
}

impl Evaluation {
    /// Measured values by their names in this record.
    pub fn values(measured: &[(&'static str, f64)]) -> BTreeMap<String, Option<f64>> {
        measured.iter().map(|&(metric, value)| (format!("dev_{metric}"), value.is_finite().then_some(value))).collect()
    }

    /// A measured value; not a number when it was none, or not measured.
    pub fn value(&self, metric: &str) -> f64 {
        self.dev.get(&format!("dev_{metric}")).copied().flatten().unwrap_or(f64::NAN)
    }
}

impl Update {
    /// Values that TensorBoard shows.
    pub(crate) fn scalars(&self) -> [(&'static str, f32); 3] {
        [
            ("train/loss", self.loss),
            ("train/gradient_norm", self.gradient_norm),
            ("train/learning_rate", self.learning_rate as f32),
        ]
    }
}

impl History {
    /// Mean loss of the updates since the last evaluation; 0 when there were none.
    pub fn recent_loss(&self) -> f32 {
        let since = self.evaluations.last().map_or(0, |last| last.step as usize).min(self.updates.len());
        let recent = &self.updates[since..];
        recent.iter().map(|update| update.loss).sum::<f32>() / recent.len().max(1) as f32
    }

    /// Mean loss of the newest updates, which moves less than that of one; none before the first.
    pub fn smoothed_loss(&self) -> Option<f32> {
        const UPDATES: usize = 50;
        let newest = &self.updates[self.updates.len().saturating_sub(UPDATES)..];
        (!newest.is_empty()).then(|| newest.iter().map(|update| update.loss).sum::<f32>() / newest.len() as f32)
    }

    /// Writes an event file for TensorBoard into the folder `events` of an artifact. The same history gives the same bytes.
    ///
    /// Errors: [`StageError::Io`]
    pub fn save_events(&self, artifact: &Path) -> Result<(), StageError> {
        let folder = artifact.join("events");
        fs::create_dir(&folder).map_err(StageError::io("create", &folder))?;
        self.write_events(&folder).map_err(StageError::io("write", &folder))
    }

    fn write_events(&self, folder: &Path) -> io::Result<()> {
        let mut events = EventWriter::new(BufWriter::new(File::create(folder.join(FILE_NAME))?))?;
        let mut evaluations = self.evaluations.iter().peekable();
        for (update, step) in self.updates.iter().zip(1..) {
            events.scalars(step, &update.scalars())?;
            while let Some(evaluation) = evaluations.next_if(|evaluation| evaluation.step <= step) {
                write_evaluation(&mut events, evaluation)?;
            }
        }
        events.finish().map(drop)
    }
}

/// Adds an evaluation's values to an event file.
pub(crate) fn write_evaluation<W: io::Write>(events: &mut EventWriter<W>, evaluation: &Evaluation) -> io::Result<()> {
    let values = evaluation.dev.iter().filter_map(|(name, value)| Some((name.replacen('_', "/", 1), (*value)? as f32)));
    let values: Vec<(String, f32)> = values.collect(); // dev_macro_f1 -> dev/macro_f1
    let borrowed: Vec<(&str, f32)> = values.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
    events.scalars(evaluation.step, &borrowed)
}
