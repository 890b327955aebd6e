//! The convolutions of an encoder, as its configuration describes them.

use crate::checkpoint::config::{EncoderConfig, FeatureNorm};
use crate::nn::waveform::{ConvLayer, ConvStack, Norm};
use crate::nn::weights::{Weights, tensor};

/// Prefix of the names of the convolutions' tensors.
pub(crate) const CONVOLUTIONS: &str = "feature_extractor.";

/// Builds the convolutions over the waveform.
pub(crate) fn convolutions(config: &EncoderConfig, weights: &Weights) -> ConvStack {
    let layer = |(at, &stride): (usize, &i64)| {
        let name = format!("{CONVOLUTIONS}conv_layers.{at}");
        let norm = format!("{name}.layer_norm");
        ConvLayer {
            weight: tensor(weights, &format!("{name}.conv.weight")),
            bias: config.conv_bias.then(|| tensor(weights, &format!("{name}.conv.bias"))),
            stride,
            norm: match config.feat_extract_norm {
                FeatureNorm::Layer => Norm::layer(weights, &norm),
                FeatureNorm::Group if at == 0 => Norm::group(weights, &norm),
                FeatureNorm::Group => Norm::None,
            },
        }
    };
    ConvStack { layers: config.conv_stride.iter().enumerate().map(layer).collect(), activation: config.feat_extract_activation }
}
