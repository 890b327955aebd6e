//! Training: the loop, and what it leaves behind.

pub mod early_stopping;
pub mod error;
pub mod fit;
pub mod history;
pub mod learner;
pub mod optimizer;
mod out_of_memory;
mod ranks;
pub mod schedule;
pub mod side_by_side;
pub mod state;
pub mod summary;
pub mod task;
mod throughput;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use neural_spec::{HeadStart, Method, Precision, Train};
use pipeline::{Job, StageError};
use tasks::TaskFile;
use tch::{Device, Kind};

use self::error::TrainError;
use self::fit::{Fitted, Length, Settings, Training, fit};
use self::optimizer::Constants;
use self::side_by_side::BoxedReplica;
use self::state::StateFolder;
pub use self::summary::Summary;
use self::task::{Measures, TaskData, TaskLearner, TaskReplica};
use crate::data::{BatchLimit, Prepared, Utterances};
use crate::device;
use crate::error::ModelError;
use crate::evaluate::{self, device_name};
use crate::front;
use crate::models::Model;
use crate::models::card::Card;

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
    let start = |device, method: &Method| {
        let encoder = job.inputs.one("encoder");
        let mut model = Model::new(encoder, method, &params.head, labels.len(), params.seed, device)?;
        model.close_mix_with(params.layer_sum_last);
        evaluate::prepare(&mut model, &task_file);
        model.recompute_layers(params.gradient_checkpointing);
        Ok::<_, ModelError>(model)
    };
    let mut model = start(device, &params.method)?;
    if params.head_start == HeadStart::Checkpoint {
        evaluate::require_own_head(job.inputs.one("encoder"), &task_file)?;
        model.adopt_head(job.inputs.one("encoder"))?;
    }
    if !model.head().fits(&task_file.outputs) {
        let (head, task) = (model.head().name(), task_file.task.name());
        return Err(StageError::failed(TrainError::OtherHead { head, task }));
    }
    let measures = Measures::of(&task_file);
    if !measures.metrics.contains(&params.metric) {
        let measured = measures.metrics.iter().map(|metric| metric.name()).collect();
        return Err(StageError::failed(TrainError::NotMeasured { metric: params.metric.name(), measured }));
    }
    if params.learning_rate > 1.0 {
        job.progress.note(&format!("`learning_rate` is {:e}: a rate above 1 hardly ever learns", params.learning_rate));
    }
    let kind = kind(params.precision);
    let open = |split, targets| {
        let preprocessor = model.preprocessor().clone();
        Utterances::open(split, job.inputs.many(split), job.inputs.one(targets), &task_file, preprocessor).map(Arc::new)
    };
    let (train, dev) = (open("train", "train_targets")?, open("dev", "dev_targets")?);
    for utterances in [&train, &dev] {
        front::require(&model, utterances.features())?;
    }
    model.compute_in(kind)?;
    let replicas = if params.threads > 1 && device == Device::Cpu && kind == Kind::Float { params.threads } else { 0 };
    let replica = |_| {
        // It reads all values of the model, so it need not compute those that PiSSA starts from.
        let replica = start(device, &params.method.with_plain_start())?;
        replica.share_frozen(&model)?;
        Ok(Box::new(TaskReplica(replica)) as BoxedReplica<Prepared>)
    };
    let replicas = (0..replicas).map(replica).collect::<Result<Vec<_>, ModelError>>()?;
    let limit = BatchLimit::new(params.batch_secs, params.batch_size, model.preprocessor().sampling_rate);

    let Fitted { progress, best, points, total } = {
        let learner = TaskLearner { model: &model, measures: &measures, dev: &dev, limit };
        let data = TaskData { utterances: &train, limit, seed: params.seed, sample_rate: model.preprocessor().sampling_rate };
        fit(&Training { settings: settings(params), job, folder: &folder, learner: &learner, data: &data }, replicas)?
    };

    model.set_trainable(&best)?;
    let interval = TaskLearner { model: &model, measures: &measures, dev: &dev, limit }.interval(params.metric, job)?;

    // What was frozen is as in the checkpoint, bit for bit, whatever it was computed in.
    if kind != Kind::Float {
        model = start(Device::Cpu, &params.method)?;
    }
    model.note_updates(total);
    for (step, values) in points {
        model.set_trainable(&values)?;
        model.save(&job.out.join("checkpoints").join(format!("step-{step}")), &labels)?;
    }
    model.set_trainable(&best)?;
    let saved = model.save(&job.out, &labels)?;
    progress.history.save_events(&job.out)?;
    let summary = Summary {
        method: params.method.clone(),
        head: params.head.clone(),
        layer_sum_last: params.layer_sum_last,
        outputs: labels,
        parameters: model.num_parameters(),
        metric: params.metric,
        precision: params.precision,
        best_value: progress.patience.best(),
        best_step: progress.best_step.unwrap_or(progress.step),
        steps: progress.step,
        stopped_early: progress.stopped_early,
        curve: progress.history.evaluations,
    };
    let interval = interval.map(|interval| [interval.low, interval.high]);
    Card { model: &model, params, task: &task_file, origin: train.origin(), summary: &summary, interval }.write(&saved)?;
    // A model that is copied elsewhere answers there, too.
    task_file.write(&saved)?;
    summary.write(&saved)?;
    summary.write(&job.out)
}

/// Number format of weights and activations.
fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    }
}

/// Settings of the loop, as the parameters of the stage state them.
fn settings(params: &Train) -> Settings<'_> {
    let rate = |step, total| {
        let warmup = params.warmup_steps.map_or_else(|| schedule::part(params.warmup_ratio, total), u64::from);
        params.learning_rate * schedule::factor(&params.schedule, step, warmup, total)
    };
    Settings {
        length: params.max_steps.map_or_else(|| Length::Epochs(params.epochs.unwrap_or(0)), Length::Steps),
        rate: Box::new(rate),
        constants: Constants {
            rule: params.optimizer.clone(),
            betas: params.betas,
            epsilon: params.epsilon,
            weight_decay: params.weight_decay,
        },
        max_grad_norm: params.max_grad_norm,
        accumulation: params.accumulation as usize,
        eval_every: params.eval_every,
        save_every: params.save_every,
        keep_checkpoints: params.keep_checkpoints,
        patience: params.patience,
        metric: params.metric.name(),
        higher_is_better: params.metric.higher_is_better(),
        keep_last: false,
        kind: kind(params.precision),
        seed: params.seed,
        overfit_batch: params.overfit_batch,
        memory_hint: match (params.gradient_checkpointing, params.precision) {
            (false, _) => "set `gradient_checkpointing = true`, or leave out utterances that long",
            (true, Precision::Fp32) => "set `precision = \"bf16\"`, or leave out utterances that long",
            (true, Precision::Bf16) => "leave out utterances that long, or train fewer layers",
        },
    }
}
