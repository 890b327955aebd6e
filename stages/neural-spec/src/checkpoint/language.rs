//! Languages of an MMS checkpoint: small files with an adapter in each layer and a head, next to the weights that all share.
//!
//! Source: Pratap et al. 2023, arXiv:2305.13516, section 5; files as transformers reads them.

use std::collections::BTreeMap;
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
    let family = config.get("model_type").and_then(Value::as_str).unwrap_or("wav2vec2").replace('-', "_");
    // In a full model, or in a bare encoder.
    let plain = |name: &str| name.strip_prefix(&format!("{family}.")).unwrap_or(name).to_owned();
    let shapes: BTreeMap<String, Vec<u64>> = tensors
        .offset_keys()
        .iter()
        .filter_map(|name| Some((plain(name), tensors.info(name)?.shape.iter().map(|&size| size as u64).collect())))
        .collect();
    let shape = |name: &str| shapes.get(name).cloned();
    let mut expected = BTreeMap::from([("lm_head.weight".to_owned(), None), ("lm_head.bias".to_owned(), None)]);
    for layer in 0..layers {
        for (part, shape) in [
            ("norm.weight", vec![hidden]),
            ("norm.bias", vec![hidden]),
            ("linear_1.weight", vec![width, hidden]),
            ("linear_1.bias", vec![width]),
            ("linear_2.weight", vec![hidden, width]),
            ("linear_2.bias", vec![hidden]),
        ] {
            expected.insert(format!("encoder.layers.{layer}.adapter_layer.{part}"), Some(shape));
        }
    }
    for (name, wanted) in &expected {
        let problem = match (shapes.get(name), wanted) {
            (None, _) => "is missing".to_owned(),
            (Some(found), Some(wanted)) if found != wanted => format!("has shape {found:?}, expected {wanted:?}"),
            _ => continue,
        };
        return Err(wrong(format!("its adapter is of another model: `{name}` {problem}")));
    }
    if let Some(name) = shapes.keys().find(|name| !expected.contains_key(*name)) {
        return Err(wrong(format!("its adapter is of another model: `{name}` has no place in {layers} layers of {family}")));
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

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;

    /// Adapter of one layer of width 4, inner width 2, with a head of 3 tokens.
    fn adapter(prefix: &str) -> BTreeMap<String, Vec<usize>> {
        let in_layer = [
            ("norm.weight", vec![4]),
            ("norm.bias", vec![4]),
            ("linear_1.weight", vec![2, 4]),
            ("linear_1.bias", vec![2]),
            ("linear_2.weight", vec![4, 2]),
            ("linear_2.bias", vec![4]),
        ];
        let in_layer = in_layer.map(|(part, shape)| (format!("{prefix}encoder.layers.0.adapter_layer.{part}"), shape));
        let head = [("lm_head.weight".to_owned(), vec![3, 4]), ("lm_head.bias".to_owned(), vec![3])];
        in_layer.into_iter().chain(head).collect()
    }

    #[track_caller]
    fn check(tensors: &BTreeMap<String, Vec<usize>>, expected: Result<(), &str>) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = vec![0; 4 * 64];
        let view = |shape: &Vec<usize>| {
            TensorView::new(Dtype::F32, shape.clone(), &bytes[..4 * shape.iter().product::<usize>()]).unwrap()
        };
        let written = safetensors::serialize(tensors.iter().map(|(name, shape)| (name.clone(), view(shape))), None).unwrap();
        fs::write(folder.path().join("adapter.fra.safetensors"), written).unwrap();
        let config = r#"{"model_type":"wav2vec2","adapter_attn_dim":2,"hidden_size":4,"num_hidden_layers":1}"#;
        fs::write(folder.path().join(CONFIG), config).unwrap();
        fs::write(folder.path().join(VOCABULARY), r#"{"fra":{"a":0,"b":1,"c":2}}"#).unwrap();
        match (choose(folder.path(), "fra", folder.path()).map_err(|error| error.to_string()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (found, _) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn adapters_of_other_models_and_parts_of_one_are_refused() {
        check(&adapter("wav2vec2."), Ok(()));
        check(&adapter(""), Ok(()));
        check(&adapter("hubert."), Err("`encoder.layers.0.adapter_layer.linear_1.bias` is missing"));
        let mut part = adapter("wav2vec2.");
        part.remove("wav2vec2.encoder.layers.0.adapter_layer.norm.bias");
        check(&part, Err("`encoder.layers.0.adapter_layer.norm.bias` is missing"));
        let mut more = adapter("wav2vec2.");
        more.insert("wav2vec2.encoder.layers.1.adapter_layer.norm.bias".to_owned(), vec![4]);
        check(&more, Err("`encoder.layers.1.adapter_layer.norm.bias` has no place in 1 layers of wav2vec2"));
        let mut wide = adapter("");
        wide.insert("encoder.layers.0.adapter_layer.linear_2.weight".to_owned(), vec![4, 3]);
        check(&wide, Err("has shape [4, 3], expected [4, 2]"));
    }
}
