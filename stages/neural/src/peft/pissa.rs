//! PiSSA: a LoRA that starts as the largest singular values and vectors of the weight, which loses them.

use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::nn::weights::Weights;

/// A weight as the update of a LoRA and what is left of it: `W = residual + scale * up down`.
pub(super) struct Split {
    /// (rank, in).
    pub(super) down: Tensor,
    /// (out, rank).
    pub(super) up: Tensor,
    /// (out, in).
    pub(super) residual: Tensor,
}

impl Split {
    /// Splits a weight so that the update is the best of its rank; both of its factors get the roots of the singular values.
    ///
    /// Computed on the CPU by one thread: where singular values are close to each other, the vectors depend on how they are rounded.
    /// Source: Meng et al. 2024, arXiv:2404.02948, section 3; the scale is taken out of the singular values, as in peft.
    pub(super) fn of(weight: &Tensor, rank: i64, scale: f64) -> Result<Self, TchError> {
        no_grad(|| {
            let whole = weight.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
            let threads = tch::get_num_threads();
            tch::set_num_threads(1);
            let parts = whole.f_svd(true, true);
            tch::set_num_threads(threads);
            let (left, values, right) = parts?;
            let roots = values.f_narrow(0, 0, rank)?.f_div_scalar(scale)?.f_sqrt()?;
            let down = right.f_narrow(1, 0, rank)?.f_mul(&roots)?.f_transpose(0, 1)?.f_contiguous()?;
            let up = left.f_narrow(1, 0, rank)?.f_mul(&roots)?;
            let residual = whole.f_sub(&up.f_mul_scalar(scale)?.f_matmul(&down)?)?;
            let place = |tensor: Tensor| tensor.f_to_device(weight.device());
            Ok(Self { down: place(down)?, up: place(up)?, residual: place(residual)? })
        })
    }
}

/// Turns trained updates into those of [`neural_spec::Lora::converted`], on the encoder's own weights. `start`: the updates as they were at
/// first, whose names lack `prefix`.
///
/// Source: the conversion of peft (`path_initial_model_for_weight_conversion`).
pub(super) fn convert(trained: &mut Weights, start: &Weights, prefix: &str) -> Result<(), TchError> {
    for (name, first) in start {
        let Some(tensor) = trained.get_mut(&format!("{prefix}{name}")) else { continue };
        *tensor = no_grad(|| {
            if name.ends_with("lora_A.weight") {
                Tensor::f_cat(&[&*tensor, first], 0)
            } else {
                Tensor::f_cat(&[&*tensor, &first.f_neg()?], 1)
            }
        })?;
    }
    Ok(())
}
