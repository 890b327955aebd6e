//! The projection between convolutions and transformer.

use tch::{TchError, Tensor};

use crate::checkpoint::config::EncoderConfig;
use crate::nn::linear::Linear;
use crate::nn::norm::LayerNorm;
use crate::nn::pass::Pass;
use crate::nn::weights::Weights;

/// Features (B, T, C) -> (B, T, H).
#[derive(Debug)]
pub(crate) struct Projection {
    /// DistilHuBERT has none.
    norm: Option<LayerNorm>,
    linear: Linear,
    dropout: f64,
}

impl Projection {
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights) -> Self {
        Self {
            norm: config
                .feat_proj_layer_norm
                .then(|| LayerNorm::new(weights, "feature_projection.layer_norm", config.layer_norm_eps)),
            linear: Linear::new(weights, "feature_projection.projection", None),
            dropout: config.feat_proj_dropout,
        }
    }

    pub(crate) fn forward(&self, features: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        let normed = self.norm.as_ref().map(|norm| norm.forward(features)).transpose()?;
        pass.dropout(&self.linear.forward(normed.as_ref().unwrap_or(features), pass)?, self.dropout)
    }
}
