//! Encoders with random weights: for training from nothing.

use pipeline::{Demand, Slot, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Mistakes, environment, require, require_positive, require_probability};

/// Makes an encoder of a given shape with seeded random weights, as a Hugging Face checkpoint folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomEncoder {
    /// The shape of the encoder.
    pub shape: EncoderShape,
    /// Seed of the weights.
    pub seed: u64,
}

/// The shape of a wav2vec 2.0 encoder. Fields are named and meant as in `config.json` of a Hugging Face checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderShape {
    /// Width of the transformer, H.
    #[schemars(range(min = 1))]
    pub hidden_size: u32,
    /// Transformer layers.
    #[schemars(range(min = 1))]
    pub num_hidden_layers: u32,
    /// Attention heads; divides `hidden_size`.
    #[schemars(range(min = 1))]
    pub num_attention_heads: u32,
    /// Inner width of the feed-forward blocks.
    #[schemars(range(min = 1))]
    pub intermediate_size: u32,
    /// Output channels of each convolution over the waveform.
    pub conv_dim: Vec<u32>,
    /// Taps of each convolution, in its input samples.
    pub conv_kernel: Vec<u32>,
    /// Step of each convolution, in its input samples.
    pub conv_stride: Vec<u32>,
    /// True if those convolutions have biases.
    pub conv_bias: bool,
    /// Their normalisation: `group` (only the first, per channel over time) or `layer` (each, over channels).
    pub feat_extract_norm: ConvNorm,
    /// True if layers normalise their input (pre-norm, the large style), false if their output (post-norm, the base style).
    pub do_stable_layer_norm: bool,
    /// Taps of the positional convolution, in frames.
    #[schemars(range(min = 1))]
    pub num_conv_pos_embeddings: u32,
    /// Groups of the positional convolution; divides `hidden_size`.
    #[schemars(range(min = 1))]
    pub num_conv_pos_embedding_groups: u32,
    /// Dropout after the embedding, attention and feed-forward outputs.
    pub hidden_dropout: f64,
    /// Dropout of attention weights.
    pub attention_dropout: f64,
    /// Dropout inside the feed-forward blocks.
    pub activation_dropout: f64,
    /// Dropout after the feature projection.
    pub feat_proj_dropout: f64,
    /// Probability of skipping a layer in training.
    pub layerdrop: f64,
    /// Share of frames that `SpecAugment` masks in training; 0 switches it off.
    pub mask_time_prob: f64,
    /// Frames of one time mask. Default 10, as in the benchmark's backbone.
    #[serde(default = "mask_length")]
    #[schemars(range(min = 1))]
    pub mask_time_length: u32,
    /// Fewest time masks of an utterance. Default 2, as in the benchmark's backbone.
    #[serde(default = "mask_time_min_masks")]
    pub mask_time_min_masks: u32,
    /// Share of features that `SpecAugment` masks in training. Default 0, as in the benchmark's backbone.
    #[serde(default)]
    pub mask_feature_prob: f64,
    /// Features of one feature mask. Default 10, as in the benchmark's backbone.
    #[serde(default = "mask_length")]
    #[schemars(range(min = 1))]
    pub mask_feature_length: u32,
}

/// See [`EncoderShape::feat_extract_norm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConvNorm {
    /// Group norm with one channel per group after the first convolution. Its statistics run over padding too.
    Group,
    /// Layer norm over channels after every convolution.
    Layer,
}

fn mask_length() -> u32 {
    10
}
fn mask_time_min_masks() -> u32 {
    2
}

impl EncoderShape {
    /// Mistakes of the shape, as pairs of parameter and sentence.
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        for (name, value) in [
            ("shape.hidden_size", self.hidden_size),
            ("shape.num_hidden_layers", self.num_hidden_layers),
            ("shape.num_attention_heads", self.num_attention_heads),
            ("shape.intermediate_size", self.intermediate_size),
            ("shape.num_conv_pos_embeddings", self.num_conv_pos_embeddings),
            ("shape.num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
            ("shape.mask_time_length", self.mask_time_length),
            ("shape.mask_feature_length", self.mask_feature_length),
        ] {
            require_positive(&mut mistakes, name, value.into());
        }
        for (name, divisor) in [
            ("shape.num_attention_heads", self.num_attention_heads),
            ("shape.num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
        ] {
            let divides = divisor == 0 || self.hidden_size.is_multiple_of(divisor);
            require(&mut mistakes, divides, name, &format!("a divisor of hidden_size ({})", self.hidden_size), divisor);
        }
        for (name, list) in [
            ("shape.conv_dim", &self.conv_dim),
            ("shape.conv_kernel", &self.conv_kernel),
            ("shape.conv_stride", &self.conv_stride),
        ] {
            let same = !list.is_empty() && list.len() == self.conv_dim.len();
            require(
                &mut mistakes,
                same,
                name,
                &format!("as long as conv_dim ({}) and not empty", self.conv_dim.len()),
                list.len(),
            );
            require(&mut mistakes, !list.contains(&0), name, "above 0 everywhere", "0");
        }
        for (name, value) in [
            ("shape.hidden_dropout", self.hidden_dropout),
            ("shape.attention_dropout", self.attention_dropout),
            ("shape.activation_dropout", self.activation_dropout),
            ("shape.feat_proj_dropout", self.feat_proj_dropout),
            ("shape.layerdrop", self.layerdrop),
            ("shape.mask_time_prob", self.mask_time_prob),
            ("shape.mask_feature_prob", self.mask_feature_prob),
        ] {
            require_probability(&mut mistakes, name, value);
        }
        mistakes
    }
}

impl Stage for RandomEncoder {
    const KIND: &'static str = "encoder.random";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Makes an encoder of a given shape with random weights";

    fn slots() -> Vec<Slot> {
        Vec::new()
    }
    fn check(&self) -> Mistakes {
        self.shape.check()
    }
    fn outputs(&self) -> Vec<String> {
        ["config.json", "model.safetensors"].map(str::to_owned).to_vec()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        environment()
    }
    fn demand(&self) -> Demand {
        Demand::default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn shape() -> EncoderShape {
        EncoderShape {
            hidden_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            intermediate_size: 96,
            conv_dim: vec![32, 32],
            conv_kernel: vec![10, 3],
            conv_stride: vec![5, 2],
            conv_bias: true,
            feat_extract_norm: ConvNorm::Layer,
            do_stable_layer_norm: true,
            num_conv_pos_embeddings: 16,
            num_conv_pos_embedding_groups: 4,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
            activation_dropout: 0.0,
            feat_proj_dropout: 0.0,
            layerdrop: 0.0,
            mask_time_prob: 0.05,
            mask_time_length: 10,
            mask_time_min_masks: 2,
            mask_feature_prob: 0.0,
            mask_feature_length: 10,
        }
    }

    #[test]
    fn a_sound_shape_has_no_mistakes() {
        assert_eq!(RandomEncoder { shape: shape(), seed: 1 }.check(), []);
    }

    #[test]
    fn every_mistake_of_a_shape_is_named() {
        let shape = EncoderShape {
            num_attention_heads: 5,
            conv_stride: vec![5],
            hidden_dropout: f64::NAN,
            mask_time_length: 0,
            ..shape()
        };
        let names: Vec<_> = shape.check().into_iter().map(|(name, _)| name).collect();
        let expected = ["shape.mask_time_length", "shape.num_attention_heads", "shape.conv_stride", "shape.hidden_dropout"];
        assert_eq!(names, expected);
    }
}
