//! Mel spectrograms as synthesis and Whisper-like models take them.
//!
//! Bands on Slaney's mel scale (linear below 1000 Hz, logarithmic above), each of unit area; Slaney 1998, "Auditory Toolbox",
//! Interval Research technical report 1998-010.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::spectrum::{Spectrum, hann, mirrored};

/// How a spectrum becomes numbers. The recipes differ in padding, in what is summed over a band, and in the logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// Magnitudes; frames centred on their samples, the signal mirrored at its ends; natural logarithm of at least 1e-5 (Shen et al. 2018, arXiv:1712.05884).
    Tacotron,
    /// `sqrt(power + 1e-9)`; mirrored at both ends for half of `n_fft - hop_length`; natural logarithm of at least 1e-5
    /// (Kong et al. 2020, arXiv:2010.05646, reference code).
    Hifigan,
    /// Magnitudes; frames centred on their samples, the signal mirrored at its ends; decimal logarithm of at least 1e-10 (the 16 kHz
    /// vocoder of `SpeechT5`, Ao et al. 2022, arXiv:2110.07205, as transformers 5 computes its input).
    Speecht5,
    /// Power; frames centred on their samples, silence before and after the signal; decibels of at least 1e-10.
    PowerDb,
}

/// The transform and its bands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MelSpectrogram {
    /// In Hz.
    pub sample_rate: u32,
    /// Samples of a transform.
    pub n_fft: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// Samples of the window, in the middle of the transform.
    pub win_length: usize,
    /// Bands.
    pub num_mel_bins: usize,
    /// Lower edge of the lowest band, in Hz.
    pub low_hz: f64,
    /// Upper edge of the highest band, in Hz.
    pub high_hz: f64,
    /// Padding, what is summed over a band, and the logarithm.
    pub recipe: Recipe,
}

/// Sentence about how two spectrograms differ in the parameters that both state: `n_fft is 1024, expected 512`. Empty if they do not.
pub fn difference(expected: &Map<String, Value>, found: &Map<String, Value>) -> String {
    let other = |(name, value): (&String, &Value)| {
        let found = found.get(name)?;
        (found != value).then(|| format!("{name} is {found}, expected {value}"))
    };
    expected.iter().filter_map(other).collect::<Vec<_>>().join("; ")
}

/// Scale on which the energy of a frame is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Energy {
    /// The norm of the magnitudes, as the published synthesisers take it.
    Linear,
    /// Natural logarithm of the norm, at least 1e-3.
    Log,
}

impl Energy {
    /// Returns the energy of a frame from its magnitudes.
    pub fn of(self, magnitudes: &[f64]) -> f64 {
        let norm = magnitudes.iter().map(|bin| bin * bin).sum::<f64>().sqrt();
        match self {
            Self::Linear => norm,
            Self::Log => norm.max(1e-3).ln(),
        }
    }
}

impl MelSpectrogram {
    /// The spectrogram, frame by frame; none without samples.
    pub fn apply(&self, samples: &[f32]) -> Vec<Vec<f64>> {
        let bands = self.bands();
        self.magnitudes(samples).map(|bins| bands(&bins)).collect()
    }

    /// Returns the spectrogram and the energy of every frame.
    ///
    /// # Panics
    /// For the recipe of decibels, whose bins are powers.
    pub fn apply_with_energy(&self, samples: &[f32], energy: Energy) -> (Vec<Vec<f64>>, Vec<f64>) {
        assert!(self.recipe != Recipe::PowerDb, "energies are those of magnitudes");
        let bands = self.bands();
        self.magnitudes(samples).map(|bins| (bands(&bins), energy.of(&bins))).unzip()
    }

    /// Turns the bins of a frame into logarithms of bands.
    fn bands(&self) -> impl Fn(&[f64]) -> Vec<f64> {
        let (basis, recipe) = (self.basis(), self.recipe);
        move |bins| {
            let sums = basis.iter().map(|weights| weights.iter().zip(bins).map(|(weight, bin)| weight * bin).sum::<f64>());
            match recipe {
                Recipe::Tacotron | Recipe::Hifigan => sums.map(|sum| sum.max(1e-5).ln()).collect(),
                Recipe::Speecht5 => sums.map(|sum| sum.max(1e-10).log10()).collect(),
                Recipe::PowerDb => sums.map(|sum| 10.0 * sum.max(1e-10).log10()).collect(),
            }
        }
    }

    /// Undoes the logarithm of a band.
    pub fn linear(&self, log: f64) -> f64 {
        match self.recipe {
            Recipe::Tacotron | Recipe::Hifigan => log.exp(),
            Recipe::Speecht5 => 10_f64.powf(log),
            Recipe::PowerDb => 10_f64.powf(log / 10.0),
        }
    }

    /// Frames of a clip of `num_samples` samples, and the sample on which the first is centred.
    pub fn frames_of(&self, num_samples: usize) -> (usize, usize) {
        let (padding, centre) = match self.recipe {
            Recipe::Tacotron | Recipe::Speecht5 | Recipe::PowerDb => (self.n_fft / 2, 0),
            Recipe::Hifigan => (self.n_fft.saturating_sub(self.hop_length) / 2, self.hop_length / 2),
        };
        if num_samples == 0 {
            return (0, centre);
        }
        (((num_samples + 2 * padding).max(self.n_fft) - self.n_fft) / self.hop_length + 1, centre)
    }

