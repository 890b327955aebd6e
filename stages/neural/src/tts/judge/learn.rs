//! Training of a judge: the stage `judge.train`.

use std::collections::BTreeSet;

use datasets::shard::RowInfo;
use neural_spec::{JudgeKind, JudgeTrain, Metric, Optimizer, Schedule};
use pipeline::{Job, StageError};
use scoring::{Edits, Unit};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::JudgeError;
use super::clips::{Clips, batch, text_of};
use super::folder::JudgeFile;
use super::network::{self, Network, Words};
use super::vary::vary;
use crate::data::{BatchLimit, by_length, shuffled};
use crate::device;
use crate::error::ModelError;
use crate::evaluate::device_name;
use crate::nn::pass::{Mode, Pass};
use crate::nn::random::Rng;
use crate::nn::weights::Weights;
use crate::train::fit::{Fitted, Length, Settings, Training, fit_alone};
use crate::train::learner::{Learner, TrainingData};
use crate::train::optimizer::Constants;
use crate::train::schedule;
use crate::train::state::StateFolder;
use crate::tts::summary;

/// Utterances that are judged at once.
pub(super) const AT_ONCE: BatchLimit = BatchLimit { samples: usize::MAX, utterances: 32 };
/// Most steps in which the learning rate rises; a tenth of a short training.
const WARMUP: u64 = 100;
/// Share of the steps after which it falls.
const HOLD: f64 = 0.5;

/// The body of the stage `judge.train`.
///
/// Errors: features that cannot be read, [`JudgeError`], what the training reports.
pub fn run(params: &JudgeTrain, job: &Job) -> Result<(), StageError> {
    let folder = StateFolder::open(job)?;
    device::use_threads(job.threads);
    let device = device::of_job(job);
    job.progress.fact("device", device_name(device).into());
    let features = job.inputs.one("features");
    let (train, dev) = (Clips::open(features, "train")?, Clips::open(features, "dev")?);
    let outputs = outputs(params.judge, &train)?;
    let lessons = |split, clips| Lessons::new(params.judge, &outputs, (split, clips), job);
    let (train, dev) = (lessons("train", train)?, lessons("dev", dev)?);
    let file = JudgeFile::new(params, train.clips.mel(), outputs);
    let weights = network::start(params.judge, file.sizes(), params.seed, device).map_err(ModelError::from)?;
    let weights: Weights = weights.into_iter().map(|(name, tensor)| (name, tensor.set_requires_grad(true))).collect();
    let learner = JudgeLearner {
        network: Network::new(params.judge, &weights),
        weights: &weights,
        file: &file,
        dev: &dev,
        vary: params.vary,
        device,
    };
    let data = JudgeData {
        lessons: &train,
        limit: BatchLimit { samples: usize::MAX, utterances: params.batch_size as usize },
        seed: params.seed,
    };
    let metric = metric(params.judge);
    let settings = Settings {
        length: Length::Epochs(params.epochs),
        rate: Box::new(|step, total| {
            // Updates are counted from 0 here, and an update without a rate would be lost.
            let rise = ((step + 1) as f64 / WARMUP.min(total / 10).max(1) as f64).min(1.0);
            params.learning_rate * rise.min(schedule::factor(&Schedule::TriStageUntil { until: HOLD }, step, 0, total))
        }),
        constants: Constants { rule: Optimizer::Adamw {}, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: params.weight_decay },
        max_grad_norm: 1.0,
        accumulation: 1,
        eval_every: None,
        save_every: None,
        keep_checkpoints: None,
        patience: None,
        keep_last: false,
        metric: metric.name(),
        higher_is_better: metric.higher_is_better(),
        kind: Kind::Float,
        seed: params.seed,
        overfit_batch: false,
        memory_hint: "lower `batch_size`",
    };
    let Fitted { progress, best, .. } = fit_alone(&Training { settings, job, folder: &folder, learner: &learner, data: &data })?;
    let best: Weights = best.into_iter().collect();
    let parameters: usize = best.values().map(Tensor::numel).sum();
    file.write(&job.out, &best)?;
    summary::write_fitted(&job.out, &progress, parameters, ("judge", json!(params.judge)), json!(metric))
}

/// Metric by which the best point is chosen.
fn metric(kind: JudgeKind) -> Metric {
    match kind {
        JudgeKind::Words => Metric::Cer,
        JudgeKind::Voice => Metric::Loss,
    }
}

