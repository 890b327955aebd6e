//! The training loop.

use std::time::{Duration, Instant};

use pipeline::{Job, StageError};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::devices::{OtherDevices, own_share};
use super::early_stopping::EarlyStopping;
use super::error::TrainError;
use super::history::{Evaluation, History, Update};
use super::learner::{Learner, TrainingData};
use super::optimizer::{Constants, Parameters, clip};
use super::out_of_memory;
use super::ranks::Ranks;
use super::side_by_side::{BoxedReplica, SideBySide};
use super::state::StateFolder;
use super::throughput::Throughput;
use crate::data::DataError;
use crate::error::ModelError;
use crate::nn::random::Rng;

/// Position of a training: all of its state but the vectors of parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates done.
    pub step: u64,
    /// Passes over the training data done.
    epoch: u64,
    /// Micro batches of this pass done.
    batch: usize,
    /// Update with the best parameters so far.
    pub best_step: Option<u64>,
    /// Best value of the metric, and evaluations since.
    pub patience: EarlyStopping,
    /// True if training ended because the metric no longer improved.
    pub stopped_early: bool,
    /// Updates after which a point is kept, ascending.
    pub kept: Vec<u64>,
    /// All updates and evaluations.
    pub history: History,
}

/// Settings of the training loop.
pub struct Settings<'a> {
    /// Length of the training.
    pub length: Length,
    /// Learning rate of an update, from the updates before it and those of the whole training.
    pub rate: Box<dyn Fn(u64, u64) -> f64 + 'a>,
    /// Rule of the updates.
    pub constants: Constants,
    /// Largest norm of a gradient; a larger one is scaled down to it.
    pub max_grad_norm: f64,
    /// Micro batches of an update.
    pub accumulation: usize,
    /// Updates from one evaluation to the next; once per epoch when absent.
    pub eval_every: Option<u32>,
    /// Updates from one saved point to the next; when absent, every evaluation may be the best.
    pub save_every: Option<u32>,
    /// Points that are kept; none when absent.
    pub keep_checkpoints: Option<u32>,
    /// Evaluations without improvement after which training ends; never early when absent.
    pub patience: Option<u32>,
    /// Name of the metric that decides which point is the best.
    pub metric: &'static str,
    /// True if a larger value of the metric is better.
    pub higher_is_better: bool,
    /// True if the last point counts as the best.
    pub keep_last: bool,
    /// Number format of weights and activations.
    pub kind: Kind,
    /// Seed of the noise.
    pub seed: u64,
    /// True if every update sees the batches of the first one.
    pub overfit_batch: bool,
    /// Advice when not even one utterance fits in memory.
    pub memory_hint: &'static str,
}

/// Length of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the data.
    Epochs(u32),
    /// Updates.
    Steps(u32),
}

/// One training: a model, its data, and where its state is kept.
pub struct Training<'a, L, D> {
    /// Settings of the loop.
    pub settings: Settings<'a>,
    /// The job that asks for it.
    pub job: &'a Job,
    /// Folder of its state.
    pub folder: &'a StateFolder,
    /// The model.
    pub learner: &'a L,
    /// Utterances to learn from.
    pub data: &'a D,
}

/// Copies of the model that compute the parts of a micro batch side by side; none where it computes them whole.
pub type Replicas<L> = Vec<BoxedReplica<<L as Learner>::Batch>>;

/// Outcome of a training.
pub struct Fitted {
    /// Position at the end.
    pub progress: Progress,
    /// The trained tensors at their best, by name, 32-bit.
    pub best: Vec<(String, Tensor)>,
    /// The trained tensors at other points that are to be kept, by the updates before them.
    pub points: Vec<(u64, Vec<(String, Tensor)>)>,
    /// Updates of the whole training, had it not ended early.
    pub total: u64,
}

/// The least time between two saved states, unless saving itself takes more than a twentieth of it.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The least time between two reports of progress.
const TICK_EVERY: Duration = Duration::from_millis(200);

/// Trains a model as [`fit`] does, on its own device only and without copies of it.
///
/// Errors: as [`fit`].
pub fn fit_alone<L: Learner, D: TrainingData<Batch = L::Batch>>(training: &Training<L, D>) -> Result<Fitted, StageError> {
    fit(training, vec![], OtherDevices::default())
}

