//! Sizes of an acoustic model.

use neural_spec::Architecture;
use serde::{Deserialize, Serialize};

/// Sizes of an acoustic model, and how it differs from others of its family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent differences between models, by name in a file")]
pub struct Shape {
    /// Symbols, padding included.
    pub num_symbols: i64,
    /// Rows of the table of speakers.
    pub num_speakers: i64,
    /// Mel bands.
    pub num_mel_bins: i64,
    /// Width of encoder and decoder.
    pub hidden: i64,
    /// Heads of their attentions.
    pub heads: i64,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Channels between the two convolutions of a layer.
    pub filter: i64,
    /// Taps of these convolutions.
    pub kernels: [i64; 2],
    /// Dropout of encoder and decoder.
    pub dropout: f64,
    /// Predictors of durations, pitch and energy.
    pub predictor: PredictorShape,
    /// How pitch and energy enter.
    pub values: ValueEntry,
    /// Share of the gradient of durations and pitch that reaches the encoder.
    pub predictor_gradient: f64,
    /// True if the energy is predicted from positions that the pitch has entered already, as in ming024's code.
    pub energy_after_pitch: bool,
    /// Least frames of a position at inference: 1, or 0 as published.
    pub least_frames: i64,
    /// The network behind the decoder.
    pub postnet: PostnetShape,
    /// True if queries, keys, values and outputs of the attentions have biases; CTTS has none.
    pub projection_bias: bool,
    /// True if the model has an aligner.
    pub aligner: bool,
    /// True if padding leaks as in the published code: speakers, pitch and energy reach padded positions and with them the convolutions
    /// behind, batch norm counts padded frames, the aligner's softmax runs over padded positions, ties of its search step on, and the
    /// error of the energy is absolute.
    #[serde(default)]
    pub published: bool,
}

impl Shape {
    /// The model as methods see it.
    pub fn architecture(&self) -> Architecture {
        Architecture::acoustic(self.hidden as u32, [self.encoder_layers as u32, self.decoder_layers as u32])
    }
}

/// Sizes of a predictor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictorShape {
    /// Channels.
    pub filter: i64,
    /// Taps of its convolutions.
    pub kernel: i64,
    /// Dropout.
    pub dropout: f64,
}

/// Entry of the values of pitch and energy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ValueEntry {
    /// A convolution, as in `FastPitch`.
    Convolution {
        /// Taps.
        kernel: i64,
    },
    /// A table of so many rows, chosen by where a value falls between the limits `pitch_bins` and `energy_bins`.
    Bins {
        /// Rows.
        count: i64,
    },
}

/// Sizes of the network behind the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostnetShape {
    /// Convolutions.
    pub layers: usize,
    /// Channels between them.
    pub channels: i64,
    /// Taps.
    pub kernel: i64,
    /// Dropout.
    pub dropout: f64,
}
