//! Positions, as a wide grouped convolution over the frames, or several narrow ones.

use tch::{TchError, Tensor};

use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::weights::{POSITION_DIRECTION, POSITION_FOLDED, POSITION_GAIN, POSITION_NORM, direction_norm};
use crate::nn::activation::Activation;
use crate::nn::frames::Frames;
use crate::nn::weights::{Weights, tensor};

/// Frames (B, T, H) -> what is added to them (B, T, H).
#[derive(Debug)]
pub(crate) enum Position {
    /// Of all families but one.
    Wide(PositionalConv),
    /// Of data2vec-audio.
    Narrow(NarrowConvs),
}

impl Position {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self, TchError> {
        Ok(match config.conv_pos_kernel_size {
            None => Self::Wide(PositionalConv::new(config, weights)?),
            Some(_) => Self::Narrow(NarrowConvs::new(config, weights)),
        })
    }

    /// `x` (B, T, H), zero where `frames` says that it is padding.
    pub(crate) fn forward(&self, x: &Tensor, frames: Option<&Frames>) -> Result<Tensor, TchError> {
        match self {
            Self::Wide(conv) => conv.forward(x),
            Self::Narrow(convs) => convs.forward(x, frames.filter(|frames| frames.alone)),
        }
    }
}

/// Convolutions one behind the other, each with a norm over the features (without parameters) and an activation.
///
/// Source: Baevski et al. 2022, arXiv:2202.03555, section 4.2.
#[derive(Debug)]
pub(crate) struct NarrowConvs {
    /// Weight and bias of each.
    layers: Vec<[Tensor; 2]>,
    groups: i64,
    activation: Activation,
}

/// Epsilon of the norms between the narrow convolutions: PyTorch's, which the checkpoints were trained with.
const NARROW_NORM_EPS: f64 = 1e-5;

impl NarrowConvs {
    fn new(config: &EncoderConfig, weights: &Weights) -> Self {
        let layer =
            |at: i64| ["weight", "bias"].map(|part| tensor(weights, &format!("encoder.pos_conv_embed.layers.{at}.conv.{part}")));
        Self {
            layers: (0..config.num_conv_pos_embeddings).map(layer).collect(),
            groups: config.num_conv_pos_embedding_groups,
            activation: config.feat_extract_activation,
        }
    }

    /// With `alone`, padding is set to zero before each convolution, as beyond the end of a single clip.
    fn forward(&self, frames: &Tensor, alone: Option<&Frames>) -> Result<Tensor, TchError> {
        let &[_, num_frames, hidden] = frames.size().as_slice() else {
            return Err(TchError::Shape("expected (B, T, H)".to_owned()));
        };
        let mut h = frames.shallow_clone();
        for [weight, bias] in &self.layers {
            let made = h.f_transpose(1, 2)?.f_conv1d(weight, Some(bias), 1, weight.size()[2] / 2, 1, self.groups)?;
            // An even number of taps gives one frame too many.
            let made = made.f_narrow(2, 0, num_frames)?.f_transpose(1, 2)?; // (B, T, H)
            let normed = made.f_layer_norm([hidden], None::<Tensor>, None::<Tensor>, NARROW_NORM_EPS, false)?;
            h = self.activation.replace(normed)?;
            if let Some(frames) = alone {
                h = frames.zero_padding(&h)?;
            }
        }
        Ok(h)
    }
}

/// A wide convolution.
#[derive(Debug)]
pub(crate) struct PositionalConv {
    norm: Option<BatchNorm>,
    weight: Weight,
    bias: Tensor,
    groups: i64,
    activation: Activation,
}

/// Weight normalisation over all axes but the taps: `w[o,i,k] = gain[k] * v[o,i,k] / |v[..,k]|`.
/// Source: Salimans and Kingma 2016, arXiv:1602.07868, with one gain per tap as in the published models.
#[derive(Debug)]
enum Weight {
    /// Stored whole, or frozen and computed once.
    Folded(Tensor),
    /// Trained: computed in every pass.
    Normed { gain: Tensor, direction: Tensor },
}

/// Some HuBERT checkpoints normalise each feature here, in the place of weight normalisation.
///
/// Always by the stored statistics, in training too: those of a few padded utterances would make the result depend on the batch.
#[derive(Debug)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

/// PyTorch's guard against division by zero, which the checkpoints were trained with.
const BATCH_NORM_EPS: f64 = 1e-5;

impl BatchNorm {
    fn new(weights: &Weights) -> Self {
        let part = |name: &str| tensor(weights, &format!("{POSITION_NORM}.{name}"));
        Self { weight: part("weight"), bias: part("bias"), mean: part("running_mean"), variance: part("running_var") }
    }

    /// (B, H, T) -> (B, H, T).
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let Self { weight, bias, mean, variance } = self;
        x.f_batch_norm(Some(weight), Some(bias), Some(mean), Some(variance), false, 0.0, BATCH_NORM_EPS, false)
    }
}

impl PositionalConv {
    /// Errors: libtorch's, out of memory.
    fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self, TchError> {
        let weight = if config.conv_pos_batch_norm {
            Weight::Folded(tensor(weights, POSITION_FOLDED))
        } else {
            let (gain, direction) = (tensor(weights, POSITION_GAIN), tensor(weights, POSITION_DIRECTION));
            let trained = gain.requires_grad() || direction.requires_grad();
            if trained { Weight::Normed { gain, direction } } else { Weight::Folded(fold(&gain, &direction)?) }
        };
        Ok(Self {
            norm: config.conv_pos_batch_norm.then(|| BatchNorm::new(weights)),
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

    fn forward(&self, frames: &Tensor) -> Result<Tensor, TchError> {
        let weight = self.effective_weight()?;
        let taps = weight.size()[2];
        let h = frames.f_transpose(1, 2)?;
        let h = self.norm.as_ref().map(|norm| norm.forward(&h)).transpose()?.unwrap_or(h);
        let h = h.f_conv1d(&weight, Some(&self.bias), 1, taps / 2, 1, self.groups)?; // (B, H, T or T + 1)
        // An even number of taps gives one frame too many.
        let h = if taps % 2 == 0 { h.f_narrow(2, 0, frames.size()[1])? } else { h };
        self.activation.replace(h)?.f_transpose(1, 2)
    }
}

fn fold(gain: &Tensor, direction: &Tensor) -> Result<Tensor, TchError> {
    direction.f_mul(&gain.f_div(&direction_norm(direction)?)?)
}
