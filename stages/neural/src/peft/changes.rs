//! Adapters that the Python library peft wrote, as changes of weights: whatever modules they adapt, and whatever head they have or lack.
//!
//! `target_modules` of such an adapter may be a list, a regular expression or `all-linear`; the tensors themselves tell which modules are
//! adapted, with which rank, and on which side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tch::{TchError, Tensor};

use super::config;
use super::files::{self, CONFIG};
use super::ia3::Ia3;
use super::lora::{Dora, Lora};
use super::merge::{Merge, Merged};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::json::read_json;
use crate::error::ModelError;
use crate::nn::weights::Weights;

/// Ends of the names of tensors that change a weight.
const PARTS: [&str; 4] = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector", ".ia3_l"];

/// Settings of an adapter that a change of weights depends on.
#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
}

/// Folds an adapter of peft into the tensors of a model, which are named as in a full model: `prefix` in front of the encoder's. Tensors of
/// the adapter that change no weight, those of a head for example, take the place of the model's or are added.
///
/// Returns the names of those tensors.
///
/// Errors: files that cannot be read; [`CheckpointError::Adapter`] for what this project does not compute; [`ModelError::OtherShape`] for
/// tensors that do not fit; [`ModelError::LostTensors`] where peft left out what it was told to save.
pub(crate) fn apply(folder: &Path, model: &mut Weights, prefix: &str, encoder: &str) -> Result<BTreeSet<String>, ModelError> {
    let path = folder.join(CONFIG);
    let config: Value = read_json(&path)?;
    let mut mistakes = config::not_computed(&config);
    if mistakes.is_empty() && config["peft_type"] == "LORA" {
        mistakes = config::start_mistakes(&config);
    }
    if !mistakes.is_empty() {
        return Err(CheckpointError::Adapter { path, mistakes }.into());
    }
    let settings: Settings =
        serde_json::from_value(config).map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
    let full = |name: &str| {
        // An adapter of a bare encoder names its modules without the prefix that the encoder has in models with a head.
        let inside = PARTS.iter().find_map(|part| name.strip_suffix(part)).map(|module| format!("{prefix}{module}.weight"));
        let known = inside.is_some_and(|weight| model.contains_key(&weight)) || model.contains_key(&format!("{prefix}{name}"));
        if known { format!("{prefix}{name}") } else { name.to_owned() }
    };
    let tensors: Weights = files::read_weights(folder)?.into_iter().map(|(name, tensor)| (full(&name), tensor)).collect();
    let modules: BTreeSet<&str> =
        tensors.keys().filter_map(|name| PARTS.iter().find_map(|part| name.strip_suffix(part))).collect();
    let saved: BTreeSet<String> = tensors.keys().filter(|name| !PARTS.iter().any(|part| name.ends_with(part))).cloned().collect();

    let lost = |module: &&String| !saved.iter().any(|name| name == *module || name.contains(&format!("{module}.")));
    let lost: Vec<String> = settings.modules_to_save.iter().flatten().filter(lost).cloned().collect();
    if !lost.is_empty() {
        return Err(ModelError::LostTensors { folder: folder.to_owned(), lost });
    }
    let mut mistakes = misfits(&tensors, &modules, &saved, model, (prefix, settings.use_dora));
    mistakes.extend(alphas(&settings, &modules));
    if !mistakes.is_empty() {
        return Err(ModelError::OtherShape { folder: folder.to_owned(), encoder: encoder.to_owned(), mistakes });
    }
    for module in modules {
        let (weight_name, bias_name) = (format!("{module}.weight"), format!("{module}.bias"));
        let weight = &model[&weight_name];
        let change = change(&settings, &tensors, module, weight)?;
        let Merged { weight, bias } = tch::no_grad(|| change.merge(weight, model.get(&bias_name)))?;
        model.insert(weight_name, weight);
        model.extend(bias.map(|bias| (bias_name, bias)));
    }
    model.extend(saved.iter().map(|name| (name.clone(), tensors[name].shallow_clone())));
    Ok(saved)
}

