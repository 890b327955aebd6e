//! Encoders that lie on this machine, in the folder layout of Hugging Face.

pub mod header;
mod language;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use pipeline::source::{SourceNeed, Tree, TreeFile};
use pipeline::{Digest, Job, Slot, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Mistakes, require};

/// Takes a checkpoint folder of this machine into the store. Its folder is set under `checkpoints` in the machine's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderCheckpoint {
    /// Name of the checkpoint in the machine's settings: `wav2vec2_base` for the place `checkpoints.wav2vec2_base`.
    pub name: String,
    /// Language of an MMS checkpoint, as its files name it (`deu`): its adapter and head, `adapter.LANGUAGE.safetensors`, take the place of
    /// those in the checkpoint, and its tokens in `vocab.json` are the only ones. Default: the checkpoint as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// A checkpoint folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Nothing says what shape the encoder has.
    #[error("no `config.json` in checkpoint folder `{folder}`")]
    NoConfig {
        /// The folder.
        folder: PathBuf,
    },
    /// It holds no weights in a layout we read.
    #[error("no weights in checkpoint folder `{folder}`: expected `{SINGLE}`, `{INDEX}` or `{PICKLE}`")]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// The list of weight files is not one.
    #[error("`{path}` is not a list of weight files")]
    Index {
        /// The list.
        path: PathBuf,
        /// Where it departs from JSON.
        #[source]
        source: serde_json::Error,
    },
    /// The list names a file that is not there.
    #[error("`{index}` names `{file}`, which is not in that folder")]
    NoPart {
        /// The list.
        index: PathBuf,
        /// The file.
        file: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration is no JSON.
    #[error("`{path}` is not JSON, or not that of an encoder")]
    Config {
        /// The configuration.
        path: PathBuf,
        /// Where it departs.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration is that of something else.
    #[error("`{path}` describes a `{family}`, expected one of {}", look::FAMILIES.map(|known| format!("`{known}`")).join(", "))]
    Family {
        /// The configuration.
        path: PathBuf,
        /// Value of `model_type`.
        family: String,
    },
    /// The configuration asks for what would change the result and is not supported.
    #[error("`{path}` describes an encoder that cannot be built: {}", mistakes.join("; "))]
    Unsupported {
        /// The configuration.
        path: PathBuf,
        /// Every mistake, as a sentence.
        mistakes: Vec<String>,
    },
    /// A file of weights ends early or late, or its header is damaged.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        reason: String,
    },
    /// A pickle in the format before PyTorch 1.6.
    #[error("`{path}` is no zip archive, as PyTorch writes them since version 1.6")]
    OldPickle {
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint has no such language.
    #[error("the checkpoint in `{folder}` has no language `{language}`: {problem}")]
    Language {
        /// The folder.
        folder: PathBuf,
        /// The language.
        language: String,
        /// Part that is missing or does not fit.
        problem: String,
    },
    /// The weights are not those that the configuration describes.
    #[error("the weights in `{folder}` are not those of its config.json ({expected}): {found}")]
    OtherWeights {
        /// The folder.
        folder: PathBuf,
        /// Encoder that the configuration describes.
        expected: String,
        /// Difference that was found.
        found: String,
    },
}

pub use language::ADAPTER as LANGUAGE_ADAPTER;
pub(crate) use look::look_at_zip;

impl CheckpointError {
    /// For `map_err`.
    fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    /// Advice to the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "fetch or copy the file again, whole",
            Self::Family { .. } | Self::Config { .. } | Self::Unsupported { .. } => {
                "point `checkpoints` of the machine's settings at an encoder of a known family, as transformers saves it"
            }
            Self::Language { .. } => {
                "take a language that the checkpoint has an adapter for, and the adapter of this very checkpoint"
            }
            Self::OldPickle { .. } => {
                "load it where you trust it and save it with `save_pretrained`, which writes model.safetensors"
            }
            Self::OtherWeights { .. } => "take config.json and weights from one and the same checkpoint",
            _ => "point `checkpoints` of the machine's settings at a folder as Hugging Face publishes it, downloaded whole",
        }
    }
}

const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const PROCESSOR: &str = "processor_config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLE: &str = "pytorch_model.bin";
/// Taken along where they are: how audio is prepared, and what the outputs of a recogniser stand for.
const BESIDE: [&str; 5] = [PREPROCESSOR, PROCESSOR, "vocab.json", "tokenizer_config.json", "special_tokens_map.json"];

impl EncoderCheckpoint {
    fn place(&self) -> String {
        format!("checkpoints.{}", self.name)
    }
}

impl Stage for EncoderCheckpoint {
    const KIND: &'static str = "encoder.checkpoint";
    const VERSION: u32 = 4;
    const ABOUT: &'static str = "Takes a checkpoint folder of this machine into the store";

