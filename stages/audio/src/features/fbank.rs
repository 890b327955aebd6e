//! Kaldi's filter bank and cepstra.
//!
//! Source: Povey et al. 2011, "The Kaldi speech recognition toolkit", and its `feature-window`, `mel-computations` and
//! `feature-mfcc` with no dither, frames that fit whole (`snip-edges`) and samples on the scale of 16-bit integers.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spectrum::{Spectrum, hann};

/// Kaldi works on 16-bit integers as they are.
const SCALE: f64 = 32_768.0;
const PREEMPHASIS: f64 = 0.97;
/// Kaldi's exponent of the raised cosine in its own window.
const POVEY: f64 = 0.85;
/// The least energy before the logarithm: float32's epsilon.
const FLOOR: f64 = 1.192_092_895_507_812_5e-7;
/// Guard against division by zero when a band is brought to unit variance, as in the published preprocessor.
const VARIANCE_FLOOR: f64 = 1e-7;

/// How frames of 25 ms become energies of bands.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterBank {
    /// Bands.
    pub num_mel_bins: usize,
    /// Lower edge of the lowest band, in Hz.
    pub low_hz: f64,
    /// Upper edge of the highest band, in Hz; from 0 downwards it counts from half the sample rate.
    pub high_hz: f64,
    /// The window.
    pub window: Window,
    /// In Hz.
    pub sample_rate: u32,
}

/// The weights of a frame's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A raised cosine to the power of 0.85: Kaldi's own.
    Povey,
    /// A raised cosine.
    Hann,
}

impl FilterBank {
    /// Logarithms of the energies, frame by frame: 25 ms every 10 ms; none for less than one frame.
    pub fn apply(&self, samples: &[f32]) -> Vec<Vec<f64>> {
        let rate = self.sample_rate as usize;
        let (length, hop) = (rate * 25 / 1000, rate / 100);
        if samples.len() < length {
            return Vec::new();
        }
        let n_fft = length.next_power_of_two();
        let window: Vec<f64> = match self.window {
            Window::Povey => hann(length, length - 1).into_iter().map(|value| value.powf(POVEY)).collect(),
            Window::Hann => hann(length, length - 1),
        };
        let bands = self.bands(n_fft);
        let mut spectrum = Spectrum::new(n_fft);
        let mut power = vec![0.0; n_fft / 2 + 1];
        let frame = |start: usize| {
            let frame: Vec<f64> = samples[start..start + length].iter().map(|&x| f64::from(x) * SCALE).collect();
            let mean = frame.iter().sum::<f64>() / length as f64;
            let centred: Vec<f64> = frame.iter().map(|x| x - mean).collect();
            // The sample before the first one is taken to be equal to it.
            let before = std::iter::once(centred[0]).chain(centred.iter().copied());
            let emphasised: Vec<f64> = centred.iter().zip(before).map(|(x, before)| x - PREEMPHASIS * before).collect();
            spectrum.power(emphasised.iter().zip(&window).map(|(x, weight)| x * weight), &mut power);
            let energy = |(from, weights): &(usize, Vec<f64>)| {
                weights.iter().zip(&power[*from..]).map(|(weight, power)| weight * power).sum::<f64>()
            };
            bands.iter().map(|band| energy(band).max(FLOOR).ln()).collect()
        };
        (0..=samples.len() - length).step_by(hop).map(frame).collect()
    }

    /// Triangles that are regular on the mel scale: the first bin and the weights from there on.
    fn bands(&self, n_fft: usize) -> Vec<(usize, Vec<f64>)> {
        let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
        let nyquist = f64::from(self.sample_rate) / 2.0;
        let high = if self.high_hz > 0.0 { self.high_hz } else { nyquist + self.high_hz };
        let (low, high) = (mel(self.low_hz), mel(high));
        let step = (high - low) / (self.num_mel_bins + 1) as f64;
        let bin_width = f64::from(self.sample_rate) / n_fft as f64;
        let triangle = |band: usize| {
            let left = low + band as f64 * step;
            let weight = |bin: usize| {
                let at = mel(bin_width * bin as f64);
                ((at - left) / step).min((left + 2.0 * step - at) / step).max(0.0)
            };
            // The bin at half the sample rate belongs to no band.
            let from = (0..n_fft / 2).position(|bin| weight(bin) > 0.0).unwrap_or(0);
            (from, (from..n_fft / 2).map(weight).take_while(|&weight| weight > 0.0).collect())
        };
        (0..self.num_mel_bins).map(triangle).collect()
    }
}

/// Cepstra of the energies that [`FilterBank::apply`] gives: an orthonormal cosine transform (type II) of each frame, its
/// coefficients raised by `1 + lifter / 2 * sin(pi * i / lifter)` when `lifter` is above 0.
pub fn cepstra(energies: &[Vec<f64>], num_coefficients: usize, lifter: f64) -> Vec<Vec<f64>> {
    let coefficient = |frame: &Vec<f64>, at: usize| {
        let bands = frame.len() as f64;
        let norm = if at == 0 { (1.0 / bands).sqrt() } else { (2.0 / bands).sqrt() };
        let cosine = |band: usize| (PI / bands * (band as f64 + 0.5) * at as f64).cos();
        let sum: f64 = frame.iter().enumerate().map(|(band, energy)| energy * cosine(band)).sum();
        let raise = if lifter > 0.0 { 1.0 + 0.5 * lifter * (PI * at as f64 / lifter).sin() } else { 1.0 };
        norm * sum * raise
    };
    energies.iter().map(|frame| (0..num_coefficients).map(|at| coefficient(frame, at)).collect()).collect()
}

/// Brings every band to zero mean and unit variance (unbiased) over the frames, as Wav2Vec2-BERT wants it.
pub fn normalise(frames: &mut [Vec<f64>]) {
    let (count, width) = (frames.len() as f64, frames.first().map_or(0, Vec::len));
    for band in 0..width {
        let mean = frames.iter().map(|frame| frame[band]).sum::<f64>() / count;
        let variance = frames.iter().map(|frame| (frame[band] - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let scale = (variance + VARIANCE_FLOOR).sqrt().recip();
        for frame in frames.iter_mut() {
            frame[band] = (frame[band] - mean) * scale;
        }
    }
}

/// Puts `count` frames after each other into one; the last one is filled up with zeros, as transformers pads before it stacks.
pub fn stack(frames: &[Vec<f64>], count: usize) -> Vec<Vec<f64>> {
    let width = count.max(1) * frames.first().map_or(0, Vec::len);
    let filled = |frames: &[Vec<f64>]| {
        let mut stacked = frames.concat();
        stacked.resize(width, 0.0);
        stacked
    };
    frames.chunks(count.max(1)).map(filled).collect()
}
