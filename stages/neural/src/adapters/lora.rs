//! Low-rank adaptation of linear layers.

use neural_spec::Misfit;
use tch::{TchError, Tensor};

use crate::encoder::Pass;

/// Adds a trainable low-rank update to a frozen linear layer: `y = Wx + b + scale * up(down(dropout(x)))`.
///
/// Shapes: `down` (rank, in), `up` (out, rank).
/// Start: `up` is zero, so the first forward pass equals the frozen layer's, bit for bit.
/// Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; `alpha / sqrt(rank)` from Kalajdzievski 2023, arXiv:2312.03732.
#[derive(Debug)]
pub struct Lora {
    pub(crate) down: Tensor,
    pub(crate) up: Tensor,
    scale: f64,
    dropout: f64,
}

impl Lora {
    pub(super) fn new(spec: &neural_spec::Lora, module: &str, down: &Tensor, up: &Tensor) -> Result<Self, Misfit> {
        let scale = spec.scale_of(module)?;
        Ok(Self { down: down.shallow_clone(), up: up.shallow_clone(), scale, dropout: spec.dropout })
    }

    pub(super) fn apply(&self, input: &Tensor, output: &Tensor, pass: &Pass) -> Result<Tensor, TchError> {
        let narrow = pass.dropout(input, self.dropout)?.f_linear(&self.down, None::<Tensor>)?; // (.., rank)
        // Scaling the narrow side costs rank / out of scaling the result.
        let update = narrow.f_mul_scalar(self.scale)?.f_linear(&self.up, None::<Tensor>)?;
        output.f_add(&update)
    }

    /// What the update adds to the layer's weight: (out, in).
    pub(crate) fn delta(&self) -> Result<Tensor, TchError> {
        self.up.f_matmul(&self.down)?.f_mul_scalar(self.scale)
    }

    pub(super) fn share(&self) -> Self {
        Self { down: self.down.shallow_clone(), up: self.up.shallow_clone(), ..*self }
    }
}
