//! Training of a vocoder: the stage `vocoder.train`.

use std::path::{Path, PathBuf};

use audio::features::mel::MelSpectrogram;
use audio::features::stages::TrackError;
use audio::reader::ShardReader;
use neural_spec::{Optimizer, VocoderTrain};
use pipeline::{Job, StageError};
use serde_json::json;
use tch::{Device, Kind, TchError, Tensor};

use crate::device;
use crate::error::ModelError;
use crate::evaluate::device_name;
use crate::models::istft::{Istft, IstftConfig, IstftSizes};
use crate::nn::random::Rng;
use crate::nn::weights::Weights;
use crate::train::fit::{Fitted, Length, Settings, Training, fit_alone};
use crate::train::learner::{Learner, TrainingData};
use crate::train::optimizer::Constants;
use crate::train::state::StateFolder;
use crate::tts::summary;

/// Steps in which the learning rate rises.
const WARMUP: f64 = 100.0;
/// Share of the steps in which it falls, and its least share.
const FALL: [f64; 2] = [0.8, 0.05];
/// Weights of the losses: mel spectrogram, spectra.
const WEIGHTS: [f64; 2] = [10.0, 2.0];
/// Most clips of the dev set that an evaluation hears, evenly spread.
const DEV_CLIPS: usize = 60;
/// Name of the measure by which points are compared: mean absolute error of the log mel spectrogram.
const MEASURE: &str = "mel_error";

/// Recordings that no vocoder can be trained on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VocoderDataError {
    /// Frames that are not centred on their samples, or a spectrogram that is not described.
    #[error("`{path}` has no spectrogram that an inverse transform fits")]
    Spectrogram {
        /// The features.
        path: PathBuf,
    },
    /// A stretch shorter than half a transform, which its mirrored ends fill.
    #[error("a stretch has {length} samples, expected more than half of the {n_fft} samples of a transform")]
    ShortSegment {
        /// Samples of a stretch.
        length: usize,
        /// Samples of a transform.
        n_fft: usize,
    },
    /// Nothing to learn from.
    #[error("`{path}` has no recordings")]
    Empty {
        /// The shard.
        path: PathBuf,
    },
}

/// The body of the stage `vocoder.train`: writes the folder of a vocoder, `training.json` and `events/`.
///
/// Errors: recordings that cannot be read, [`VocoderDataError`], what the training reports.
pub fn run(params: &VocoderTrain, job: &Job) -> Result<(), StageError> {
    let folder = StateFolder::open(job)?;
    device::use_threads(job.threads);
    let device = device::of_job(job);
    job.progress.fact("device", device_name(device).into());
    let open = |split: &str| Pairs::open(job.inputs.one("shards"), job.inputs.one("features"), split);
    let (train, dev) = (open("train")?, open("dev")?);
    let sizes = IstftSizes { channels: params.channels, inner: params.inner, layers: params.layers };
    let config = IstftConfig::new(&train.mel, sizes).ok_or_else(|| spectrogram_error(job.inputs.one("features")))?;
    let weights: Weights = {
        let start = config.start(params.seed, device).map_err(ModelError::from)?;
        start.into_iter().map(|(name, tensor)| (name, tensor.set_requires_grad(true))).collect()
    };
    let length = (params.segment_frames as usize - 1) * config.mel.hop_length;
    if length <= config.mel.n_fft / 2 {
        let error = VocoderDataError::ShortSegment { length, n_fft: config.mel.n_fft };
        return Err(StageError::failed(error).with_hint("raise `segment_frames`"));
    }
    let learner = VocoderLearner {
        vocoder: Istft::new(&config, &weights, device).map_err(ModelError::from)?,
        weights: &weights,
        spectra: Spectra::new(&config.mel, device).map_err(ModelError::from)?,
        dev: &dev,
        segment: params.segment_frames as usize,
        device,
    };
    let data = VocoderData { pairs: &train, batch_size: params.batch_size as usize, seed: params.seed };
    let settings = Settings {
        length: Length::Steps(params.max_steps),
        rate: Box::new(|step, total| {
            let (step, total) = ((step + 1) as f64, total as f64);
            params.learning_rate * (step / WARMUP).min(((total - step) / (FALL[0] * total)).max(FALL[1])).min(1.0)
        }),
        constants: Constants { rule: Optimizer::Adamw {}, betas: [0.8, 0.99], epsilon: 1e-8, weight_decay: 0.01 },
        max_grad_norm: 10.0,
        accumulation: 1,
        eval_every: Some(params.eval_every),
        save_every: None,
        keep_checkpoints: None,
        patience: None,
        keep_last: false,
        metric: MEASURE,
        higher_is_better: false,
        kind: Kind::Float,
        seed: params.seed,
        overfit_batch: false,
        memory_hint: "lower `batch_size` or `segment_frames`",
    };
    let Fitted { progress, best, .. } = fit_alone(&Training { settings, job, folder: &folder, learner: &learner, data: &data })?;
    let best: Weights = best.into_iter().collect();
    config.write(&job.out, &best).map_err(ModelError::from)?;
    let parameters: usize = best.values().map(Tensor::numel).sum();
    summary::write_fitted(&job.out, &progress, parameters, ("vocoder", json!("istft")), json!(MEASURE))
}

