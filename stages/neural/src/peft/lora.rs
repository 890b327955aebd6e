//! Low-rank adaptation of linear layers.

use neural_spec::Misfit;
use tch::{TchError, Tensor, no_grad};

use super::merge::{Merge, Merged};
use crate::nn::adapter::LinearAdapter;
use crate::nn::linear::Rows;
use crate::nn::native::LowRank;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// Adds a trainable low-rank update to a frozen linear layer: `y = Wx + b + scale * up(down(dropout(x)))`.
///
/// Shapes: `x` (.., in) -> (.., out); `down` (rank, in), `up` (out, rank).
/// Start: `up` is zero, so the first forward pass equals the frozen layer's, bit for bit; `down` is uniform in ±1/sqrt(in).
/// Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; `alpha / sqrt(rank)` from Kalajdzievski 2023, arXiv:2312.03732.
#[derive(Debug)]
pub(crate) struct Lora {
    down: Tensor,
    up: Tensor,
    scale: f64,
    dropout: f64,
}

impl Lora {
    pub(super) fn new(spec: &neural_spec::Lora, tensors: &Weights, module: &str) -> Result<Self, Misfit> {
        let part = |name: &str| tensor(tensors, &format!("{module}.{name}"));
        let scale = spec.scale_of(module)?;
        Ok(Self { down: part("lora_A.weight"), up: part("lora_B.weight"), scale, dropout: spec.dropout })
    }

    /// An update of these factors.
    pub(super) fn of(down: Tensor, up: Tensor, scale: f64, dropout: f64) -> Self {
        Self { down, up, scale, dropout }
    }

    /// An update of a given scale.
    pub(super) fn of_scale(tensors: &Weights, module: &str, scale: f64) -> Self {
        let part = |name: &str| tensor(tensors, &format!("{module}.{name}"));
        Self::of(part("lora_A.weight"), part("lora_B.weight"), scale, 0.0)
    }

    /// `scale * down(x)`: (N, in) -> (N, rank). Scaling here costs rank / out of scaling the result.
    fn narrow(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.down, None::<Tensor>)?.f_mul_scalar_(self.scale)
    }

    /// `output + up(narrow)`: (N, out). In place, since nobody else has seen `output`: no tensor of its size is made.
    fn add_to(&self, mut output: Tensor, narrow: &Tensor) -> Result<Tensor, TchError> {
        output.f_addmm_(narrow, &self.up.f_transpose(0, 1)?)
    }

    /// The weight with the update added: (out, in).
    fn merged(&self, weight: &Tensor) -> Result<Tensor, TchError> {
        weight.f_add(&self.up.f_matmul(&self.down)?.f_mul_scalar(self.scale)?)
    }
}

impl LinearAdapter for Lora {
    /// With dropout; without, see [`Self::low_rank`].
    fn forward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, pass: &Pass) -> Result<Tensor, TchError> {
        let rows = Rows::of(x)?;
        let output = rows.flat.f_linear(weight, bias)?;
        let narrow = self.narrow(&pass.dropout(&rows.flat, self.dropout)?)?;
        rows.restore(&self.add_to(output, &narrow)?)
    }

    fn low_rank(&self, pass: &Pass) -> Option<LowRank<'_>> {
        let Self { down, up, scale, .. } = self;
        (pass.probability(self.dropout) == 0.0).then_some(LowRank { down, up, scale: *scale })
    }
}

impl Merge for Lora {
    fn merge(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Merged, TchError> {
        Ok(Merged { weight: self.merged(weight)?, bias: bias.map(Tensor::shallow_clone) })
    }
}

/// LoRA whose rows have trained lengths: `y = m / |V| * Vx + b` with `V = W + scale * up down`, row by row.
///
/// Shapes: as [`Lora`]; `magnitude` (out).
/// Start: `magnitude` is the length of the rows of W, so that the first pass equals the frozen layer's.
/// Source: Liu et al. 2024, arXiv:2402.09353; |V| is a constant for the gradient (section 4.3). With dropout the frozen part is
/// computed from the whole input and the rest from the thinned one, as in peft.
#[derive(Debug)]
pub(crate) struct Dora {
    lora: Lora,
    magnitude: Tensor,
    /// Squared lengths of the rows of the frozen weight, (out).
    squares: Tensor,
}

impl Dora {
    pub(super) fn new(lora: Lora, tensors: &Weights, module: &str, weight: &Tensor) -> Result<Self, TchError> {
        let magnitude = tensor(tensors, &format!("{module}.lora_magnitude_vector"));
        Ok(Self { lora, magnitude, squares: no_grad(|| squares(weight))? })
    }

    /// Lengths of the rows of `W + scale * up down`, without making that matrix: (out).
    ///
    /// `|w + s B a|^2 = |w|^2 + 2 s B (A w) + s^2 B (A A') B'`, where the products with A have but `rank` columns.
    fn lengths(&self, weight: &Tensor) -> Result<Tensor, TchError> {
        let Lora { down, up, scale, .. } = &self.lora;
        no_grad(|| {
            let along = |by: &Tensor| up.f_mul(by)?.f_sum_dim_intlist(1, false, None);
            let cross = along(&weight.f_matmul(&down.f_transpose(0, 1)?)?)?;
            let own = along(&up.f_matmul(&down.f_matmul(&down.f_transpose(0, 1)?)?)?)?;
            let square = self.squares.f_add(&cross.f_mul_scalar(2.0 * scale)?)?.f_add(&own.f_mul_scalar(scale * scale)?)?;
            square.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_sqrt()
        })
    }
}

impl LinearAdapter for Dora {
    fn forward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, pass: &Pass) -> Result<Tensor, TchError> {
        let rows = Rows::of(x)?;
        let stretch = self.magnitude.f_div(&self.lengths(weight)?)?; // (out)
        let thinned = pass.dropout(&rows.flat, self.lora.dropout)?;
        let frozen = thinned.f_linear(weight, None::<Tensor>)?;
        let narrow = self.lora.narrow(&thinned)?;
        if pass.probability(self.lora.dropout) > 0.0 {
            let whole = rows.flat.f_linear(weight, bias)?.f_sub(&frozen)?;
            return rows.restore(&whole.f_addcmul(&self.lora.add_to(frozen, &narrow)?, &stretch)?);
        }
        let updated = self.lora.add_to(frozen, &narrow)?;
        rows.restore(&match bias {
            Some(bias) => bias.f_addcmul(&updated, &stretch)?,
            None => updated.f_mul(&stretch)?,
        })
    }
}

impl Merge for Dora {
    fn merge(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Merged, TchError> {
        let stretch = self.magnitude.f_div(&self.lengths(weight)?)?.f_unsqueeze(1)?;
        Ok(Merged { weight: self.lora.merged(weight)?.f_mul(&stretch)?, bias: bias.map(Tensor::shallow_clone) })
    }
}

/// Squared lengths of the rows of a matrix.
fn squares(weight: &Tensor) -> Result<Tensor, TchError> {
    weight.f_square()?.f_sum_dim_intlist(1, false, None)
}

/// Starting values of [`neural_spec::Start::RowNorms`].
pub(super) fn row_norms(weight: &Tensor) -> Result<Tensor, TchError> {
    no_grad(|| squares(weight)?.f_sqrt())
}
