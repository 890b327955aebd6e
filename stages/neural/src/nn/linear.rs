//! Linear layers.

use tch::{TchError, Tensor};

use super::adapter::LinearAdapter;
use super::native::{self, LinearParts};
use super::pass::Pass;
use super::weights::{Weights, tensor};

/// `y = Wx + b`, or `y = Wx`, with an adapter where there is one.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    adapter: Option<Box<dyn LinearAdapter>>,
}

impl Linear {
    /// Builds the layer around `NAME.weight` and, where there is one, `NAME.bias`.
    pub(crate) fn new(weights: &Weights, name: &str, adapter: Option<Box<dyn LinearAdapter>>) -> Self {
        let bias = weights.get(&format!("{name}.bias")).map(Tensor::shallow_clone);
        Self { weight: tensor(weights, &format!("{name}.weight")), bias, adapter }
    }

    /// (.., in) -> (.., out).
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        // A GPU is slow to add up a bias's gradient as libtorch does it.
        let trained_bias = self.bias.as_ref().is_some_and(Tensor::requires_grad);
        let gains = self.adapter.is_some() || (pass.trains() && x.device().is_cuda() && trained_bias);
        if let Some(parts) = self.parts(pass).filter(|_| gains) {
            let [output] = products(x, [parts])?;
            return Ok(output);
        }
        match &self.adapter {
            Some(adapter) => adapter.forward(x, &self.weight, self.bias.as_ref(), pass),
            None => x.f_linear(&self.weight, self.bias.as_ref()),
        }
    }

    /// Outputs of layers for an input that they share: the same as each alone, but its gradient comes back as one.
    pub(crate) fn forward_all<const N: usize>(layers: [&Self; N], x: &Tensor, pass: &Pass) -> Result<[Tensor; N], TchError> {
        let parts = layers.map(|layer| layer.parts(pass));
        if parts.iter().all(Option::is_some) {
            return products(x, parts.map(|parts| parts.expect("looked at above")));
        }
        each(layers.map(|layer| layer.forward(x, pass)))
    }

    /// The layer as two products, where it is no more than that in this pass.
    fn parts(&self, pass: &Pass) -> Option<LinearParts<'_>> {
        let update = self.adapter.as_ref().map(|adapter| adapter.low_rank(pass).ok_or(())).transpose().ok()?;
        Some(LinearParts { weight: &self.weight, bias: self.bias.as_ref(), update })
    }
}

/// Outputs of layers for one input, (.., in) -> (.., out) each.
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