    fn slots() -> Vec<Slot> {
        Vec::new()
    }
    fn outputs(&self) -> Vec<String> {
        vec![CONFIG.to_owned()]
    }
    fn check(&self) -> Mistakes {
        let mut mistakes = Vec::new();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let ok = !self.name.is_empty() && self.name.chars().all(plain);
        require(&mut mistakes, ok, "name", "letters, digits, `_` and `-`", format!("`{}`", self.name));
        if let Some(language) = &self.language {
            let ok = !language.is_empty() && language.chars().all(plain);
            require(&mut mistakes, ok, "language", "letters, digits, `_` and `-`", format!("`{language}`"));
        }
        mistakes
    }
    fn sources(&self) -> Vec<SourceNeed> {
        let adapter = self.language.as_deref().map(language::file);
        vec![SourceNeed { place: self.place(), wants: Box::new(move |path| wants(path) || adapter.as_deref() == Some(path)) }]
    }
}

/// True if a file of a checkpoint folder may be read: only those next to `config.json`, in the formats we know.
fn wants(path: &str) -> bool {
    let part = path.starts_with("model-") && path.ends_with(".safetensors") && !path.contains('/');
    part || [CONFIG, SINGLE, INDEX, PICKLE].contains(&path) || BESIDE.contains(&path)
}

/// Looks at a checkpoint and copies `config.json`, the weights, and how audio is prepared and outputs are read (where that is there) into
/// the artifact.
///
/// Of several layouts of weights the first is taken: one safetensors file, a list of them, a pickle.
///
/// Errors: [`CheckpointError`] for a folder that is not a checkpoint, [`StageError::SourceChanged`] for a file that is no
/// longer the one the plan saw.
pub fn run(params: &EncoderCheckpoint, job: &Job) -> Result<(), StageError> {
    let tree = job.sources.get(&params.place()).ok_or_else(|| StageError::NoPlace { place: params.place() })?;
    let files = files(tree).map_err(broken)?;
    look::look(&tree.root, files.iter().map(|file| file.path.as_str())).map_err(broken)?;
    let adapter = params.language.as_ref().map(|language| language::find(tree, language)).transpose().map_err(broken)?;
    let total: u64 = files.iter().map(|file| file.size).sum();
    let mut done = 0;
    for file in files {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        copy(&tree.root, file, &job.out.join(&file.path))?;
        done += file.size;
        job.progress.tick(done, total, "bytes", &file.path);
    }
    if let (Some(language), Some(adapter)) = (&params.language, adapter) {
        copy(&tree.root, adapter, &job.out.join(&adapter.path))?;
        language::choose(&job.out, language, &tree.root).map_err(broken)?;
    }
    Ok(())
}

