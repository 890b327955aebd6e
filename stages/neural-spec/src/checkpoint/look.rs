//! A first look at a checkpoint folder: what `config.json` and the heads of the weight files tell, without libtorch.
//!
//! It costs no time and happens while a workflow is planned, so that a folder of something else, or a file that was cut short, stops it
//! before anything is made. Whoever trains reads every tensor and looks at the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::header::{self, HeaderError};
use super::{CONFIG, CheckpointError, PICKLE};

/// Fields of `config.json` that a look reads.
#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    hidden_act: Option<String>,
    feat_extract_activation: Option<String>,
    add_adapter: Option<bool>,
    auto_map: Option<serde_json::Value>,
}

impl Config {
    /// Settings that the worker would refuse, as sentences.
    fn refused(&self) -> Vec<String> {
        const ACTIVATIONS: [&str; 6] = ["gelu", "gelu_new", "relu", "silu", "swish", "selu"];
        let activations = [("hidden_act", &self.hidden_act), ("feat_extract_activation", &self.feat_extract_activation)];
        let unknown = |(name, value): (&str, &Option<String>)| {
            let value = value.as_ref().filter(|value| !ACTIVATIONS.contains(&value.as_str()))?;
            Some(format!("{name} must be one of {}, not {value}", ACTIVATIONS.join(", ")))
        };
        let mut refused: Vec<String> = activations.into_iter().filter_map(unknown).collect();
        if self.add_adapter == Some(true) {
            refused.push("add_adapter is not supported unless false".to_owned());
        }
        if self.auto_map.is_some() {
            refused.push("auto_map is not supported: it asks for another encoder".to_owned());
        }
        refused
    }
}

/// The families of encoders that are known, as `model_type` names them.
pub(super) const FAMILIES: [&str; 6] = ["wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio"];
/// A zip archive ends with this and at most so many bytes of which most are a comment (APPNOTE 4.3.16).
const ZIP_END: &[u8] = b"PK\x05\x06";
const MAX_ZIP_END_BYTES: u64 = 22 + 65_535;

/// Looks at a folder that holds these files.
///
/// Errors: a configuration of another family, a file that is cut short, weights that are not those of the configuration.
pub(super) fn look<'a>(folder: &Path, files: impl Iterator<Item = &'a str>) -> Result<(), CheckpointError> {
    let path = folder.join(CONFIG);
    let text = std::fs::read(&path).map_err(CheckpointError::read(&path))?;
    let config: Config =
        serde_json::from_slice(&text).map_err(|source| CheckpointError::Config { path: path.clone(), source })?;
    if let Some(family) = config.model_type.as_deref().filter(|family| !FAMILIES.contains(family)) {
        return Err(CheckpointError::Family { path, family: family.to_owned() });
    }
    let refused = config.refused();
    if !refused.is_empty() {
        return Err(CheckpointError::Unsupported { path, mistakes: refused });
    }
    let mut shapes = BTreeMap::new();
    for file in files {
        let path = folder.join(file);
        if file == PICKLE {
            return look_at_zip(&path);
        }
        if file.ends_with(".safetensors") {
            let header = header(&path)?;
            let shape = |name: String| Some((name.clone(), header.info(&name)?.shape.clone()));
            shapes.extend(header.offset_keys().into_iter().filter_map(shape));
        }
    }
    fits(folder, &config, &shapes)
}

/// The header of a safetensors file, whose size is what the header says.
fn header(path: &Path) -> Result<Metadata, CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::read(path))?;
    let header = header::read(&mut file).map_err(|error| match error {
        HeaderError::Io(source) => CheckpointError::read(path)(source),
        HeaderError::Damaged(reason) => CheckpointError::Damaged { path: path.to_owned(), reason },
    });
    header.map(|(_, header)| header)
}

/// Checks that a pickle is a zip archive, to its end.
fn look_at_zip(path: &Path) -> Result<(), CheckpointError> {
    let damaged = |reason: &str| CheckpointError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    let mut file = File::open(path).map_err(CheckpointError::read(path))?;
    let mut magic = [0; 2];
    if file.read_exact(&mut magic).is_err() || &magic != b"PK" {
        return Err(CheckpointError::OldPickle { path: path.to_owned() });
    }
    let size = file.metadata().map_err(CheckpointError::read(path))?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(MAX_ZIP_END_BYTES))).map_err(CheckpointError::read(path))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).map_err(CheckpointError::read(path))?;
    let is_whole = end.windows(ZIP_END.len()).any(|bytes| bytes == ZIP_END);
    if is_whole { Ok(()) } else { Err(damaged("the end of the zip archive is missing")) }
}

