//! Layer norm.

use tch::{TchError, Tensor};

use super::activation::Activation;
use super::native::{Kernels, NORM_GELU_WIDTH};
use super::weights::{Weights, tensor};

/// Zero mean and unit variance over the last axis, then gain and shift.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(weights: &Weights, name: &str, eps: f64) -> Self {
        Self::of(tensor(weights, &format!("{name}.weight")), tensor(weights, &format!("{name}.bias")), eps)
    }

    pub(crate) fn of(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    pub(crate) fn is_trained(&self) -> bool {
        self.weight.requires_grad() || self.bias.requires_grad()
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// Activated norm of rows (N, C), without a graph.
    pub(crate) fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor, TchError> {
        let fits = activation == Activation::Gelu && self.weight.size() == [NORM_GELU_WIDTH];
        match Kernels::of(x).filter(|_| fits) {
            Some(kernels) => kernels.norm_gelu(x, &self.weight, &self.bias, self.eps),
            None => activation.replace(self.forward(x)?),
        }
    }
}
