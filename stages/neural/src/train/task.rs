//! What a training asks of a task: a loss to lower, and measures to judge a point by.

use std::sync::Arc;

use neural_spec::{HeadSpec, Metric};
use pipeline::{Job, StageError};
use tch::{Reduction, Tensor};

use crate::data::{BatchLimit, Prepared, Utterances};
use crate::evaluate::{answers, cross_entropy};
use crate::model::{Mode, Model, ModelError};

/// A task, as training sees it.
pub trait Task {
    /// What it measures on a dev set; the loss is always among it.
    fn metrics(&self) -> &[Metric];

    /// The losses of a batch's utterances, added up: float32, no axes, with a graph down to what is trained.
    fn loss(&self, model: &Model, batch: &Prepared, mode: Mode) -> Result<Tensor, ModelError>;

    /// Measures the model on a dev set: one value for each of [`Self::metrics`], in that order.
    fn measure(&self, model: &Model, dev: &Arc<Utterances>, limit: BatchLimit, job: &Job) -> Result<Vec<f64>, StageError>;
}

/// The task of a head.
pub fn of(head: &HeadSpec) -> Box<dyn Task> {
    match head {
        HeadSpec::Classification { .. } => Box::new(OneClass),
    }
}

/// One class for each utterance.
struct OneClass;

impl Task for OneClass {
    fn metrics(&self) -> &[Metric] {
        &[Metric::Loss, Metric::Accuracy, Metric::MacroF1, Metric::WeightedF1]
    }

    fn loss(&self, model: &Model, batch: &Prepared, mode: Mode) -> Result<Tensor, ModelError> {
        let logits = model.forward(&batch.batch, mode)?; // (B, classes)
        cross_entropy(&logits, &batch.labels, Reduction::Sum)
    }

    fn measure(&self, model: &Model, dev: &Arc<Utterances>, limit: BatchLimit, job: &Job) -> Result<Vec<f64>, StageError> {
        let answers = answers(model, dev, limit, job, &mut |_| {})?;
        let pairs = dev.labels().iter().zip(&answers).map(|(&label, answer)| (label, answer.prediction));
        let confusion = scoring::Confusion::count(dev.num_classes(), pairs).map_err(StageError::failed)?;
        let loss = answers.iter().map(|answer| f64::from(answer.loss)).sum::<f64>() / answers.len() as f64;
        Ok(vec![loss, confusion.accuracy(), confusion.macro_f1(), confusion.weighted_f1()])
    }
}
