//! What lies below the layers: from samples or feature frames to frames of the hidden size, and their positions.

use tch::{TchError, Tensor};

use super::convolutions::convolutions;
use super::position::Position;
use super::projection::Projection;
use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::config::frames::FrameInput;
use crate::checkpoint::weights::WHISPER_POSITIONS;
use crate::nn::activation::Activation;
use crate::nn::frames::Frames;
use crate::nn::pass::Pass;
use crate::nn::waveform::ConvStack;
use crate::nn::weights::{Weights, tensor};

/// The part of an encoder below its layers.
#[derive(Debug)]
pub(crate) enum Stem {
    /// Convolutions over samples, a projection, and positions by convolutions.
    Waveform { conv: ConvStack, projection: Projection, position: Position },
    /// Two convolutions over log-mel frames, and stored positions.
    Whisper(WhisperStem),
    /// A projection of stacked frames. Positions are known to the attention alone.
    Stacked(Projection),
}

impl Stem {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self, TchError> {
        Ok(match config.frames {
            None => Self::Waveform {
                conv: convolutions(config, weights),
                projection: Projection::new(config, weights),
                position: Position::new(config, weights)?,
            },
            Some(FrameInput::Whisper { .. }) => Self::Whisper(WhisperStem::new(weights)),
            Some(FrameInput::Wav2Vec2Bert(_)) => Self::Stacked(Projection::new(config, weights)),
        })
    }

    /// Input frames (B, S, C) -> (B, T, H). `frames`: which of the input frames are real; none when all count.
    pub(crate) fn project(&self, input: &Tensor, frames: Option<&Frames>, pass: &Pass) -> Result<Tensor, TchError> {
        match self {
            Self::Waveform { projection, .. } | Self::Stacked(projection) => projection.forward(input, pass),
            Self::Whisper(stem) => stem.forward(input, frames),
        }
    }

    /// What is added to `x` (B, T, H), zero where `frames` says that it is padding; none where nothing is.
    pub(crate) fn position(&self, x: &Tensor, frames: Option<&Frames>) -> Result<Option<Tensor>, TchError> {
        match self {
            Self::Waveform { position, .. } => position.forward(x, frames).map(Some),
            Self::Whisper(stem) => stem.positions.f_narrow(0, 0, x.size()[1]).map(Some),
            Self::Stacked(_) => Ok(None),
        }
    }
}

/// The convolutions of Whisper, of which the second halves the number of frames.
///
/// Source: Radford et al. 2022, arXiv:2212.04356, section 2.2. There every clip is padded to 30 s; here padding is set to zero before each
/// convolution, so that a clip gets the same frames in any batch.
#[derive(Debug)]
pub(crate) struct WhisperStem {
    /// Weight and bias of each.
    convolutions: [[Tensor; 2]; 2],
    /// (positions, H).
    positions: Tensor,
}

impl WhisperStem {
    fn new(weights: &Weights) -> Self {
        let conv = |name: &str| ["weight", "bias"].map(|part| tensor(weights, &format!("{name}.{part}")));
        Self { convolutions: [conv("conv1"), conv("conv2")], positions: tensor(weights, WHISPER_POSITIONS) }
    }

    /// (B, S, bands) -> (B, S / 2, H).
    fn forward(&self, input: &Tensor, frames: Option<&Frames>) -> Result<Tensor, TchError> {
        let conv = |x: &Tensor, [weight, bias]: &[Tensor; 2], stride: i64| {
            let x = frames.filter(|_| stride > 1).map_or_else(|| Ok(x.shallow_clone()), |frames| frames.zero_padding(x))?;
            let made = x.f_transpose(1, 2)?.f_conv1d(weight, Some(bias), stride, 1, 1, 1)?;
            Activation::Gelu.replace(made)?.f_transpose(1, 2)
        };
        let [first, second] = &self.convolutions;
        conv(&conv(input, first, 1)?, second, 2)
    }
}
