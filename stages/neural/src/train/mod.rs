//! Training: the loop, and what it leaves behind.

pub mod history;
pub mod optimizer;
pub mod patience;
pub mod schedule;
pub mod state;
pub mod summary;

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use neural_spec::{Metric, Train};
use pipeline::{Job, StageError};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use self::history::{Evaluation, History, Update};
use self::optimizer::{AdamW, Parameters, clip};
use self::patience::Patience;
use self::state::StateFolder;
pub use self::summary::Summary;
use crate::data::{BatchLimit, Loader, Utterances, read_labels, shuffled};
use crate::device;
use crate::encoder::front;
use crate::evaluate::{answers, cross_entropy, device_name};
use crate::model::{Mode, Model, ModelError};
use crate::random::Rng;

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
}

/// Where a training is: all of its state but the vectors of parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Updates done.
    step: u64,
    /// Passes over the training data done.
    epoch: u64,
    /// Micro batches of this pass done.
    batch: usize,
    /// Update with the best parameters so far.
    best_step: Option<u64>,
    patience: Patience,
    stopped_early: bool,
    history: History,
}

/// The least time between two saved states, unless saving itself takes more than a twentieth of it.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// The least time between two reports of progress.
const TICK_EVERY: Duration = Duration::from_millis(200);

/// The body of the stage `peft.train`: leaves `checkpoint/` or `adapter/`, `training.json` and `events/`.
///
/// The bytes it leaves do not depend on whether it was stopped or killed and taken up again on the way.
/// Errors: inputs that cannot be read or do not belong together, [`TrainError`], what libtorch reports.
pub fn run(params: &Train, job: &Job) -> Result<(), StageError> {
    let folder = StateFolder::open(job)?;
    device::use_threads(job.threads);
    let labels = read_labels(job.inputs.one("labels"))?;
    let device = device::choose(job.gpu);
    job.progress.fact("device", device_name(device).into());
    let model = Model::new(job.inputs.one("encoder"), &params.method, &params.head, labels.len(), params.seed, device)?;
    let open = |split| Utterances::open(split, job.inputs.many(split), &labels, model.preprocessor().clone()).map(Arc::new);
    let (train, dev) = (open("train")?, open("dev")?);
    for utterances in [&train, &dev] {
        front::require(&model, utterances.features())?;
    }

    let progress = fit(params, job, &folder, &model, &train, &dev)?;

    model.save(&job.out, &labels)?;
    let events = job.out.join("events");
    std::fs::create_dir(&events).map_err(StageError::io("create", &events))?;
    progress.history.write_events(&events).map_err(StageError::io("write", &events))?;
    let Progress { best_step, step, stopped_early, history, patience, .. } = progress;
    Summary {
        method: params.method.clone(),
        head: params.head.clone(),
        parameters: model.num_parameters(),
        metric: params.metric,
        best_value: patience.best(),
        best_step: best_step.unwrap_or(step),
        steps: step,
        stopped_early,
        curve: history.evaluations,
    }
    .write(&job.out)
}

