//! Tensors by name.

use std::collections::BTreeMap;

use tch::Tensor;

/// Tensors by name, in order of name.
pub type Weights = BTreeMap<String, Tensor>;

/// Returns a handle of a tensor that is known to be there: weights are checked when they are read.
pub(crate) fn tensor(weights: &Weights, name: &str) -> Tensor {
    weights.get(name).unwrap_or_else(|| panic!("`{name}` is among the checked weights")).shallow_clone()
}
