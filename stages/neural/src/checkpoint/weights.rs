//! The tensors of an encoder by name: which there must be, how they start, and where they are read from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tch::{Device, Kind, TchError, Tensor};

use super::config::frames::FrameInput;
use super::config::{EncoderConfig, FeatureNorm, ModelType};
use super::error::CheckpointError;
use super::files::{INDEX, PICKLE, WEIGHTS};
use super::json::read_json;
use super::{pickle, safetensors};
pub use crate::nn::init::Start;
use crate::nn::init::started;
use crate::nn::weights::Weights;
use neural_spec::checkpoint::LANGUAGE_ADAPTER;

/// The name of the learned vector that stands for a masked frame.
pub(crate) const MASK_EMBEDDING: &str = "masked_spec_embed";
/// The positional convolution's gain per tap, (1, 1, K).
pub(crate) const POSITION_GAIN: &str = "encoder.pos_conv_embed.conv.parametrizations.weight.original0";
/// The positional convolution's direction, (H, H / groups, K).
pub(crate) const POSITION_DIRECTION: &str = "encoder.pos_conv_embed.conv.parametrizations.weight.original1";
/// The positional convolution's weight where it is stored whole: with batch norm, and in some exports.
pub(crate) const POSITION_FOLDED: &str = "encoder.pos_conv_embed.conv.weight";
/// The batch norm in front of the positional convolution.
pub(crate) const POSITION_NORM: &str = "encoder.pos_conv_embed.batch_norm";
/// WavLM's values of the position bias, (buckets, A).
pub(crate) const POSITION_BIAS: &str = "encoder.layers.0.attention.rel_attn_embed.weight";

/// Whisper's sinusoids, (positions, H). They are stored, and stay as they are.
pub(crate) const WHISPER_POSITIONS: &str = "embed_positions.weight";

/// One tensor that an encoder has.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Relative to the encoder, without prefix.
    pub name: String,
    /// Sizes of the tensor.
    pub shape: Vec<i64>,
    /// Starting values, when the encoder is made from nothing: those of transformers' wav2vec 2.0.
    pub start: Start,
}

