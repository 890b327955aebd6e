//! Training: the loop, and what it leaves behind.

pub mod history;
pub mod optimizer;
pub mod patience;
pub mod schedule;
pub mod state;
pub mod summary;
pub mod task;

mod fit;
mod pace;
mod room;

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use neural_spec::Train;
use pipeline::{Job, StageError};
use tasks::TaskFile;

use self::fit::{Bench, Fitted, fit};
use self::state::StateFolder;
pub use self::summary::Summary;
use crate::data::{BatchLimit, Utterances};
use crate::device;
use crate::encoder::front;
use crate::evaluate::{self, device_name};
use crate::model::Model;

/// A training that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The numbers ran away.
    #[error("step {step} gave loss {loss} and gradient norm {norm} on utterances {}", ids.join(", "))]
    NotFinite {
        /// The update, counted from 1.
        step: u64,
        /// Its loss.
        loss: f32,
        /// Its gradient's norm.
        norm: f32,
        /// Its utterances.
        ids: Vec<String>,
    },
    /// The head learns another kind of task.
    #[error("{head} cannot learn {task}")]
    OtherHead {
        /// What kind of head it is.
        head: &'static str,
        /// The task.
        task: &'static str,
    },
    /// The best point is to be chosen by what the task does not measure.
    #[error("metric `{metric}` is not measured for this head: choose {}", measured.join(", "))]
    NotMeasured {
        /// What was asked for.
        metric: &'static str,
        /// What there is.
        measured: Vec<&'static str>,
    },
}

/// The body of the stage `peft.train`: leaves `checkpoint/` or `adapter/`, `training.json` and `events/`,
/// and under `checkpoints/` as many other points as it was asked for.
///
/// While it runs, TensorBoard may watch `events/` in its resume folder, which tells of speed and memory too.
///
/// The bytes it leaves do not depend on whether it was stopped or killed and taken up again on the way.
/// Errors: inputs that cannot be read or do not belong together, [`TrainError`], what libtorch reports.
pub fn run(params: &Train, job: &Job) -> Result<(), StageError> {
    let folder = StateFolder::open(job)?;
    device::use_threads(job.threads);
    let task_file = TaskFile::read(job.inputs.one("task"))?;
    let labels = task_file.outputs.names();
    let device = device::of_job(job);
    job.progress.fact("device", device_name(device).into());
    let start = |device| Model::new(job.inputs.one("encoder"), &params.method, &params.head, labels.len(), params.seed, device);
    let mut model = start(device)?;
    evaluate::prepare(&mut model, &task_file);
    if !model.head().fits(&task_file.outputs) {
        let (head, task) = (model.head().name(), task_file.task.name());
        return Err(StageError::failed(TrainError::OtherHead { head, task }));
    }
    let task = task::of(&task_file);
    if !task.metrics().contains(&params.metric) {
        let measured = task.metrics().iter().map(|metric| metric.name()).collect();
        return Err(StageError::failed(TrainError::NotMeasured { metric: params.metric.name(), measured }));
    }
    if params.learning_rate > 1.0 {
        job.progress.note(&format!("`learning_rate` is {:e}: a rate above 1 hardly ever learns", params.learning_rate));
    }
    let kind = fit::kind(params.precision);
    let open = |split, targets| {
        let preprocessor = model.preprocessor().clone();
        Utterances::open(split, job.inputs.many(split), job.inputs.one(targets), &task_file, preprocessor).map(Arc::new)
    };
    let (train, dev) = (open("train", "train_targets")?, open("dev", "dev_targets")?);
    for utterances in [&train, &dev] {
        front::require(&model, utterances.features())?;
    }
    model.compute_in(kind)?;
    model.recompute_layers(params.gradient_checkpointing);
    let limit = BatchLimit::new(params.batch_secs, params.batch_size, model.preprocessor().sampling_rate);

    let bench = Bench { params, job, folder: &folder, task: &*task, model: &model, train: &train, dev: &dev, limit };
    let Fitted { progress, best, points } = fit(&bench)?;

    // What was frozen is as in the checkpoint, bit for bit, whatever it was computed in.
    if kind != tch::Kind::Float {
        model = start(tch::Device::Cpu)?;
    }
    for (step, values) in points {
        model.set_trainable(&values)?;
        model.save(&job.out.join("checkpoints").join(format!("step-{step}")), &labels)?;
    }
    model.set_trainable(&best)?;
    model.save(&job.out, &labels)?;
    let events = job.out.join("events");
    std::fs::create_dir(&events).map_err(StageError::io("create", &events))?;
    progress.history.write_events(&events).map_err(StageError::io("write", &events))?;
    Summary {
        method: params.method.clone(),
        head: params.head.clone(),
        outputs: labels,
        parameters: model.num_parameters(),
        metric: params.metric,
        precision: params.precision,
        best_value: progress.patience.best(),
        best_step: progress.best_step.unwrap_or(progress.step),
        steps: progress.step,
        stopped_early: progress.stopped_early,
        curve: progress.history.evaluations,
    }
    .write(&job.out)
}
