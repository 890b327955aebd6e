//! The stages `features.fbank`, `features.mfcc` and `features.log_mel`.

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fbank::{FilterBank, Window, cepstra, normalise, stack};
use super::mel::{MelSpectrogram, Recipe};
use super::shard::convert;
use super::{FeatureInfo, Format};

type Mistakes = Vec<(&'static str, String)>;

/// Kaldi's filter bank: logarithms of the energies of mel bands, 25 ms every 10 ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fbank {
    /// The rate of the shards, in Hz.
    pub sample_rate: u32,
    /// Bands.
    pub num_mel_bins: u32,
    /// Lower edge of the lowest band, in Hz. Default 20, as in Kaldi.
    #[serde(default = "low_hz")]
    pub low_hz: f64,
    /// Upper edge of the highest band, in Hz; from 0 downwards it counts from half the sample rate. Default 0, as in Kaldi.
    #[serde(default)]
    pub high_hz: f64,
    /// The window. Default `povey`, as in Kaldi.
    #[serde(default = "povey")]
    pub window: Window,
    /// Whether every band is brought to zero mean and unit variance over the utterance. Default false, as in Kaldi.
    #[serde(default)]
    pub normalise: bool,
    /// Frames that are put after each other into one. Default 1; Wav2Vec2-BERT takes 2.
    #[serde(default = "one")]
    pub stack: u32,
    /// How a number is stored.
    pub format: Format,
}

/// Kaldi's cepstra: a cosine transform of the filter bank, 25 ms every 10 ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mfcc {
    /// The rate of the shards, in Hz.
    pub sample_rate: u32,
    /// Coefficients, the one of the mean energy counted. Default 13, as in Kaldi.
    #[serde(default = "thirteen")]
    pub num_coefficients: u32,
    /// Bands of the filter bank. Default 23, as in Kaldi.
    #[serde(default = "twenty_three")]
    pub num_mel_bins: u32,
    /// How far higher coefficients are raised; 0 leaves them. Default 22, as in Kaldi.
    #[serde(default = "twenty_two")]
    pub lifter: f64,
    /// How a number is stored.
    pub format: Format,
}

/// Mel spectrograms as vocoders and Whisper-like models take them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogMel {
    /// The rate of the shards, in Hz.
    pub sample_rate: u32,
    /// Samples of a transform.
    pub n_fft: u32,
    /// Samples from one frame to the next.
    pub hop_length: u32,
    /// Samples of the window; at most `n_fft`.
    pub win_length: u32,
    /// Bands.
    pub num_mel_bins: u32,
    /// Lower edge of the lowest band, in Hz.
    pub low_hz: f64,
    /// Upper edge of the highest band, in Hz.
    pub high_hz: f64,
    /// Padding, what is summed, and the logarithm.
    pub recipe: Recipe,
    /// How a number is stored.
    pub format: Format,
}

fn low_hz() -> f64 {
    20.0
}
fn povey() -> Window {
    Window::Povey
}
fn one() -> u32 {
    1
}
fn thirteen() -> u32 {
    13
}
fn twenty_three() -> u32 {
    23
}
fn twenty_two() -> f64 {
    22.0
}

fn require(mistakes: &mut Mistakes, ok: bool, name: &'static str, expected: &str, found: impl std::fmt::Display) {
    if !ok {
        mistakes.push((name, format!("must be {expected}, not {found}")));
    }
}

fn slots() -> Vec<Slot> {
    vec![Slot::one("shards", "what an audio.shards node left: train.parquet, dev.parquet and test.parquet")]
}

/// The body of a stage: `features` gives the frames of an utterance.
fn run(
    kind: &str,
    sample_rate: u32,
    width: usize,
    format: Format,
    job: &Job,
    features: impl Fn(&[f32]) -> Vec<Vec<f64>>,
) -> Result<(), StageError> {
    let info = FeatureInfo { kind: kind.to_owned(), width, format, maker: None };
    let flat = |samples: &[f32]| features(samples).into_iter().flatten().map(|value| value as f32).collect();
    convert(job.inputs.one("shards"), sample_rate, &info, job, &mut |_, samples| Ok(flat(samples)))
}

impl Stage for Fbank {
    const KIND: &'static str = "features.fbank";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Kaldi's filter bank of every utterance of a shard";

