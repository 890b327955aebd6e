//! Ends and level of a recording.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Window and step with which the level is followed, in seconds.
const WINDOW_SECS: f64 = 0.032;
const STEP_SECS: f64 = 0.008;

/// Trimming and level of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClipShape {
    /// Ends that stay this far below the loudest 32 ms are cut off, in dB. Default 30.
    pub trim_db: f64,
    /// Root mean square that every recording is brought to; full scale is 1. Default 0.08.
    pub level: f64,
    /// Largest sample; a recording that would exceed it stays quieter. Default 0.99.
    pub peak: f64,
    /// Length of the fades at both ends, in seconds; at most a quarter of the recording. Default 0.005.
    pub fade_secs: f64,
}

impl Default for ClipShape {
    fn default() -> Self {
        Self { trim_db: 30.0, level: 0.08, peak: 0.99, fade_secs: 0.005 }
    }
}

impl ClipShape {
    /// Returns what is wrong with the numbers, if anything.
    pub fn problem(&self) -> Option<String> {
        let ranges = [
            ("trim_db", self.trim_db, 1.0, 120.0),
            ("level", self.level, 1e-4, 1.0),
            ("peak", self.peak, 1e-3, 1.0),
            ("fade_secs", self.fade_secs, 0.0, 1.0),
        ];
        let wrong = ranges.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value));
        wrong.map(|(name, value, least, most)| format!("`{name}` should be {least} to {most}, not {value}"))
    }

    /// Returns the trimmed and levelled samples, and how many were cut off before them; none for silence.
    pub fn apply(&self, samples: &[f32], sample_rate: u32) -> Option<(Vec<f64>, usize)> {
        let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / samples.len().max(1) as f64;
        let samples: Vec<f64> = samples.iter().map(|&x| f64::from(x) - mean).collect();
        let samples_of = |secs: f64| ((secs * f64::from(sample_rate)).round() as usize).max(1);
        let (window, step) = (samples_of(WINDOW_SECS), samples_of(STEP_SECS));
        // Windows centred on every step, silence outside.
        let power = |centre: usize| {
            let (from, to) = (centre.saturating_sub(window / 2), (centre + window - window / 2).min(samples.len()));
            samples[from..to].iter().map(|x| x * x).sum::<f64>() / window as f64
        };
        let powers: Vec<f64> = (0..=samples.len()).step_by(step).map(power).collect();
        let loudest = powers.iter().copied().fold(0.0, f64::max);
        // Less than one step of a 16-bit sample is no sound.
        if loudest < 1e-10 {
            return None;
        }
        let threshold = loudest * 10_f64.powf(-self.trim_db / 10.0);
        let first = powers.iter().position(|&power| power > threshold)?;
        let last = powers.iter().rposition(|&power| power > threshold)?;
        let (from, to) = (first * step, ((last + 1) * step).min(samples.len()));
        let mut sound = samples[from.min(to)..to].to_vec();
        let rms = (sound.iter().map(|x| x * x).sum::<f64>() / sound.len().max(1) as f64).sqrt();
        let highest = sound.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        if rms <= 0.0 {
            return None;
        }
        let gain = (self.level / rms).min(self.peak / highest);
        let fade = (samples_of(self.fade_secs)).min(sound.len() / 4);
        let length = sound.len();
        for (at, sample) in sound.iter_mut().enumerate() {
            let edge = at.min(length - 1 - at);
            let ramp = if edge < fade { edge as f64 / (fade.max(2) - 1) as f64 } else { 1.0 };
            *sample *= gain * ramp.min(1.0);
        }
        Some((sound, from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_ends_go_and_the_level_is_set() {
        let mut samples = vec![0.001; 8_000];
        for (at, sample) in samples[2_000..6_000].iter_mut().enumerate() {
            *sample = 0.5 * (at as f32 * 0.3).sin();
        }
        let (sound, trimmed) = ClipShape::default().apply(&samples, 8_000).unwrap();
        assert!((1_800..=2_000).contains(&trimmed) && (4_000..4_300).contains(&sound.len()), "{trimmed} {}", sound.len());
        let rms = (sound.iter().map(|x| x * x).sum::<f64>() / sound.len() as f64).sqrt();
        assert!((rms - 0.08).abs() < 0.002, "{rms}");
        assert!(sound[0].abs() < 1e-9 && sound.last().unwrap().abs() < 1e-9);
    }

    #[test]
    fn silence_a_constant_and_nothing_are_no_sound() {
        for samples in [vec![0.0; 4_000], vec![0.25; 4_000], vec![], vec![0.3]] {
            assert_eq!(ClipShape::default().apply(&samples, 8_000), None, "{} samples", samples.len());
        }
    }

    #[test]
    fn a_click_stays_below_the_peak() {
        let mut samples = vec![0.0; 4_000];
        samples[2_000] = 1.0;
        let (sound, _) = ClipShape::default().apply(&samples, 8_000).unwrap();
        assert!(sound.iter().all(|x| x.abs() <= 0.99));
    }
}
