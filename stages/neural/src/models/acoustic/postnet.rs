//! The network behind the decoder, with batch norm that knows which frames are real.

use tch::{TchError, Tensor};

use super::convolution::Convolution;
use crate::nn::frames::Frames;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// Epsilon of batch norm, and the share of a batch in the running statistics.
const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Statistics that batch norm uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchNormMode {
    /// Those of the batch, which also move the running ones: training of all weights.
    Batch,
    /// The running ones, which stay as they are: evaluation, and training of adapters on a frozen model.
    Running,
}

/// Convolutions with batch norm, tanh between them, and a residual around all.
///
/// Shapes: mel (B, T, M) -> (B, T, M). Padded frames are zero before every convolution and left out of the statistics.
/// Source: Shen et al. 2018, arXiv:1712.05884, section 2.2.
#[derive(Debug)]
pub(super) struct Postnet {
    layers: Vec<Layer>,
    dropout: f64,
}

#[derive(Debug)]
struct Layer {
    convolution: Convolution,
    gain: Tensor,
    shift: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
}

impl Postnet {
    /// Builds it around the tensors whose names begin with `prefix`.
    pub(super) fn new(weights: &Weights, prefix: &str, layers: usize, dropout: f64) -> Self {
        let layer = |at: usize| {
            let part = |name: &str| tensor(weights, &format!("{prefix}convolutions.{at}.1.{name}"));
            Layer {
                convolution: Convolution::new(weights, &format!("{prefix}convolutions.{at}.0.conv")),
                gain: part("weight"),
                shift: part("bias"),
                running_mean: part("running_mean"),
                running_variance: part("running_var"),
            }
        };
        Self { layers: (0..layers).map(layer).collect(), dropout }
    }

    pub(super) fn forward(
        &self,
        mel: &Tensor,
        frames: &Frames,
        statistics: BatchNormMode,
        pass: &Pass,
    ) -> Result<Tensor, TchError> {
        let mut x = frames.zero_padding(mel)?;
        let real = match (&frames.real, statistics) {
            (Some(real), BatchNormMode::Batch) => Some(real.f_reshape([-1])?.f_nonzero()?.f_view([-1])?),
            _ => None,
        };
        for (at, layer) in self.layers.iter().enumerate() {
            let convolved = layer.convolution.forward(&x.f_transpose(1, 2)?)?.f_transpose(1, 2)?;
            let mut normed = layer.norm(&convolved, real.as_ref(), statistics)?;
            if at + 1 < self.layers.len() {
                normed = normed.f_tanh()?;
            }
            x = frames.zero_padding(&pass.dropout(&normed, self.dropout)?)?;
        }
        frames.zero_padding(&mel.f_add(&x)?)
    }
}

impl Layer {
    /// (B, T, C) -> (B, T, C). `real` are the frames that are no padding, of all utterances one after the other; none when all are. The
    /// statistics of a batch are those of its real frames, and padding is 0 then.
    fn norm(&self, x: &Tensor, real: Option<&Tensor>, statistics: BatchNormMode) -> Result<Tensor, TchError> {
        let norm = |x: &Tensor, trains: bool| {
            let [mean, variance] = [&self.running_mean, &self.running_variance].map(Tensor::detach);
            x.f_batch_norm(Some(&self.gain), Some(&self.shift), Some(&mean), Some(&variance), trains, MOMENTUM, EPS, true)
        };
        let size = x.size();
        let channels = *size.last().unwrap_or(&1);
        let rows = x.f_reshape([-1, channels])?;
        let normed = match (statistics, real) {
            (BatchNormMode::Running, _) => norm(&rows, false)?,
            (BatchNormMode::Batch, None) => norm(&rows, true)?,
            (BatchNormMode::Batch, Some(real)) => {
                let normed = norm(&rows.f_index_select(0, real)?, true)?;
                rows.f_zeros_like()?.f_index_copy(0, real, &normed)?
            }
        };
        normed.f_reshape(size.as_slice())
    }
}
