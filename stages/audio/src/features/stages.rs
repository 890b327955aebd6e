//! Stages `features.fbank`, `features.mfcc`, `features.log_mel` and `features.pitch`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use pipeline::{Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fbank::{FilterBank, Window, cepstra, normalise, stack};
use super::mel::{Energy, MelSpectrogram, Recipe};
use super::pitch::{Pitch, Pyin};
use super::shard::{FILES, convert_streams};
use super::streams::StreamReader;
use super::{FeatureInfo, Format, StreamInfo};

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

/// Mel spectrograms as vocoders and Whisper-like models take them. With `energy` the shard has a second stream of that name, and
/// describes its spectrogram, so that a vocoder can be compared with it.
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
    /// Storage format of a number.
    pub format: Format,
    /// Scale of the energy of every frame, the norm of its magnitudes: `log` or `linear`. Without it no energy is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
}

/// Fundamental frequency and voicing of every frame of a feature shard, by probabilistic YIN. The shard is written again with two
/// more streams: `f0` (in Hz, 0 where unvoiced) and `voicing` (probability).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackPitch {
    /// Rate of the shards, in Hz.
    pub sample_rate: u32,
    /// Samples from one frame to the next; as in the features.
    pub hop_length: u32,
    /// Samples of a frame of the tracker: about four periods of `min_hz`, two at least.
    pub frame_length: u32,
    /// Lowest frequency, in Hz: 60 to 65 for speech.
    pub min_hz: f64,
    /// Highest frequency, in Hz: 400 for men's voices, 600 for any.
    pub max_hz: f64,
    /// Mean of the thresholds below which a frame is voiced: 0.1, 0.15 and 0.2 in the paper. A higher one hears rough and noisy voices, too,
    /// and more of what is none. Default 0.1, as in librosa.
    #[serde(default = "tenth", skip_serializing_if = "is_tenth")]
    pub mean_threshold: f64,
}

fn tenth() -> f64 {
    0.1
}
#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::float_cmp,
    reason = "serde hands a reference; the default itself is left out"
)]
fn is_tenth(value: &f64) -> bool {
    *value == tenth()
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
    features: impl Fn(&[f32]) -> Vec<Vec<f64>> + Sync,
) -> Result<(), StageError> {
    let info = FeatureInfo::new(kind, width, format);
    let flat = |samples: &[f32]| features(samples).into_iter().flatten().map(|value| value as f32).collect();
    convert_streams(job.inputs.one("shards"), sample_rate, &info, job, &|_, _, _, samples| Ok(vec![flat(samples)]))
}

impl Stage for Fbank {
    const KIND: &'static str = "features.fbank";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Kaldi's filter bank of every utterance of a shard";

    fn slots() -> Vec<Slot> {
        slots()
    }
    fn outputs(&self) -> Vec<String> {
        FILES.map(str::to_owned).to_vec()
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
    fn outputs(&self) -> Vec<String> {
        FILES.map(str::to_owned).to_vec()
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
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "A mel spectrogram of every utterance of a shard";

    fn slots() -> Vec<Slot> {
        slots()
    }
    fn outputs(&self) -> Vec<String> {
        FILES.map(str::to_owned).to_vec()
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
        if self.energy.is_some() && self.recipe == Recipe::PowerDb {
            mistakes.push(("energy", "is the norm of magnitudes, which the recipe `power_db` has not".to_owned()));
        }
        mistakes
    }
}

impl LogMel {
    /// The spectrogram that the parameters describe.
    pub fn spectrogram(&self) -> MelSpectrogram {
        MelSpectrogram {
            sample_rate: self.sample_rate,
            n_fft: self.n_fft as usize,
            hop_length: self.hop_length as usize,
            win_length: self.win_length as usize,
            num_mel_bins: self.num_mel_bins as usize,
            low_hz: self.low_hz,
            high_hz: self.high_hz,
            recipe: self.recipe,
        }
    }
}

/// Body of the stage `features.log_mel`.
///
/// Errors: shards that cannot be read, files that cannot be written.
pub fn run_log_mel(params: &LogMel, job: &Job) -> Result<(), StageError> {
    let spectrogram = params.spectrogram();
    let width = spectrogram.num_mel_bins;
    let Some(energy) = params.energy else {
        return run(LogMel::KIND, params.sample_rate, width, params.format, job, |samples| spectrogram.apply(samples));
    };
    let mut info = FeatureInfo::new(LogMel::KIND, width, params.format);
    info.mel = Some(spectrogram.clone());
    info.energy = Some(energy);
    info.streams.push(StreamInfo::of_frames("energy"));
    convert_streams(job.inputs.one("shards"), params.sample_rate, &info, job, &|_, _, _, samples| {
        let (frames, energy) = spectrogram.apply_with_energy(samples, energy);
        Ok(vec![frames.concat().into_iter().map(|x| x as f32).collect(), energy.into_iter().map(|x| x as f32).collect()])
    })
}

/// Features that a pitch track does not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// Features and recordings of different corpora or splits.
    #[error("`{path}` has the utterance `{found}` where the shards have `{expected}`")]
    OtherUtterances {
        /// The feature shard.
        path: std::path::PathBuf,
        /// An id; empty behind the last row.
        found: String,
        /// An id.
        expected: String,
    },
    /// Features of another hop or padding.
    #[error("`{id}` has {found} frames in the features and {expected} with a hop of {hop_length} samples")]
    Frames {
        /// The utterance.
        id: String,
        /// Frames in the features.
        found: usize,
        /// Frames of the track.
        expected: usize,
        /// In samples.
        hop_length: u32,
    },
    /// A shard that has a pitch track.
    #[error("`{path}` has a stream `{name}` already")]
    Twice {
        /// The feature shard.
        path: std::path::PathBuf,
        /// The stream.
        name: String,
    },
}

impl Stage for TrackPitch {
    const KIND: &'static str = "features.pitch";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "adds fundamental frequency and voicing to every utterance of a feature shard";