/// Checks that the last layer that the configuration describes is there, in the width that it describes.
fn fits(folder: &Path, config: &Config, shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), CheckpointError> {
    let (Some(layers), Some(width)) = (config.num_hidden_layers, config.hidden_size) else { return Ok(()) };
    let Some(last) = layers.checked_sub(1) else { return Ok(()) };
    let family = config.model_type.as_deref().unwrap_or(FAMILIES[0]);
    let name = format!("encoder.layers.{last}.attention.q_proj.weight");
    let prefix = family.replace('-', "_");
    let found = shapes.get(&format!("{prefix}.{name}")).or_else(|| shapes.get(&name));
    let found = match found {
        Some(shape) if *shape == [width, width] => return Ok(()),
        Some(shape) => format!("`{name}` has shape {shape:?}"),
        None if shapes.keys().any(|name| name.starts_with("module.")) => {
            "their names begin with `module.`, as a wrapper for several GPUs saves them: save the model inside of it".to_owned()
        }
        None if shapes.is_empty() => "they hold no tensor".to_owned(),
        None => {
            let examples = shapes.keys().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            format!("`{name}` is not among its {} tensors (such as {examples})", shapes.len())
        }
    };
    Err(CheckpointError::OtherWeights {
        folder: folder.to_owned(),
        expected: format!("{family}, {layers} layers of {width}"),
        found,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::super::{CONFIG, SINGLE};
    use super::*;

    const TINY: &str = r#"{"model_type":"hubert","hidden_size":2,"num_hidden_layers":1}"#;
    const LAST: &str = "encoder.layers.0.attention.q_proj.weight";

    /// A file with one square tensor.
    fn weights(name: &str, width: usize) -> Vec<u8> {
        let bytes = vec![0; 4 * width * width];
        let view = TensorView::new(Dtype::F32, vec![width, width], &bytes).unwrap();
        safetensors::serialize([(name, view)], None).unwrap()
    }

    #[track_caller]
    fn check(config: &str, file: &str, bytes: &[u8], expected: Result<(), &str>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONFIG), config).unwrap();
        fs::write(folder.path().join(file), bytes).unwrap();
        let found = look(folder.path(), [CONFIG, file].into_iter()).map_err(|error| error.to_string());
        match (&found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            _ => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn whole_files_of_the_right_shape_pass_with_and_without_prefix() {
        check(TINY, SINGLE, &weights(LAST, 2), Ok(()));
        check(TINY, SINGLE, &weights(&format!("hubert.{LAST}"), 2), Ok(()));
        check(&TINY.replace("hubert", "unispeech-sat"), SINGLE, &weights(&format!("unispeech_sat.{LAST}"), 2), Ok(()));
        check("{}", SINGLE, &weights("any", 1), Ok(()));
        check(TINY, PICKLE, b"PK\x03\x04 and so on PK\x05\x06 the end", Ok(()));
    }

    #[test]
    fn what_was_cut_short_or_is_something_else_is_refused() {
        let whole = weights(LAST, 2);
        for keep in [3, 20, whole.len() - 1] {
            check(TINY, SINGLE, &whole[..keep], Err("is damaged"));
        }
        check(TINY, PICKLE, b"PK\x03\x04 and so on", Err("the end of the zip archive is missing"));
        check(TINY, PICKLE, b"\x80\x02 a pickle", Err("no zip archive"));
        check("{", SINGLE, &whole, Err("is not JSON"));
        check(
            &TINY.replace("hubert", "bert"),
            SINGLE,
            &whole,
            Err("describes a `bert`, expected one of `wav2vec2`, `hubert`, `wavlm`, `unispeech`"),
        );
        check(
            TINY,
            SINGLE,
            &weights(LAST, 3),
            Err("(hubert, 1 layers of 2): `encoder.layers.0.attention.q_proj.weight` has shape [3, 3]"),
        );
        check(TINY, SINGLE, &weights("bert.pooler", 3), Err("is not among its 1 tensors (such as `bert.pooler`)"));
        check(TINY, SINGLE, b"\x02\0\0\0\0\0\0\0{}", Err("they hold no tensor"));
        check(TINY, SINGLE, &weights(&format!("module.hubert.{LAST}"), 2), Err("begin with `module.`"));
        for (field, part) in [
            (r#""hidden_act":"mish""#, "hidden_act must be one of gelu"),
            (r#""add_adapter":true"#, "add_adapter is not supported"),
            (r#""auto_map":{}"#, "auto_map is not supported"),
        ] {
            check(&TINY.replace('{', &format!("{{{field},")), SINGLE, &whole, Err(part));
        }
        check(TINY, SINGLE, &weights(&format!("wavlm.{LAST}"), 2), Err("is not among its 1 tensors"));
    }
}
