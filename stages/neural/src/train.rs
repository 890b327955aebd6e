//! Training: the loop, and what it leaves behind.

pub mod device_process;
pub mod devices;
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
use pipeline::{Inputs, Job, StageError};
use tasks::TaskFile;
use tch::{Device, Kind};

use self::devices::OtherDevices;
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
use crate::evaluate;
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
    let device = device::of_job(job);
    if params.learning_rate > 1.0 {
        job.progress.note(&format!("`learning_rate` is {:e}: a rate above 1 hardly ever learns", params.learning_rate));
    }
    let others = OtherDevices::start(params, job, device)?; // they read the model while this process does
    job.progress.fact("device", others.names(device).into());
    let mut start = Start::open(params, &job.inputs, device)?;
    let replicas = start.replicas()?;

    let Fitted { progress, best, points, total } = {
        let (learner, data) = (start.learner(), start.data());
        let training = Training { settings: settings(params), job, folder: &folder, learner: &learner, data: &data };
        fit(&training, replicas, others)?
    };

    start.model.set_trainable(&best)?;
    let interval = start.learner().interval(params.metric, job)?;

    // What was frozen is as in the checkpoint, bit for bit, whatever it was computed in.
    if kind(params.precision) != Kind::Float {
        start.model = start_model(params, &job.inputs, &start.task_file, Device::Cpu, &params.method)?;
    }
    let Start { mut model, task_file, train, .. } = start;
    let labels = task_file.outputs.names();
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

/// Start of a training in the process of each of its devices: the model, and what it learns from.
struct Start<'a> {
    params: &'a Train,
    inputs: &'a Inputs,
    task_file: TaskFile,
    model: Model,
    measures: Measures,
    train: Arc<Utterances>,
    dev: Arc<Utterances>,
}

impl<'a> Start<'a> {
    /// Errors: inputs that cannot be read or do not belong together, [`TrainError`], what libtorch reports.
    fn open(params: &'a Train, inputs: &'a Inputs, device: Device) -> Result<Self, StageError> {
        let task_file = TaskFile::read(inputs.one("task"))?;
        let mut model = start_model(params, inputs, &task_file, device, &params.method)?;
        if params.head_start == HeadStart::Checkpoint {
            evaluate::require_own_head(inputs.one("encoder"), &task_file)?;
            model.adopt_head(inputs.one("encoder"))?;
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
        let open = |split, targets| {
            let preprocessor = model.preprocessor().clone();
            Utterances::open(split, inputs.many(split), inputs.one(targets), &task_file, preprocessor).map(Arc::new)
        };
        let (train, dev) = (open("train", "train_targets")?, open("dev", "dev_targets")?);
        for utterances in [&train, &dev] {
            front::require(&model, utterances.features())?;
        }
        model.compute_in(kind(params.precision))?;
        Ok(Self { params, inputs, task_file, model, measures, train, dev })
    }

    /// Copies of the model that compute parts of a micro batch side by side; none on a GPU, which computes it whole.
    fn replicas(&self) -> Result<Vec<BoxedReplica<Prepared>>, ModelError> {
        let Self { params, inputs, task_file, model, .. } = self;
        let used = params.threads > 1 && model.device() == Device::Cpu && kind(params.precision) == Kind::Float;
        let replica = |_| {
            // It reads all values of the model, so it need not compute those that PiSSA starts from.
            let replica = start_model(params, inputs, task_file, model.device(), &params.method.with_plain_start())?;
            replica.share_frozen(model)?;
            Ok(Box::new(TaskReplica(replica)) as BoxedReplica<Prepared>)
        };
        (0..if used { params.threads } else { 0 }).map(replica).collect()
    }

    fn limit(&self) -> BatchLimit {
        BatchLimit::new(self.params.batch_secs, self.params.batch_size, self.model.preprocessor().sampling_rate)
    }

    fn learner(&self) -> TaskLearner<'_> {
        TaskLearner { model: &self.model, measures: &self.measures, dev: &self.dev, limit: self.limit() }
    }

    fn data(&self) -> TaskData<'_> {
        let sample_rate = self.model.preprocessor().sampling_rate;
        TaskData { utterances: &self.train, limit: self.limit(), seed: self.params.seed, sample_rate }
    }
}

/// A model before its training.
fn start_model(
    params: &Train,
    inputs: &Inputs,
    task_file: &TaskFile,
    device: Device,
    method: &Method,
) -> Result<Model, ModelError> {
    let num_outputs = task_file.outputs.names().len();
    let mut model = Model::new(inputs.one("encoder"), method, &params.head, num_outputs, params.seed, device)?;
    model.close_mix_with(params.layer_sum_last);
    evaluate::prepare(&mut model, task_file);
    model.recompute_layers(params.gradient_checkpointing);
    Ok(model)
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
