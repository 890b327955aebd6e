//! Adapters that the Python library peft wrote, as changes of weights: whatever modules they adapt, and whatever head they have or lack.
//!
//! `target_modules` of such an adapter may be a list, a regular expression or `all-linear`; the tensors themselves tell which modules are
//! adapted, with which rank, and on which side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use neural_spec::Vera as Spec;
use serde::Deserialize;
use serde_json::Value;
use tch::{TchError, Tensor};

use super::adalora::{AdaLora, LEFT, RIGHT, VALUES};
use super::config::{self, PISSA};
use super::files::{self, CONFIG};
use super::ia3::Ia3;
use super::lora::{Dora, Lora};
use super::merge::{Merge, Merged};
use super::pissa::Split;
use super::vera::Vera;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::json::read_json;
use crate::error::ModelError;
use crate::nn::weights::Weights;

/// Ends of the names of tensors that change a weight.
const PARTS: [&str; 9] = [
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_magnitude_vector",
    ".ia3_l",
    RIGHT,
    VALUES,
    LEFT,
    ".vera_lambda_b",
    ".vera_lambda_d",
];

/// Names of tensors that all modules share.
const SHARED: [&str; 2] = [Spec::DOWN, Spec::UP];

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
    init_lora_weights: Value,
    /// Rank of an AdaLoRA at the start.
    #[serde(default)]
    init_r: u32,
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
    let changes = |name: &str| PARTS.iter().any(|part| name.ends_with(part)) || SHARED.contains(&name);
    let saved: BTreeSet<String> = tensors.keys().filter(|name| !changes(name)).cloned().collect();

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
        let mut weight = model[&weight_name].shallow_clone();
        let change = change(&settings, &tensors, module, &weight)?;
        if let Some((rank, scale)) = settings.lora(&tensors, module).filter(|_| settings.init_lora_weights == PISSA) {
            weight = Split::of(&weight, rank, scale)?.residual;
        }
        let Merged { weight, bias } = tch::no_grad(|| change.merge(&weight, model.get(&bias_name)))?;
        model.insert(weight_name, weight);
        model.extend(bias.map(|bias| (bias_name, bias)));
    }
    model.extend(saved.iter().map(|name| (name.clone(), tensors[name].shallow_clone())));
    Ok(saved)
}

/// The change of one module's weight.
fn change(settings: &Settings, tensors: &Weights, module: &str, weight: &Tensor) -> Result<Box<dyn Merge>, TchError> {
    let has = |part: &str| tensors.get(&format!("{module}{part}"));
    if let Some(factors) = has(".ia3_l") {
        // (out, 1) scales outputs, (1, in) inputs.
        return Ok(Box::new(Ia3::new(tensors, module, factors.size()[0] == 1 && weight.size()[0] != 1)));
    }
    if has(".vera_lambda_b").is_some() {
        return Ok(Box::new(Vera::new(tensors, module, weight, 0.0)?));
    }
    let Some((_, scale)) = settings.lora(tensors, module) else {
        let spec = neural_spec::AdaLora { init_rank: settings.init_r, alpha: settings.lora_alpha, ..Default::default() };
        return Ok(Box::new(AdaLora::new(tensors, module, spec.scale(), 0.0)));
    };
    let lora = Lora::of_scale(tensors, module, scale);
    Ok(if settings.use_dora { Box::new(Dora::new(lora, tensors, module, weight)?) } else { Box::new(lora) })
}

impl Settings {
    /// Rank and scale of a module's LoRA, where it has one.
    fn lora(&self, tensors: &Weights, module: &str) -> Option<(i64, f64)> {
        let rank = tensors.get(&format!("{module}.lora_A.weight"))?.size()[0];
        let ends = |pattern: &str| module.strip_suffix(pattern).is_some_and(|front| front.is_empty() || front.ends_with('.'));
        let own = self.alpha_pattern.iter().find(|(pattern, _)| ends(pattern)).map(|(_, &alpha)| alpha);
        let alpha = own.unwrap_or(self.lora_alpha);
        Some((rank, if self.use_rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 }))
    }
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
        let has = |part: &str| tensors.contains_key(&format!("{module}{part}"));
        let rank_of = |part: &str| size(&format!("{module}{part}")).and_then(|found| found.first().copied()).unwrap_or(0);
        let expected = if has(".ia3_l") {
            vec![(".ia3_l", if rank_of(".ia3_l") == 1 { vec![1, into] } else { vec![out, 1] })]
        } else if has(".vera_lambda_b") || has(".vera_lambda_d") {
            match SHARED.map(&size) {
                [Some(down), Some(up)] if down[0] == up[1] && down[1] >= into && up[0] >= out => {
                    vec![(".vera_lambda_b", vec![out]), (".vera_lambda_d", vec![down[0]])]
                }
                [Some(_), Some(_)] => {
                    mistakes.push(format!("`vera_A` and `vera_B` do not fit `{module}`"));
                    continue;
                }
                _ => return vec!["`vera_A` or `vera_B` is missing: it was saved with `save_projection=False`".to_owned()],
            }
        } else if has(VALUES) {
            let rank = rank_of(RIGHT);
            vec![(RIGHT, vec![rank, into]), (VALUES, vec![rank, 1]), (LEFT, vec![out, rank])]
        } else {
            let rank = rank_of(".lora_A.weight");
            let magnitude = dora.then(|| (".lora_magnitude_vector", vec![out]));
            [(".lora_A.weight", vec![rank, into]), (".lora_B.weight", vec![out, rank])].into_iter().chain(magnitude).collect()
        };
        for (part, expected) in expected {
            let name = format!("{module}{part}");
            match size(&name) {
                Some(found) if found == expected => {}
                Some(found) => mistakes.push(format!("`{name}` has shape {found:?}, expected {expected:?}")),
                None => mistakes.push(format!("`{name}` is missing")),
            }
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
