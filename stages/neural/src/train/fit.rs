//! The training loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use neural_spec::{Precision, Train};
use pipeline::{Job, StageError};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::TrainError;
use super::history::{Evaluation, History, Update};
use super::optimizer::{Constants, Parameters, clip};
use super::pace::Pace;
use super::patience::Patience;
use super::state::StateFolder;
use super::task::Task;
use super::{room, schedule};
use crate::data::{BatchLimit, DataError, Loader, Utterances};
use crate::model::{Mode, Model, ModelError};
use crate::random::Rng;

/// Where a training is: all of its state but the vectors of parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Updates done.
    pub(super) step: u64,
    /// Passes over the training data done.
    epoch: u64,
    /// Micro batches of this pass done.
    batch: usize,
    /// Update with the best parameters so far.
    pub(super) best_step: Option<u64>,
    pub(super) patience: Patience,
    pub(super) stopped_early: bool,
    /// Updates after which a point is kept, ascending.
    pub(super) kept: Vec<u64>,
    pub(super) history: History,
}

/// What is trained, on what.
pub(super) struct Bench<'a> {
    pub(super) params: &'a Train,
    pub(super) job: &'a Job,
    pub(super) folder: &'a StateFolder,
    pub(super) task: &'a dyn Task,
    pub(super) model: &'a Model,
    pub(super) train: &'a Arc<Utterances>,
    pub(super) dev: &'a Arc<Utterances>,
    pub(super) limit: BatchLimit,
}

/// How a training ended.
pub(super) struct Fitted {
    pub(super) progress: Progress,
    /// The trained tensors at their best, by name, 32-bit.
    pub(super) best: Vec<(String, Tensor)>,
    /// The same at other points that are to be kept, by the updates before them.
    pub(super) points: Vec<(u64, Vec<(String, Tensor)>)>,
}

/// The least time between two saved states, unless saving itself takes more than a twentieth of it.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The least time between two reports of progress.
const TICK_EVERY: Duration = Duration::from_millis(200);

