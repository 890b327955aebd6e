//! Convolutions over positions or frames.

use tch::{TchError, Tensor};

use crate::nn::weights::{Weights, tensor};

/// A convolution that keeps the number of frames.
#[derive(Debug)]
pub(super) struct Convolution {
    weight: Tensor,
    bias: Tensor,
}

impl Convolution {
    /// Builds it around `NAME.weight` (out, in, taps) and `NAME.bias`.
    pub(super) fn new(weights: &Weights, name: &str) -> Self {
        Self { weight: tensor(weights, &format!("{name}.weight")), bias: tensor(weights, &format!("{name}.bias")) }
    }

    /// (B, in, T) -> (B, out, T).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let taps = self.weight.size()[2];
        x.f_conv1d(&self.weight, Some(&self.bias), 1, taps / 2, 1, 1)
    }
}
