//! What happened during training: every update and every evaluation.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::tensorboard::{EventWriter, FILE_NAME};

/// All that is remembered, in order.
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
    /// Mean cross entropy of its utterances, before the update, in nats.
    pub loss: f32,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f32,
    /// Learning rate.
    pub learning_rate: f64,
}

/// One evaluation on the dev set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Updates before it.
    pub step: u64,
    /// Passes over the training data before it, whole or in part.
    pub epoch: f64,
    /// Mean loss of the updates since the evaluation before.
    pub train_loss: f32,
    /// Mean cross entropy on the dev set, in nats.
    pub dev_loss: f64,
    /// Share of utterances with the right class.
    pub dev_accuracy: f64,
    /// Mean of the classes' F1.
    pub dev_macro_f1: f64,
    /// The same weighted by the classes' utterances.
    pub dev_weighted_f1: f64,
}

impl History {
    /// Mean loss of the updates since the last evaluation; not a number when there were none.
    pub fn recent_loss(&self) -> f32 {
        let since = self.evaluations.last().map_or(0, |last| last.step as usize).min(self.updates.len());
        let recent = &self.updates[since..];
        recent.iter().map(|update| update.loss).sum::<f32>() / recent.len() as f32
    }

    /// Writes an event file for TensorBoard into `folder`.
    pub fn write_events(&self, folder: &Path) -> io::Result<()> {
        let mut events = EventWriter::new(BufWriter::new(File::create(folder.join(FILE_NAME))?))?;
        let mut evaluations = self.evaluations.iter().peekable();
        for (update, step) in self.updates.iter().zip(1..) {
            let values = [
                ("train/loss", update.loss),
                ("train/gradient_norm", update.gradient_norm),
                ("train/learning_rate", update.learning_rate as f32),
            ];
            events.scalars(step, &values)?;
            while let Some(dev) = evaluations.next_if(|dev| dev.step <= step) {
                let values = [
                    ("dev/loss", dev.dev_loss),
                    ("dev/accuracy", dev.dev_accuracy),
                    ("dev/macro_f1", dev.dev_macro_f1),
                    ("dev/weighted_f1", dev.dev_weighted_f1),
                ];
                events.scalars(dev.step, &values.map(|(tag, value)| (tag, value as f32)))?;
            }
        }
        events.finish().map(drop)
    }
}