/// Trains `model` in place and leaves it with the parameters that were best on the dev set.
fn fit(
    params: &Train,
    job: &Job,
    folder: &StateFolder,
    model: &Model,
    train: &Arc<Utterances>,
    dev: &Arc<Utterances>,
) -> Result<Progress, StageError> {
    let limit = BatchLimit::new(params.batch_secs, params.batch_size, model.preprocessor().sampling_rate);
    let accumulation = params.accumulation as usize;
    let total = count_steps(params, train.lengths(), limit);
    let warmup = schedule::part(params.warmup_ratio, total);
    let optimizer = AdamW { betas: params.betas, epsilon: params.epsilon, weight_decay: params.weight_decay };

    let mut parameters = Parameters::new(model.trainable(), decays).map_err(ModelError::from)?;
    let (mut progress, mut best) = resume(params, job, folder, &mut parameters);
    let mut saved = (Instant::now(), Duration::ZERO);
    let mut told: Option<Instant> = None;

    while progress.step < total && !progress.stopped_early {
        let epoch = progress.epoch;
        let batches = shuffled(train.lengths(), limit, params.seed, epoch);
        let mut loader = Loader::start(train, batches[progress.batch..].to_vec());
        while progress.epoch == epoch && progress.step < total && !progress.stopped_early {
            // Between two updates is the one place where a training is left and taken up again.
            let stop = job.stop.requested();
            if stop || saved.0.elapsed() >= SAVE_EVERY.max(20 * saved.1) {
                let start = Instant::now();
                save(folder, &progress, &parameters, best.as_ref())?;
                saved = (Instant::now(), start.elapsed());
            }
            if stop {
                return Err(StageError::Stopped);
            }

            // Gradient of the mean loss of the update's utterances, whichever micro batch they are in.
            let parts = &batches[progress.batch..batches.len().min(progress.batch + accumulation)];
            let utterances: usize = parts.iter().map(Vec::len).sum();
            let mut loss = Tensor::zeros([], (Kind::Float, model.device()));
            for (micro, prepared) in loader.by_ref().take(parts.len()).enumerate() {
                let prepared = prepared?;
                let seed = noise_seed(params.seed, progress.step, micro);
                let logits = model.forward(&prepared.batch, Mode::Train { seed })?; // (B, classes)
                let share = cross_entropy(&logits, &prepared.labels, tch::Reduction::Sum)? / utterances as f64;
                share.f_backward().map_err(ModelError::from)?;
                loss += share.detach();
            }
            let mut gradient = parameters.take_gradient().map_err(ModelError::from)?; // (P)
            let norm = clip(&mut gradient, params.max_grad_norm).map_err(ModelError::from)?;
            let (loss, norm) = (loss.double_value(&[]) as f32, norm.double_value(&[]) as f32);
            if !(loss.is_finite() && norm.is_finite()) {
                let ids = parts.concat().into_iter().map(|row| train.id(row).to_owned()).collect();
                let error = TrainError::NotFinite { step: progress.step + 1, loss, norm, ids };
                return Err(StageError::failed(error).with_hint("lower `learning_rate`, or look at those recordings"));
            }
            let learning_rate = params.learning_rate * schedule::factor(&params.schedule, progress.step, warmup, total);
            parameters.update(&gradient, &optimizer, learning_rate, progress.step + 1).map_err(ModelError::from)?;

            progress.step += 1;
            progress.batch += parts.len();
            progress.history.updates.push(Update { loss, gradient_norm: norm, learning_rate });
            let epoch_ends = progress.batch == batches.len();
            let due = params.eval_every.map_or(epoch_ends, |every| progress.step.is_multiple_of(every.into()));
            if due || progress.step == total {
                let passed = epoch as f64 + progress.batch as f64 / batches.len() as f64;
                let evaluation = evaluate(&progress, passed, model, dev, limit, job)?;
                let verdict = progress.patience.observe(value(&evaluation, params.metric));
                if verdict.best {
                    best = Some(parameters.values.copy());
                    progress.best_step = Some(progress.step);
                }
                progress.stopped_early = verdict.stop && progress.step < total;
                progress.history.evaluations.push(evaluation);
            }
            if epoch_ends {
                progress.epoch += 1;
                progress.batch = 0;
            }
            if told.is_none_or(|told| told.elapsed() >= TICK_EVERY) || progress.step == total {
                job.progress.tick(progress.step, total, "steps", &describe(&progress.history));
                told = Some(Instant::now());
            }
        }
    }
    if let Some(best) = best {
        tch::no_grad(|| parameters.values.copy_(&best));
    }
    Ok(progress)
}

/// Updates of the whole training.
fn count_steps(params: &Train, lengths: &[usize], limit: BatchLimit) -> u64 {
    let of_epoch = |epoch| shuffled(lengths, limit, params.seed, epoch).len().div_ceil(params.accumulation as usize) as u64;
    let of_epochs = |epochs: u32| (0..u64::from(epochs)).map(of_epoch).sum();
    params.max_steps.map_or_else(|| of_epochs(params.epochs.unwrap_or(0)), u64::from)
}