/// True if a tensor is a statistic that training neither needs a gradient for nor changes.
pub fn is_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// Every tensor of an encoder, in the order of its forward pass.
pub fn parameters(config: &EncoderConfig) -> Vec<Parameter> {
    let mut list = List(Vec::new());
    if let Some(input) = &config.frames {
        match input {
            FrameInput::Whisper { num_mel_bins, max_positions } => list.whisper(config, *num_mel_bins, *max_positions),
            FrameInput::Wav2Vec2Bert(shape) => list.wav2vec2_bert(config, shape),
        }
        return list.0;
    }
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    list.add(MASK_EMBEDDING, &[hidden], Start::Uniform { low: 0.0, high: 1.0 });
    let mut channels_in = 1;
    for (at, (&channels, &kernel)) in config.conv_dim.iter().zip(&config.conv_kernel).enumerate() {
        let name = format!("feature_extractor.conv_layers.{at}");
        let fan_in = (channels_in * kernel) as f64;
        list.add(format!("{name}.conv.weight"), &[channels, channels_in, kernel], Start::Normal { std: (2.0 / fan_in).sqrt() });
        if config.conv_bias {
            list.add(format!("{name}.conv.bias"), &[channels], Start::symmetric(fan_in.sqrt().recip()));
        }
        if config.feat_extract_norm == FeatureNorm::Layer || at == 0 {
            list.norm(&format!("{name}.layer_norm"), channels);
        }
        channels_in = channels;
    }
    if config.feat_proj_layer_norm {
        list.norm("feature_projection.layer_norm", channels_in);
    }
    let bound = (channels_in as f64).sqrt().recip();
    list.add("feature_projection.projection.weight", &[hidden, channels_in], Start::symmetric(bound));
    list.add("feature_projection.projection.bias", &[hidden], Start::symmetric(bound));

    let (taps, groups) = (config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups);
    let std = 2.0 / ((taps * hidden) as f64).sqrt();
    if config.conv_pos_kernel_size.is_none() {
        list.add("encoder.pos_conv_embed.conv.bias", &[hidden], Start::Zeros);
    }
    if let Some(taps) = config.conv_pos_kernel_size {
        for at in 0..config.num_conv_pos_embeddings {
            let name = format!("encoder.pos_conv_embed.layers.{at}.conv");
            let fan_in = (hidden / groups * taps) as f64;
            list.add(format!("{name}.weight"), &[hidden, hidden / groups, taps], Start::Normal { std: (2.0 / fan_in).sqrt() });
            list.add(format!("{name}.bias"), &[hidden], Start::Zeros);
        }
    } else if config.conv_pos_batch_norm {
        list.norm(POSITION_NORM, hidden);
        list.add(format!("{POSITION_NORM}.running_mean"), &[hidden], Start::Zeros);
        list.add(format!("{POSITION_NORM}.running_var"), &[hidden], Start::Ones);
        list.add(POSITION_FOLDED, &[hidden, hidden / groups, taps], Start::Normal { std });
    } else {
        list.add(POSITION_GAIN, &[1, 1, taps], Start::DirectionNorm);
        list.add(POSITION_DIRECTION, &[hidden, hidden / groups, taps], Start::Normal { std });
    }
    list.norm("encoder.layer_norm", hidden);

    let std = config.initializer_range;
    let heads = config.num_attention_heads;
    if config.model_type == ModelType::Wavlm {
        list.add(POSITION_BIAS, &[config.buckets().count, heads], Start::Normal { std });
    }
    for layer in 0..config.num_hidden_layers {
        let name = format!("encoder.layers.{layer}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            list.linear(&format!("{name}.attention.{projection}"), hidden, hidden, std);
        }
        if config.model_type == ModelType::Wavlm {
            list.add(format!("{name}.attention.gru_rel_pos_const"), &[1, heads, 1, 1], Start::Ones);
            list.linear(&format!("{name}.attention.gru_rel_pos_linear"), hidden / heads, 8, std);
        }
        list.norm(&format!("{name}.layer_norm"), hidden);
        list.linear(&format!("{name}.feed_forward.intermediate_dense"), hidden, inner, std);
        list.linear(&format!("{name}.feed_forward.output_dense"), inner, hidden, std);
        list.norm(&format!("{name}.final_layer_norm"), hidden);
        if let Some(width) = config.adapter_attn_dim {
            list.norm(&format!("{name}.adapter_layer.norm"), hidden);
            list.linear(&format!("{name}.adapter_layer.linear_1"), hidden, width, std);
            list.linear(&format!("{name}.adapter_layer.linear_2"), width, hidden, std);
        }
    }
    list.0
}

pub(super) struct List(Vec<Parameter>);

impl List {
    pub(super) fn add(&mut self, name: impl Into<String>, shape: &[i64], start: Start) {
        self.0.push(Parameter { name: name.into(), shape: shape.to_vec(), start });
    }
    pub(super) fn norm(&mut self, name: &str, size: i64) {
        self.add(format!("{name}.weight"), &[size], Start::Ones);
        self.add(format!("{name}.bias"), &[size], Start::Zeros);
    }
    pub(super) fn linear(&mut self, name: &str, size_in: i64, size_out: i64, std: f64) {
        self.add(format!("{name}.weight"), &[size_out, size_in], Start::Normal { std });
        self.add(format!("{name}.bias"), &[size_out], Start::Zeros);
    }
}

/// Random weights. Each tensor depends on the seed and its name alone.
pub fn random(config: &EncoderConfig, seed: u64) -> Result<Weights, TchError> {
    let mut weights = Weights::new();
    for parameter in parameters(config).iter().filter(|parameter| parameter.start != Start::DirectionNorm) {
        let tensor = started(&parameter.name, &parameter.shape, parameter.start, seed)?;
        weights.insert(parameter.name.clone(), tensor);
    }
    if let Some(direction) = weights.get(POSITION_DIRECTION) {
        let gain = direction_norm(direction)?;
        weights.insert(POSITION_GAIN.to_owned(), gain);
    }
    Ok(weights)
}

