//! The network behind the decoder, with batch norm that knows which frames are real.

use tch::{Kind, TchError, Tensor, no_grad};

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
        for (at, layer) in self.layers.iter().enumerate() {
            let convolved = layer.convolution.forward(&x.f_transpose(1, 2)?)?.f_transpose(1, 2)?;
            let mut normed = layer.norm(&convolved, frames, statistics)?;
            if at + 1 < self.layers.len() {
                normed = normed.f_tanh()?;
            }
            x = frames.zero_padding(&pass.dropout(&normed, self.dropout)?)?;
        }
        frames.zero_padding(&mel.f_add(&x)?)
    }
}

impl Layer {
    /// (B, T, C) -> (B, T, C).
    fn norm(&self, x: &Tensor, frames: &Frames, statistics: BatchNormMode) -> Result<Tensor, TchError> {
        let (mean, variance) = match statistics {
            BatchNormMode::Running => (self.running_mean.shallow_clone(), self.running_variance.shallow_clone()),
            BatchNormMode::Batch => {
                let count = frames.counts.iter().sum::<i64>() as f64;
                let sum = |x: &Tensor| frames.zero_padding(x)?.f_sum_dim_intlist([0_i64, 1].as_slice(), false, None::<Kind>);
                let mean = sum(x)?.f_div_scalar(count)?;
                let variance = sum(&x.f_sub(&mean)?.f_square()?)?.f_div_scalar(count)?;
                self.follow(&mean, &variance, count)?;
                (mean, variance)
            }
        };
        let scale = variance.f_add_scalar(EPS)?.f_rsqrt()?.f_mul(&self.gain)?;
        x.f_sub(&mean)?.f_mul(&scale)?.f_add(&self.shift)
    }

    /// Moves the running statistics towards those of a batch of `count` frames; the running variance is unbiased.
    fn follow(&self, mean: &Tensor, variance: &Tensor, count: f64) -> Result<(), TchError> {
        let unbiased = count / (count - 1.0).max(1.0);
        no_grad(|| {
            for (running, now, factor) in [(&self.running_mean, mean, 1.0), (&self.running_variance, variance, unbiased)] {
                let moved = running.f_mul_scalar(1.0 - MOMENTUM)?.f_add(&now.f_mul_scalar(MOMENTUM * factor)?)?;
                running.shallow_clone().f_copy_(&moved)?;
            }
            Ok(())
        })
    }
}