fn spectrogram_error(path: &Path) -> StageError {
    let error = StageError::failed(VocoderDataError::Spectrogram { path: path.to_owned() });
    error
        .with_hint("give a features.log_mel node with `energy` and the recipe `tacotron` or `speecht5`, whose frames are centred")
}

/// Recordings and their spectrograms.
struct Pairs {
    shards: ShardReader,
    features: ShardReader,
    mel: MelSpectrogram,
}

/// A recording and its spectrogram.
struct Pair {
    samples: Vec<f32>,
    mel: Vec<f32>,
}

impl Pairs {
    fn open(shards: &Path, features: &Path, split: &str) -> Result<Self, StageError> {
        let of = |folder: &Path| folder.join(format!("{split}.parquet"));
        let open = |folder: &Path| ShardReader::open(&[of(folder)]).map_err(StageError::failed);
        let path = of(features);
        let (shards, features) = (open(shards)?, open(features)?);
        let mel = features.features().and_then(|info| info.mel.clone()).ok_or_else(|| spectrogram_error(&path))?;
        if shards.rows().is_empty() {
            return Err(StageError::failed(VocoderDataError::Empty { path }));
        }
        let id = |reader: &ShardReader, row: usize| reader.rows().get(row).map_or_else(String::new, |row| row.id.clone());
        let rows = shards.rows().len().max(features.rows().len());
        if let Some(row) = (0..rows).find(|&row| id(&shards, row) != id(&features, row)) {
            let error = TrackError::OtherUtterances { path, found: id(&features, row), expected: id(&shards, row) };
            return Err(StageError::failed(error));
        }
        Ok(Self { shards, features, mel })
    }

    fn load(&self, row: usize) -> Result<Pair, StageError> {
        let samples = self.shards.load(row).map_err(StageError::failed)?;
        let mel = self.features.load_features(row).map_err(StageError::failed)?.unwrap_or_default();
        Ok(Pair { samples, mel })
    }
}

struct VocoderData<'a> {
    pairs: &'a Pairs,
    batch_size: usize,
    seed: u64,
}

impl TrainingData for VocoderData<'_> {
    type Batch = Vec<Pair>;

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        let count = self.pairs.shards.rows().len();
        let mut rows = Rng::named(self.seed, &format!("order of epoch {epoch}")).choose(count, count);
        // A last batch of few recordings would weigh as much as the others.
        let whole = (count / self.batch_size).max(1) * self.batch_size;
        rows.truncate(whole);
        rows.chunks(self.batch_size).map(<[usize]>::to_vec).collect()
    }

    fn load(&self, rows: Vec<Vec<usize>>, _: Device) -> impl Iterator<Item = Result<Vec<Pair>, StageError>> {
        rows.into_iter().map(|rows| rows.into_iter().map(|row| self.pairs.load(row)).collect())
    }

    fn id(&self, row: usize) -> &str {
        &self.pairs.shards.rows()[row].id
    }

    fn secs(&self, row: usize) -> f64 {
        self.pairs.shards.rows()[row].num_samples as f64 / f64::from(self.pairs.mel.sample_rate)
    }
}

struct VocoderLearner<'a> {
    vocoder: Istft,
    weights: &'a Weights,
    spectra: Spectra,
    dev: &'a Pairs,
    /// Frames of a stretch.
    segment: usize,
    device: Device,
}

