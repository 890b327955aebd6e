//! Interfaces between the training loop and what it trains: a model, and the data that it learns from.

use neural_spec::AdaLora;
use pipeline::{Job, StageError};
use tch::{Device, Tensor};

use crate::error::ModelError;

/// A model that the training loop can train.
pub trait Learner {
    /// Input and targets of one pass.
    type Batch: Send;

    /// Returns the trained tensors, by name. They are handles: the loop changes them in place.
    fn trainable(&self) -> Vec<(String, Tensor)>;

    /// Device of those tensors.
    fn device(&self) -> Device;

    /// Hears which update begins, of all: for weights of losses that change on the way.
    fn begin_update(&self, _step: u64, _total: u64) {}

    /// Returns the losses of a batch's utterances, added up: float32, no axes, with a graph down to what is trained. All noise of
    /// the pass follows from `seed`.
    fn loss(&self, batch: &Self::Batch, seed: u64) -> Result<Tensor, ModelError>;

    /// Goes backward from a loss of the last pass; gradients add up in what is trained.
    fn backward(&self, loss: &Tensor) -> Result<(), ModelError> {
        Ok(loss.f_backward()?)
    }

    /// Goes forward and backward; returns the losses of the utterances, added up and divided by `count`. The gradient of that
    /// adds up in what is trained.
    fn learn(&self, batch: &Self::Batch, count: f64, seed: u64) -> Result<Tensor, ModelError> {
        let loss = self.loss(batch, seed)?.f_div_scalar(count)?;
        self.backward(&loss)?;
        Ok(loss.detach())
    }

    /// Penalty on the trained tensors themselves, with a graph down to them; each update adds it to its loss once.
    fn penalty(&self) -> Result<Option<Tensor>, ModelError> {
        Ok(None)
    }

    /// Method whose ranks are shared out among the layers in training.
    fn shares_ranks(&self) -> Option<&AdaLora> {
        None
    }

    /// Measures the model on a dev set: values by the names of their metrics.
    fn evaluate(&self, job: &Job) -> Result<Vec<(&'static str, f64)>, StageError>;
}

/// The utterances that a model learns from, by row.
pub trait TrainingData {
    /// Input and targets of one pass.
    type Batch;

    /// Returns the rows of every micro batch of an epoch, in order. The same epoch has the same batches.
    fn batches(&self, epoch: u64) -> Vec<Vec<usize>>;

    /// Returns batches of these rows, in order, prepared ahead of their use on `device`.
    fn load(&self, rows: Vec<Vec<usize>>, device: Device) -> impl Iterator<Item = Result<Self::Batch, StageError>>;

    /// Id of an utterance.
    fn id(&self, row: usize) -> &str;

    /// Seconds of audio of an utterance.
    fn secs(&self, row: usize) -> f64;
}
