//! Adapter folders.
//!
//! ```text
//! adapter_config.json          the method; for LoRA and its kin, AdaLoRA, VeRA and IA3 as the Python library peft writes and reads it
//! adapter_model.safetensors    what was trained, the head included, and nothing else; its header names the encoder
//! sure.json                    what it belongs to: encoder, classes, head
//! config.json and others       the encoder with this head, as transformers reads it; written by the model
//! README.md                    the model card, written by the training
//! ```
//!
//! The other methods name a `peft_type` of our own, and have their tensors under the names that full models use. PiSSA is saved as the LoRA that
//! does the same to the encoder's own weights ([`neural_spec::Lora::converted`]), so that nobody has to repeat its singular value decomposition.

use std::collections::BTreeSet;
use std::path::Path;

use neural_spec::{Architecture, HeadSpec, LastState, Method, Site, SiteKind, Vera};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasks::Vocabulary;

use super::adalora::{self, Pattern};
use super::config;
use super::origin::BaseReference;
use crate::checkpoint::base::Base;
use crate::checkpoint::config::{EncoderConfig, ModelType};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::json::{read_json, write_json};
use crate::checkpoint::safetensors;
use crate::nn::weights::Weights;

pub(crate) const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const ORIGIN: &str = "sure.json";
/// The note in the header of the tensors that says which encoder they belong to, as in `sure.json`.
const BASE_NOTE: &str = "sure.base";
/// Prefix of every name in peft, and of those outside of the model.
const PREFIX: &str = "base_model.model.";
const OUTER_PREFIX: &str = "base_model.";
/// Values of `peft_type` that peft knows, of methods that are computed here.
const OF_PEFT: [&str; 4] = ["LORA", "ADALORA", "VERA", "IA3"];

/// Origin of an adapter: encoder, classes and head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The encoder.
    pub base: Base,
    /// The classes, in the order of the logits.
    pub labels: Vec<String>,
    /// The task layer.
    pub head: HeadSpec,
    /// Tokens of a recogniser, with what they stand for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
    /// Last entry of the mix of layers, where the head has one.
    #[serde(default = "LastState::of_old_files")]
    pub layer_sum_last: LastState,
    /// Warning for other programs that load it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Warning for other programs that load an adapter: transformers' WavLM hands the bare weights of its attention to a function of its
/// own, without what peft adds to them.
pub fn caveat(config: &EncoderConfig, method: &Method) -> Option<String> {
    let targets = match method {
        Method::Lora(lora) => &lora.targets,
        Method::AdaLora(adalora) => &adalora.targets,
        Method::Vera(vera) => &vera.targets,
        Method::Ia3(ia3) => &ia3.targets,
        _ => return None,
    };
    let passed_by = config.model_type == ModelType::Wavlm && targets.iter().any(|linear| linear.is_attention());
    passed_by.then(|| {
        "transformers' WavLM passes by what peft puts beside the attention's linear layers: to use this adapter there, merge it into the \
         encoder first (sure-neural merge)"
            .to_owned()
    })
}

/// The `peft_type` of a method that peft does not know.
fn own_type(method: &Method) -> Option<&'static str> {
    match method {
        Method::HeadOnly(_) => Some("HEAD_ONLY"),
        Method::Bottleneck(_) => Some("BOTTLENECK"),
        Method::Prefix(_) => Some("PREFIX_KV"),
        Method::ConvAdapter(_) => Some("CONV_ADAPTER"),
        Method::BitFit(_) => Some("BITFIT"),
        Method::Lora(_) | Method::AdaLora(_) | Method::Vera(_) | Method::Ia3(_) | Method::Finetune(_) => None,
    }
}

/// Reads the method of an adapter folder, for a model with these sites.
///
/// Errors: [`CheckpointError::Adapter`] for one that this project does not compute.
pub fn read_method(folder: &Path, model: &Architecture) -> Result<Method, CheckpointError> {
    let path = folder.join(CONFIG);
    let config: Value = read_json(&path)?;
    let read = match config["peft_type"].as_str() {
        Some(known) if OF_PEFT.contains(&known) => config::read(known, &config, model, &adapted(folder, model)?),
        Some(name) => match serde_json::from_value::<Method>(config["method"].clone()) {
            Ok(method) if own_type(&method) == Some(name) => match method.mistakes() {
                mistakes if mistakes.is_empty() => Ok(method),
                mistakes => Err(mistakes),
            },
            _ => Err(vec![format!("peft_type `{name}` is not supported")]),
        },
        None => Err(vec!["peft_type is missing".to_owned()]),
    };
    read.map_err(|mistakes| CheckpointError::Adapter { path, mistakes })
}

/// True if an adapter is one that the Python library peft wrote, and not this project.
pub(crate) fn is_foreign(folder: &Path) -> Result<bool, CheckpointError> {
    let config: Value = read_json(&folder.join(CONFIG))?;
    Ok(config["peft_type"].as_str().is_some_and(|name| OF_PEFT.contains(&name)) && !folder.join(ORIGIN).exists())
}

