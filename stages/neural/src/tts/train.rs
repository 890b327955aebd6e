//! Body of the stage `tts.train`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use audio::speech::{ALIGNMENT, Alignment, read_alignments, write_alignments};
use neural_spec::{Finetune, Keep, Method, Scope, TrainVoice};
use pipeline::{Job, StageError};
use tasks::text::Rules;
use tch::{Device, Kind};

use super::data::{Corpus, TrainingSet, VoiceData};
use super::error::TtsError;
use super::learner::{AlignmentQuality, METRIC, VoiceLearner, WORST, align, warning, worst};
use super::summary::VoiceSummary;
use super::voice::{FOLDER, PitchScale, Voice, VoiceConfig, front_end, shape};
use crate::data::BatchLimit;
use crate::device;
use crate::error::ModelError;
use crate::evaluate::device_name;
use crate::models::acoustic::BatchNormMode;
use crate::train::fit::{Fitted, Length, Settings, Training, fit_alone};
use crate::train::learner::TrainingData;
use crate::train::optimizer::Constants;
use crate::train::schedule;
use crate::train::state::StateFolder;

/// Trains a voice: leaves `voice/`, `training.json`, `alignment.parquet` (the worst alignments of the training set) and `events/`.
///
/// The bytes it leaves do not depend on whether it was stopped or killed and taken up again on the way.
/// Errors: inputs that cannot be read or do not belong together, [`TtsError`], what libtorch reports.
pub fn run(params: &TrainVoice, job: &Job) -> Result<(), StageError> {
    let folder = StateFolder::open(job)?;
    device::use_threads(job.threads);
    let device = device::of_job(job);
    job.progress.fact("device", device_name(device).into());
    let base = job.inputs.optional("base").map(|base| Voice::open(base, device)).transpose()?;
    check(params, base.as_ref())?;

    let rules: Rules = base.as_ref().map_or_else(|| params.text.unwrap_or_default(), |base| base.config.text);
    let mut words = base.as_ref().map(|base| base.config.words.clone()).unwrap_or_default();
    words.extend(params.words.clone());
    let front = front_end(rules, &words)?;
    let train = Corpus::open("train", job.inputs.many("train"), &front, job)?;
    let dev = Corpus::open("dev", job.inputs.many("dev"), &front, job)?;
    same_features(&train, &dev, base.as_ref())?;
    let speakers = train.speakers();
    if let [first, ..] = &train.heard_once()[..] {
        let count = train.heard_once().len();
        job.progress.note(&format!("{count} speakers have a single utterance to learn from, `{first}` for one"));
    }

    let new = base.is_none();
    let (mut voice, kept) = match base {
        Some(base) => base.adapt(params, speakers.clone(), train.longest())?,
        None => (from_nothing(params, &train, rules, words, device)?, Vec::new()),
    };
    let alignment = job.inputs.optional("alignment").map(read_table).transpose()?;
    if alignment.is_none() && !voice.model.has_aligner() {
        let text = "the base has no aligner: give `inputs.alignment`".to_owned();
        return Err(TtsError::Setting(text).into());
    }
    let statistics = voice.train_parts(params, new)?;
    let (rejected, unvoiced, guessed_words) = (train.rejected.clone(), train.unvoiced.clone(), train.guessed.clone());
    let train = Arc::new(VoiceData::new(train, &voice.config, alignment.as_deref())?);
    // The dev set is aligned by the voice itself where its durations are not given.
    let known = |rows: &[Alignment]| dev.utterances.iter().all(|one| rows.iter().any(|row| row.id == one.id));
    let of_dev = alignment.as_deref().filter(|rows| !voice.model.has_aligner() || known(rows));
    let dev = VoiceData::new(dev, &voice.config, of_dev)?;
    let limit = BatchLimit {
        samples: params.batch_frames as usize,
        utterances: params.batch_size.map_or(usize::MAX, |count| count as usize),
    };

    let data = TrainingSet { data: Arc::clone(&train), limit, seed: params.seed };
    let (best_value, best_step, steps, stopped_early, history) = if params.max_steps == 0 {
        (None, 0, 0, false, crate::train::history::History::default())
    } else {
        let learner = learner(params, &voice, statistics, &dev, limit);
        let Fitted { progress, best, .. } =
            fit_alone(&Training { settings: settings(params), job, folder: &folder, learner: &learner, data: &data })?;
        voice.set_trainable(&best)?;
        let best_step = progress.best_step.unwrap_or(progress.step);
        (progress.patience.best(), best_step, progress.step, progress.stopped_early, progress.history)
    };

    voice.save(&job.out.join(FOLDER))?;
    let rows = align(&voice, &train, limit, job)?;
    let durations: Vec<Vec<i64>> = rows.iter().map(|row| row.durations.iter().map(|&frames| frames.into()).collect()).collect();
    let paths: Vec<f64> = rows.iter().filter_map(|row| row.path_log_probability).collect();
    let quality = AlignmentQuality::of(durations.iter().map(Vec::as_slice), &paths);
    report(&rows, &quality, job);
    write_alignments(&job.out.join(ALIGNMENT), &worst(&rows, WORST))?;
    history.save_events(&job.out)?;
    let start = |name: &String| {
        let known = if kept.contains(name) { "kept" } else { "mean" };
        (name.clone(), if new { "random" } else { known }.to_owned())
    };
    VoiceSummary {
        method: params.method.clone(),
        protocol: params.protocol,
        parameters: voice.parameters(),
        metric: METRIC.to_owned(),
        precision: params.precision,
        best_value,
        best_step,
        steps,
        stopped_early,
        learning_rate: params.learning_rate,
        speakers: speakers.iter().map(start).collect(),
        utterances: train.utterances().len() as u64,
        secs: (0..train.utterances().len()).map(|row| data.secs(row)).sum(),
        rejected,
        unvoiced,
        guessed_words,
        alignment: quality,
        curve: history.evaluations,
    }
    .write(&job.out)
}

