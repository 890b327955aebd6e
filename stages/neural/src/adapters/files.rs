//! Adapter folders in the layout of the Python library peft: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A third file of our own, `sure.json`, says which base and which classes the adapter belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use neural_spec::{Layers, LinearLayer, Lora, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::{CheckpointError, Weights, read_json, safetensors, write_json};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const ORIGIN: &str = "sure.json";
/// What peft puts in front of every name.
const PREFIX: &str = "base_model.model.";

/// What an adapter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// BLAKE3 of the base encoder's tensors.
    pub base: String,
    /// The classes, in the order of the logits.
    pub labels: Vec<String>,
}

/// The fields of `adapter_config.json` that change the result; unknown ones are stepped over.
#[derive(Debug, Deserialize)]
struct LoraConfig {
    peft_type: String,
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Vec<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    layers_to_transform: Option<Vec<u32>>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, u32>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    bias: Option<String>,
}

/// Reads the method of a LoRA folder.
///
/// Errors: [`CheckpointError::Config`] for another method, or a variant that this project does not compute.
pub fn read_method(folder: &Path) -> Result<Method, CheckpointError> {
    let path = folder.join(CONFIG);
    let config: LoraConfig = read_json(&path)?;
    let mut mistakes = Vec::new();
    if config.peft_type != "LORA" {
        mistakes.push(format!("peft_type must be `LORA`, not `{}`", config.peft_type));
    }
    let mut targets = Vec::new();
    for name in &config.target_modules {
        match LinearLayer::of_module(name) {
            Some(layer) => targets.push(layer),
            None => mistakes.push(format!("target_modules has `{name}`, which is no linear layer of the transformer")),
        }
    }
    targets.sort_unstable();
    if config.bias.as_deref().is_some_and(|bias| bias != "none") {
        mistakes.push("bias must be `none`".to_owned());
    }
    if !mistakes.is_empty() {
        return Err(CheckpointError::Config { path, mistakes });
    }
    Ok(Method::Lora(Lora {
        rank: config.r,
        alpha: config.lora_alpha,
        dropout: config.lora_dropout,
        targets,
        rslora: config.use_rslora,
        dora: config.use_dora,
        rank_pattern: config.rank_pattern,
        alpha_pattern: config.alpha_pattern,
        layers: config.layers_to_transform.map(Layers::Listed),
    }))
}

/// Writes a LoRA folder. `weights` are named as in a full model; the head's among them become `modules_to_save`.
pub fn write(folder: &Path, method: &Method, weights: &Weights, origin: &Origin) -> Result<(), CheckpointError> {
    let Method::Lora(options) = method else { unreachable!("no other method writes an adapter yet") };
    let mut targets: Vec<&str> = options.targets.iter().map(|layer| layer.module()).collect();
    let layers: Option<BTreeSet<usize>> =
        options.layers.as_ref().map(|_| weights.keys().filter_map(|name| layer_of(name)).collect());
    targets.sort_unstable();
    // peft trains the head's modules whole; it finds them by name.
    let mut modules: Vec<&str> =
        weights.keys().filter(|name| !name.contains(".lora_")).filter_map(|name| name.split('.').next()).collect();
    modules.sort_unstable();
    modules.dedup();
    let config = json!({
        "peft_type": "LORA",
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "r": options.rank,
        "lora_alpha": whole_number(options.alpha),
        "lora_dropout": options.dropout,
        "target_modules": targets,
        "modules_to_save": modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "use_rslora": options.rslora,
        "use_dora": options.dora,
        "layers_to_transform": layers,
        "rank_pattern": options.rank_pattern,
        "alpha_pattern": options.alpha_pattern,
    });
    write_json(&folder.join(CONFIG), &config)?;
    let named = weights.iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor.shallow_clone())).collect();
    safetensors::write(&folder.join(WEIGHTS), &named)?;
    write_json(&folder.join(ORIGIN), origin)
}

/// The transformer layer that a tensor is part of.
fn layer_of(name: &str) -> Option<usize> {
    name.split_once(".layers.")?.1.split('.').next()?.parse().ok()
}

/// `8` rather than `8.0`: peft declares the field an integer.
fn whole_number(alpha: f64) -> Value {
    if alpha.fract().abs() < f64::EPSILON { Value::from(alpha as i64) } else { Value::from(alpha) }
}

/// Reads the tensors of an adapter folder, named as in a full model.
pub fn read_weights(folder: &Path) -> Result<Weights, CheckpointError> {
    let stored = safetensors::read(&folder.join(WEIGHTS), |_| true)?;
    let plain = |name: String| name.strip_prefix(PREFIX).map_or_else(|| name.clone(), str::to_owned);
    Ok(stored.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect())
}

/// What the adapter belongs to; none when another program wrote it.
pub fn read_origin(folder: &Path) -> Result<Option<Origin>, CheckpointError> {
    let path = folder.join(ORIGIN);
    if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
}