/// Linear layers of a model that have tensors in an adapter of peft, named relative to the model.
fn adapted(folder: &Path, model: &Architecture) -> Result<Vec<String>, CheckpointError> {
    let file = folder.join(WEIGHTS);
    let names = if file.exists() { safetensors::read(&file, |_| true)? } else { Weights::new() };
    let has = |site: &&Site| {
        let part = |part: &str| format!("{}.{part}", site.name);
        let parts = [part("lora_A.weight"), part("lora_A"), part("vera_lambda_b"), part("ia3_l")];
        names.keys().any(|name| parts.iter().any(|part| name.ends_with(part.as_str())))
    };
    let linear = |site: &&Site| matches!(site.kind, SiteKind::Linear(_));
    Ok(model.sites.iter().filter(linear).filter(has).map(|site| site.name.clone()).collect())
}

/// Content of an adapter folder.
#[derive(Debug)]
pub struct Saved<'a> {
    /// The method, as it is saved.
    pub method: &'a Method,
    /// Updates of the training.
    pub updates: u64,
    /// Tensors, named as in a full model.
    pub tensors: Weights,
    /// Those among them that are the head's, by their names.
    pub head: &'a Weights,
}

/// Writes an adapter folder.
pub fn write(folder: &Path, saved: Saved, model: &Architecture, origin: &Origin) -> Result<(), CheckpointError> {
    let Saved { method, updates, mut tensors, head } = saved;
    let path = folder.join(WEIGHTS);
    let pattern = tch::no_grad(|| adalora::drop_zeros(&mut tensors)).map_err(CheckpointError::torch(&path))?;
    // peft trains the head's modules whole and finds them by name; a lone tensor of the head it finds by itself. It is in the list all the
    // same, so that an adapter that peft wrote again, without it, can be told.
    let modules: BTreeSet<String> = head.keys().filter_map(|name| module_of(name)).collect();
    let ours = || {
        json!({
            "peft_type": own_type(method),
            "task_type": null,
            "base_model_name_or_path": null,
            "inference_mode": true,
            "modules_to_save": modules,
            "method": method,
        })
    };
    let mut peft = config::write(method, model, &modules, updates);
    let of_peft = peft.is_some();
    if let (Some(config), Some(pattern)) = (&mut peft, pattern) {
        config["rank_pattern"] = json!(pattern);
    }
    write_json(&folder.join(CONFIG), &peft.unwrap_or_else(ours))?;
    let full = |name: String| match name.as_str() {
        _ if !of_peft => name,
        Vera::DOWN | Vera::UP => format!("{OUTER_PREFIX}{name}"),
        _ => format!("{PREFIX}{name}"),
    };
    let named = tensors.into_iter().map(|(name, tensor)| (full(name), tensor)).collect();
    let base = serde_json::to_string(&origin.base).expect("a few words and numbers");
    safetensors::write_with_note(&path, &named, BASE_NOTE, &base)?;
    write_json(&folder.join(ORIGIN), origin)
}

/// Module of a head's tensor, as peft lists it; none for the one that peft would take for the encoder's convolutions, whose name ends alike.
fn module_of(tensor: &str) -> Option<String> {
    let (module, _) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
    (module != "feature_extractor").then(|| module.to_owned())
}

/// Reads the tensors of an adapter folder, named as in a full model. Ranks that AdaLoRA dropped are there as zeros.
pub fn read_weights(folder: &Path) -> Result<Weights, CheckpointError> {
    let path = folder.join(WEIGHTS);
    let plain = |name: &str| name.strip_prefix(PREFIX).or_else(|| name.strip_prefix(OUTER_PREFIX)).unwrap_or(name).to_owned();
    let stored = safetensors::read(&path, |_| true)?;
    let mut tensors = stored.into_iter().map(|(name, tensor)| (plain(&name), tensor)).collect();
    let config: Value = read_json(&folder.join(CONFIG))?;
    if config["peft_type"] == "ADALORA"
        && let Ok(pattern) = serde_json::from_value::<Pattern>(config["rank_pattern"].clone())
    {
        adalora::restore(&mut tensors, &pattern).map_err(CheckpointError::torch(&path))?;
    }
    Ok(tensors)
}

/// Reads the origin of an adapter; none when another program wrote it.
pub fn read_origin(folder: &Path) -> Result<Option<Origin>, CheckpointError> {
    let path = folder.join(ORIGIN);
    if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
}

/// Reads which encoder the adapter was trained on.
///
/// Errors: files that cannot be read.
pub fn base_of(folder: &Path) -> Result<BaseReference, CheckpointError> {
    if let Some(origin) = read_origin(folder)? {
        return Ok(BaseReference::Recorded(origin.base));
    }
    let path = folder.join(WEIGHTS);
    if let Some(note) = safetensors::note(&path, BASE_NOTE)? {
        return serde_json::from_str(&note).map(BaseReference::Recorded).map_err(|source| CheckpointError::Json { path, source });
    }
    let config: Value = read_json(&folder.join(CONFIG))?;
    let named = config["base_model_name_or_path"].as_str().map(str::trim).filter(|name| !name.is_empty());
    Ok(named.map_or(BaseReference::Absent, |name| BaseReference::Named(name.to_owned())))
}
