//! Languages of an MMS checkpoint: small files with an adapter in each layer and a head, next to the weights that all share.
//!
//! Source: Pratap et al. 2023, arXiv:2305.13516, section 5; files as transformers reads them.

use std::fs;
use std::path::Path;

use pipeline::source::{Tree, TreeFile};
use serde_json::{Map, Value};

use super::{CONFIG, CheckpointError, header};

/// Name of the adapter in an artifact: what reads weights puts its tensors in the place of the others.
pub const ADAPTER: &str = "adapter.safetensors";
const VOCABULARY: &str = "vocab.json";

/// Name of the file of a language.
pub(super) fn file(language: &str) -> String {
    format!("adapter.{language}.safetensors")
}

/// The file of a language in a folder.
pub(super) fn find<'a>(tree: &'a Tree, language: &str) -> Result<&'a TreeFile, CheckpointError> {
    tree.find(&file(language)).ok_or_else(|| refused(&tree.root, language, format!("`{}` is not there", file(language))))
}

/// Makes a copied checkpoint that of a language: its adapter, its tokens, the size of its head.
///
/// Errors: [`CheckpointError::Language`] for an adapter of another checkpoint, or tokens without that language.
pub(super) fn choose(copied: &Path, language: &str, root: &Path) -> Result<(), CheckpointError> {
    let wrong = |problem: String| refused(root, language, problem);
    let (own, adapter) = (copied.join(file(language)), copied.join(ADAPTER));
    fs::rename(&own, &adapter).map_err(CheckpointError::read(&own))?;
    let path = copied.join(CONFIG);
    let mut config: Map<String, Value> = read(&path)?;
    let number = |name: &str| config.get(name).and_then(Value::as_u64);
    let (Some(width), Some(hidden), Some(layers)) =
        (number("adapter_attn_dim"), number("hidden_size"), number("num_hidden_layers"))
    else {
        return Err(wrong("its config.json has no `adapter_attn_dim`".to_owned()));
    };
    let mut opened = fs::File::open(&adapter).map_err(CheckpointError::read(&adapter))?;
    let (_, tensors) = header::read(&mut opened)
        .map_err(|_| CheckpointError::Damaged { path: adapter.clone(), reason: "its header cannot be read".to_owned() })?;
    let shape = |end: &str| {
        let name = tensors.offset_keys().into_iter().find(|name| name.ends_with(end))?;
        Some(tensors.info(&name)?.shape.iter().map(|&size| size as u64).collect::<Vec<_>>())
    };
    for (layer, expected) in [(0, true), (layers.saturating_sub(1), true), (layers, false)] {
        let end = format!("encoder.layers.{layer}.adapter_layer.linear_1.weight");
        let found = shape(&end);
        if found.is_some() != expected || found.as_ref().is_some_and(|found| *found != [width, hidden]) {
            let found = found.map_or("is missing".to_owned(), |found| format!("has shape {found:?}"));
            let expected = if expected { format!("expected [{width}, {hidden}]") } else { format!("expected {layers} layers") };
            return Err(wrong(format!("its adapter is of another model: `{end}` {found}, {expected}")));
        }
    }
    let Some([tokens, head_width]) = shape("lm_head.weight").and_then(|shape| <[u64; 2]>::try_from(shape).ok()) else {
        return Err(wrong("its adapter has no head".to_owned()));
    };
    if head_width != hidden {
        return Err(wrong(format!("its adapter is of another model: the head has width {head_width}, expected {hidden}")));
    }
    config.insert("vocab_size".to_owned(), tokens.into());
    write(&path, &config)?;
    let path = copied.join(VOCABULARY);
    let all: Map<String, Value> = read(&path)?;
    match all.get(language) {
        Some(Value::Object(own)) => write(&path, own),
        _ if all.values().all(Value::is_number) => Ok(()), // tokens of one language
        _ => Err(wrong(format!("`{VOCABULARY}` has no tokens of it"))),
    }
}

fn refused(folder: &Path, language: &str, problem: String) -> CheckpointError {
    CheckpointError::Language { folder: folder.to_owned(), language: language.to_owned(), problem }
}

fn read(path: &Path) -> Result<Map<String, Value>, CheckpointError> {
    let text = fs::read(path).map_err(CheckpointError::read(path))?;
    serde_json::from_slice(&text).map_err(|source| CheckpointError::Config { path: path.to_owned(), source })
}

fn write(path: &Path, value: &Map<String, Value>) -> Result<(), CheckpointError> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| CheckpointError::Config { path: path.to_owned(), source })?;
    fs::write(path, text).map_err(CheckpointError::read(path))
}