/// Euclidean norm of each tap over the two other axes: (H, H / groups, K) -> (1, 1, K).
pub(crate) fn direction_norm(direction: &Tensor) -> Result<Tensor, TchError> {
    direction.f_norm_scalaropt_dim(2.0, [0, 1], true)
}

/// Reads the encoder's weights from a checkpoint folder to `device`, all of them checked.
///
/// Accepts names with and without the family's prefix (`wav2vec2.`), and the older names of weight normalisation. Steps over what belongs
/// to a head or to pre-training.
///
/// Errors: [`CheckpointError::Weights`] lists every tensor that is missing, unexpected, of another shape or not finite;
/// [`CheckpointError::NotFinite`] those that are not finite, where that is all.
pub fn read(folder: &Path, config: &EncoderConfig, device: Device) -> Result<Weights, CheckpointError> {
    read_part(folder, config, device, |_| true)
}

/// As [`read`], but only the tensors whose names, relative to the encoder, `wanted` accepts.
pub(crate) fn read_part(
    folder: &Path,
    config: &EncoderConfig,
    device: Device,
    wanted: impl Fn(&str) -> bool,
) -> Result<Weights, CheckpointError> {
    let prefix = config.model_type.prefix();
    let (path, stored) = if config.model_type == ModelType::Whisper {
        // The decoder, most of the file, is not read.
        read_files(folder, |name| of_whisper(name).is_some_and(&wanted))?
    } else {
        read_files(folder, |name| wanted(name.strip_prefix(prefix).unwrap_or(name)))?
    };
    let mut weights = relative_names(stored, config.model_type, folder)?;
    let mut mistakes = complete(&mut weights, config).map_err(CheckpointError::torch(&path))?;
    let expected: Vec<Parameter> = parameters(config).into_iter().filter(|parameter| wanted(&parameter.name)).collect();
    weights.retain(|name, _| wanted(name));
    let names: BTreeSet<&str> = expected.iter().map(|parameter| parameter.name.as_str()).collect();
    let unexpected: Vec<String> = weights.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
    // Nothing but what was added above: a list of all that is missing would hide the reason.
    if names.iter().all(|&name| name == MASK_EMBEDDING || !weights.contains_key(name)) && !unexpected.is_empty() {
        let examples = unexpected.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (count, family) = (unexpected.len(), config.model_type.class());
        mistakes = vec![format!(
            "they are of another architecture: {count} tensors such as {examples}, none of them of a {family} encoder"
        )];
        return Err(CheckpointError::Weights { folder: folder.to_owned(), mistakes });
    }
    mistakes.extend(shortened(unexpected.iter().map(|name| format!("`{name}` is unexpected")).collect()));
    let (mut unfit, mut broken) = (Vec::new(), Vec::new());
    for Parameter { name, shape, .. } in &expected {
        match weights.get(name) {
            None => unfit.push(format!("`{name}` is missing")),
            Some(tensor) if tensor.size() != *shape => {
                unfit.push(format!("`{name}` has shape {:?}, expected {shape:?}", tensor.size()));
            }
            Some(tensor) if !is_finite(tensor).map_err(CheckpointError::torch(&path))? => {
                broken.push(format!("`{name}` holds NaN or infinite values"));
            }
            Some(_) => {}
        }
    }
    mistakes.extend(shortened(unfit));
    let fits = mistakes.is_empty();
    mistakes.extend(shortened(broken));
    if fits && !mistakes.is_empty() {
        return Err(CheckpointError::NotFinite { folder: folder.to_owned(), mistakes });
    }
    if !mistakes.is_empty() {
        return Err(CheckpointError::Weights { folder: folder.to_owned(), mistakes });
    }
    for tensor in weights.values_mut() {
        *tensor = tensor.f_to_device_(device, Kind::Float, false, false).map_err(CheckpointError::torch(&path))?;
    }
    Ok(weights)
}

