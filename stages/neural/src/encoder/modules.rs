//! The small parts that encoder and head are built from.

use tch::{TchError, Tensor};

use super::Pass;
use crate::adapters::{Adapters, Beside};
use crate::checkpoint::{Activation, Weights};
use crate::native::{self, Kernels, LinearParts, NORM_GELU_WIDTH};

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
        // A GPU is slow to add up a bias's gradient as libtorch does it.
        let gains = self.adapter.is_some() || (pass.trains() && x.device().is_cuda() && self.bias.requires_grad());
        if let Some(parts) = self.parts(pass).filter(|_| gains) {
            let [output] = products(x, [parts])?;
            return Ok(output);
        }
        match &self.adapter {
            Some(adapter) => adapter.forward(x, &self.weight, &self.bias, pass),
            None => x.f_linear(&self.weight, Some(&self.bias)),
        }
    }

    /// What layers make of an input that they share: the same as each alone, but its gradient comes back as one.
    pub(crate) fn forward_all<const N: usize>(layers: [&Self; N], x: &Tensor, pass: &Pass) -> Result<[Tensor; N], TchError> {
        let parts = layers.map(|layer| layer.parts(pass));
        if parts.iter().all(Option::is_some) {
            return products(x, parts.map(|parts| parts.expect("looked at above")));
        }
        each(layers.map(|layer| layer.forward(x, pass)))
    }

    /// Itself as two products, where it is no more in this pass.
    fn parts(&self, pass: &Pass) -> Option<LinearParts<'_>> {
        let update = match &self.adapter {
            None => None,
            Some(Beside::Lora(lora)) => Some(lora.low_rank(pass)?),
            Some(Beside::Dora(_) | Beside::Ia3(_)) => return None,
        };
        Some(LinearParts { weight: &self.weight, bias: &self.bias, update })
    }
}

/// What layers make of their input, (.., in) -> (.., out) each.
fn products<const N: usize>(x: &Tensor, layers: [LinearParts; N]) -> Result<[Tensor; N], TchError> {
    let rows = Rows::of(x)?;
    each(native::linears(&rows.flat, layers)?.map(|made| rows.restore(&made)))
}

/// All of them, or the first error.
fn each<const N: usize>(results: [Result<Tensor, TchError>; N]) -> Result<[Tensor; N], TchError> {
    let all = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(all.try_into().expect("as many as there were"))
}

/// A tensor as a matrix of rows, so that a product can be added to in place: a view could not be, without copies in the backward pass.
pub(crate) struct Rows {
    pub(crate) flat: Tensor,
    shape: Vec<i64>,
}

impl Rows {
    pub(crate) fn of(x: &Tensor) -> Result<Self, TchError> {
        let shape = x.size();
        Ok(Self { flat: x.f_flatten(0, -2)?, shape })
    }

    /// `output`, of as many rows, in the shape that they came from.
    pub(crate) fn restore(&self, output: &Tensor) -> Result<Tensor, TchError> {
        let mut shape = self.shape.clone();
        if let (Some(last), Some(&width)) = (shape.last_mut(), output.size().last()) {
            *last = width;
        }
        output.f_view(shape.as_slice())
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

    pub(crate) fn is_trained(&self) -> bool {
        self.weight.requires_grad() || self.bias.requires_grad()
    }

    #[cfg(test)]
    pub(crate) fn of(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// Its activated result for rows (N, C), without a graph.
    pub(crate) fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor, TchError> {
        let fits = activation == Activation::Gelu && self.weight.size() == [NORM_GELU_WIDTH];
        match Kernels::of(x).filter(|_| fits) {
            Some(kernels) => kernels.norm_gelu(x, &self.weight, &self.bias, self.eps),
            None => activation.replace(self.forward(x)?),
        }
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