/// Weight decay pulls matrices towards zero, but neither biases nor norms, as in the benchmark's reference code.
fn decays(name: &str) -> bool {
    !name.ends_with("bias") && !name.contains("layer_norm")
}

/// The seed of one forward pass, so that a training taken up again draws what it would have drawn.
fn noise_seed(seed: u64, step: u64, micro: usize) -> u64 {
    Rng::named(seed, &format!("noise of step {step}, micro batch {micro}")).next_u64()
}

/// Measures the model on the dev set.
fn evaluate(
    progress: &Progress,
    epoch: f64,
    model: &Model,
    dev: &Arc<Utterances>,
    limit: BatchLimit,
    job: &Job,
) -> Result<Evaluation, StageError> {
    let answers = answers(model, dev, limit, job, &mut |_| {})?;
    let pairs = dev.labels().iter().zip(&answers).map(|(&label, answer)| (label, answer.prediction));
    let classes = dev.num_classes();
    let confusion = scoring::Confusion::count(classes, pairs).map_err(StageError::failed)?;
    Ok(Evaluation {
        step: progress.step,
        epoch,
        train_loss: progress.history.recent_loss(),
        dev_loss: answers.iter().map(|answer| f64::from(answer.loss)).sum::<f64>() / answers.len() as f64,
        dev_accuracy: confusion.accuracy(),
        dev_macro_f1: confusion.macro_f1(),
        dev_weighted_f1: confusion.weighted_f1(),
    })
}

fn value(evaluation: &Evaluation, metric: Metric) -> f64 {
    match metric {
        Metric::Accuracy => evaluation.dev_accuracy,
        Metric::MacroF1 => evaluation.dev_macro_f1,
        Metric::WeightedF1 => evaluation.dev_weighted_f1,
        Metric::Loss => evaluation.dev_loss,
    }
}

/// One line for people: `loss 0.123, rate 1.0e-3, dev accuracy 91.2 %`.
fn describe(history: &History) -> String {
    let update = history.updates.last().map_or(String::new(), |u| format!("loss {:.3}, rate {:.1e}", u.loss, u.learning_rate));
    let dev = history.evaluations.last().map_or(String::new(), |e| format!(", dev accuracy {:.1} %", 100.0 * e.dev_accuracy));
    update + &dev
}

fn save(folder: &StateFolder, progress: &Progress, parameters: &Parameters, best: Option<&Tensor>) -> Result<(), StageError> {
    let host = |tensor: &Tensor| Vec::<f32>::try_from(tensor).map_err(ModelError::from);
    let best = best.map(host).transpose()?.unwrap_or_default();
    let [values, first, second] = [host(&parameters.values)?, host(&parameters.first)?, host(&parameters.second)?];
    folder.save(progress, &[&values, &first, &second, &best])
}

/// The saved state, put into `parameters`, with the best values so far; or a start from nothing.
fn resume(params: &Train, job: &Job, folder: &StateFolder, parameters: &mut Parameters) -> (Progress, Option<Tensor>) {
    let start = Progress {
        step: 0,
        epoch: 0,
        batch: 0,
        best_step: None,
        patience: Patience::new(params.patience, params.metric.higher_is_better(), 0.0),
        stopped_early: false,
        history: History::default(),
    };
    let Some(found) = folder.load::<Progress>(&|line| job.progress.note(line)) else { return (start, None) };
    let num = parameters.values.numel();
    let [values, first, second, best] = &found.vectors[..] else { return (start, None) };
    if [values, first, second].iter().any(|vector| vector.len() != num) || ![0, num].contains(&best.len()) {
        job.progress.note("the saved state is of another model: starting anew");
        return (start, None);
    }
    let set = |target: &mut Tensor, values: &[f32]| tch::no_grad(|| target.copy_(&Tensor::from_slice(values)));
    set(&mut parameters.values, values);
    set(&mut parameters.first, first);
    set(&mut parameters.second, second);
    let device: Device = parameters.values.device();
    let best = (!best.is_empty()).then(|| Tensor::from_slice(best).to_device(device));
    job.progress.note(&format!("resuming after step {}", found.head.step));
    (found.head, best)
}