/// Trains a model from where its state folder says, to the end; on other devices, too, if there are any.
///
/// Errors: [`TrainError::NotFinite`], what the learner and its data report, [`StageError::Stopped`].
pub fn fit<L: Learner, D: TrainingData<Batch = L::Batch>>(
    training: &Training<L, D>,
    replicas: Replicas<L>,
    mut others: OtherDevices,
) -> Result<Fitted, StageError> {
    let Training { settings, job, folder, learner, data } = training;
    let total = count_steps(settings, *data);

    let mut parameters = Parameters::new(learner.trainable(), settings.kind, decays).map_err(ModelError::from)?;
    let mut ranks = Ranks::start(learner.shares_ranks(), total, &parameters)?;
    let (mut progress, mut best) = resume(settings, job, folder, &mut parameters, &mut ranks)?;
    let mut side_by_side = SideBySide::new(replicas, &parameters, job.threads).map_err(ModelError::from)?;
    others.wait(parameters.values.numel())?;
    let mut throughput = Throughput::start(job, learner.device(), progress.step + 1);
    let mut saved = (Instant::now(), Duration::ZERO);
    let mut reported: Option<Instant> = None;

    while progress.step < total && !progress.stopped_early {
        let epoch = progress.epoch;
        let batches = batches_of(settings, *data, epoch);
        let ahead = &batches[progress.batch..];
        others.load(ahead, settings.accumulation)?;
        let to_load = own_share(ahead, settings.accumulation, 0, others.count());
        let mut loader = data.load(to_load.flat_map(|rows| side_by_side.parts(rows)).collect(), learner.device());
        while progress.epoch == epoch && progress.step < total && !progress.stopped_early {
            // Between two updates is the one place where a training is left and taken up again.
            let stop = job.stop.requested();
            if stop || saved.0.elapsed() >= SAVE_EVERY.max(20 * saved.1) {
                let start = Instant::now();
                save(folder, &progress, &parameters, best.as_ref(), &mut ranks)?;
                folder.drop_points(&progress.kept);
                saved = (Instant::now(), start.elapsed());
            }
            if stop {
                return Err(StageError::Stopped);
            }

            throughput.begin_step();
            learner.begin_update(progress.step, total);
            let parts = &batches[progress.batch..batches.len().min(progress.batch + settings.accumulation)];
            let mut next = || throughput.wait(|| loader.next()).ok_or(DataError::LoaderEnded)?;
            let loss = backward(training, parts, progress.step, &mut next, &mut side_by_side, &mut others, &mut parameters)?;
            throughput.add_audio(parts.iter().flatten().map(|&row| data.secs(row)).sum());
            let norm = clip(parameters.gradient(), settings.max_grad_norm).map_err(ModelError::from)?;
            // The one time in a step that the device is waited for.
            let [loss, norm] = pair(&loss, &norm).map_err(ModelError::from)?;
            if !(loss.is_finite() && norm.is_finite()) {
                let ids = parts.concat().into_iter().map(|row| data.id(row).to_owned()).collect();
                let error = TrainError::NotFinite { step: progress.step + 1, loss, norm, ids };
                return Err(StageError::failed(error).with_hint("lower `learning_rate`, or look at those recordings"));
            }
            let learning_rate = (settings.rate)(progress.step, total);
            let gradient = ranks.is_some().then(|| parameters.gradient().copy()); // an update uses it up
            parameters.update(&settings.constants, learning_rate, progress.step + 1).map_err(ModelError::from)?;
            if let (Some(ranks), Some(gradient)) = (&mut ranks, gradient) {
                ranks.after(progress.step + 1, &gradient, &mut parameters).map_err(ModelError::from)?;
            }
            throughput.end_step();

            progress.step += 1;
            progress.batch += parts.len();
            let update = Update { loss, gradient_norm: norm, learning_rate };
            progress.history.updates.push(update);
            throughput.show_update(progress.step, &update);
            let epoch_ends = progress.batch == batches.len();
            let due = settings.eval_every.map_or(epoch_ends, |every| progress.step.is_multiple_of(every.into()));
            if due || progress.step == total {
                let evaluation = Evaluation {
                    step: progress.step,
                    epoch: epoch as f64 + progress.batch as f64 / batches.len() as f64,
                    train_loss: progress.history.recent_loss(),
                    dev: Evaluation::values(&learner.evaluate(job)?),
                };
                let is_saved = settings.save_every.is_none_or(|every| progress.step.is_multiple_of(every.into()));
                let verdict = progress.patience.observe(evaluation.value(settings.metric), is_saved);
                if verdict.best || settings.keep_last {
                    best = Some(parameters.values.copy());
                    progress.best_step = Some(progress.step);
                }
                progress.stopped_early = verdict.stop && progress.step < total;
                let ends = progress.stopped_early || progress.step == total;
                if let Some(most) = settings.keep_checkpoints.filter(|_| is_saved || ends) {
                    folder.keep_point(progress.step, &host(&parameters.values)?)?;
                    progress.kept.push(progress.step);
                    thin_out(&mut progress.kept, progress.best_step, most as usize);
                }
                throughput.show_evaluation(&evaluation);
                progress.history.evaluations.push(evaluation);
            }
            if epoch_ends {
                progress.epoch += 1;
                progress.batch = 0;
            }
            if reported.is_none_or(|at| at.elapsed() >= TICK_EVERY) || progress.step == total {
                job.progress.tick(progress.step, total, "steps", &describe(&progress.history, settings.metric));
                reported = Some(Instant::now());
            }
        }
    }
    throughput.report(job);
    if let (Some(value), Some(step)) = (progress.patience.best(), progress.best_step) {
        job.progress.note(&format!("best dev {} {value:.4}, after step {step} of {}", settings.metric, progress.step));
    }
    // A copy: the values themselves are what the model's tensors are views of.
    let best = best.unwrap_or_else(|| parameters.values.copy());
    let best = parameters.named_values(&best).map_err(ModelError::from)?;
    let point = |&step: &u64| {
        let values = Tensor::f_from_slice(&folder.point(step)?).map_err(ModelError::from)?;
        Ok((step, parameters.named_values(&values).map_err(ModelError::from)?))
    };
    let points = progress.kept.iter().map(point).collect::<Result<_, StageError>>()?;
    Ok(Fitted { progress, best, points, total })
}