/// A list that a person can read: a checkpoint of another shape has hundreds of mistakes.
fn shortened(mut mistakes: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 20;
    let more = mistakes.len().saturating_sub(SHOWN);
    mistakes.truncate(SHOWN);
    mistakes.extend((more > 0).then(|| format!("and {more} more of the kind")));
    mistakes
}

/// The tensors of whichever layout the folder has, and the file that names them. Those of a language's adapter take the place of others.
pub(crate) fn read_files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<(PathBuf, Weights), CheckpointError> {
    let (path, mut weights) = read_layout(folder, &wanted)?;
    let adapter = folder.join(LANGUAGE_ADAPTER);
    if adapter.exists() {
        weights.append(&mut safetensors::read(&adapter, &wanted)?);
    }
    Ok((path, weights))
}

fn read_layout(folder: &Path, wanted: &impl Fn(&str) -> bool) -> Result<(PathBuf, Weights), CheckpointError> {
    let (single, index, bin) = (folder.join(WEIGHTS), folder.join(INDEX), folder.join(PICKLE));
    if single.exists() {
        let weights = safetensors::read(&single, wanted)?;
        return Ok((single, weights));
    }
    if index.exists() {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let listed: Index = read_json(&index)?;
        let files: BTreeSet<&String> = listed.weight_map.values().collect();
        let mut weights = Weights::new();
        for file in files {
            if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
                let reason = format!("it names `{file}`, which is not a plain file name");
                return Err(CheckpointError::Damaged { path: index, reason });
            }
            weights.append(&mut safetensors::read(&folder.join(file), wanted)?);
        }
        return Ok((index, weights));
    }
    if bin.exists() {
        let weights = pickle::read(&bin, wanted)?;
        return Ok((bin, weights));
    }
    Err(CheckpointError::NoWeights { folder: folder.to_owned() })
}

/// Beginnings of the names of a head's tensors.
const OF_A_HEAD: [&str; 8] = [
    "lm_head.",
    "projector.",
    "classifier.",
    "layer_weights",
    "tdnn.",
    "feature_extractor.weight",
    "feature_extractor.bias",
    "objective.",
];

/// Reads the tensors of a checkpoint's head, 32-bit; none of a bare encoder.
///
/// Errors: files that cannot be read.
pub fn read_head(folder: &Path, config: &EncoderConfig) -> Result<Weights, CheckpointError> {
    let family = config.model_type.prefix();
    let of_a_head = |name: &str| !name.starts_with(family) && OF_A_HEAD.iter().any(|part| name.starts_with(part));
    let (path, mut head) = read_files(folder, of_a_head)?;
    for tensor in head.values_mut() {
        *tensor = tensor.f_to_kind(Kind::Float).map_err(CheckpointError::torch(&path))?;
    }
    Ok(head)
}

/// Parts of other models that may lie beside the encoder's tensors.
const BESIDE: [&str; 16] = [
    "quantizer.",
    "project_hid.",
    "project_q.",
    "lm_head.",
    "projector.",
    "classifier.",
    "layer_weights",
    "tdnn.",
    "feature_extractor.weight",
    "feature_extractor.bias",
    "final_proj.",
    "label_embs_concat",
    "label_embeddings_concat",
    "objective.",
    "ctc_proj.",
    "speaker_proj.",
];

/// Name of a tensor of a Whisper's encoder, relative to it; none of others. Whole models put `model.` in front.
fn of_whisper(name: &str) -> Option<&str> {
    name.strip_prefix("model.").unwrap_or(name).strip_prefix(ModelType::Whisper.prefix())
}

