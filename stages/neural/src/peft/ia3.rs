//! IA3: learned factors of a linear layer's outputs, or inputs.

use tch::{TchError, Tensor};

use crate::nn::adapter::LinearAdapter;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

use super::merge::{Merge, Merged};

/// `y = factors * (Wx + b)`, or `y = W(factors * x) + b`.
///
/// Shapes: `x` (.., in) -> (.., out); `factors` (out, 1) for the first form, (1, in) for the second, as peft keeps them.
/// Start: ones, so that the first pass equals the frozen layer's, bit for bit.
/// Source: Liu et al. 2022, arXiv:2205.05638, section 3.3; the bias is scaled too, as in peft.
#[derive(Debug)]
pub(crate) struct Ia3 {
    factors: Tensor,
    at_input: bool,
}

impl Ia3 {
    pub(super) fn new(tensors: &Weights, module: &str, at_input: bool) -> Self {
        Self { factors: tensor(tensors, &format!("{module}.ia3_l")), at_input }
    }
}

impl LinearAdapter for Ia3 {
    fn forward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, _: &Pass) -> Result<Tensor, TchError> {
        let factors = self.factors.f_view([-1])?;
        if self.at_input { x.f_mul(&factors)?.f_linear(weight, bias) } else { x.f_linear(weight, bias)?.f_mul(&factors) }
    }
}

impl Merge for Ia3 {
    fn merge(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Merged, TchError> {
        let weight = weight.f_mul(&self.factors)?; // (out, in) times (out, 1) or (1, in)
        let scaled = bias.filter(|_| !self.at_input).map(|bias| bias.f_mul(&self.factors.f_view([-1])?)).transpose()?;
        Ok(Merged { weight, bias: scaled.or_else(|| bias.map(Tensor::shallow_clone)) })
    }
}
