//! The convolutions over the waveform, and the projection behind them.

use tch::{TchError, Tensor};

use super::Pass;
use super::modules::{LayerNorm, Linear, tensor};
use crate::adapters::Adapters;
use crate::checkpoint::{Activation, EncoderConfig, FeatureNorm, Weights};

/// The norms of the convolutions use this whatever `layer_norm_eps` says, as in the published models.
const CONV_NORM_EPS: f64 = 1e-5;

/// Waveform (B, S) -> features (B, T, C).
#[derive(Debug)]
pub(crate) struct ConvStack {
    layers: Vec<ConvLayer>,
    activation: Activation,
}

#[derive(Debug)]
struct ConvLayer {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    norm: Norm,
}

#[derive(Debug)]
enum Norm {
    None,
    /// Per channel over time, padding included.
    Group {
        weight: Tensor,
        bias: Tensor,
    },
    /// Over channels.
    Layer(LayerNorm),
}

impl ConvStack {
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights) -> Self {
        let layer = |(at, &stride): (usize, &i64)| {
            let name = format!("feature_extractor.conv_layers.{at}");
            let norm = format!("{name}.layer_norm");
            ConvLayer {
                weight: tensor(weights, &format!("{name}.conv.weight")),
                bias: config.conv_bias.then(|| tensor(weights, &format!("{name}.conv.bias"))),
                stride,
                norm: match config.feat_extract_norm {
                    FeatureNorm::Layer => Norm::Layer(LayerNorm::new(weights, &norm, CONV_NORM_EPS)),
                    FeatureNorm::Group if at == 0 => Norm::Group {
                        weight: tensor(weights, &format!("{norm}.weight")),
                        bias: tensor(weights, &format!("{norm}.bias")),
                    },
                    FeatureNorm::Group => Norm::None,
                },
            }
        };
        Self { layers: config.conv_stride.iter().enumerate().map(layer).collect(), activation: config.feat_extract_activation }
    }

    pub(crate) fn forward(&self, audio: &Tensor) -> Result<Tensor, TchError> {
        let mut h = audio.f_unsqueeze(-1)?; // (B, S, 1)
        for layer in &self.layers {
            h = layer.convolve(&h)?; // (B, T, C)
            h = match &layer.norm {
                Norm::None => h,
                Norm::Layer(norm) => norm.forward(&h)?,
                Norm::Group { weight, bias } => {
                    let channels = weight.size()[0];
                    h.f_transpose(1, 2)?
                        .f_group_norm(channels, Some(weight), Some(bias), CONV_NORM_EPS, true)?
                        .f_transpose(1, 2)?
                }
            };
            h = self.activation.forward(&h)?;
        }
        Ok(h)
    }
}

impl ConvLayer {
    /// (B, S, C) -> (B, T, C'), channels last all the way: half the time of the usual order on a CPU, since neither the
    /// convolution nor the norm behind it needs a transposed copy.
    fn convolve(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let &[out, channels, taps] = self.weight.size().as_slice() else {
            return Err(TchError::Shape("a convolution's weight has three axes".to_owned()));
        };
        if channels == 1 {
            // A product with windows of the waveform; the general way would have to guess the order of a lone channel.
            let windows = x.f_squeeze_dim(-1)?.f_unfold(1, taps, self.stride)?; // (B, T, K)
            return windows.f_linear(&self.weight.f_view([out, taps])?, self.bias.as_ref());
        }
        let flat = x.f_transpose(1, 2)?.f_unsqueeze(2)?; // (B, C, 1, S), channels last in memory
        let weight = self.weight.f_unsqueeze(2)?;
        flat.f_conv2d(&weight, self.bias.as_ref(), [1, self.stride], [0, 0], [1, 1], 1)?.f_squeeze_dim(2)?.f_transpose(1, 2)
    }
}

/// Features (B, T, C) -> (B, T, H).
#[derive(Debug)]
pub(crate) struct Projection {
    /// DistilHuBERT has none.
    norm: Option<LayerNorm>,
    linear: Linear,
    dropout: f64,
}

impl Projection {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self, TchError> {
        Ok(Self {
            norm: config
                .feat_proj_layer_norm
                .then(|| LayerNorm::new(weights, "feature_projection.layer_norm", config.layer_norm_eps)),
            linear: Linear::new(weights, "feature_projection.projection", &Adapters::new())?,
            dropout: config.feat_proj_dropout,
        })
    }

    pub(crate) fn forward(&self, features: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        let normed = self.norm.as_ref().map(|norm| norm.forward(features)).transpose()?;
        pass.dropout(&self.linear.forward(normed.as_ref().unwrap_or(features), pass)?, self.dropout)
    }
}
