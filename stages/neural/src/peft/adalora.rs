//! AdaLoRA: low-rank updates as singular values and vectors, whose ranks training chooses.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use super::lora::Lora;
use super::merge::{Merge, Merged};
use crate::nn::adapter::LinearAdapter;
use crate::nn::pass::Pass;
use crate::nn::weights::{Weights, tensor};

/// Ends of the names of a layer's singular values, and of its right and left singular vectors.
pub(crate) const VALUES: &str = ".lora_E";
pub(crate) const RIGHT: &str = ".lora_A";
pub(crate) const LEFT: &str = ".lora_B";

/// A [`Lora`] with `values * down` in the place of `down`.
///
/// Shapes: `down` (rank, in), `values` (rank, 1), `up` (out, rank).
/// Start: the values are zero, so that the first pass equals the frozen layer's, bit for bit; the vectors normal with deviation 0.02.
/// Source: Zhang et al. 2023, arXiv:2303.10512, section 3.1; the scale is peft's.
#[derive(Debug)]
pub(crate) struct AdaLora {
    down: Tensor,
    values: Tensor,
    up: Tensor,
    scale: f64,
    dropout: f64,
}

impl AdaLora {
    pub(super) fn new(tensors: &Weights, module: &str, scale: f64, dropout: f64) -> Self {
        let part = |name: &str| tensor(tensors, &format!("{module}{name}"));
        Self { down: part(RIGHT), values: part(VALUES), up: part(LEFT), scale, dropout }
    }

    fn plain(&self) -> Result<Lora, TchError> {
        Ok(Lora::of(self.down.f_mul(&self.values)?, self.up.shallow_clone(), self.scale, self.dropout))
    }
}

impl LinearAdapter for AdaLora {
    fn forward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, pass: &Pass) -> Result<Tensor, TchError> {
        self.plain()?.forward(x, weight, bias, pass)
    }
}

impl Merge for AdaLora {
    fn merge(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Merged, TchError> {
        self.plain()?.merge(weight, bias)
    }
}

/// Mean over all layers, and both sides, of how far their singular vectors are from orthogonal ones: the Frobenius norm of `V V' - I`.
///
/// Source: equation 4 of the paper, in the form of peft: norms, not their squares.
pub(super) fn penalty(tensors: &Weights) -> Result<Tensor, TchError> {
    let mut parts = Vec::new();
    for (name, vectors) in tensors {
        let vectors = vectors.f_to_kind(Kind::Float)?;
        let products = match () {
            () if name.ends_with(RIGHT) => vectors.f_matmul(&vectors.f_transpose(0, 1)?)?,
            () if name.ends_with(LEFT) => vectors.f_transpose(0, 1)?.f_matmul(&vectors)?,
            () => continue,
        };
        let identity = Tensor::f_eye(products.size()[0], (Kind::Float, products.device()))?;
        parts.push(products.f_sub(&identity)?.f_norm()?);
    }
    Tensor::f_stack(&parts, 0)?.f_mean(Kind::Float)
}

/// Ranks of each layer that are kept, by the name of its singular values: the `rank_pattern` of peft.
pub(super) type Pattern = BTreeMap<String, Vec<bool>>;

/// Leaves out the ranks whose singular value is zero: they change nothing. Returns those that stay; none if all do.
pub(super) fn drop_zeros(tensors: &mut Weights) -> Result<Option<Pattern>, TchError> {
    let mut pattern = Pattern::new();
    for (name, values) in tensors.iter().filter(|(name, _)| name.ends_with(VALUES)) {
        pattern.insert(name.clone(), Vec::<bool>::try_from(values.f_reshape([-1])?.f_ne(0.0)?)?);
    }
    if pattern.values().flatten().all(|&kept| kept) {
        return Ok(None);
    }
    for (name, kept) in &pattern {
        let rows: Vec<i64> = (0..).zip(kept).filter(|(_, kept)| **kept).map(|(row, _)| row).collect();
        for (part, axis) in parts(name) {
            let rows = Tensor::f_from_slice(&rows)?.f_to_device(tensors[&part].device())?;
            let left = tensors[&part].f_index_select(axis, &rows)?;
            tensors.insert(part, left);
        }
    }
    Ok(Some(pattern))
}

/// Puts zeros in the place of what [`drop_zeros`] or peft left out. Tensors that do not fit the pattern stay as they are.
pub(super) fn restore(tensors: &mut Weights, pattern: &Pattern) -> Result<(), TchError> {
    for (name, kept) in pattern {
        let rows: Vec<i64> = (0..).zip(kept).filter(|(_, kept)| **kept).map(|(row, _)| row).collect();
        for (part, axis) in parts(name) {
            let Some(found) = tensors.get(&part).filter(|found| found.size().get(axis as usize) == Some(&(rows.len() as i64)))
            else {
                continue;
            };
            let mut shape = found.size();
            shape[axis as usize] = kept.len() as i64;
            let whole = Tensor::f_zeros(&shape, (found.kind(), found.device()))?;
            let whole = whole.f_index_copy(axis, &Tensor::f_from_slice(&rows)?, found)?;
            tensors.insert(part, whole);
        }
    }
    Ok(())
}

/// Tensors of the layer with these singular values, and the axis of the rank in each.
fn parts(values: &str) -> [(String, i64); 3] {
    let module = values.strip_suffix(VALUES).unwrap_or(values);
    [(VALUES, 0), (RIGHT, 0), (LEFT, 1)].map(|(part, axis)| (format!("{module}{part}"), axis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_ranks_come_back_as_zeros() {
        let values = Tensor::from_slice(&[0.5_f32, 0.0, -2.0]).view([3, 1]);
        let (right, left) = (
            Tensor::arange(6, (Kind::Float, tch::Device::Cpu)).view([3, 2]),
            Tensor::ones([4, 3], (Kind::Float, tch::Device::Cpu)),
        );
        let whole = |module: &str, values: &Tensor| {
            [(VALUES, values), (RIGHT, &right), (LEFT, &left)]
                .map(|(part, tensor)| (format!("{module}{part}"), tensor.shallow_clone()))
        };
        let mut tensors: Weights = whole("a", &values).into_iter().chain(whole("b", &values.zeros_like())).collect();
        let pattern = drop_zeros(&mut tensors).unwrap().unwrap();
        assert_eq!(pattern["a.lora_E"], [true, false, true]);
        assert_eq!(pattern["b.lora_E"], [false; 3]);
        assert_eq!(tensors["a.lora_A"], Tensor::from_slice(&[0_f32, 1.0, 4.0, 5.0]).view([2, 2]));
        assert_eq!((tensors["a.lora_B"].size(), tensors["b.lora_B"].size()), (vec![4, 2], vec![4, 0]));
        restore(&mut tensors, &pattern).unwrap();
        assert_eq!(tensors["a.lora_E"], values);
        assert_eq!(tensors["a.lora_A"], Tensor::from_slice(&[0_f32, 1.0, 0.0, 0.0, 4.0, 5.0]).view([3, 2]));
        assert_eq!(tensors["b.lora_A"], Tensor::zeros([3, 2], (Kind::Float, tch::Device::Cpu)));
        assert_eq!(tensors["b.lora_B"].size(), [4, 3]);

        let mut full: Weights = whole("a", &(&values + 1.0)).into_iter().collect();
        assert_eq!(drop_zeros(&mut full).unwrap(), None);
        assert_eq!(full["a.lora_B"].size(), [4, 3]);
    }
}
