//! Prefix tuning: learned keys and values in front of those of every attention.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use crate::nn::attention::KeysAndValues;
use crate::nn::weights::{Weights, tensor};

/// Table of a stack: row p holds the p-th key and value of each layer: \[layer, key then value, head, D\].
///
/// Shapes: table (P, L * 2 * H); or, with a projection, table (P, H) and two linear layers with tanh between that widen it.
/// Start: table normal with deviation 1; linear layers normal with deviation 0.02, biases zero.
/// Source: Li and Liang 2021, arXiv:2101.00190; one table for all layers of a stack as in Liu et al. 2021, arXiv:2110.07602; numbers as in the
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
    pub(super) fn new(spec: &neural_spec::Prefix, module: &str, layers: Vec<usize>, tensors: &Weights) -> Self {
        let part = |name: &str| tensor(tensors, &format!("{module}.{name}"));
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
