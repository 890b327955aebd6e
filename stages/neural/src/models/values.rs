//! Setting tensors by name, all or none.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::weights;
use crate::error::ModelError;
use crate::nn::weights::Weights;

/// Copies `values` into `targets` of the same names and shapes.
pub(super) fn assign(targets: &Weights, values: &Weights) -> Result<(), ModelError> {
    let shapes =
        |weights: &Weights| weights.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect::<BTreeMap<_, _>>();
    let (expected, found) = (shapes(targets), shapes(values));
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let mut mistakes = Vec::new();
    for name in names {
        match (expected.get(name), found.get(name)) {
            (Some(_), None) => mistakes.push(format!("`{name}` is missing")),
            (None, Some(_)) => mistakes.push(format!("`{name}` is unexpected")),
            (Some(expected), Some(found)) if expected != found => {
                mistakes.push(format!("`{name}` has shape {found:?}, expected {expected:?}"));
            }
            (Some(_), Some(_)) if !weights::is_finite(&values[name])? => {
                mistakes.push(format!("`{name}` holds NaN or infinite values"));
            }
            _ => {}
        }
    }
    if !mistakes.is_empty() {
        return Err(ModelError::Values { mistakes });
    }
    tch::no_grad(|| {
        for (name, target) in targets {
            target.shallow_clone().f_copy_(&values[name])?;
        }
        Ok(())
    })
}