/// Gives the parameters the gradient of the mean loss of all utterances of an update, whichever micro batch they are in.
/// Returns that loss, on the device.
fn backward<L: Learner, D: TrainingData<Batch = L::Batch>>(
    training: &Training<L, D>,
    micro_batches: &[Vec<usize>],
    step: u64,
    next: &mut impl FnMut() -> Result<L::Batch, StageError>,
    side_by_side: &mut SideBySide<L::Batch>,
    others: &mut OtherDevices,
    parameters: &mut Parameters,
) -> Result<Tensor, StageError> {
    let Training { settings, learner, data, .. } = training;
    let count = micro_batches.iter().map(Vec::len).sum::<usize>() as f64;
    let explain = |error, rows: &[usize]| out_of_memory::explain(error, *learner, *data, rows, settings.memory_hint);
    let mut loss = Tensor::zeros([], (Kind::Float, learner.device()));
    let mut passes = 0..;
    let mut seed = |_: &Vec<usize>| noise_seed(settings.seed, step, passes.next().unwrap_or_default());
    let seeds: Vec<Vec<u64>> =
        micro_batches.iter().map(|rows| side_by_side.parts(rows).iter().map(&mut seed).collect()).collect();
    others.begin(parameters, count, &seeds)?;
    for (at, (rows, seeds)) in micro_batches.iter().zip(&seeds).enumerate() {
        if let Some(other) = others.of(at) {
            for _ in seeds {
                loss += other.add_gradient(parameters)?;
            }
        } else if side_by_side.is_used() {
            let parts = side_by_side.parts(rows);
            let batches = seeds.iter().map(|seed| Ok((next()?, *seed))).collect::<Result<Vec<_>, StageError>>()?;
            for ((share, gradient), rows) in side_by_side.learn(batches, count).into_iter().zip(&parts) {
                loss += share.map_err(|error| explain(error, rows))?;
                let _ = parameters.add_gradient(gradient).and_then(|()| gradient.f_zero_()).map_err(ModelError::from)?;
            }
        } else {
            loss += learner.learn(&next()?, count, seeds[0]).map_err(|error| explain(error, rows))?;
            parameters.collect_gradient().map_err(ModelError::from)?;
        }
    }
    if let Some(penalty) = learner.penalty()? {
        penalty.f_backward().map_err(ModelError::from)?;
        loss += penalty.detach();
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

/// The micro batches of an epoch, in order.
fn batches_of(settings: &Settings, data: &impl TrainingData, epoch: u64) -> Vec<Vec<usize>> {
    if !settings.overfit_batch {
        return data.batches(epoch);
    }
    let mut batches = data.batches(0);
    batches.truncate(settings.accumulation);
    batches
}

/// Updates of the whole training.
fn count_steps(settings: &Settings, data: &impl TrainingData) -> u64 {
    let of_epoch = |epoch| data.batches(epoch).len().div_ceil(settings.accumulation) as u64;
    match settings.length {
        Length::Epochs(epochs) => (0..u64::from(epochs)).map(of_epoch).sum(),
        Length::Steps(steps) => steps.into(),
    }
}

/// Weight decay pulls matrices towards zero, but neither biases nor norms, as in the benchmark's reference code.
pub(super) fn decays(name: &str) -> bool {
    !name.ends_with("bias") && !name.contains("layer_norm")
}

/// The seed of one forward pass, so that a training taken up again draws what it would have drawn.
fn noise_seed(seed: u64, step: u64, micro: usize) -> u64 {
    Rng::named(seed, &format!("noise of step {step}, micro batch {micro}")).next_u64()
}

/// Two numbers, fetched from the device at once.
fn pair(a: &Tensor, b: &Tensor) -> Result<[f32; 2], tch::TchError> {
    let both = Vec::<f32>::try_from(Tensor::f_stack(&[a, b], 0)?)?;
    Ok([both[0], both[1]])
}

/// One line for people, the loss smoothed: `loss 0.123, rate 1.0e-3, dev accuracy 0.912`.
fn describe(history: &History, metric: &str) -> String {
    let (loss, newest) = (history.smoothed_loss(), history.updates.last());
    let update = loss.zip(newest).map_or(String::new(), |(loss, u)| format!("loss {loss:.3}, rate {:.1e}", u.learning_rate));
    let dev = history.evaluations.last().map(|last| format!(", dev {metric} {:.3}", last.value(metric)));
    update + &dev.unwrap_or_default()
}

/// Copies a vector from the device.
fn host(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(Vec::try_from(tensor)?)
}

fn save(
    folder: &StateFolder,
    progress: &Progress,
    parameters: &Parameters,
    best: Option<&Tensor>,
    ranks: &mut Option<Ranks>,
) -> Result<(), StageError> {
    let mut vectors =
        [&parameters.values, &parameters.first, &parameters.second].map(host).into_iter().collect::<Result<Vec<_>, _>>()?;
    vectors.push(best.map(host).transpose()?.unwrap_or_default());
    for vector in ranks.iter_mut().flat_map(Ranks::vectors) {
        vectors.push(host(vector)?);
    }
    folder.save(progress, &vectors.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// The saved state, put into `parameters`, with the best values so far; or a start from nothing.
fn resume(
    settings: &Settings,
    job: &Job,
    folder: &StateFolder,
    parameters: &mut Parameters,
    ranks: &mut Option<Ranks>,
) -> Result<(Progress, Option<Tensor>), StageError> {
    let start = Progress {
        step: 0,
        epoch: 0,
        batch: 0,
        best_step: None,
        patience: EarlyStopping::new(settings.patience, settings.higher_is_better, 0.0),
        stopped_early: false,
        kept: vec![],
        history: History::default(),
    };
    let Some(found) = folder.load::<Progress>(&|line| job.progress.note(line)) else { return Ok((start, None)) };
    let num = parameters.values.numel();
    let [values, first, second, best, of_ranks @ ..] = &found.vectors[..] else { return Ok((start, None)) };
    let ranks: Vec<&mut Tensor> = ranks.iter_mut().flat_map(Ranks::vectors).collect();
    let other = |vector: &Vec<f32>| vector.len() != num;
    if [values, first, second].into_iter().chain(of_ranks).any(other)
        || ![0, num].contains(&best.len())
        || of_ranks.len() != ranks.len()
    {
        job.progress.note("the saved state is of another model: starting anew");
        return Ok((start, None));
    }
    let device = parameters.values.device();
    let put = |values: &[f32]| Tensor::f_from_slice(values).and_then(|tensor| tensor.f_to_device(device));
    let set = || {
        parameters.set(&put(values)?)?;
        parameters.first.f_copy_(&put(first)?)?;
        parameters.second.f_copy_(&put(second)?)?;
        for (vector, values) in ranks.into_iter().zip(of_ranks) {
            vector.f_copy_(&put(values)?)?;
        }
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
