//! Low-rank adaptation of linear layers.

use std::collections::BTreeMap;

use neural_spec::LoraTarget;
use tch::{TchError, Tensor};

use super::{Adapter, Adapters};
use crate::checkpoint::EncoderConfig;
use crate::checkpoint::weights::{Start, parameters, started};
use crate::encoder::Pass;
use crate::model::ModelError;

/// Which linear layers get a low-rank update, and of what kind.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraOptions {
    /// Rank of the updates.
    pub rank: i64,
    /// Numerator of their scale.
    pub alpha: f64,
    /// Dropout in front of them, in training.
    pub dropout: f64,
    /// Last parts of the names of the layers that get one.
    pub targets: Vec<String>,
    /// Whether the scale is `alpha / sqrt(rank)` rather than `alpha / rank`.
    pub rslora: bool,
    /// The transformer layers that get them; all when none are named.
    pub layers: Option<Vec<usize>>,
    /// Other ranks, by the end of a module's name.
    pub rank_pattern: BTreeMap<String, i64>,
    /// Other numerators, by the end of a module's name.
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl LoraOptions {
    /// The same updates for every layer that ends in one of `targets`.
    pub fn uniform(rank: u32, alpha: f64, dropout: f64, targets: &[LoraTarget], rslora: bool) -> Self {
        Self {
            rank: rank.into(),
            alpha,
            dropout,
            targets: targets.iter().map(|target| target.module().to_owned()).collect(),
            rslora,
            layers: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }

    /// Adapters for every module they match, on the CPU: `down` uniform in ±1/sqrt(in), `up` zero.
    ///
    /// Errors: [`ModelError::NoTarget`] when nothing matches, [`ModelError::Rank`] when a rank exceeds a layer's size.
    pub fn build(&self, config: &EncoderConfig, seed: u64) -> Result<Adapters, ModelError> {
        let mut adapters = Adapters::new();
        for parameter in parameters(config) {
            let Some(module) = parameter.name.strip_suffix(".weight") else { continue };
            let &[size_out, size_in] = parameter.shape.as_slice() else { continue };
            if !self.targets(module) {
                continue;
            }
            let rank = pattern(&self.rank_pattern, module).unwrap_or(self.rank);
            if rank < 1 || rank > size_in.min(size_out) {
                return Err(ModelError::Rank { module: module.to_owned(), rank, limit: size_in.min(size_out) });
            }
            let alpha = pattern(&self.alpha_pattern, module).unwrap_or(self.alpha);
            let scale = if self.rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 };
            let bound = (size_in as f64).sqrt().recip();
            let start = Start::Uniform { low: -bound, high: bound };
            let down = started(&format!("{module}.lora_A.weight"), &[rank, size_in], start, seed)?;
            let up = started(&format!("{module}.lora_B.weight"), &[size_out, rank], Start::Zeros, seed)?;
            adapters.insert(module.to_owned(), Adapter::Lora(Lora { down, up, scale, dropout: self.dropout }));
        }
        if adapters.is_empty() {
            return Err(ModelError::NoTarget { targets: self.targets.clone() });
        }
        Ok(adapters)
    }

    fn targets(&self, module: &str) -> bool {
        let mut parts = module.split('.');
        let layer = parts.find(|&part| part == "layers").and_then(|_| parts.next()).and_then(|text| text.parse().ok());
        let in_layers = match (&self.layers, layer) {
            (_, None) => false, // The reference places adapters in transformer layers only.
            (None, Some(_)) => true,
            (Some(layers), Some(layer)) => layers.contains(&layer),
        };
        in_layers && self.targets.iter().any(|target| ends_with(module, target))
    }
}

/// Whether the last parts of a module's name are `end`.
fn ends_with(module: &str, end: &str) -> bool {
    module.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

fn pattern<T: Copy>(patterns: &BTreeMap<String, T>, module: &str) -> Option<T> {
    patterns.iter().find(|(end, _)| ends_with(module, end)).map(|(_, &value)| value)
}

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

    /// Moves both tensors to `device` and lets them be trained.
    pub(crate) fn place(&mut self, device: tch::Device) -> Result<(), TchError> {
        for tensor in [&mut self.down, &mut self.up] {
            *tensor = tensor.f_to_device(device)?.f_set_requires_grad(true)?;
        }
        Ok(())
    }
}
