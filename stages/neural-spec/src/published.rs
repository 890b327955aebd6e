//! Published models of speech synthesis: the files of a folder of this machine, taken into the store.

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline::source::{Tree, TreeFile};
use pipeline::{Job, StageError};

use crate::checkpoint::{CheckpointError, copy};
use crate::{Mistakes, require};

pub mod vocoder;
pub mod voice;

/// Model that a folder is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// A voice of ming024/FastSpeech2.
    Voice,
    /// A generator of HiFi-GAN.
    Vocoder,
}

impl Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voice => "voice",
            Self::Vocoder => "vocoder",
        })
    }
}

/// A folder that is no published model, or one of other spectrograms.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedError {
    /// A file is missing.
    #[error("no {what} in the folder of a published {model}, `{folder}`")]
    Missing {
        /// Model that the folder is taken for.
        model: Published,
        /// The folder.
        folder: PathBuf,
        /// The missing file.
        what: String,
    },
    /// Several files of weights.
    #[error("several files of weights in `{folder}`: {}", files.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", "))]
    Several {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// A file with other content.
    #[error("`{path}` {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Problem that was found.
        problem: String,
    },
    /// The file of weights is cut short, in an old format, or no zip archive.
    #[error(transparent)]
    Weights(CheckpointError),
    /// It was made for other spectrograms.
    #[error("the vocoder in `{folder}` is for other spectrograms: {difference}")]
    OtherSpectrogram {
        /// The folder.
        folder: PathBuf,
        /// How they differ.
        difference: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Model that the folder is taken for.
        model: Published,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl PublishedError {
    /// Advice to the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Several { .. } => "leave one of them in the folder",
            Self::Weights(CheckpointError::OldPickle { .. }) => {
                "load it where you trust it and save it again with `torch.save` of PyTorch 1.6 or later"
            }
            Self::Weights(_) => "fetch or copy the file again, whole",
            Self::Content { .. } => "take the files that belong to the weights",
            Self::OtherSpectrogram { .. } => {
                "take a vocoder of these spectrograms, or give features and voice those of the vocoder"
            }
            Self::Missing { model, .. } | Self::Read { model, .. } => match model {
                Published::Voice => {
                    "put `*.pth.tar`, `stats.json` and `speakers.json` of one checkpoint of ming024/FastSpeech2 into the folder"
                }
                Published::Vocoder => {
                    "put a generator of HiFi-GAN and its `config.json` (jik876/hifi-gan, transformers) or `hyperparams.yaml` \
                     (speechbrain) into the folder"
                }
            },
        }
    }
}

impl From<PublishedError> for StageError {
    fn from(error: PublishedError) -> Self {
        let hint = error.hint();
        Self::failed(error).with_hint(hint)
    }
}

/// Names of the files of weights in a folder, sorted.
fn weights_in(model: Published, folder: &Path, is_weights: fn(&str) -> bool) -> Result<Vec<String>, PublishedError> {
    let failed = |source| PublishedError::Read { model, path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().filter(|name| is_weights(name)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Place of the folder of a checkpoint in the machine's settings.
fn place(name: &str) -> String {
    format!("checkpoints.{name}")
}

/// Notes a name that no place can have.
fn require_name(mistakes: &mut Mistakes, name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let ok = !name.is_empty() && name.chars().all(plain);
    require(mistakes, ok, "name", "letters, digits, `_` and `-`", format!("`{name}`"));
}

/// The folder of a checkpoint, as the plan saw it.
fn tree<'a>(name: &str, job: &'a Job) -> Result<&'a Tree, StageError> {
    job.sources.get(&place(name)).map(Arc::as_ref).ok_or_else(|| StageError::NoPlace { place: place(name) })
}

/// Copies files of a folder into the artifact, each under the name that `target` gives it, if any.
fn copy_all<'a>(tree: &'a Tree, job: &Job, target: impl Fn(&'a str) -> Option<&'a str>) -> Result<(), StageError> {
    let total: u64 = tree.files.iter().map(|file| file.size).sum();
    let mut done = 0;
    for file in &tree.files {
        if job.stop.requested() {
            return Err(StageError::Stopped);
        }
        let TreeFile { path, size, .. } = file;
        if let Some(target) = target(path) {
            copy(&tree.root, file, &job.out.join(target))?;
        }
        done += size;
        job.progress.tick(done, total, "bytes", path);
    }
    Ok(())
}
