//! A first look at a checkpoint folder: what `config.json` and the heads of the weight files tell, without libtorch.
//!
//! It costs no time and happens while a workflow is planned, so that a folder of something else, or a file that was cut short, stops it
//! before anything is made. Whoever trains reads every tensor and looks at the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::header::{self, HeaderError};
use super::{CONFIG, CheckpointError, PICKLE};

/// Fields of `config.json` that a look reads.
#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    intermediate_size: Option<usize>,
    num_attention_heads: Option<usize>,
    num_feat_extract_layers: Option<usize>,
    conv_dim: Option<Vec<usize>>,
    conv_kernel: Option<Vec<usize>>,
    hidden_act: Option<String>,
    /// Whisper names its fields otherwise.
    #[serde(flatten)]
    whisper: Whisper,
    feature_projection_input_dim: Option<usize>,
    position_embeddings_type: Option<String>,
    feat_extract_activation: Option<String>,
    add_adapter: Option<bool>,
    auto_map: Option<serde_json::Value>,
}

/// Fields of a Whisper's configuration that a look reads.
#[derive(Deserialize)]
struct Whisper {
    d_model: Option<usize>,
    encoder_layers: Option<usize>,
    encoder_ffn_dim: Option<usize>,
    encoder_attention_heads: Option<usize>,
    max_source_positions: Option<usize>,
    num_mel_bins: Option<usize>,
    activation_function: Option<String>,
}

const WHISPER: &str = "whisper";
const WAV2VEC2_BERT: &str = "wav2vec2-bert";

impl Config {
    fn family(&self) -> &str {
        self.model_type.as_deref().unwrap_or(FAMILIES[0])
    }

    /// Layers and width of the encoder, where the configuration states both.
    fn size(&self) -> Option<[usize; 2]> {
        if self.family() == WHISPER {
            return Some([self.whisper.encoder_layers?, self.whisper.d_model?]);
        }
        Some([self.num_hidden_layers?, self.hidden_size?])
    }

    /// Bands of the spectrogram that the encoder reads, with the default of its feature extractor; none where it reads samples.
    fn bands(&self) -> Option<usize> {
        match self.family() {
            WHISPER => Some(self.whisper.num_mel_bins.unwrap_or(80)),
            WAV2VEC2_BERT => Some(self.feature_projection_input_dim.unwrap_or(160) / 2),
            _ => None,
        }
    }

    /// Settings that the worker would refuse, as sentences.
    fn refused(&self) -> Vec<String> {
        const ACTIVATIONS: [&str; 6] = ["gelu", "gelu_new", "relu", "silu", "swish", "selu"];
        let activations = [
            ("hidden_act", &self.hidden_act),
            ("feat_extract_activation", &self.feat_extract_activation),
            ("activation_function", &self.whisper.activation_function),
        ];
        let unknown = |(name, value): (&str, &Option<String>)| {
            let value = value.as_ref().filter(|value| !ACTIVATIONS.contains(&value.as_str()))?;
            Some(format!("{name} must be one of {}, not {value}", ACTIVATIONS.join(", ")))
        };
        let mut refused: Vec<String> = activations.into_iter().filter_map(unknown).collect();
        if self.add_adapter == Some(true) {
            refused.push("add_adapter is not supported unless false".to_owned());
        }
        if self.position_embeddings_type.as_ref().is_some_and(|kind| self.family() == WAV2VEC2_BERT && kind != "relative_key") {
            refused.push("position_embeddings_type is not supported unless relative_key".to_owned());
        }
        let heads = if self.family() == WHISPER { self.whisper.encoder_attention_heads } else { self.num_attention_heads };
        if let (Some([_, width]), Some(heads)) = (self.size(), heads)
            && !(heads > 0 && width.is_multiple_of(heads))
        {
            refused.push(format!("the number of attention heads ({heads}) must divide the width ({width})"));
        }
        if self.auto_map.is_some() {
            refused.push("auto_map is not supported: it asks for another encoder".to_owned());
        }
        refused
    }
}