/// Outputs of a judge of these recordings: the blank and all characters, or all speakers.
fn outputs(kind: JudgeKind, clips: &Clips) -> Result<Vec<String>, StageError> {
    match kind {
        JudgeKind::Words => {
            let texts = clips.rows().iter().filter_map(text_of);
            let letters: BTreeSet<char> = texts.flat_map(|text| text.chars().collect::<Vec<_>>()).collect();
            Ok(std::iter::once(String::new()).chain(letters.into_iter().map(String::from)).collect())
        }
        JudgeKind::Voice => {
            let speakers: BTreeSet<&String> = clips.rows().iter().filter_map(|row| row.annotation.speaker.as_ref()).collect();
            if let (1, Some(speaker)) = (speakers.len(), speakers.first()) {
                let error = JudgeError::OneSpeaker { path: clips.path().to_owned(), speaker: (*speaker).clone() };
                return Err(StageError::failed(error));
            }
            Ok(speakers.into_iter().cloned().collect())
        }
    }
}

/// Clips and what is learned of them. A judge of words leaves out those whose texts have none.
struct Lessons {
    clips: Clips,
    /// Rows of the clips.
    rows: Vec<usize>,
    /// Letters or speaker of each.
    targets: Vec<Vec<i64>>,
    /// Text of each; empty for a judge of voices.
    texts: Vec<String>,
    lengths: Vec<usize>,
}

impl Lessons {
    fn new(kind: JudgeKind, outputs: &[String], (split, clips): (&str, Clips), job: &Job) -> Result<Self, StageError> {
        let (mut rows, mut targets, mut texts, mut without) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let missing = |row: &RowInfo, missing| {
            StageError::failed(JudgeError::Missing { id: row.id.clone(), path: clips.path().to_owned(), missing })
        };
        for (at, row) in clips.rows().iter().enumerate() {
            let text = text_of(row);
            let (target, text) = match (kind, text) {
                (JudgeKind::Words, None) => {
                    without.push(row);
                    continue;
                }
                (JudgeKind::Words, Some(text)) => (spelled(outputs, &text), text),
                (JudgeKind::Voice, _) => {
                    let speaker = row.annotation.speaker.as_ref().ok_or_else(|| missing(row, "speaker"))?;
                    let place = outputs.iter().position(|name| name == speaker);
                    (vec![place.ok_or_else(|| missing(row, "speaker of the training set"))? as i64], String::new())
                }
            };
            rows.push(at);
            targets.push(target);
            texts.push(text);
        }
        if let Some(first) = without.first() {
            if rows.is_empty() {
                return Err(missing(first, "text with words, and no other has"));
            }
            let (count, all) = (without.len(), clips.rows().len());
            job.progress.note(&format!("{split}: {count} of {all} utterances left out; the text of `{}` has no words", first.id));
        }
        let lengths = rows.iter().map(|&row| clips.rows()[row].num_samples).collect();
        Ok(Self { clips, rows, targets, texts, lengths })
    }

    fn load(&self, rows: Vec<usize>) -> Result<JudgeBatch, StageError> {
        // The longest first, as recurrent layers want them.
        let mut rows = rows;
        rows.sort_by_key(|&row| std::cmp::Reverse(self.lengths[row]));
        let mels = rows.iter().map(|&row| self.clips.load(self.rows[row])).collect::<Result<_, _>>()?;
        let targets = rows.iter().map(|&row| self.targets[row].clone()).collect();
        Ok(JudgeBatch { mels, targets, texts: rows.into_iter().map(|row| self.texts[row].clone()).collect() })
    }
}

/// Numbers of the characters of a text; characters that no recording has are left out.
pub(super) fn spelled(outputs: &[String], text: &str) -> Vec<i64> {
    let mut buffer = [0; 4];
    text.chars()
        .filter_map(|c| {
            let c: &str = c.encode_utf8(&mut buffer);
            outputs.iter().position(|output| output == c).map(|at| at as i64)
        })
        .collect()
}

/// Texts that were heard: the best character of each frame, runs as one, blanks left out.
pub(super) fn heard(outputs: &[String], logits: &Tensor, counts: &[i64]) -> Result<Vec<String>, ModelError> {
    let best = Vec::<Vec<i64>>::try_from(logits.f_argmax(-1, false)?.f_to_device(Device::Cpu)?)?;
    let text = |(path, &count): (&Vec<i64>, &i64)| {
        let mut path = path[..count as usize].to_vec();
        path.dedup();
        let text: String = path.iter().map(|&at| outputs[at as usize].as_str()).collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    Ok(best.iter().zip(counts).map(text).collect())
}

/// Spectrograms and targets, the longest first.
struct JudgeBatch {
    mels: Vec<Vec<f32>>,
    targets: Vec<Vec<i64>>,
    texts: Vec<String>,
}

struct JudgeData<'a> {
    lessons: &'a Lessons,
    limit: BatchLimit,
    seed: u64,
}