/// Strips the prefix, drops what is not the encoder's.
fn relative_names(stored: Weights, family: ModelType, folder: &Path) -> Result<Weights, CheckpointError> {
    if family == ModelType::Whisper {
        let relative = |(name, tensor): (String, Tensor)| Some((of_whisper(&name)?.to_owned(), tensor));
        let weights: Weights = stored.into_iter().filter_map(relative).collect();
        if weights.is_empty() {
            let mistakes = vec!["no tensor begins with `model.encoder.` or `encoder.`: the encoder is missing".to_owned()];
            return Err(CheckpointError::Weights { folder: folder.to_owned(), mistakes });
        }
        return Ok(weights);
    }
    let prefix = family.prefix();
    let prefixed = stored.keys().any(|name| name.starts_with(prefix));
    let mut mistakes = Vec::new();
    if let Some(other) = family.other_in(stored.keys()) {
        mistakes.push(format!("its tensors begin with `{}`: they belong to model_type {other:?}", other.prefix()));
    }
    let mut weights = Weights::new();
    for (name, tensor) in stored {
        match name.strip_prefix(prefix) {
            Some(relative) => {
                weights.insert(relative.to_owned(), tensor);
            }
            None if BESIDE.iter().any(|part| name.starts_with(part)) => {}
            None if prefixed => {} // Beside a prefixed encoder everything else belongs to some head.
            None => {
                weights.insert(name, tensor);
            }
        }
    }
    if weights.is_empty() && mistakes.is_empty() {
        mistakes.push("no tensor of an encoder is among them".to_owned());
    }
    if !mistakes.is_empty() {
        return Err(CheckpointError::Weights { folder: folder.to_owned(), mistakes });
    }
    Ok(weights)
}

/// Brings older names up to date and adds what a checkpoint may leave out. Returns what is contradictory.
fn complete(weights: &mut Weights, config: &EncoderConfig) -> Result<Vec<String>, TchError> {
    const OLD_GAIN: &str = "encoder.pos_conv_embed.conv.weight_g";
    const OLD_MASK: &str = "mask_time_emb_vector";
    const OLD_DIRECTION: &str = "encoder.pos_conv_embed.conv.weight_v";
    let mut mistakes = Vec::new();
    for (old, new) in [(OLD_GAIN, POSITION_GAIN), (OLD_DIRECTION, POSITION_DIRECTION), (OLD_MASK, MASK_EMBEDDING)] {
        let old_one = weights.remove(old);
        if old_one.is_some_and(|tensor| weights.insert(new.to_owned(), tensor).is_some()) {
            mistakes.push(format!("both `{old}` and `{new}` are there"));
        }
    }
    // How many batches the statistics come from; nothing reads it.
    weights.remove(&format!("{POSITION_NORM}.num_batches_tracked"));
    let fold = !config.conv_pos_batch_norm && !weights.contains_key(POSITION_DIRECTION);
    if let Some(folded) = fold.then(|| weights.remove(POSITION_FOLDED)).flatten().filter(|tensor| tensor.dim() == 3) {
        weights.insert(POSITION_GAIN.to_owned(), direction_norm(&folded)?);
        weights.insert(POSITION_DIRECTION.to_owned(), folded);
    }
    if !weights.contains_key(MASK_EMBEDDING) && config.model_type != ModelType::Whisper {
        // Only training with masks reads it; checkpoints that never had them leave it out.
        let shape = [config.hidden_size];
        weights.insert(MASK_EMBEDDING.to_owned(), started(MASK_EMBEDDING, &shape, Start::Uniform { low: 0.0, high: 1.0 }, 0)?);
    }
    Ok(mistakes)
}

pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool, TchError> {
    // What is not finite makes the sum so; a sum may also overflow, and then each value is looked at.
    if tensor.f_sum(None)?.f_double_value(&[])?.is_finite() {
        return Ok(true);
    }
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

/// BLAKE3 over names, shapes and values: the same encoder gives the same digest whatever file it came from.
pub fn digest(weights: &Weights) -> Result<String, TchError> {
    let mut hasher = blake3::Hasher::new();
    for (name, tensor) in weights {
        let tensor = tensor.detach().f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * size_of::<f32>()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        hasher.update(format!("{name} {:?}\n", tensor.size()).as_bytes());
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
