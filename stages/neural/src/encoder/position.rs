//! Positions, as a wide grouped convolution over the frames.

use tch::{TchError, Tensor};

use super::modules::tensor;
use crate::checkpoint::weights::{POSITION_DIRECTION, POSITION_GAIN, direction_norm};
use crate::checkpoint::{Activation, EncoderConfig, Weights};

/// Frames (B, T, H) -> what is added to them (B, T, H).
#[derive(Debug)]
pub(crate) struct PositionalConv {
    weight: Weight,
    bias: Tensor,
    groups: i64,
    activation: Activation,
}

/// Weight normalisation over all axes but the taps: `w[o,i,k] = gain[k] * v[o,i,k] / |v[..,k]|`.
/// Source: Salimans and Kingma 2016, arXiv:1602.07868, with one gain per tap as in the published models.
#[derive(Debug)]
enum Weight {
    /// Frozen: computed once.
    Folded(Tensor),
    /// Trained: computed in every pass.
    Normed { gain: Tensor, direction: Tensor },
}

impl PositionalConv {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self, TchError> {
        let (gain, direction) = (tensor(weights, POSITION_GAIN), tensor(weights, POSITION_DIRECTION));
        let trained = gain.requires_grad() || direction.requires_grad();
        let weight = if trained { Weight::Normed { gain, direction } } else { Weight::Folded(fold(&gain, &direction)?) };
        Ok(Self {
            weight,
            bias: tensor(weights, "encoder.pos_conv_embed.conv.bias"),
            groups: config.num_conv_pos_embedding_groups,
            activation: config.feat_extract_activation,
        })
    }

    /// The weight that the convolution uses, (H, H / groups, K).
    pub(crate) fn effective_weight(&self) -> Result<Tensor, TchError> {
        match &self.weight {
            Weight::Folded(weight) => Ok(weight.shallow_clone()),
            Weight::Normed { gain, direction } => fold(gain, direction),
        }
    }

    pub(crate) fn forward(&self, frames: &Tensor) -> Result<Tensor, TchError> {
        let weight = self.effective_weight()?;
        let taps = weight.size()[2];
        let h = frames.f_transpose(1, 2)?.f_conv1d(&weight, Some(&self.bias), 1, taps / 2, 1, self.groups)?; // (B, H, T or T + 1)
        // An even number of taps gives one frame too many.
        let h = if taps % 2 == 0 { h.f_narrow(2, 0, frames.size()[1])? } else { h };
        self.activation.forward(&h)?.f_transpose(1, 2)
    }
}

fn fold(gain: &Tensor, direction: &Tensor) -> Result<Tensor, TchError> {
    direction.f_mul(&gain.f_div(&direction_norm(direction)?)?)
}
