//! Log-mel frames as Whisper reads them.
//!
//! Source: Radford et al. 2022, arXiv:2212.04356, section 2.2, and the published feature extractor.

use super::mel::{MelSpectrogram, Recipe};

/// In Hz.
const SAMPLE_RATE: u32 = 16_000;
/// Samples of a transform and of its window: 25 ms.
const N_FFT: usize = 400;
/// Samples from one frame to the next: 10 ms.
pub const HOP_LENGTH: usize = 160;
/// The least energy before the logarithm.
const FLOOR: f64 = 1e-10;
/// Decades below the loudest value of a clip that are kept.
const RANGE: f64 = 8.0;

/// Returns `samples / HOP_LENGTH` frames of a clip at 16 kHz, each of `num_mel_bins` values: decimal logarithms of the power in Slaney's
/// bands from 0 to 8 kHz, at most eight decades below the loudest of the clip, plus 4, divided by 4.
///
/// Frames are centred on their samples, and the signal is mirrored at its ends; the last frame, centred on the end, is left out.
pub fn whisper(samples: &[f32], num_mel_bins: usize) -> Vec<Vec<f64>> {
    let mel = MelSpectrogram {
        sample_rate: SAMPLE_RATE,
        n_fft: N_FFT,
        hop_length: HOP_LENGTH,
        win_length: N_FFT,
        num_mel_bins,
        low_hz: 0.0,
        high_hz: f64::from(SAMPLE_RATE) / 2.0,
        recipe: Recipe::Speecht5, // of it, magnitudes of a mirrored signal
    };
    let basis: Vec<(usize, Vec<f64>)> = mel.basis().into_iter().map(without_zeros).collect();
    let log = |power: f64| power.max(FLOOR).log10();
    let bands = |bins: Vec<f64>| {
        let sum = |(from, weights): &(usize, Vec<f64>)| {
            weights.iter().zip(&bins[*from..]).map(|(weight, bin)| weight * bin * bin).sum::<f64>()
        };
        basis.iter().map(|band| log(sum(band))).collect::<Vec<f64>>()
    };
    let mut frames: Vec<Vec<f64>> = mel.magnitudes(samples).take(samples.len() / HOP_LENGTH).map(bands).collect();
    let loudest = frames.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    for value in frames.iter_mut().flatten() {
        *value = (value.max(loudest - RANGE) + 4.0) / 4.0;
    }
    frames
}

/// The weights of a band from the first that is not 0 to the last, and where they begin.
fn without_zeros(weights: Vec<f64>) -> (usize, Vec<f64>) {
    let from = weights.iter().position(|&weight| weight > 0.0).unwrap_or(0);
    let to = weights.iter().rposition(|&weight| weight > 0.0).map_or(from, |last| last + 1);
    (from, weights[from..to].to_vec())
}
