//! Prefix tuning: learned keys and values in front of those of every attention.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use crate::checkpoint::Weights;
use crate::encoder::Pass;
use crate::encoder::modules::tensor;

/// A table whose row p holds the p-th key and value of each layer: \[layer, key then value, head, D\].
///
/// Shapes: table (P, L * 2 * H); or, with a projection, table (P, H) and two linear layers with tanh between that widen it.
/// Start: table normal with deviation 1; linear layers normal with deviation 0.02, biases zero.
/// Source: Li and Liang 2021, arXiv:2101.00190; one table for all layers as in Liu et al. 2021, arXiv:2110.07602; numbers as in the
/// reference code of Li et al. 2023, arXiv:2303.03267.
#[derive(Debug)]
pub(crate) struct Prefix {
    table: Tensor,
    projection: Option<[Tensor; 4]>,
    /// The transformer layers that get one, in the order of the table.
    layers: Vec<usize>,
    dropout: f64,
}

impl Prefix {
    pub(super) fn new(spec: &neural_spec::Prefix, layers: Vec<usize>, tensors: &Weights) -> Self {
        let part = |name: &str| tensor(tensors, &format!("prefix_encoder.{name}"));
        Self {
            table: part("embedding.weight"),
            projection: spec.projection.map(|_| ["trans.0.weight", "trans.0.bias", "trans.2.weight", "trans.2.bias"].map(part)),
            layers,
            dropout: spec.dropout,
        }
    }

    /// The keys and values of every layer that has some, for one pass.
    pub(crate) fn unroll(&self) -> Result<BTreeMap<usize, KeysAndValues>, TchError> {
        let rows = match &self.projection {
            Some([first, first_bias, second, second_bias]) => {
                self.table.f_linear(first, Some(first_bias))?.f_tanh()?.f_linear(second, Some(second_bias))?
            }
            None => self.table.shallow_clone(),
        }; // (P, L * 2 * H)
        let width = rows.size()[1] / self.layers.len() as i64;
        // Split once: the gradient then comes back in one piece.
        let parts = rows.f_split(width, 1)?;
        let of_layer = |part: Tensor| KeysAndValues { rows: part, dropout: self.dropout };
        Ok(self.layers.iter().copied().zip(parts.into_iter().map(of_layer)).collect())
    }
}

/// What one layer puts in front: (P, 2 * H).
#[derive(Debug)]
pub(crate) struct KeysAndValues {
    rows: Tensor,
    dropout: f64,
}

impl KeysAndValues {
    /// Puts them in front of `key` and `value`, (B, A, T, D) each -> (B, A, P + T, D). Every utterance draws its own dropout.
    pub(crate) fn extend(&self, key: &Tensor, value: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor), TchError> {
        let &[batch, heads, _, width] = key.size().as_slice() else {
            return Err(TchError::Shape("expected (B, A, T, D)".to_owned()));
        };
        let num = self.rows.size()[0];
        let split = self.rows.f_view([num, 2, heads, width])?.f_permute([1, 2, 0, 3])?; // (2, A, P, D)
        let each = split.f_unsqueeze(1)?.f_expand([2, batch, heads, num, width], false)?;
        let each = pass.dropout(&each, self.dropout)?;
        let in_front = |at, of: &Tensor| Tensor::f_cat(&[&each.f_select(0, at)?, of], 2);
        Ok((in_front(0, key)?, in_front(1, value)?))
    }

    /// Lets every query see them: a mask of keys, true or false, or what is added to the scores, (.., T) -> (.., P + T).
    pub(crate) fn extend_mask(&self, mask: &Tensor) -> Result<Tensor, TchError> {
        let mut shape = mask.size();
        if let Some(last) = shape.last_mut() {
            *last = self.rows.size()[0];
        }
        let visible = if mask.kind() == tch::Kind::Bool {
            Tensor::f_ones(shape.as_slice(), (mask.kind(), mask.device()))?
        } else {
            Tensor::f_zeros(shape.as_slice(), (mask.kind(), mask.device()))?
        };
        Tensor::f_cat(&[&visible, mask], -1)
    }
}
