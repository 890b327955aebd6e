//! The bottleneck adapter: a narrow feed-forward block with a residual.

use neural_spec::AdapterActivation;
use tch::{TchError, Tensor};

use crate::nn::activation::Activation;
use crate::nn::adapter::BlockAdapter;
use crate::nn::frames::Frames;
use crate::nn::weights::{Weights, tensor};

/// `x + up(activation(down(x)))`.
///
/// Shapes: `x` (B, T, H) -> (B, T, H); `down` (d, H) and (d), `up` (H, d) and (H).
/// Start: weights normal with deviation 0.02, biases zero: near the identity, but not it.
/// Source: Houlsby et al. 2019, arXiv:1902.00751, section 2.1; sizes, start and the missing norm as in the reference code of Li et
/// al. 2023, arXiv:2303.03267.
#[derive(Debug)]
pub(crate) struct Bottleneck {
    down: [Tensor; 2],
    up: [Tensor; 2],
    activation: Activation,
}

impl Bottleneck {
    pub(super) fn new(spec: &neural_spec::Bottleneck, tensors: &Weights, block: &str) -> Self {
        let part = |name: &str| tensor(tensors, &format!("{block}.bottleneck_adapter.{name}"));
        Self {
            down: [part("adapter_down.0.weight"), part("adapter_down.0.bias")],
            up: [part("adapter_up.weight"), part("adapter_up.bias")],
            activation: match spec.activation {
                AdapterActivation::Relu => Activation::Relu,
                AdapterActivation::Gelu => Activation::Gelu,
                AdapterActivation::Silu => Activation::Silu,
            },
        }
    }
}

impl BlockAdapter for Bottleneck {
    fn forward(&self, x: &Tensor, _: Option<&Frames>) -> Result<Tensor, TchError> {
        let ([down, down_bias], [up, up_bias]) = (&self.down, &self.up);
        let narrow = self.activation.forward(&x.f_linear(down, Some(down_bias))?)?; // (B, T, d)
        narrow.f_linear(up, Some(up_bias))?.f_add_(x) // in place: nothing else needs what is under it
    }
}
