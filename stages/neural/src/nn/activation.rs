//! Activation functions.

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

/// An activation function, by its name in the `config.json` of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The exact (erf) form.
    Gelu,
    /// The tanh approximation.
    GeluNew,
    /// max(0, x).
    Relu,
    /// x * sigmoid(x).
    #[serde(alias = "swish")]
    Silu,
    /// Klambauer et al. 2017, arXiv:1706.02515.
    Selu,
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

    /// Activates a tensor that nobody else reads: in place, where no graph holds on to it.
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