impl VocoderLearner<'_> {
    fn tensor(&self, values: &[f32], shape: &[i64]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(values)?.f_view(shape)?.f_to_device(self.device)
    }
}

impl Learner for VocoderLearner<'_> {
    type Batch = Vec<Pair>;

    fn trainable(&self) -> Vec<(String, Tensor)> {
        self.weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    fn device(&self) -> Device {
        self.device
    }

    fn loss(&self, batch: &Vec<Pair>, seed: u64) -> Result<Tensor, ModelError> {
        let (bands, hop) = (self.spectra.mel.num_mel_bins, self.spectra.mel.hop_length);
        let (count, frames) = (batch.len() as i64, self.segment);
        let (mut mels, mut samples) = (Vec::new(), Vec::new());
        for (at, pair) in batch.iter().enumerate() {
            let all = pair.mel.len() / bands;
            let first = Rng::named(seed, &format!("stretch {at}")).below(all.saturating_sub(frames).max(1));
            mels.extend(cut(&pair.mel, first * bands, frames * bands, self.spectra.silence));
            samples.extend(cut(&pair.samples, first * hop, (frames - 1) * hop, 0.0));
        }
        let mel = self.tensor(&mels, &[count, frames as i64, bands as i64])?;
        let real = self.tensor(&samples, &[count, ((frames - 1) * hop) as i64])?;
        let found = self.vocoder.forward(&mel)?;
        let off = self.spectra.mel_error(&found, &real)?.f_mul_scalar(WEIGHTS[0])?;
        Ok(off.f_add(&self.spectra.spectrum_error(&found, &real)?.f_mul_scalar(WEIGHTS[1])?)?.f_mul_scalar(count)?)
    }

    fn evaluate(&self, job: &Job) -> Result<Vec<(&'static str, f64)>, StageError> {
        let rows = self.dev.shards.rows().len();
        let step = rows.div_ceil(DEV_CLIPS).max(1);
        let (mut sum, mut count) = (0.0, 0);
        for row in (0..rows).step_by(step) {
            if job.stop.requested() {
                return Err(StageError::Stopped);
            }
            let pair = self.dev.load(row)?;
            let bands = self.spectra.mel.num_mel_bins;
            let frames = pair.mel.len() / bands;
            let length = frames.saturating_sub(1) * self.spectra.mel.hop_length;
            if length <= self.spectra.mel.n_fft {
                continue; // too short for a spectrum
            }
            let error = tch::no_grad(|| {
                let mel = self.tensor(&pair.mel, &[1, frames as i64, bands as i64])?;
                let real = self.tensor(&cut(&pair.samples, 0, length, 0.0), &[1, length as i64])?;
                self.spectra.mel_error(&self.vocoder.forward(&mel)?, &real)
            });
            sum += error.map_err(ModelError::from)?.double_value(&[]);
            count += 1;
        }
        Ok(vec![(MEASURE, sum / f64::from(count))])
    }
}

/// `length` values from `start`, `fill` behind the end.
fn cut(values: &[f32], start: usize, length: usize, fill: f32) -> Vec<f32> {
    let end = (start + length).min(values.len());
    let mut part = values.get(start..end).unwrap_or_default().to_vec();
    part.resize(length, fill);
    part
}

/// Transforms by which samples are compared.
struct Spectra {
    mel: MelSpectrogram,
    /// (bins, bands)
    basis: Tensor,
    window: Tensor,
    /// Windows of the other transforms, by their length.
    windows: Vec<(i64, Tensor)>,
    /// Value of a silent band.
    silence: f32,
}

impl Spectra {
    fn new(mel: &MelSpectrogram, device: Device) -> Result<Self, TchError> {
        let rows = mel.basis();
        let flat: Vec<f32> = rows.iter().flatten().map(|&weight| weight as f32).collect();
        let basis = Tensor::f_from_slice(&flat)?
            .f_view([rows.len() as i64, -1])?
            .f_transpose(0, 1)?
            .f_contiguous()?
            .f_to_device(device)?;
        let window = |length: i64| Tensor::f_hann_window(length, (Kind::Float, device));
        let mut windows = Vec::new();
        for part in [8, 4, 2, 1] {
            let length = (mel.n_fft / part) as i64;
            if length >= 16 {
                windows.push((length, window(length)?));
            }
        }
        let silence = mel.apply(&vec![0.0; mel.n_fft])[0][0] as f32;
        let margin = (mel.n_fft - mel.win_length) as i64;
        let window = window(mel.win_length as i64)?.f_constant_pad_nd([margin / 2, margin - margin / 2])?;
        Ok(Self { mel: mel.clone(), basis, window, windows, silence })
    }