    fn slots() -> Vec<Slot> {
        let mut slots = slots();
        slots.push(Slot::one("features", "a features.log_mel node of these shards, whose frames the track follows"));
        slots
    }
    fn outputs(&self) -> Vec<String> {
        FILES.map(str::to_owned).to_vec()
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        let nyquist = f64::from(self.sample_rate) / 2.0;
        require(&mut mistakes, self.hop_length > 0, "hop_length", "above 0", self.hop_length);
        require(&mut mistakes, self.min_hz >= 20.0, "min_hz", "20 Hz or more", self.min_hz);
        let range = self.max_hz > self.min_hz && self.max_hz <= nyquist;
        require(&mut mistakes, range, "max_hz", &format!("above min_hz and at most {nyquist}"), self.max_hz);
        if self.min_hz >= 20.0 {
            let least = (2.0 * f64::from(self.sample_rate) / self.min_hz).ceil();
            let fits = f64::from(self.frame_length) >= least && self.frame_length.is_multiple_of(2);
            let expected = format!("even and at least {least}, two periods of min_hz");
            require(&mut mistakes, fits, "frame_length", &expected, self.frame_length);
        }
        let fits = (0.01..=0.5).contains(&self.mean_threshold);
        require(&mut mistakes, fits, "mean_threshold", "between 0.01 and 0.5", self.mean_threshold);
        mistakes
    }
}

/// Body of the stage `features.pitch`.
///
/// Errors: shards or features that cannot be read, or that do not belong together ([`TrackError`]); files that cannot be written.
pub fn run_pitch(params: &TrackPitch, job: &Job) -> Result<(), StageError> {
    let folder = job.inputs.one("features");
    let mut sources = Vec::new();
    for file in FILES {
        sources.push(StreamReader::open(&folder.join(file)).map_err(StageError::failed)?);
    }
    let mut info = sources[0].info().clone();
    for name in ["f0", "voicing"] {
        if info.stream(name).is_some() {
            let error = TrackError::Twice { path: sources[0].path().to_owned(), name: name.to_owned() };
            return Err(StageError::failed(error).with_hint("give `features` a features.log_mel node"));
        }
    }
    let names: Vec<&str> = sources[0].info().streams.iter().map(|stream| stream.name.as_str()).collect();
    info.streams.extend(["f0", "voicing"].map(StreamInfo::of_frames));
    let tracker = Pyin {
        sample_rate: params.sample_rate,
        min_hz: params.min_hz,
        max_hz: params.max_hz,
        frame_length: params.frame_length as usize,
        hop_length: params.hop_length as usize,
        mean_threshold: params.mean_threshold,
    };
    let voiceless = Mutex::new(BTreeSet::new());
    convert_streams(job.inputs.one("shards"), params.sample_rate, &info, job, &|file, row, id, samples| {
        let source = &sources[file];
        let found = source.rows().get(row).map_or("", |row| row.id.as_str());
        if found != id {
            let (path, found, expected) = (source.path().to_owned(), found.to_owned(), id.to_owned());
            return Err(StageError::failed(TrackError::OtherUtterances { path, found, expected }));
        }
        let mut streams = source.load(row, &names).map_err(StageError::failed)?;
        let num_frames = streams[0].len() / info.width;
        let centred = if samples.is_empty() { 0 } else { 1 + samples.len() / tracker.hop_length };
        let same_hop = info.mel.as_ref().is_none_or(|mel| mel.hop_length == tracker.hop_length);
        let (expected, centre) = match &info.mel {
            Some(mel) if same_hop => mel.frames_of(samples.len()),
            _ => (centred, 0),
        };
        if num_frames != expected || !same_hop {
            let (id, hop_length) = (id.to_owned(), params.hop_length);
            let error = TrackError::Frames { id, found: num_frames, expected, hop_length };
            return Err(StageError::failed(error).with_hint("`hop_length` of the features and of the pitch must be the same"));
        }
        let track = tracker.track(samples, num_frames, centre);
        if track.iter().all(|pitch| pitch.hz <= 0.0) {
            voiceless.lock().unwrap_or_else(PoisonError::into_inner).insert((file, row, id.to_owned()));
        }
        let stream = |of: fn(&Pitch) -> f64| track.iter().map(|pitch| of(pitch) as f32).collect::<Vec<f32>>();
        streams.extend([stream(|pitch| pitch.hz), stream(|pitch| pitch.voicing)]);
        Ok(streams)
    })?;
    let voiceless = voiceless.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, _, first)) = voiceless.first() {
        let (count, utterances) = (voiceless.len(), sources.iter().map(|source| source.rows().len()).sum::<usize>());
        job.progress.note(&format!("{count} of {utterances} utterances have no voiced frame; the first: {first}"));
    }
    Ok(())
}