/// A voice with random weights for a corpus.
fn from_nothing(
    params: &TrainVoice,
    train: &Corpus,
    text: Rules,
    words: BTreeMap<String, String>,
    device: Device,
) -> Result<Voice, ModelError> {
    let symbols = tasks::text::symbols(text.stress);
    let speakers = train.speakers();
    let sizes = params.shape.as_ref().expect("checked before");
    let statistics = train.statistics();
    let config = VoiceConfig {
        format: VoiceConfig::FORMAT,
        shape: shape(sizes, params.protocol, symbols.len(), speakers.len(), train.mel.num_mel_bins),
        method: None,
        text,
        words,
        symbols,
        symbol_prefix: String::new(),
        speakers,
        mel: train.mel.clone(),
        energy: train.energy,
        pitch: PitchScale::Log,
        statistics,
        longest: train.longest(),
    };
    Voice::random(config, train.limits(&statistics), params.seed, device)
}

fn read_table(path: &std::path::Path) -> Result<Vec<Alignment>, StageError> {
    let file = if path.is_dir() { path.join(ALIGNMENT) } else { path.to_owned() };
    read_alignments(&file).map_err(StageError::failed)
}

/// Refuses parameters that do not belong together.
fn check(params: &TrainVoice, base: Option<&Voice>) -> Result<(), TtsError> {
    let whole = matches!(params.method, Method::Finetune(Finetune { scope: Scope::All, layers: None }));
    let setting = |text: &str| Err(TtsError::Setting(text.to_owned()));
    match base {
        None if params.shape.is_none() => setting("a voice without `inputs.base` needs its sizes: give `shape`"),
        None if !whole => {
            let method = params.method.name();
            setting(&format!("`{method}` adapts a voice: give `inputs.base`, or `method = {{ name = \"finetune\" }}`"))
        }
        None if params.max_steps == 0 => setting("a voice without `inputs.base` needs updates: give `max_steps` above 0"),
        Some(_) if params.shape.is_some() => setting("`shape` is that of the base: leave it out"),
        Some(_) if params.text.is_some() => setting("`text` is that of the base: leave it out"),
        _ => Ok(()),
    }
}

/// Refuses features of another kind.
fn same_features(train: &Corpus, dev: &Corpus, base: Option<&Voice>) -> Result<(), TtsError> {
    let (mel, energy) = base.map_or((&train.mel, train.energy), |base| (&base.config.mel, base.config.energy));
    let owner = if base.is_some() { "the base" } else { "the training set" };
    for (name, corpus) in [("training", train), ("dev", dev)] {
        if corpus.mel != *mel {
            let difference = super::vocoder::difference(mel, &corpus.mel);
            return Err(TtsError::Setting(format!("the spectrograms of the {name} set are not those of {owner}: {difference}")));
        }
        if corpus.energy != energy {
            return Err(TtsError::Setting(format!("the energy of the {name} set is on another scale than that of {owner}")));
        }
    }
    Ok(())
}

pub(super) fn learner<'a>(
    params: &TrainVoice,
    voice: &'a Voice,
    statistics: BatchNormMode,
    dev: &'a VoiceData,
    limit: BatchLimit,
) -> VoiceLearner<'a> {
    VoiceLearner {
        voice,
        statistics,
        losses: params.losses,
        ramp: params.binarisation,
        dev,
        limit,
        binarisation: Cell::new(0.0),
        warned: Cell::new(false),
    }
}

/// Reports alignments that have not formed.
fn report(rows: &[Alignment], quality: &AlignmentQuality, job: &Job) {
    if let Some(path) = quality.path_log_probability {
        let share = 100.0 * quality.one_frame_share;
        job.progress.note(&format!(
            "alignment: mean log probability of the paths {path:.2}, {share:.1} % of the symbols with one frame, the longest {} frames",
            quality.longest
        ));
        job.progress.fact("path_log_probability", path.into());
    }
    if let Some(complaint) = quality.complaint() {
        job.progress.note(&warning("train", &complaint, rows));
    }
}

/// Settings of the loop, as the parameters of the stage state them.
pub(super) fn settings(params: &TrainVoice) -> Settings<'_> {
    let rate = |step, total| {
        let warmup = schedule::part(params.warmup_ratio, total);
        params.learning_rate * schedule::factor(&params.schedule, step, warmup, total)
    };
    Settings {
        length: Length::Steps(params.max_steps),
        rate: Box::new(rate),
        constants: Constants {
            rule: params.optimizer.clone(),
            betas: params.betas,
            epsilon: params.epsilon,
            weight_decay: params.weight_decay,
        },
        max_grad_norm: params.max_grad_norm,
        accumulation: params.accumulation as usize,
        eval_every: Some(params.eval_every),
        save_every: None,
        keep_checkpoints: None,
        patience: params.patience,
        metric: METRIC,
        higher_is_better: false,
        keep_last: params.keep == Keep::Last,
        kind: Kind::Float,
        seed: params.seed,
        overfit_batch: params.overfit_batch,
        memory_hint: "lower `batch_frames`, or leave out utterances that long",
    }
}
