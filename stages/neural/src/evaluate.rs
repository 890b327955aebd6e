//! Answers of a trained model: for the dev set during training, and for the test set as a stage of its own.

use std::sync::Arc;

use neural_spec::Evaluate;
use pipeline::{Job, StageError};
use scoring::Prediction;
use tch::{Kind, Tensor};

use crate::data::{BatchLimit, Loader, Prepared, Utterances, by_length, read_labels};
use crate::device;
use crate::encoder::front;
use crate::model::{Mode, Model, ModelError};
use crate::train::Summary;

/// What a model made of one utterance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// The class with the highest score.
    pub prediction: i64,
    /// Cross entropy of the right class, in nats.
    pub loss: f32,
}

/// The body of the stage `peft.evaluate`: writes `predictions.parquet`.
///
/// Errors: inputs that cannot be read or do not belong together; what libtorch reports.
pub fn run(params: &Evaluate, job: &Job) -> Result<(), StageError> {
    device::use_threads(job.threads);
    let labels = read_labels(job.inputs.one("labels"))?;
    let folder = job.inputs.one("model");
    let trained = Summary::read(folder)?;
    // The seed is of no account: every parameter that it would draw is read.
    let encoder = job.inputs.one("encoder");
    let mut model = Model::new(encoder, &trained.method, &trained.head, labels.len(), 0, device::choose(job.gpu))?;
    model.load_trained(folder)?;
    job.progress.fact("device", device_name(model.device()).into());

    let test = Arc::new(Utterances::open("test", job.inputs.many("test"), &labels, model.preprocessor().clone())?);
    front::require(&model, test.features())?;
    let limit = BatchLimit::new(params.batch_secs, None, model.preprocessor().sampling_rate);
    let answers = answers(&model, &test, limit, job, &mut |done| {
        job.progress.tick(done as u64, test.lengths().len() as u64, "utterances", "");
    })?;
    let predictions: Vec<Prediction> =
        answers.iter().enumerate().map(|(row, answer)| prediction(&test, row, answer, &labels)).collect();
    let path = job.out.join(scoring::predictions::FILE_NAME);
    scoring::predictions::write(&path, &predictions).map_err(StageError::failed)
}

fn prediction(test: &Utterances, row: usize, answer: &Answer, labels: &[String]) -> Prediction {
    let label = test.labels()[row];
    Prediction {
        id: test.id(row).to_owned(),
        label,
        prediction: answer.prediction,
        label_text: labels[label as usize].clone(),
        prediction_text: labels[answer.prediction as usize].clone(),
        num_samples: test.lengths()[row] as i64,
        loss: answer.loss,
        speaker: test.speaker(row).map(str::to_owned),
    }
}

/// Answers to all utterances, by row. `tick` hears how many are done.
///
/// Errors: audio that cannot be read, what libtorch reports, [`StageError::Stopped`].
pub fn answers(
    model: &Model,
    utterances: &Arc<Utterances>,
    limit: BatchLimit,
    job: &Job,
    tick: &mut dyn FnMut(usize),
) -> Result<Vec<Answer>, StageError> {
    let mut answers = vec![None; utterances.lengths().len()];
    let mut done = 0;
    for prepared in Loader::start(utterances, by_length(utterances.lengths(), limit)) {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        let prepared = prepared?;
        for (&row, answer) in prepared.rows.iter().zip(answer(model, &prepared)?) {
            answers[row] = Some(answer);
        }
        done += prepared.rows.len();
        tick(done);
    }
    Ok(answers.into_iter().flatten().collect())
}

/// Answers to one batch, in its order.
fn answer(model: &Model, prepared: &Prepared) -> Result<Vec<Answer>, ModelError> {
    let logits = model.forward(&prepared.batch, Mode::Eval)?; // (B, classes)
    let losses = cross_entropy(&logits, &prepared.labels, tch::Reduction::None)?; // (B)
    let predictions = Vec::<i64>::try_from(logits.f_argmax(1, false)?)?;
    let losses = Vec::<f32>::try_from(losses)?;
    Ok(predictions.into_iter().zip(losses).map(|(prediction, loss)| Answer { prediction, loss }).collect())
}

/// Cross entropy of `logits` (B, classes) against `labels` (B), in nats.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: tch::Reduction) -> Result<Tensor, ModelError> {
    let labels = labels.f_to_device(logits.device())?;
    // -100 is the label to leave out, which no utterance has.
    Ok(logits.f_to_kind(Kind::Float)?.f_cross_entropy_loss(&labels, None::<Tensor>, reduction, -100, 0.0)?)
}

/// `cpu`, `cuda:0`.
pub(crate) fn device_name(device: tch::Device) -> String {
    match device {
        tch::Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        let memory = error.is_out_of_memory();
        let failed = Self::failed(error);
        if memory { failed.with_hint("smaller batches need less memory: lower `batch_secs`") } else { failed }
    }
}