/// Looks at a checkpoint folder as [`run`] does, and copies nothing.
///
/// Errors: [`CheckpointError`] for a folder that is no checkpoint of an encoder, or one that was cut short.
pub fn look_at(folder: &Path) -> Result<(), CheckpointError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(CheckpointError::read(folder))? {
        let entry = entry.map_err(CheckpointError::read(folder))?;
        if let Some(path) = entry.file_name().to_str().filter(|path| wants(path)) {
            // Neither size nor content matters to who only looks.
            found.push(TreeFile { path: path.to_owned(), size: 0, digest: Digest([0; 32]) });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let tree = Tree { root: folder.to_owned(), files: found };
    look::look(folder, files(&tree)?.iter().map(|file| file.path.as_str()))
}

/// Files of a folder that are the checkpoint: configuration, companions, weights.
fn files(tree: &Tree) -> Result<Vec<&TreeFile>, CheckpointError> {
    let mut files = vec![tree.find(CONFIG).ok_or_else(|| CheckpointError::NoConfig { folder: tree.root.clone() })?];
    files.extend(BESIDE.iter().filter_map(|file| tree.find(file)));
    files.extend(weights(tree)?);
    Ok(files)
}

/// The list of weight files of a checkpoint in parts.
#[derive(Deserialize)]
struct Index {
    /// Parameter name -> file.
    weight_map: BTreeMap<String, String>,
}

/// The files that hold the weights.
fn weights(tree: &Tree) -> Result<Vec<&TreeFile>, CheckpointError> {
    if let Some(single) = tree.find(SINGLE) {
        return Ok(vec![single]);
    }
    let Some(index) = tree.find(INDEX) else {
        let pickle = tree.find(PICKLE).ok_or_else(|| CheckpointError::NoWeights { folder: tree.root.clone() })?;
        return Ok(vec![pickle]);
    };
    let path = tree.root.join(INDEX);
    let text = fs::read(&path).map_err(CheckpointError::read(&path))?;
    let listed: Index = serde_json::from_slice(&text).map_err(|source| CheckpointError::Index { path: path.clone(), source })?;
    let names: BTreeSet<String> = listed.weight_map.into_values().collect();
    let mut files = vec![index];
    for name in names {
        files.push(tree.find(&name).ok_or_else(|| CheckpointError::NoPart { index: path.clone(), file: name })?);
    }
    Ok(files)
}

fn broken(error: CheckpointError) -> StageError {
    let hint = error.hint();
    StageError::failed(error).with_hint(hint)
}

/// Copies a file and checks on the way that it is the one the plan saw.
pub(crate) fn copy(root: &Path, file: &TreeFile, to: &Path) -> Result<(), StageError> {
    let from = root.join(&file.path);
    let mut source = fs::File::open(&from).map_err(StageError::io("read", &from))?;
    let mut target = fs::File::create(to).map_err(StageError::io("create", to))?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut block).map_err(StageError::io("read", &from))?;
        if count == 0 {
            break;
        }
        hasher.update(&block[..count]);
        target.write_all(&block[..count]).map_err(StageError::io("write", to))?;
    }
    if Digest(*hasher.finalize().as_bytes()) != file.digest {
        return Err(StageError::SourceChanged { path: from });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pipeline::{Inputs, Places, Silent, Spare, Stop, Tools};

    use super::*;

    fn run_on(folder: &Path) -> (Result<(), StageError>, Vec<String>) {
        let mut files: Vec<TreeFile> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                TreeFile { path: name, size: bytes.len() as u64, digest: Digest::of(&bytes) }
            })
            .filter(|file| wants(&file.path))
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        run_with(Tree { root: folder.to_owned(), files })
    }

    fn run_with(tree: Tree) -> (Result<(), StageError>, Vec<String>) {
        let (out, resume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let job = Job {
            inputs: Inputs::default(),
            sources: BTreeMap::from([("checkpoints.tiny".to_owned(), Arc::new(tree))]),
            places: Places::default(),
            partition: None,
            out: out.path().to_owned(),
            resume: resume.path().to_owned(),
            threads: 1,
            spare: Spare::default(),
            tools: Tools::default(),
            gpu: None,
            others: vec![],
            progress: Box::new(Silent),
            stop: Stop::default(),
        };
        let result = run(&EncoderCheckpoint { name: "tiny".into(), language: None }, &job);
        let mut names: Vec<_> =
            fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        (result, names)
    }

    /// A file of weights without any.
    const EMPTY: &str = "\u{2}\0\0\0\0\0\0\0{}";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn only_what_is_needed_is_copied() {
        let files =
            [(CONFIG, "{}"), (PREPROCESSOR, "{}"), (SINGLE, EMPTY), (PICKLE, "p"), ("README.md", "r"), ("vocab.json", "{}")];
        let (result, names) = run_on(folder(&files).path());
        result.unwrap();
        assert_eq!(names, [CONFIG, SINGLE, PREPROCESSOR, "vocab.json"]);
    }

    #[test]
    fn listed_parts_are_copied_and_missing_ones_named() {
        let index = r#"{"metadata":{},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
        let mut files = vec![(CONFIG, "{}"), (INDEX, index), ("model-1.safetensors", EMPTY), ("model-2.safetensors", EMPTY)];
        let (result, names) = run_on(folder(&files).path());
        result.unwrap();
        assert_eq!(names, [CONFIG, "model-1.safetensors", "model-2.safetensors", INDEX]);
        files.pop();
        let (result, _) = run_on(folder(&files).path());
        assert!(result.unwrap_err().to_string().contains("model-2.safetensors"));
    }

    #[test]
    fn a_folder_without_config_or_weights_is_refused() {
        let (result, _) = run_on(folder(&[(SINGLE, EMPTY)]).path());
        assert!(result.unwrap_err().to_string().contains(CONFIG));
        let (result, _) = run_on(folder(&[(CONFIG, "{}")]).path());
        assert!(result.unwrap_err().to_string().contains(PICKLE));
        let looked = |files: &[(&str, &str)]| look_at(folder(files).path()).map_err(|error| error.to_string());
        assert!(looked(&[(SINGLE, EMPTY)]).unwrap_err().contains(CONFIG));
        assert!(looked(&[(CONFIG, "{}")]).unwrap_err().contains(PICKLE));
        assert!(looked(&[(CONFIG, "{}"), (SINGLE, "cut")]).unwrap_err().contains("too few"));
        assert_eq!(looked(&[(CONFIG, "{}"), (SINGLE, EMPTY)]), Ok(()));
    }

    #[test]
    fn a_file_changed_since_the_plan_stops_the_run() {
        let folder = folder(&[(CONFIG, "{}"), (SINGLE, EMPTY)]);
        let file = |name: &str, text: &[u8]| TreeFile { path: name.into(), size: 2, digest: Digest::of(text) };
        let files = vec![file(CONFIG, b"{}"), file(SINGLE, b"other")];
        let (result, _) = run_with(Tree { root: folder.path().to_owned(), files });
        assert!(matches!(result, Err(StageError::SourceChanged { .. })));
    }
}
