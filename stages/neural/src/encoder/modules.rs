//! The small parts that encoder and head are built from.

use tch::{TchError, Tensor};

use super::Pass;
use crate::adapters::{Adapters, Beside};
use crate::checkpoint::{Activation, Weights};

/// A tensor by name. Weights are complete by construction: [`crate::checkpoint::weights::read`] checks them.
pub(crate) fn tensor(weights: &Weights, name: &str) -> Tensor {
    weights.get(name).unwrap_or_else(|| panic!("`{name}` is among the checked weights")).shallow_clone()
}

/// `y = Wx + b`, with an adapter beside it where there is one.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
    adapter: Option<Beside>,
}

impl Linear {
    /// Errors: libtorch's, out of memory.
    pub(crate) fn new(weights: &Weights, name: &str, adapters: &Adapters) -> Result<Self, TchError> {
        let weight = tensor(weights, &format!("{name}.weight"));
        let adapter = adapters.beside(name, &weight)?;
        Ok(Self { weight, bias: tensor(weights, &format!("{name}.bias")), adapter })
    }

    /// (.., in) -> (.., out).
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        match &self.adapter {
            Some(adapter) => adapter.forward(x, &self.weight, &self.bias, pass),
            None => x.f_linear(&self.weight, Some(&self.bias)),
        }
    }
}

/// Zero mean and unit variance over the last axis, then gain and shift.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(weights: &Weights, name: &str, eps: f64) -> Self {
        Self { weight: tensor(weights, &format!("{name}.weight")), bias: tensor(weights, &format!("{name}.bias")), eps }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

impl Activation {
    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Gelu => x.f_gelu("none"),
            Self::GeluNew => x.f_gelu("tanh"),
            Self::Relu => x.f_relu(),
            Self::Silu => x.f_silu(),
            Self::Selu => x.f_selu(),
        }
    }

    /// The same of a tensor that nobody else reads: in its place, where no graph holds on to it.
    pub(crate) fn replace(self, mut x: Tensor) -> Result<Tensor, TchError> {
        if x.requires_grad() {
            return self.forward(&x);
        }
        match self {
            Self::Gelu => x.f_gelu_("none"),
            Self::GeluNew => x.f_gelu_("tanh"),
            Self::Relu => x.f_relu_(),
            Self::Silu => x.f_silu_(),
            Self::Selu => x.f_selu_(),
        }
    }
}
