//! Variations of a spectrogram that a judge must not care about.

use crate::nn::random::Rng;

/// Varies a log mel spectrogram (natural logarithm), frame after frame of `bands` numbers.
pub(super) fn vary(mel: &mut [f32], bands: usize, rng: &mut Rng) {
    let frames = mel.len() / bands;
    let between = |rng: &mut Rng, low: f64, high: f64| low + (high - low) * rng.uniform();
    // Level, and a tilt from the lowest to the highest band.
    let (level, tilt) = (between(rng, -1.0, 1.0), between(rng, -0.5, 0.5));
    for frame in mel.chunks_exact_mut(bands) {
        for (band, value) in frame.iter_mut().enumerate() {
            let place = 2.0 * band as f64 / (bands.max(2) - 1) as f64 - 1.0;
            *value += (level + tilt * place) as f32;
        }
    }
    // A floor of noise.
    if rng.uniform() < 0.6 {
        let floor = between(rng, -9.0, -5.0) as f32;
        for value in &mut *mel {
            let (high, low) = (value.max(floor), value.min(floor));
            *value = high + (low - high).exp().ln_1p();
        }
    }
    // Roughness, as of a vocoder.
    if rng.uniform() < 0.5 {
        let deviation = 0.3 * rng.uniform();
        for value in &mut *mel {
            *value += (deviation * rng.normal()) as f32;
        }
    }
    // Smear over bands.
    if rng.uniform() < 0.3 {
        for frame in mel.chunks_exact_mut(bands) {
            let before = frame.to_vec();
            for band in 0..bands {
                let around = &before[band.saturating_sub(1)..(band + 2).min(bands)];
                frame[band] = around.iter().sum::<f32>() / around.len() as f32;
            }
        }
    }
    let mean = mel.iter().sum::<f32>() / mel.len().max(1) as f32;
    if rng.uniform() < 0.5 {
        let (first, count) = (rng.below(bands.saturating_sub(8).max(1)), rng.below(8));
        for frame in mel.chunks_exact_mut(bands) {
            frame[first..(first + count).min(bands)].fill(mean);
        }
    }
    if rng.uniform() < 0.5 {
        let (first, count) = (rng.below(frames.saturating_sub(6).max(1)), rng.below(6));
        mel[first * bands..(first + count).min(frames) * bands].fill(mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variations_follow_from_the_generator_and_stay_finite() {
        for frames in [1, 2, 40] {
            let mel: Vec<f32> = (0..frames * 10).map(|at| (at % 7) as f32 - 9.0).collect();
            let varied = |seed| {
                let mut mel = mel.clone();
                vary(&mut mel, 10, &mut Rng::new(seed));
                mel
            };
            for seed in 0..50 {
                let found = varied(seed);
                assert!(found.len() == mel.len() && found != mel && found.iter().all(|value| value.is_finite()));
                assert_eq!(found, varied(seed));
            }
        }
    }
}