/// The families of encoders that are known, as `model_type` names them.
pub(super) const FAMILIES: [&str; 8] =
    ["wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", WHISPER, WAV2VEC2_BERT];
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
    let mut refused = config.refused();
    let extractor = extractor(folder)?;
    if let Some((path, fields)) = &extractor
        && let Some(mistake) = other_input(&config, fields)
    {
        refused.push(format!("`{}` contradicts it: {mistake}", path.display()));
    }
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

/// A file of JSON and its fields.
type Fields = (PathBuf, Map<String, Value>);

/// The feature extractor of a checkpoint; none where there is no file.
fn extractor(folder: &Path) -> Result<Option<Fields>, CheckpointError> {
    for (name, inside) in [(super::PREPROCESSOR, None), (super::PROCESSOR, Some("feature_extractor"))] {
        let path = folder.join(name);
        if !path.exists() {
            continue;
        }
        let text = std::fs::read(&path).map_err(CheckpointError::read(&path))?;
        let file: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|source| CheckpointError::Config { path: path.clone(), source })?;
        let fields = match inside {
            None => Some(file),
            Some(inside) => file.get(inside).and_then(Value::as_object).cloned(),
        };
        return Ok(fields.map(|fields| (path, fields)));
    }
    Ok(None)
}

/// What a feature extractor makes that the encoder does not read, as a sentence.
fn other_input(config: &Config, extractor: &Map<String, Value>) -> Option<String> {
    let expected = match config.family() {
        WHISPER => "WhisperFeatureExtractor",
        WAV2VEC2_BERT => "SeamlessM4TFeatureExtractor",
        _ => "Wav2Vec2FeatureExtractor",
    };
    if let Some(found) = extractor.get("feature_extractor_type").and_then(Value::as_str).filter(|found| *found != expected) {
        return Some(format!("feature_extractor_type is {found}, expected {expected}"));
    }
    if let Some(rate) = extractor.get("sampling_rate").filter(|rate| rate.as_f64() != Some(16_000.0)) {
        return Some(format!("sampling_rate is {rate}, and the encoder reads 16000"));
    }
    let Some(bands) = config.bands() else {
        let usual = [("feature_size", Value::from(1)), ("padding_side", "right".into()), ("padding_value", 0.into())];
        let other = |(name, usual): (&str, Value)| {
            let found = extractor
                .get(name)
                .filter(|found| **found != usual && (found.as_f64() != usual.as_f64() || found.is_string()))?;
            Some(format!("{name} is {found}, expected {usual}"))
        };
        return usual.into_iter().find_map(other);
    };
    let found = extractor.get("feature_size").map_or(Some(80), Value::as_u64); // the default of both extractors
    (found != Some(bands as u64)).then(|| {
        let found = found.map_or_else(|| "no number".to_owned(), |found| found.to_string());
        format!("feature_size is {found}, and the encoder reads {bands} bands")
    })
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
pub(crate) fn look_at_zip(path: &Path) -> Result<(), CheckpointError> {
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

/// Names of the parts of an encoder's layer, and the prefix that a whole model has in front of the encoder's names.
struct Names {
    attention: [&'static str; 4],
    inner: &'static str,
    outer: &'static str,
    prefix: String,
}

impl Names {
    fn of(family: &str) -> Self {
        match family {
            WHISPER => Self {
                attention: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"],
                inner: "fc1",
                outer: "fc2",
                prefix: "model.".to_owned(),
            },
            WAV2VEC2_BERT => Self {
                attention: ["self_attn.linear_q", "self_attn.linear_k", "self_attn.linear_v", "self_attn.linear_out"],
                inner: "ffn1.intermediate_dense",
                outer: "ffn1.output_dense",
                prefix: "wav2vec2_bert.".to_owned(),
            },
            _ => Self {
                attention: ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj"],
                inner: "feed_forward.intermediate_dense",
                outer: "feed_forward.output_dense",
                prefix: format!("{}.", family.replace('-', "_")),
            },
        }
    }
}

/// Prefix of the layers' names.
const LAYERS: &str = "encoder.layers.";
/// WavLM's first layer has it for all.
const OF_THE_FIRST: &str = "attention.rel_attn_embed.weight";

/// Name of a tensor of a layer.
fn layer(at: usize, part: &str) -> String {
    format!("{LAYERS}{at}.{part}")
}

/// Checks that the last layer that the configuration describes is there and the last, that it and the front have the sizes that it describes,
/// and that the other layers have the same tensors as the last.
fn fits(folder: &Path, config: &Config, shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), CheckpointError> {
    let Some([layers, width]) = config.size() else { return Ok(()) };
    let Some(last) = layers.checked_sub(1) else { return Ok(()) };
    let family = config.family();
    let names = Names::of(family);
    let module = format!("{}.weight", names.attention[0]);
    let name = layer(last, &module);
    let relative = |name: &str| name.strip_prefix(&names.prefix).unwrap_or(name).to_owned();
    let inside: BTreeMap<String, &Vec<usize>> = shapes.iter().map(|(name, shape)| (relative(name), shape)).collect();
    let one_more = |name: String| inside.contains_key(&name).then(|| format!("`{name}` is one more than it describes"));
    let other = || {
        let sized = |(name, expected, reason): (String, Vec<usize>, String)| {
            let found = inside.get(&name).filter(|found| ***found != expected)?;
            Some(format!("`{name}` has shape {found:?}, expected {expected:?}{reason}"))
        };
        described(config, &names, [last, width])
            .into_iter()
            .find_map(sized)
            .or_else(|| one_more(layer(layers, &module)))
            .or_else(|| one_more(format!("feature_extractor.conv_layers.{}.conv.weight", config.num_feat_extract_layers?)))
            .or_else(|| odd_layer(&inside, last))
    };
    let found = match inside.get(&name) {
        Some(_) => match other() {
            Some(other) => other,
            None => return Ok(()),
        },
        None if family == WHISPER && !shapes.keys().any(|name| name.contains(LAYERS)) && !shapes.is_empty() => {
            "they have no encoder: no tensor begins with `model.encoder.` or `encoder.`".to_owned()
        }
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

/// Tensors of the front and of the last layer whose shapes the configuration states, with what is to be said of them.
fn described(config: &Config, names: &Names, [last, width]: [usize; 2]) -> Vec<(String, Vec<usize>, String)> {
    let mut list: Vec<(String, Vec<usize>, String)> = Vec::new();
    let mut add = |name: String, shape: Vec<usize>| list.push((format!("{name}.weight"), shape, String::new()));
    for module in names.attention {
        add(layer(last, module), vec![width, width]);
    }
    let whisper = config.family() == WHISPER;
    if let Some(inner) = if whisper { config.whisper.encoder_ffn_dim } else { config.intermediate_size } {
        add(layer(last, names.inner), vec![inner, width]);
        add(layer(last, names.outer), vec![width, inner]);
    }
    if let Some(positions) = config.whisper.max_source_positions.filter(|_| whisper) {
        add("encoder.embed_positions".to_owned(), vec![positions, width]);
    }
    if let (None, Some(channels), Some(taps)) = (config.bands(), &config.conv_dim, &config.conv_kernel) {
        let below = [1].iter().chain(channels);
        for (at, ((&out, &below), &taps)) in channels.iter().zip(below).zip(taps).enumerate() {
            add(format!("feature_extractor.conv_layers.{at}.conv"), vec![out, below, taps]);
        }
        let below = channels.last().copied().unwrap_or(1);
        add("feature_projection.projection".to_owned(), vec![width, below]);
    }
    if let Some(bands) = config.bands() {
        let (name, shape) = if whisper {
            ("encoder.conv1.weight", vec![width, bands, 3])
        } else {
            ("feature_projection.projection.weight", vec![width, 2 * bands])
        };
        list.push((name.to_owned(), shape, format!(" for {bands} bands")));
    }
    list
}

/// Difference between a layer and the last one, as a sentence. `shapes`: by the names in the encoder.
fn odd_layer(shapes: &BTreeMap<String, &Vec<usize>>, last: usize) -> Option<String> {
    let of = |at: usize| {
        let prefix = layer(at, "");
        let own = |(name, shape): (&String, &&Vec<usize>)| Some((name.strip_prefix(&prefix)?.to_owned(), (*shape).clone()));
        shapes.iter().filter_map(own).collect::<BTreeMap<String, Vec<usize>>>()
    };
    let whole = of(last);
    (0..last).find_map(|at| {
        let own = of(at);
        let odd = |(part, shape): (&String, &Vec<usize>)| match own.get(part) {
            None => Some(format!("`{}` is missing", layer(at, part))),
            Some(found) if found != shape => {
                Some(format!("`{}` has shape {found:?}, in layer {last} it is {shape:?}", layer(at, part)))
            }
            Some(_) => None,
        };
        let more = || own.keys().find(|part| *part != OF_THE_FIRST && !whole.contains_key(*part));
        whole.iter().find_map(odd).or_else(|| more().map(|part| format!("`{}` is missing", layer(last, part))))
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

    /// A checkpoint of Whisper with 2 bands, whose decoder has another encoder's names in it.
    fn whisper(front: &str) -> Vec<u8> {
        let bytes = [0; 4 * 12];
        let view =
            |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..4 * shape.iter().product::<usize>()]).unwrap();
        let tensors = [
            (format!("{front}encoder.layers.0.self_attn.q_proj.weight"), view(&[2, 2])),
            (format!("{front}encoder.conv1.weight"), view(&[2, 2, 3])),
            ("model.decoder.layers.0.encoder_attn.q_proj.weight".to_owned(), view(&[2, 2])),
        ];
        safetensors::serialize(tensors, None).unwrap()
    }

    #[test]
    fn weights_of_other_sizes_are_told_apart() {
        let two = |shapes: &[(&str, &[usize])]| {
            let bytes = vec![0; 4 * 64];
            let view = |shape: &[usize]| {
                TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..4 * shape.iter().product::<usize>()]).unwrap()
            };
            safetensors::serialize(shapes.iter().map(|(name, shape)| ((*name).to_owned(), view(shape))), None).unwrap()
        };
        let last = (LAST, &[2, 2][..]);
        let sized = TINY.replace('{', r#"{"intermediate_size":3,"num_feat_extract_layers":1,"#);
        let inner = "encoder.layers.0.feed_forward.intermediate_dense.weight";
        check(&sized, SINGLE, &two(&[last, (inner, &[3, 2])]), Ok(()));
        check(&sized, SINGLE, &two(&[last, (inner, &[4, 2])]), Err("has shape [4, 2], expected [3, 2]"));
        let more = "encoder.layers.1.attention.q_proj.weight";
        check(
            &sized,
            SINGLE,
            &two(&[last, (more, &[2, 2])]),
            Err("`encoder.layers.1.attention.q_proj.weight` is one more than it describes"),
        );
        let convolution = "feature_extractor.conv_layers.1.conv.weight";
        check(
            &sized,
            SINGLE,
            &two(&[last, (convolution, &[2, 2, 3])]),
            Err("`feature_extractor.conv_layers.1.conv.weight` is one more"),
        );
        let key = LAST.replace("q_proj", "k_proj");
        check(&sized, SINGLE, &two(&[last, (&key, &[3, 2])]), Err("k_proj.weight` has shape [3, 2], expected [2, 2]"));
        let outer = inner.replace("intermediate", "output");
        check(&sized, SINGLE, &two(&[last, (&outer, &[2, 4])]), Err("output_dense.weight` has shape [2, 4], expected [2, 3]"));
        let strided = TINY.replace('{', r#"{"conv_dim":[4,3],"conv_kernel":[5,2],"#);
        let taps = |at: u8, shape: &'static [usize]| (format!("feature_extractor.conv_layers.{at}.conv.weight"), shape);
        let [(first, right), (second, wrong)] = [taps(0, &[4, 1, 5]), taps(1, &[3, 4, 3])];
        let both = two(&[last, (&first, right), (&second, wrong)]);
        check(&strided, SINGLE, &both, Err("conv_layers.1.conv.weight` has shape [3, 4, 3], expected [3, 4, 2]"));
        let heads = TINY.replace('{', r#"{"num_attention_heads":3,"#);
        check(&heads, SINGLE, &two(&[last]), Err("the number of attention heads (3) must divide the width (2)"));
    }

    #[test]
    fn a_layer_unlike_the_last_is_refused() {
        let deep = TINY.replace("layers\":1", "layers\":3");
        let parts = ["attention.q_proj.weight", "layer_norm.bias"];
        let file = |of_layer_1: &[(&str, usize)]| {
            let bytes = vec![0; 4 * 64];
            let plain = [(parts[0], 2), (parts[1], 1)];
            let layers = [&plain[..], of_layer_1, &plain[..]].into_iter().zip(0..);
            let names = layers.flat_map(|(layer, at)| {
                layer.iter().map(move |&(part, width)| (format!("hubert.encoder.layers.{at}.{part}"), [width, 2]))
            });
            let view = |shape: [usize; 2]| TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..8 * shape[0]]).unwrap();
            let first = ("hubert.encoder.layers.0.attention.rel_attn_embed.weight".to_owned(), [4, 2]);
            safetensors::serialize(names.chain([first]).map(|(name, shape)| (name, view(shape))), None).unwrap()
        };
        check(&deep, SINGLE, &file(&[(parts[0], 2), (parts[1], 1)]), Ok(()));
        let odd = "`encoder.layers.1.attention.q_proj.weight` has shape [3, 2], in layer 2 it is [2, 2]";
        check(&deep, SINGLE, &file(&[(parts[0], 3), (parts[1], 1)]), Err(odd));
        check(&deep, SINGLE, &file(&[(parts[0], 2)]), Err("`encoder.layers.1.layer_norm.bias` is missing"));
        let more = [(parts[0], 2), (parts[1], 1), ("final_layer_norm.bias", 1)];
        check(&deep, SINGLE, &file(&more), Err("`encoder.layers.2.final_layer_norm.bias` is missing"));
    }

    #[test]
    fn extractors_that_make_other_samples_are_refused() {
        for (extractor, part) in [
            (r#"{"sampling_rate":8000}"#, "sampling_rate is 8000, and the encoder reads 16000"),
            (r#"{"feature_size":3}"#, "feature_size is 3, expected 1"),
            (r#"{"padding_side":"left"}"#, "padding_side is \"left\", expected \"right\""),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(CONFIG), TINY).unwrap();
            fs::write(folder.path().join(SINGLE), weights(LAST, 2)).unwrap();
            fs::write(folder.path().join(super::super::PREPROCESSOR), extractor).unwrap();
            let error = look(folder.path(), [CONFIG, SINGLE].into_iter()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("contradicts it"), "{error}");
        }
    }

    #[test]
    fn what_reads_frames_is_looked_at_for_what_it_reads() {
        let config = r#"{"model_type":"whisper","d_model":2,"encoder_layers":1,"num_mel_bins":2}"#;
        check(config, SINGLE, &whisper("model."), Ok(()));
        check(config, SINGLE, &whisper(""), Ok(()));
        let other = config.replace("bins\":2", "bins\":3");
        check(
            &other,
            SINGLE,
            &whisper("model."),
            Err("`encoder.conv1.weight` has shape [2, 2, 3], expected [2, 3, 3] for 3 bands"),
        );
        check(config, SINGLE, &weights("model.decoder.layers.0.fc1.weight", 2), Err("they have no encoder"));
        let bert = r#"{"model_type":"wav2vec2-bert","hidden_size":2,"num_hidden_layers":1,"feature_projection_input_dim":4}"#;
        check(bert, SINGLE, &weights("wav2vec2_bert.encoder.layers.0.self_attn.linear_q.weight", 2), Ok(()));
        let rotary = bert.replace('{', r#"{"position_embeddings_type":"rotary","#);
        check(&rotary, SINGLE, &weights("any", 2), Err("position_embeddings_type is not supported unless relative_key"));
        for (extractor, part) in [
            (r#"{"feature_extractor_type":"WhisperFeatureExtractor"}"#, "feature_size is 80, and the encoder reads 2 bands"),
            (r#"{"feature_size":128}"#, "feature_size is 128, and the encoder reads 2 bands"),
            (r#"{"feature_extractor_type":"Wav2Vec2FeatureExtractor"}"#, "expected WhisperFeatureExtractor"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(CONFIG), config).unwrap();
            fs::write(folder.path().join(SINGLE), whisper("model.")).unwrap();
            fs::write(folder.path().join(super::super::PREPROCESSOR), extractor).unwrap();
            let error = look(folder.path(), [CONFIG, SINGLE].into_iter()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("contradicts it"), "{error}");
        }
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