    /// What the bands are sums of, frame by frame: `n_fft / 2 + 1` magnitudes, or powers where the recipe says so.
    pub fn magnitudes(&self, samples: &[f32]) -> impl Iterator<Item = Vec<f64>> {
        let padding = match self.recipe {
            Recipe::Tacotron | Recipe::Speecht5 | Recipe::PowerDb => self.n_fft / 2,
            Recipe::Hifigan => self.n_fft.saturating_sub(self.hop_length) / 2,
        };
        let padded = (samples.len() + 2 * padding).max(self.n_fft);
        let sample = move |at: usize| {
            let at = at as i64 - padding as i64;
            match self.recipe {
                Recipe::PowerDb => usize::try_from(at).ok().and_then(|at| samples.get(at)).copied().map_or(0.0, f64::from),
                Recipe::Tacotron | Recipe::Speecht5 | Recipe::Hifigan => f64::from(samples[mirrored(at, samples.len())]),
            }
        };
        let margin = (self.n_fft - self.win_length) / 2;
        let mut window = vec![0.0; self.n_fft];
        window[margin..margin + self.win_length].copy_from_slice(&hann(self.win_length, self.win_length));

        let mut spectrum = Spectrum::new(self.n_fft);
        let frame = move |start: usize| {
            let mut bins = vec![0.0; self.n_fft / 2 + 1];
            spectrum.power((0..self.n_fft).map(|at| sample(start + at) * window[at]), &mut bins);
            match self.recipe {
                Recipe::Tacotron | Recipe::Speecht5 => bins.iter_mut().for_each(|bin| *bin = bin.sqrt()),
                Recipe::Hifigan => bins.iter_mut().for_each(|bin| *bin = (*bin + 1e-9).sqrt()),
                Recipe::PowerDb => {}
            }
            bins
        };
        let end = if samples.is_empty() { 0 } else { padded - self.n_fft + 1 };
        (0..end).step_by(self.hop_length).map(frame)
    }

    /// The weights of every band, one for each of the `n_fft / 2 + 1` bins.
    pub fn basis(&self) -> Vec<Vec<f64>> {
        let (low, high) = (to_mel(self.low_hz), to_mel(self.high_hz));
        let step = (high - low) / (self.num_mel_bins + 1) as f64;
        let edges: Vec<f64> = (0..self.num_mel_bins + 2).map(|at| to_hz(low + step * at as f64)).collect();
        let bin_width = f64::from(self.sample_rate) / self.n_fft as f64;
        let triangle = |edge: &[f64]| {
            let area = 2.0 / (edge[2] - edge[0]);
            let weight = |bin: usize| {
                let hz = bin as f64 * bin_width;
                area * ((hz - edge[0]) / (edge[1] - edge[0])).min((edge[2] - hz) / (edge[2] - edge[1])).max(0.0)
            };
            (0..=self.n_fft / 2).map(weight).collect()
        };
        edges.windows(3).map(triangle).collect()
    }
}

const LINEAR_HZ: f64 = 200.0 / 3.0;
const KNEE_HZ: f64 = 1000.0;
/// 6.4 times the frequency in 27 steps.
fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

fn to_mel(hz: f64) -> f64 {
    if hz < KNEE_HZ { hz / LINEAR_HZ } else { KNEE_HZ / LINEAR_HZ + (hz / KNEE_HZ).ln() / log_step() }
}

fn to_hz(mel: f64) -> f64 {
    let knee = KNEE_HZ / LINEAR_HZ;
    if mel < knee { mel * LINEAR_HZ } else { KNEE_HZ * ((mel - knee) * log_step()).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_frames_is_known_before_they_are_computed() {
        for recipe in [Recipe::Tacotron, Recipe::Speecht5, Recipe::Hifigan] {
            let (n_fft, hop_length, win_length) = (32, 10, 24);
            let (sample_rate, num_mel_bins, low_hz, high_hz) = (8_000, 3, 0.0, 4_000.0);
            let mel = MelSpectrogram { sample_rate, n_fft, hop_length, win_length, num_mel_bins, low_hz, high_hz, recipe };
            for num_samples in [0, 1, 5, 31, 32, 99, 100, 101] {
                let samples = vec![0.1; num_samples];
                assert_eq!(mel.frames_of(num_samples).0, mel.apply(&samples).len(), "{recipe:?} {num_samples}");
            }
        }
    }

    #[test]
    fn signals_shorter_than_their_padding_are_mirrored_again_and_again() {
        assert_eq!([mirrored(-1, 3), mirrored(-2, 3), mirrored(-3, 3), mirrored(3, 3), mirrored(4, 3)], [1, 2, 1, 1, 0]);
        assert_eq!(mirrored(-7, 1), 0);
    }

    #[test]
    fn the_scale_is_its_own_inverse_and_meets_at_the_knee() {
        for hz in [0.0, 333.0, 999.9, 1000.0, 1000.1, 8000.0] {
            assert!((to_hz(to_mel(hz)) - hz).abs() < 1e-9, "{hz}");
        }
    }
}