    /// Magnitudes (B, T, bins) of frames that are centred on their samples, the ends mirrored, as in the features.
    ///
    /// Of operations whose backward passes have one order of additions on every device, unlike that of libtorch's transform.
    fn magnitudes(samples: &Tensor, [size, hop]: [i64; 2], window: &Tensor, least: f64) -> Result<Tensor, TchError> {
        let (half, length) = (size / 2, samples.size()[1]);
        let before = samples.f_narrow(1, 1, half)?.f_flip([1])?;
        let after = samples.f_narrow(1, length - 1 - half, half)?.f_flip([1])?;
        let frames = Tensor::f_cat(&[&before, samples, &after], 1)?.f_unfold(1, size, hop)?;
        frames.f_mul(window)?.f_fft_rfft(None, -1, "backward")?.f_abs()?.f_clamp_min(least)
    }

    /// Mean absolute difference of the log mel spectrograms, natural logarithm.
    fn mel_error(&self, a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
        let sizes = [self.mel.n_fft, self.mel.hop_length].map(|size| size as i64);
        let log = |x: &Tensor| Self::magnitudes(x, sizes, &self.window, 1e-9)?.f_matmul(&self.basis)?.f_clamp_min(1e-5)?.f_log();
        log(a)?.f_sub(&log(b)?)?.f_abs()?.f_mean(Kind::Float)
    }

    /// Distance of the spectra: of their logarithms, and relative to the norm of the real one; the sum over all transforms.
    fn spectrum_error(&self, found: &Tensor, real: &Tensor) -> Result<Tensor, TchError> {
        let mut sum = Tensor::f_zeros([], (Kind::Float, found.device()))?;
        for (size, window) in &self.windows {
            let of = |x: &Tensor| Self::magnitudes(x, [*size, size / 4], window, 1e-5);
            let (found, real) = (of(found)?, of(real)?);
            let logs = found.f_log()?.f_sub(&real.f_log()?)?.f_abs()?.f_mean(Kind::Float)?;
            let norm = |x: &Tensor| x.f_square()?.f_sum(Kind::Float)?.f_sqrt();
            sum = sum.f_add(&logs)?.f_add(&norm(&found.f_sub(&real)?)?.f_div(&norm(&real)?)?)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use audio::features::mel::Recipe;

    use super::*;

    #[test]
    fn spectra_are_those_of_the_features() {
        let (sample_rate, n_fft, hop_length, win_length) = (8_000, 64, 16, 48);
        let (num_mel_bins, low_hz, high_hz, recipe) = (5, 0.0, 4_000.0, Recipe::Tacotron);
        let mel = MelSpectrogram { sample_rate, n_fft, hop_length, win_length, num_mel_bins, low_hz, high_hz, recipe };
        let spectra = Spectra::new(&mel, Device::Cpu).unwrap();
        let clip = |step: usize| (0..320).map(|at| ((at * at * step) % 101) as f32 / 101.0 - 0.5).collect::<Vec<f32>>();
        let (a, b) = (clip(3), clip(7));
        let tensor = |samples: &[f32]| Tensor::from_slice(samples).unsqueeze(0);
        let found = spectra.mel_error(&tensor(&a), &tensor(&b)).unwrap().double_value(&[]);
        let (x, y) = (mel.apply(&a).concat(), mel.apply(&b).concat());
        let expected = x.iter().zip(&y).map(|(x, y)| (x - y).abs()).sum::<f64>() / x.len() as f64;
        assert!((found - expected).abs() < 1e-4 && expected > 0.1, "{found}, expected {expected}");
        assert!(spectra.spectrum_error(&tensor(&a), &tensor(&a)).unwrap().double_value(&[]) < 1e-6);
        assert_eq!(spectra.windows.iter().map(|(size, _)| *size).collect::<Vec<_>>(), [16, 32, 64]);
    }
}
