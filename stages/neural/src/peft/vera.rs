//! VeRA: two random matrices that all layers share, with trained factors of their rows.

use neural_spec::Vera as Spec;
use tch::{TchError, Tensor};

use super::lora::Lora;
use super::merge::{Merge, Merged};
use crate::nn::adapter::LinearAdapter;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// `y = Wx + bias + b * up(d * down(dropout(x)))`.
///
/// Shapes: `x` (.., in) -> (.., out); `down` (rank, in), `up` (out, rank): the first columns and rows of the shared matrices; `d` (rank), `b` (out).
/// Start: `b` is zero, so that the first pass equals the frozen layer's; `d` is small; `down` and `up` are uniform, and stay.
/// Source: Kopiczko et al. 2024, arXiv:2310.11454, section 3.1; shared parts for layers of different sizes as in peft.
#[derive(Debug)]
pub(crate) struct Vera {
    down: Tensor,
    up: Tensor,
    d: Tensor,
    b: Tensor,
    dropout: f64,
}

impl Vera {
    /// Errors: shared matrices that are smaller than the layer.
    pub(super) fn new(tensors: &Weights, module: &str, weight: &Tensor, dropout: f64) -> Result<Self, TchError> {
        let part = |name: &str| tensor(tensors, &format!("{module}.vera_lambda_{name}"));
        let shared = |name: &str, axis: i64, length| tensor(tensors, name).f_narrow(axis, 0, length);
        let size = weight.size();
        Ok(Self { down: shared(Spec::DOWN, 1, size[1])?, up: shared(Spec::UP, 0, size[0])?, d: part("d"), b: part("b"), dropout })
    }
}

impl LinearAdapter for Vera {
    fn forward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, pass: &Pass) -> Result<Tensor, TchError> {
        let narrow = pass.dropout(x, self.dropout)?.f_linear(&self.down, None::<Tensor>)?.f_mul(&self.d)?;
        x.f_linear(weight, bias)?.f_addcmul(&narrow.f_linear(&self.up, None::<Tensor>)?, &self.b)
    }
}

impl Merge for Vera {
    fn merge(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Merged, TchError> {
        let (down, up) = (self.down.f_mul(&self.d.f_unsqueeze(1)?)?, self.up.f_mul(&self.b.f_unsqueeze(1)?)?);
        Lora::of(down, up, 1.0, 0.0).merge(weight, bias)
    }
}
