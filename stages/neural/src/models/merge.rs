//! Merging an adapter into its encoder: a plain checkpoint folder that needs no adapter any more.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tasks::Vocabulary;
use tch::Device;

use super::model::{Model, OF_A_HEAD, ParameterCounts, class_of, described, other_shape, require_base, require_family};
use crate::checkpoint::base::Base;
use crate::checkpoint::config::EncoderConfig;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::files::{SPECIAL_TOKENS, TOKENIZER, VOCABULARY, WEIGHTS};
use crate::checkpoint::preprocessor::Preprocessor;
use crate::checkpoint::{safetensors, weights};
use crate::error::ModelError;
use crate::nn::weights::Weights;
use crate::peft::changes;
use crate::peft::files::{self, Origin};

/// Outcome of a merge.
#[derive(Debug, Clone)]
pub struct Merged {
    /// Parameters of the checkpoint.
    pub counts: ParameterCounts,
    /// Why it is not certain that the adapter belongs to the encoder.
    pub doubt: Option<String>,
}

/// Merges `adapter` (a folder of its own, or what a training left) into `encoder` and writes the checkpoint folder `out`.
///
/// Errors: [`ModelError::CannotMerge`] for a method that is more than a change of weights; [`ModelError::OtherBase`] for an adapter
/// of another encoder; [`ModelError::Exists`] rather than writing over anything. `out` appears whole or not at all.
pub fn merge(adapter: &Path, encoder: &Path, out: &Path) -> Result<Merged, ModelError> {
    if out.file_name().is_none() {
        return Err(ModelError::NoName);
    }
    if out.exists() {
        return Err(ModelError::Exists { path: out.to_owned() });
    }
    let inside = adapter.join("adapter");
    let adapter = if inside.is_dir() { inside.as_path() } else { adapter };
    let config = EncoderConfig::read(encoder)?;
    if files::is_foreign(adapter)? {
        return merge_foreign(adapter, encoder, config, out);
    }
    let method = files::read_method(adapter, &config.architecture())?;
    let Some(origin) = files::read_origin(adapter)? else {
        return Err(ModelError::NoOrigin { folder: adapter.to_owned() });
    };
    let Origin { head, labels, layer_sum_last, vocabulary, .. } = origin;
    let ids = || labels.iter().cloned().zip(0..).collect();
    let vocabulary = vocabulary.or_else(|| Vocabulary::from_map(&ids()));
    // Every value that the seed would draw is read.
    let model = Model::new(encoder, &method, &head, labels.len(), 0, Device::Cpu);
    let mut model = match model {
        Err(ModelError::Method(misfit)) => {
            return Err(other_shape(adapter, &config, vec![misfit.to_string()]));
        }
        other => other?,
    };
    model.close_mix_with(layer_sum_last);
    model.name_tokens(vocabulary);
    let doubt = model.load_adapter(adapter)?.doubt(adapter, encoder)?;
    let merged = model.merged()?;
    write_aside(out, |folder| merged.save_whole(folder, &labels))?;
    Ok(Merged { counts: merged.num_parameters(), doubt })
}

/// Writes a folder next to its place and renames it, so that it appears whole or not at all.
fn write_aside(out: &Path, write: impl FnOnce(&Path) -> Result<(), ModelError>) -> Result<(), ModelError> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(CheckpointError::io("create", parent))?;
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir(&beside).map_err(CheckpointError::io("create", &beside))?;
    let written =
        write(&beside).and_then(|()| fs::rename(&beside, out).map_err(|error| CheckpointError::io("create", out)(error).into()));
    if written.is_err() {
        // The reason why it was not written matters more than that a leftover stays.
        let _ = fs::remove_dir_all(&beside);
    }
    written
}

