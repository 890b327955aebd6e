//! Published checkpoints of the family: ming024/FastSpeech2 and CTTS.
//!
//! ```text
//! 900000.pth.tar      {"model": {"encoder.layer_stack.0.slf_attn.w_qs.weight": ..}, "optimizer": ..}; the optimiser is stepped over
//! ```
//!
//! CTTS, block `transformer`, writes `w_qs.linear.weight` and has no biases there. Its block `transformer_fs2`, and pitch by continuous
//! wavelet transform, are other models and are refused by name.

use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::parameters::parameters;
use super::shape::{PostnetShape, PredictorShape, Shape, ValueEntry};
use crate::checkpoint::pickle;
use crate::error::ModelError;
use crate::nn::weights::Weights;

/// A published checkpoint that is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] ModelError),
    /// Another model than those that are read.
    #[error("`{path}` is a model with {what}, which is not supported")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Part that is not supported.
        what: &'static str,
    },
    /// Tensors that a model of its sizes has not.
    #[error("`{path}` is no acoustic model: {}", mistakes.join("; "))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Every tensor that is missing, unexpected or of another shape.
        mistakes: Vec<String>,
    },
}

/// Reads a checkpoint in PyTorch's zip format. Sizes follow from its tensors, except `heads` (2 in all published models).
///
/// Errors: [`PublishedError`]
pub fn read(path: &Path, heads: i64) -> Result<(Weights, Shape), PublishedError> {
    let raw = pickle::read(path, |_| true).map_err(ModelError::from)?;
    from_tensors(path, raw, heads)
}

/// Names tensors as we do, and finds the sizes of their model.
pub(super) fn from_tensors(path: &Path, raw: Weights, heads: i64) -> Result<(Weights, Shape), PublishedError> {
    let unsupported = |what| Err(PublishedError::Unsupported { path: path.to_owned(), what });
    if raw.keys().any(|name| name.contains("cwt_predictor") || name.contains("cwt_stats")) {
        return unsupported("pitch by continuous wavelet transform (`pitch = \"cwt\"`)");
    }
    if raw.keys().any(|name| name.contains("self_attn") || name.contains(".layers.0.op.")) {
        return unsupported("blocks of `transformer_fs2`");
    }
    if !raw.keys().any(|name| name.ends_with("speaker_emb.weight")) {
        return unsupported("no table of speakers (a voice of one speaker)");
    }
    let mut weights = Weights::new();
    for (name, tensor) in raw {
        let name = name.strip_prefix("module.").unwrap_or(&name);
        // Marks of positions are computed, and counts of batches are not used.
        if !name.ends_with("position_enc") && !name.ends_with("num_batches_tracked") {
            weights
                .insert(name.replace(".linear.weight", ".weight").replace("spk_proj.weight", "spk_proj.linear.weight"), tensor);
        }
    }
    let shape = shape_of(&weights, heads).map_err(|missing| PublishedError::Tensors {
        path: path.to_owned(),
        mistakes: vec![format!("`{missing}` is missing")],
    })?;
    let mut mistakes = Vec::new();
    let expected = parameters(&shape);
    for parameter in &expected {
        match weights.get(&parameter.name) {
            None => mistakes.push(format!("`{}` is missing", parameter.name)),
            Some(tensor) if tensor.size() != parameter.shape => {
                mistakes.push(format!("`{}` has the shape {:?}, expected {:?}", parameter.name, tensor.size(), parameter.shape));
            }
            Some(_) => {}
        }
    }
    let known = |name: &String| expected.iter().any(|parameter| parameter.name == *name);
    mistakes.extend(weights.keys().filter(|name| !known(name)).map(|name| format!("`{name}` is unexpected")));
    if !mistakes.is_empty() {
        mistakes.truncate(5);
        return Err(PublishedError::Tensors { path: path.to_owned(), mistakes });
    }
    let weights = weights
        .into_iter()
        .map(|(name, tensor)| (name, if tensor.is_floating_point() { tensor.to_kind(Kind::Float) } else { tensor }));
    Ok((weights.collect(), shape))
}

/// Sizes of the model that has these tensors. Errors: the name of a tensor that is needed to know them.
fn shape_of(weights: &Weights, heads: i64) -> Result<Shape, String> {
    let get = |name: &str| -> Result<&Tensor, String> { weights.get(name).ok_or_else(|| name.to_owned()) };
    let size = |name: &str| get(name).map(Tensor::size);
    let count = |prefix: &str, suffix: &str| {
        let number = |name: &String| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse::<usize>().ok();
        weights.keys().filter_map(number).max().map_or(0, |last| last + 1)
    };
    let [num_symbols, hidden] = size("encoder.src_word_emb.weight")?[..] else {
        return Err("encoder.src_word_emb.weight".to_owned());
    };
    let wide = size("encoder.layer_stack.0.pos_ffn.w_1.weight")?;
    let narrow = size("encoder.layer_stack.0.pos_ffn.w_2.weight")?;
    let predictor = size("variance_adaptor.duration_predictor.conv_layer.conv1d_1.conv.weight")?;
    let entry = size("variance_adaptor.pitch_embedding.weight")?;
    let first = size("postnet.convolutions.0.0.conv.weight")?;
    let taps = |shape: &[i64]| shape.get(2).copied().unwrap_or(1);
    Ok(Shape {
        num_symbols,
        num_speakers: size("speaker_emb.weight")?[0],
        num_mel_bins: size("mel_linear.weight")?[0],
        hidden,
        heads,
        encoder_layers: count("encoder.layer_stack.", ".pos_ffn.w_1.weight"),
        decoder_layers: count("decoder.layer_stack.", ".pos_ffn.w_1.weight"),
        filter: wide[0],
        kernels: [taps(&wide), taps(&narrow)],
        dropout: 0.2,
        predictor: PredictorShape { filter: predictor[0], kernel: taps(&predictor), dropout: 0.5 },
        values: match entry[..] {
            [count, _] => ValueEntry::Bins { count },
            _ => ValueEntry::Convolution { kernel: taps(&entry) },
        },
        predictor_gradient: 1.0,
        energy_after_pitch: true,
        least_frames: 0,
        postnet: PostnetShape {
            layers: count("postnet.convolutions.", ".0.conv.weight"),
            channels: first[0],
            kernel: taps(&first),
            dropout: 0.5,
        },
        projection_bias: weights.contains_key("encoder.layer_stack.0.slf_attn.w_qs.bias"),
        aligner: weights.contains_key("aligner.key_proj.0.conv.weight"),
        published: false,
    })
}
