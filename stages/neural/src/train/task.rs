//! What a training asks of a task: a loss to lower, and measures to judge a point by.

use std::sync::Arc;

use neural_spec::Metric;
use pipeline::{Job, StageError};
use scoring::{Edits, Unit, slots};
use tasks::{Outputs, Task as Name, TaskFile};
use tch::{Kind, Tensor};

use crate::data::{BatchLimit, Prepared, Utterances};
use crate::evaluate::{Answer, Decoder, answers};
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

/// What a task file describes.
pub fn of(task: &TaskFile) -> Box<dyn Task> {
    let metrics: &[Metric] = match (&task.outputs, task.task) {
        (Outputs::Classes { .. }, _) => &[Metric::Loss, Metric::Accuracy, Metric::MacroF1, Metric::WeightedF1],
        (Outputs::Groups { .. }, _) => &[Metric::Loss, Metric::ExactMatch],
        (Outputs::Tokens(_), Name::SlotFilling) => &[Metric::Loss, Metric::Wer, Metric::SlotTypeF1, Metric::SlotValueCer],
        (Outputs::Tokens(_), Name::PhonemeRecognition) => &[Metric::Loss, Metric::Per],
        (Outputs::Tokens(_), _) => &[Metric::Loss, Metric::Wer, Metric::Cer],
    };
    let decoder = if task.keeps_repeats() { Decoder::Uncollapsed } else { Decoder::Greedy };
    Box::new(Learned { metrics, decoder })
}

/// Any task whose losses its head knows.
struct Learned {
    metrics: &'static [Metric],
    decoder: Decoder,
}

impl Task for Learned {
    fn metrics(&self) -> &[Metric] {
        self.metrics
    }

    fn loss(&self, model: &Model, batch: &Prepared, mode: Mode) -> Result<Tensor, ModelError> {
        let scores = model.scores(&batch.batch, mode)?;
        Ok(model.head().losses(&scores, &batch.targets)?.f_sum(Kind::Float)?)
    }

    fn measure(&self, model: &Model, dev: &Arc<Utterances>, limit: BatchLimit, job: &Job) -> Result<Vec<f64>, StageError> {
        let answers = answers(model, dev, limit, &self.decoder, job, &mut |_| {})?;
        let loss = answers.iter().map(|answer| f64::from(answer.loss)).sum::<f64>() / answers.len() as f64;
        match dev.outputs() {
            Outputs::Classes { labels } => {
                let pairs = dev.targets().iter().zip(&answers).map(|(target, answer)| (target.target[0], answer.output[0]));
                let confusion = scoring::Confusion::count(labels.len(), pairs).map_err(StageError::failed)?;
                Ok(vec![loss, confusion.accuracy(), confusion.macro_f1(), confusion.weighted_f1()])
            }
            Outputs::Groups { .. } => {
                let right = dev.targets().iter().zip(&answers).filter(|(target, answer)| target.target == answer.output);
                Ok(vec![loss, right.count() as f64 / answers.len() as f64])
            }
            Outputs::Tokens(vocabulary) => {
                let said = |answer: &Answer| vocabulary.decode_to_score(&answer.output);
                let texts: Vec<(String, String)> =
                    dev.targets().iter().zip(&answers).map(|(target, answer)| (target.text.clone(), said(answer))).collect();
                let value = |metric: &Metric| match metric {
                    Metric::Loss => loss,
                    Metric::Cer => rate(texts.iter().map(|(said, found)| Unit::Character.count(said, found))),
                    Metric::SlotTypeF1 => {
                        texts.iter().map(|(said, found)| slots::score(said, found).type_f1).sum::<f64>() / texts.len() as f64
                    }
                    Metric::SlotValueCer => rate(texts.iter().map(|(said, found)| slots::score(said, found).edits())),
                    _ => rate(texts.iter().map(|(said, found)| Unit::Word.count(said, found))),
                };
                Ok(self.metrics.iter().map(value).collect())
            }
        }
    }
}

/// All errors over all reference tokens.
fn rate(edits: impl Iterator<Item = Edits>) -> f64 {
    let mut all = Edits::default();
    for own in edits {
        all += own;
    }
    all.rate()
}