/// The change of one module's weight.
fn change(settings: &Settings, tensors: &Weights, module: &str, weight: &Tensor) -> Result<Box<dyn Merge>, TchError> {
    if let Some(factors) = tensors.get(&format!("{module}.ia3_l")) {
        // (out, 1) scales outputs, (1, in) inputs.
        return Ok(Box::new(Ia3::new(tensors, module, factors.size()[0] == 1 && weight.size()[0] != 1)));
    }
    let rank = tensors[&format!("{module}.lora_A.weight")].size()[0] as f64;
    let alpha = alpha_of(settings, module).unwrap_or(settings.lora_alpha);
    let scale = if settings.use_rslora { alpha / rank.sqrt() } else { alpha / rank };
    let lora = Lora::of_scale(tensors, module, scale);
    Ok(if settings.use_dora { Box::new(Dora::new(lora, tensors, module, weight)?) } else { Box::new(lora) })
}

fn alpha_of(settings: &Settings, module: &str) -> Option<f64> {
    let ends = |pattern: &str| module.strip_suffix(pattern).is_some_and(|front| front.is_empty() || front.ends_with('.'));
    settings.alpha_pattern.iter().find(|(pattern, _)| ends(pattern)).map(|(_, &alpha)| alpha)
}

/// Patterns of `alpha` that are more than the end of a name, and those that fit no module or two of which fit one.
fn alphas(settings: &Settings, modules: &BTreeSet<&str>) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let odd = settings.alpha_pattern.keys().filter(|pattern| !pattern.chars().all(plain));
    let mut mistakes: Vec<String> =
        odd.map(|pattern| format!("alpha_pattern `{pattern}` is a regular expression, which is not supported")).collect();
    for module in modules {
        let ends = |pattern: &&String| {
            module.strip_suffix(pattern.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        if settings.alpha_pattern.keys().filter(ends).count() > 1 {
            mistakes.push(format!("two patterns of alpha_pattern fit `{module}`"));
        }
    }
    mistakes
}

/// Tensors that fit nothing in the model, as sentences.
fn misfits(
    tensors: &Weights,
    modules: &BTreeSet<&str>,
    saved: &BTreeSet<String>,
    model: &Weights,
    (prefix, dora): (&str, bool),
) -> Vec<String> {
    let mut mistakes = Vec::new();
    let size = |name: &str| tensors.get(name).map(Tensor::size);
    for module in modules {
        let Some(weight) = model.get(&format!("{module}.weight")).map(Tensor::size) else {
            mistakes.push(format!("`{module}` is no layer of it"));
            continue;
        };
        let [out, into] = weight[..] else {
            mistakes.push(format!("`{module}` is no linear layer"));
            continue;
        };
        let parts = PARTS.map(|part| format!("{module}{part}"));
        let mut require = |name: &str, found: Option<Vec<i64>>, expected: &[i64]| match found {
            Some(found) if found == expected => {}
            Some(found) => mistakes.push(format!("`{name}` has shape {found:?}, expected {expected:?}")),
            None => mistakes.push(format!("`{name}` is missing")),
        };
        let [down, up, magnitude, factors] = &parts;
        if let Some(found) = size(factors) {
            let expected = if found.first() == Some(&1) { [1, into] } else { [out, 1] };
            require(factors, Some(found), &expected);
            continue;
        }
        let rank = size(down).and_then(|found| found.first().copied()).unwrap_or(0);
        require(down, size(down), &[rank, into]);
        require(up, size(up), &[out, rank]);
        if dora {
            require(magnitude, size(magnitude), &[out]);
        }
    }
    for name in saved.iter().filter(|name| name.starts_with(prefix)) {
        match model.get(name) {
            Some(own) if own.size() == tensors[name].size() => {}
            Some(own) => mistakes.push(format!("`{name}` has shape {:?}, expected {:?}", tensors[name].size(), own.size())),
            None => mistakes.push(format!("`{name}` is unexpected")),
        }
    }
    mistakes
}
