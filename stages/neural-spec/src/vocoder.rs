//! Training of a vocoder.

use pipeline::{Demand, Slot, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::train::prefer_gpu;
use crate::{Mistakes, environment, require, require_positive};

/// Trains a vocoder that turns mel spectrograms into samples: convolutions over frames give a magnitude and a phase for each bin, and the
/// inverse short-time Fourier transform does the rest (Siuzdak 2023, "Vocos", arXiv:2306.00814), without adversarial losses.
///
/// Each step sees a random stretch of as many recordings as a batch has. The loss is that of the mel spectrogram, and of spectra with
/// transforms of `n_fft` samples, a half, a quarter and an eighth of it. The point with the best mel spectrogram on the dev set is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VocoderTrain {
    /// Channels. Default 192.
    #[serde(default = "channels")]
    #[schemars(range(min = 1))]
    pub channels: u32,
    /// Width inside a block. Default 384.
    #[serde(default = "inner")]
    #[schemars(range(min = 1))]
    pub inner: u32,
    /// Blocks. Default 6.
    #[serde(default = "layers")]
    #[schemars(range(min = 1))]
    pub layers: u32,
    /// Updates.
    #[schemars(range(min = 1))]
    pub max_steps: u32,
    /// Recordings of a step. Default 12.
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1))]
    pub batch_size: u32,
    /// Frames of a stretch. Default 49.
    #[serde(default = "segment_frames")]
    pub segment_frames: u32,
    /// Learning rate of AdamW (0.8, 0.99) after 100 steps; from a fifth of the training it falls to a twentieth. Default 1e-3.
    #[serde(default = "learning_rate")]
    pub learning_rate: f64,
    /// Steps from one evaluation on the dev set to the next. Default 500.
    #[serde(default = "eval_every")]
    #[schemars(range(min = 1))]
    pub eval_every: u32,
    /// CPU threads; 0 for the whole pool. Default 0.
    #[serde(default)]
    pub threads: u32,
    /// Seed of the parameters, the order and the stretches.
    pub seed: u64,
}

fn channels() -> u32 {
    192
}
fn inner() -> u32 {
    384
}
fn layers() -> u32 {
    6
}
fn batch_size() -> u32 {
    12
}
fn segment_frames() -> u32 {
    49
}
fn learning_rate() -> f64 {
    1e-3
}
fn eval_every() -> u32 {
    500
}

impl Stage for VocoderTrain {
    const KIND: &'static str = "vocoder.train";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Trains a vocoder: samples from mel spectrograms by an inverse Fourier transform";

    fn slots() -> Vec<Slot> {
        vec![
            Slot::one("shards", "recordings: train.parquet and dev.parquet of audio.shards or audio.join"),
            Slot::one("features", "a features.log_mel node of these recordings, with energy"),
        ]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        for (name, value) in [
            ("channels", self.channels.into()),
            ("inner", self.inner.into()),
            ("layers", self.layers.into()),
            ("max_steps", self.max_steps.into()),
            ("batch_size", self.batch_size.into()),
            ("eval_every", self.eval_every.into()),
            ("learning_rate", self.learning_rate),
        ] {
            require_positive(&mut mistakes, name, value);
        }
        require(&mut mistakes, self.segment_frames >= 8, "segment_frames", "8 or more", self.segment_frames);
        mistakes
    }
    fn outputs(&self) -> Vec<String> {
        ["config.json", "model.safetensors", "training.json", "events"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        prefer_gpu(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_sense_are_named() {
        let stage: VocoderTrain = serde_json::from_str(r#"{"max_steps":0,"segment_frames":3,"seed":1}"#).unwrap();
        let names: Vec<_> = stage.check().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["max_steps", "segment_frames"]);
        assert_eq!((stage.channels, stage.inner, stage.layers), (192, 384, 6));
    }
}