/// Merges an adapter that the Python library peft wrote. It may have a head of its own, change that of the checkpoint, or have none: the
/// folder that is written has the one that there is.
fn merge_foreign(adapter: &Path, encoder: &Path, mut config: EncoderConfig, out: &Path) -> Result<Merged, ModelError> {
    let family = config.model_type;
    let weights = weights::read(encoder, &config, Device::Cpu)?;
    let base = || Ok(Base::new(&config, weights::digest(&weights)?));
    let doubt = require_base(adapter, base)?.doubt(adapter, encoder)?;
    require_family(adapter, &files::read_weights(adapter)?, family)?;
    let own_head = weights::read_head(encoder, &config)?;
    let mut model: Weights = own_head.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    model.extend(weights.iter().map(|(name, tensor)| (format!("{}{name}", family.prefix()), tensor.shallow_clone())));
    let saved = changes::apply(adapter, &mut model, family.prefix(), &described(&config))?;

    if saved.contains("objective.weight") && !saved.contains("feature_extractor.weight") {
        return Err(ModelError::LostTensors { folder: adapter.to_owned(), lost: vec!["feature_extractor".to_owned()] });
    }
    let brings_head = saved.iter().any(|name| !name.starts_with(family.prefix()));
    if brings_head {
        model.retain(|name, _| saved.contains(name) || !own_head.contains_key(name));
        describe_head(&mut config, &model);
    }
    let is_head = |name: &&String| !name.starts_with(family.prefix());
    let class = head_class(&model.keys().filter(is_head).map(String::as_str).collect::<Vec<_>>());
    if let Some(class) = class_of(family, class) {
        config.other.insert("architectures".to_owned(), json!([class]));
    }
    config.other.remove("torch_dtype");
    config.other.insert("dtype".to_owned(), "float32".into());
    write_aside(out, |folder| {
        config.write(folder)?;
        Preprocessor::read(encoder, &config)?.write(folder)?;
        let tokens = if adapter.join(VOCABULARY).exists() { adapter } else { encoder };
        for file in [VOCABULARY, TOKENIZER, SPECIAL_TOKENS].map(|file| (tokens.join(file), folder.join(file))) {
            if class == "ForCTC" && file.0.exists() {
                fs::copy(&file.0, &file.1).map_err(CheckpointError::io("read", &file.0))?;
            }
        }
        Ok(safetensors::write(&folder.join(WEIGHTS), &model)?)
    })?;
    let count = |name: &String| model[name].numel() as u64;
    let (total, head) = (model.keys().map(count).sum(), model.keys().filter(is_head).map(count).sum());
    let counts = ParameterCounts { total, trainable: 0, encoder: total - head, adapters: 0, head };
    Ok(Merged { counts, doubt })
}

/// Class of a model in transformers by the tensors of its head, without the encoder's name.
fn head_class(names: &[&str]) -> &'static str {
    let has = |name: &str| names.contains(&name);
    match () {
        () if has("lm_head.weight") => "ForCTC",
        () if has("objective.weight") => "ForXVector",
        () if has("projector.weight") && has("classifier.weight") => "ForSequenceClassification",
        () if has("classifier.weight") => "ForAudioFrameClassification",
        () => "Model",
    }
}

/// Writes the shapes of an adapter's head into the configuration, in the place of what it says of the checkpoint's former head. Names of
/// classes are unknown then.
fn describe_head(config: &mut EncoderConfig, model: &Weights) {
    let blank = config.other.get("pad_token_id").cloned();
    let former_tokens = config.other.get("vocab_size").and_then(Value::as_i64);
    for name in OF_A_HEAD {
        config.other.remove(name);
    }
    let rows = |name: &str| model.get(name).map(|tensor| tensor.size()[0]);
    let mut set = |name: &str, value: Value| config.other.insert(name.to_owned(), value);
    set("use_weighted_layer_sum", model.contains_key("layer_weights").into());
    if let Some(tokens) = rows("lm_head.weight") {
        set("vocab_size", tokens.into());
        if let Some(blank) = blank.filter(|_| former_tokens == Some(tokens)) {
            set("pad_token_id", blank);
        }
    }
    if let Some(width) = rows("projector.weight") {
        set("classifier_proj_size", width.into());
    }
    if let Some(classes) = rows("classifier.weight").filter(|_| !model.contains_key("objective.weight")) {
        let name = |class| format!("LABEL_{class}");
        let by_id: Map<String, Value> = (0..classes).map(|class| (class.to_string(), name(class).into())).collect();
        let by_label: Map<String, Value> = (0..classes).map(|class| (name(class), class.into())).collect();
        set("id2label", by_id.into());
        set("label2id", by_label.into());
    }
}