impl TrainingData for JudgeData<'_> {
    type Batch = JudgeBatch;

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        shuffled(&self.lessons.lengths, self.limit, self.seed, epoch)
    }

    fn load(&self, rows: Vec<Vec<usize>>, _: Device) -> impl Iterator<Item = Result<JudgeBatch, StageError>> {
        rows.into_iter().map(|rows| self.lessons.load(rows))
    }

    fn id(&self, row: usize) -> &str {
        &self.lessons.clips.rows()[self.lessons.rows[row]].id
    }

    fn secs(&self, row: usize) -> f64 {
        self.lessons.lengths[row] as f64 / f64::from(self.lessons.clips.mel().sample_rate)
    }
}

struct JudgeLearner<'a> {
    network: Network,
    weights: &'a Weights,
    file: &'a JudgeFile,
    dev: &'a Lessons,
    vary: bool,
    device: Device,
}

impl JudgeLearner<'_> {
    fn bands(&self) -> usize {
        self.file.mel.num_mel_bins
    }

    /// Losses of a batch's utterances, and the texts that were heard or the speakers that were named.
    fn judge(&self, batch: &JudgeBatch, mels: &[Vec<f32>], pass: &Pass) -> Result<(Tensor, Answers), ModelError> {
        let (mel, counts) = self::batch(mels, self.bands(), self.device)?;
        match &self.network {
            Network::Words(words) => {
                let (logits, frames) = words.forward(&mel, &counts, pass)?;
                let losses = Words::losses(&logits, &frames, &batch.targets)?;
                let texts = if pass.trains() { Vec::new() } else { heard(&self.file.outputs, &logits, &frames)? };
                Ok((losses, Answers::Texts(texts)))
            }
            Network::Voice(voice) => {
                let vectors = voice.forward(&mel, &counts)?;
                let losses = voice.losses(&vectors, &batch.targets.concat())?;
                let named = Vec::try_from(voice.cosines(&vectors)?.f_argmax(-1, false)?)?;
                Ok((losses, Answers::Speakers(named)))
            }
        }
    }
}

enum Answers {
    Texts(Vec<String>),
    Speakers(Vec<i64>),
}

impl Learner for JudgeLearner<'_> {
    type Batch = JudgeBatch;

    fn trainable(&self) -> Vec<(String, Tensor)> {
        self.weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    fn device(&self) -> Device {
        self.device
    }

    fn loss(&self, batch: &JudgeBatch, seed: u64) -> Result<Tensor, ModelError> {
        let mut mels = batch.mels.clone();
        if self.vary {
            for (at, mel) in mels.iter_mut().enumerate() {
                vary(mel, self.bands(), &mut Rng::named(seed, &format!("variation {at}")));
            }
        }
        let (losses, _) = self.judge(batch, &mels, &Pass::begin(Mode::Train { seed }))?;
        Ok(losses.f_sum(Kind::Float)?)
    }

    fn evaluate(&self, job: &Job) -> Result<Vec<(&'static str, f64)>, StageError> {
        let (mut loss, mut right) = (0.0, 0_usize);
        let (mut words, mut characters) = (Edits::default(), Edits::default());
        for rows in by_length(&self.dev.lengths, AT_ONCE) {
            if job.stop.requested() {
                return Err(StageError::Stopped);
            }
            let batch = self.dev.load(rows)?;
            let judged = tch::no_grad(|| self.judge(&batch, &batch.mels, &Pass::begin(Mode::Eval)));
            let (losses, answers) = judged?;
            loss += losses.f_sum(Kind::Double).map_err(ModelError::from)?.double_value(&[]);
            match answers {
                Answers::Speakers(named) => {
                    right += named.iter().zip(&batch.targets).filter(|(named, target)| **named == target[0]).count();
                }
                Answers::Texts(texts) => {
                    for (heard, said) in texts.iter().zip(&batch.texts) {
                        words += Unit::Word.count(said, heard);
                        characters += Unit::Character.count(said, heard);
                    }
                }
            }
        }
        let count = self.dev.lengths.len() as f64;
        Ok(match self.file.judge {
            JudgeKind::Words => {
                vec![
                    (Metric::Wer.name(), words.rate()),
                    (Metric::Cer.name(), characters.rate()),
                    (Metric::Loss.name(), loss / count),
                ]
            }
            JudgeKind::Voice => vec![(Metric::Accuracy.name(), right as f64 / count), (Metric::Loss.name(), loss / count)],
        })
    }
}