    fn slots() -> Vec<Slot> {
        slots()
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require(&mut mistakes, self.sample_rate >= 1000, "sample_rate", "1000 Hz or more", self.sample_rate);
        require(&mut mistakes, self.num_mel_bins >= 3, "num_mel_bins", "3 or more", self.num_mel_bins);
        require(&mut mistakes, self.stack >= 1, "stack", "1 or more", self.stack);
        let nyquist = f64::from(self.sample_rate) / 2.0;
        let high = if self.high_hz > 0.0 { self.high_hz } else { nyquist + self.high_hz };
        let band = (0.0..high).contains(&self.low_hz) && high <= nyquist;
        require(&mut mistakes, band, "low_hz", "at least 0 and below high_hz, within half the sample rate", self.low_hz);
        mistakes
    }
}

impl Fbank {
    fn frames(&self, samples: &[f32]) -> Vec<Vec<f64>> {
        let bank = FilterBank {
            num_mel_bins: self.num_mel_bins as usize,
            low_hz: self.low_hz,
            high_hz: self.high_hz,
            window: self.window,
            sample_rate: self.sample_rate,
        };
        let mut frames = bank.apply(samples);
        if self.normalise {
            normalise(&mut frames);
        }
        stack(&frames, self.stack as usize)
    }
}

/// The body of the stage `features.fbank`.
///
/// Errors: shards that cannot be read, files that cannot be written.
pub fn run_fbank(params: &Fbank, job: &Job) -> Result<(), StageError> {
    let width = (params.num_mel_bins * params.stack) as usize;
    run(Fbank::KIND, params.sample_rate, width, params.format, job, |samples| params.frames(samples))
}

impl Stage for Mfcc {
    const KIND: &'static str = "features.mfcc";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Kaldi's cepstra of every utterance of a shard";

    fn slots() -> Vec<Slot> {
        slots()
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        let (coefficients, bands) = (self.num_coefficients, self.num_mel_bins);
        require(&mut mistakes, self.sample_rate >= 1000, "sample_rate", "1000 Hz or more", self.sample_rate);
        require(&mut mistakes, bands >= 3, "num_mel_bins", "3 or more", bands);
        require(&mut mistakes, (1..=bands).contains(&coefficients), "num_coefficients", "1 to num_mel_bins", coefficients);
        require(&mut mistakes, self.lifter >= 0.0, "lifter", "at least 0", self.lifter);
        mistakes
    }
}

/// The body of the stage `features.mfcc`.
///
/// Errors: shards that cannot be read, files that cannot be written.
pub fn run_mfcc(params: &Mfcc, job: &Job) -> Result<(), StageError> {
    let bank = FilterBank {
        num_mel_bins: params.num_mel_bins as usize,
        low_hz: low_hz(),
        high_hz: 0.0,
        window: Window::Povey,
        sample_rate: params.sample_rate,
    };
    let count = params.num_coefficients as usize;
    run(Mfcc::KIND, params.sample_rate, count, params.format, job, |samples| cepstra(&bank.apply(samples), count, params.lifter))
}

impl Stage for LogMel {
    const KIND: &'static str = "features.log_mel";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "A mel spectrogram of every utterance of a shard";

    fn slots() -> Vec<Slot> {
        slots()
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        require(&mut mistakes, self.n_fft >= 2 && self.n_fft.is_multiple_of(2), "n_fft", "even and above 0", self.n_fft);
        require(&mut mistakes, (1..=self.n_fft).contains(&self.hop_length), "hop_length", "1 to n_fft", self.hop_length);
        require(&mut mistakes, (2..=self.n_fft).contains(&self.win_length), "win_length", "2 to n_fft", self.win_length);
        require(&mut mistakes, self.num_mel_bins > 0, "num_mel_bins", "above 0", self.num_mel_bins);
        let nyquist = f64::from(self.sample_rate) / 2.0;
        let band = (0.0..self.high_hz).contains(&self.low_hz) && self.high_hz <= nyquist;
        require(&mut mistakes, band, "high_hz", &format!("above low_hz and at most {nyquist}"), self.high_hz);
        mistakes
    }
}

/// The body of the stage `features.log_mel`.
///
/// Errors: shards that cannot be read, files that cannot be written.
pub fn run_log_mel(params: &LogMel, job: &Job) -> Result<(), StageError> {
    let spectrogram = MelSpectrogram {
        sample_rate: params.sample_rate,
        n_fft: params.n_fft as usize,
        hop_length: params.hop_length as usize,
        win_length: params.win_length as usize,
        num_mel_bins: params.num_mel_bins as usize,
        low_hz: params.low_hz,
        high_hz: params.high_hz,
        recipe: params.recipe,
    };
    run(LogMel::KIND, params.sample_rate, spectrogram.num_mel_bins, params.format, job, |samples| spectrogram.apply(samples))
}