/// Trains the model from where its state folder says, to the end.
pub(super) fn fit(bench: &Bench) -> Result<Fitted, StageError> {
    let Bench { params, job, folder, task, model, train, limit, .. } = *bench;
    let accumulation = params.accumulation as usize;
    let total = count_steps(params, train, limit);
    let warmup = params.warmup_steps.map_or_else(|| schedule::part(params.warmup_ratio, total), u64::from);
    let constants = Constants {
        rule: params.optimizer.clone(),
        betas: params.betas,
        epsilon: params.epsilon,
        weight_decay: params.weight_decay,
    };

    let mut parameters = Parameters::new(model.trainable(), kind(params.precision), decays).map_err(ModelError::from)?;
    let (mut progress, mut best) = resume(params, job, folder, &mut parameters)?;
    let mut pace = Pace::start(job, model.device(), progress.step + 1);
    let mut saved = (Instant::now(), Duration::ZERO);
    let mut told: Option<Instant> = None;

    while progress.step < total && !progress.stopped_early {
        let epoch = progress.epoch;
        let batches = batches_of(params, train, limit, epoch);
        let mut loader = Loader::start(train, batches[progress.batch..].to_vec(), model.device());
        while progress.epoch == epoch && progress.step < total && !progress.stopped_early {
            // Between two updates is the one place where a training is left and taken up again.
            let stop = job.stop.requested();
            if stop || saved.0.elapsed() >= SAVE_EVERY.max(20 * saved.1) {
                let start = Instant::now();
                save(folder, &progress, &parameters, best.as_ref())?;
                folder.drop_points(&progress.kept);
                saved = (Instant::now(), start.elapsed());
            }
            if stop {
                return Err(StageError::Stopped);
            }

            pace.begin_step();
            let parts = &batches[progress.batch..batches.len().min(progress.batch + accumulation)];
            let loss = backward(bench, parts, progress.step, &mut loader, &mut pace, &mut parameters)?;
            let norm = clip(parameters.gradient(), params.max_grad_norm).map_err(ModelError::from)?;
            // The one time in a step that the device is waited for.
            let [loss, norm] = pair(&loss, &norm).map_err(ModelError::from)?;
            if !(loss.is_finite() && norm.is_finite()) {
                let ids = parts.concat().into_iter().map(|row| train.id(row).to_owned()).collect();
                let error = TrainError::NotFinite { step: progress.step + 1, loss, norm, ids };
                return Err(StageError::failed(error).with_hint("lower `learning_rate`, or look at those recordings"));
            }
            let learning_rate = params.learning_rate * schedule::factor(&params.schedule, progress.step, warmup, total);
            parameters.update(&constants, learning_rate, progress.step + 1).map_err(ModelError::from)?;
            pace.end_step();

            progress.step += 1;
            progress.batch += parts.len();
            let update = Update { loss, gradient_norm: norm, learning_rate };
            progress.history.updates.push(update);
            pace.show_update(progress.step, &update);
            let epoch_ends = progress.batch == batches.len();
            let due = params.eval_every.map_or(epoch_ends, |every| progress.step.is_multiple_of(every.into()));
            if due || progress.step == total {
                let evaluation = Evaluation {
                    step: progress.step,
                    epoch: epoch as f64 + progress.batch as f64 / batches.len() as f64,
                    train_loss: progress.history.recent_loss(),
                    dev: Evaluation::name(task.metrics(), &task.measure(model, bench.dev, limit, job)?),
                };
                let is_saved = params.save_every.is_none_or(|every| progress.step.is_multiple_of(every.into()));
                let verdict = progress.patience.observe(evaluation.value(params.metric), is_saved);
                if verdict.best {
                    best = Some(parameters.values.copy());
                    progress.best_step = Some(progress.step);
                }
                progress.stopped_early = verdict.stop && progress.step < total;
                let ends = progress.stopped_early || progress.step == total;
                if let Some(most) = params.keep_checkpoints.filter(|_| is_saved || ends) {
                    folder.keep_point(progress.step, &host(&parameters.values)?)?;
                    progress.kept.push(progress.step);
                    thin_out(&mut progress.kept, progress.best_step, most as usize);
                }
                pace.show_evaluation(&evaluation);
                progress.history.evaluations.push(evaluation);
            }
            if epoch_ends {
                progress.epoch += 1;
                progress.batch = 0;
            }
            if told.is_none_or(|told| told.elapsed() >= TICK_EVERY) || progress.step == total {
                job.progress.tick(progress.step, total, "steps", &describe(&progress.history, params));
                told = Some(Instant::now());
            }
        }
    }
    pace.report(job);
    // A copy: the values themselves are what the model's tensors are views of.
    let best = best.unwrap_or_else(|| parameters.values.copy());
    let best = parameters.named_values(&best).map_err(ModelError::from)?;
    let point = |&step: &u64| {
        let values = Tensor::f_from_slice(&folder.point(step)?).map_err(ModelError::from)?;
        Ok((step, parameters.named_values(&values).map_err(ModelError::from)?))
    };
    let points = progress.kept.iter().map(point).collect::<Result<_, StageError>>()?;
    Ok(Fitted { progress, best, points })
}

/// Gives the parameters the gradient of the mean loss of all utterances of an update, whichever micro batch they are in.
/// Returns that loss, on the device.
fn backward(
    bench: &Bench,
    parts: &[Vec<usize>],
    step: u64,
    loader: &mut Loader,
    pace: &mut Pace,
    parameters: &mut Parameters,
) -> Result<Tensor, StageError> {
    let Bench { params, task, model, train, .. } = *bench;
    let utterances: usize = parts.iter().map(Vec::len).sum();
    let mut loss = Tensor::zeros([], (Kind::Float, model.device()));
    for (micro, rows) in parts.iter().enumerate() {
        let prepared = pace.wait(|| loader.next()).ok_or(DataError::LoaderEnded)??;
        pace.add_audio(secs(train, rows, model));
        let mode = Mode::Train { seed: noise_seed(params.seed, step, micro) };
        let share = task.loss(model, &prepared, mode).and_then(|sum| {
            let share = sum.f_div_scalar(utterances as f64)?;
            model.backward(&share)?;
            Ok(share.detach())
        });
        loss += share.map_err(|error| room::explain(error, bench, rows))?;
        parameters.collect_gradient().map_err(ModelError::from)?;
    }
    Ok(loss)
}

/// Leaves at most so many steps: the best, the last, and the newest of the others.
fn thin_out(kept: &mut Vec<u64>, best: Option<u64>, most: usize) {
    while kept.len() > most.max(1) {
        let last = kept.len() - 1;
        // With room for one, the best goes before the last.
        let victim = (0..last).find(|&at| Some(kept[at]) != best).unwrap_or(last);
        kept.remove(victim);
    }
}

/// What weights and activations are kept in.
pub(super) fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    }
}

/// The micro batches of an epoch, in order.
fn batches_of(params: &Train, train: &Utterances, limit: BatchLimit, epoch: u64) -> Vec<Vec<usize>> {
    if !params.overfit_batch {
        return train.batches(limit, params.seed, epoch);
    }
    let mut batches = train.batches(limit, params.seed, 0);
    batches.truncate(params.accumulation as usize);
    batches
}

/// Updates of the whole training.
fn count_steps(params: &Train, train: &Utterances, limit: BatchLimit) -> u64 {
    let of_epoch = |epoch| train.batches(limit, params.seed, epoch).len().div_ceil(params.accumulation as usize) as u64;
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

/// Seconds of audio in some rows.
fn secs(utterances: &Utterances, rows: &[usize], model: &Model) -> f64 {
    let samples: usize = rows.iter().map(|&row| utterances.lengths()[row]).sum();
    samples as f64 / f64::from(model.preprocessor().sampling_rate)
}

/// Two numbers, fetched from the device at once.
fn pair(a: &Tensor, b: &Tensor) -> Result<[f32; 2], tch::TchError> {
    let both = Vec::<f32>::try_from(Tensor::f_stack(&[a, b], 0)?)?;
    Ok([both[0], both[1]])
}

/// One line for people: `loss 0.123, rate 1.0e-3, dev accuracy 0.912`.
fn describe(history: &History, params: &Train) -> String {
    let update = history.updates.last().map_or(String::new(), |u| format!("loss {:.3}, rate {:.1e}", u.loss, u.learning_rate));
    let metric = params.metric;
    let dev = history.evaluations.last().map(|last| format!(", dev {} {:.3}", metric.name(), last.value(metric)));
    update + &dev.unwrap_or_default()
}

/// Copies a vector from the device.
fn host(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(Vec::try_from(tensor)?)
}

fn save(folder: &StateFolder, progress: &Progress, parameters: &Parameters, best: Option<&Tensor>) -> Result<(), StageError> {
    let best = best.map(host).transpose()?.unwrap_or_default();
    let [values, first, second] = [host(&parameters.values)?, host(&parameters.first)?, host(&parameters.second)?];
    folder.save(progress, &[&values, &first, &second, &best])
}

/// The saved state, put into `parameters`, with the best values so far; or a start from nothing.
fn resume(
    params: &Train,
    job: &Job,
    folder: &StateFolder,
    parameters: &mut Parameters,
) -> Result<(Progress, Option<Tensor>), StageError> {
    let start = Progress {
        step: 0,
        epoch: 0,
        batch: 0,
        best_step: None,
        patience: Patience::new(params.patience, params.metric.higher_is_better(), 0.0),
        stopped_early: false,
        kept: vec![],
        history: History::default(),
    };
    let Some(found) = folder.load::<Progress>(&|line| job.progress.note(line)) else { return Ok((start, None)) };
    let num = parameters.values.numel();
    let [values, first, second, best] = &found.vectors[..] else { return Ok((start, None)) };
    if [values, first, second].iter().any(|vector| vector.len() != num) || ![0, num].contains(&best.len()) {
        job.progress.note("the saved state is of another model: starting anew");
        return Ok((start, None));
    }
    let device = parameters.values.device();
    let put = |values: &[f32]| Tensor::f_from_slice(values).and_then(|tensor| tensor.f_to_device(device));
    let set = || {
        parameters.set(&put(values)?)?;
        parameters.first.f_copy_(&put(first)?)?;
        parameters.second.f_copy_(&put(second)?)?;
        if best.is_empty() { Ok(None) } else { put(best).map(Some) }
    };
    let best = { set }().map_err(ModelError::from)?;
    job.progress.note(&format!("resuming after step {}", found.head.step));
    Ok((found.head, best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_last_point_stay() {
        let check = |most, best, expected: &[u64]| {
            let mut kept = vec![];
            for step in [10, 20, 30, 40, 50] {
                kept.push(step);
                thin_out(&mut kept, Some(step.min(best)), most);
            }
            assert_eq!(kept, expected, "{most} kept, the best at {best}");
        };
        check(1, 20, &[20]);
        check(2, 20, &[20, 50]);
        check(3, 20, &[20, 40, 50]);
        check(3, 50, &[30, 40, 50]);
        check(9, 10, &[10, 20, 30, 40, 50]);
    }
}
