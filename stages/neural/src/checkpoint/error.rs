//! Errors of reading and writing checkpoint folders.

use std::path::{Path, PathBuf};

use tch::TchError;

use super::files::CONFIG;

/// A checkpoint that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Reading or writing a file failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// The verb: `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file does not hold what it should.
    #[error("`{path}` does not hold what it should")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it departs.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration asks for what would change the result and is not supported, or contradicts itself.
    #[error("`{path}` describes an encoder that cannot be built: {}", mistakes.join("; "))]
    Config {
        /// The file.
        path: PathBuf,
        /// Every mistake, as a sentence.
        mistakes: Vec<String>,
    },
    /// The description of an adapter asks for what is not supported, or contradicts itself.
    #[error("`{path}` describes an adapter that cannot be built: {}", mistakes.join("; "))]
    Adapter {
        /// The file.
        path: PathBuf,
        /// Every mistake, as a sentence.
        mistakes: Vec<String>,
    },
    /// The folder holds no weights in a layout we read.
    #[error("no weights in `{folder}`: expected `model.safetensors`, `model.safetensors.index.json` or `pytorch_model.bin`")]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// The file ends early or late, or its header is damaged.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        reason: String,
    },
    /// The file is no zip-format state dict of tensors.
    #[error("`{path}` is not a flat state dict in PyTorch's zip format: {reason}")]
    Pickle {
        /// The file.
        path: PathBuf,
        /// The thing that was found.
        reason: String,
    },
    /// The weights are not those the configuration asks for.
    #[error("the weights in `{folder}` do not fit its config.json: {}", mistakes.join("; "))]
    Weights {
        /// The folder.
        folder: PathBuf,
        /// Every tensor that is missing, superfluous, of another shape, or not finite.
        mistakes: Vec<String>,
    },
    /// The weights are those the configuration asks for, but for numbers that are none.
    #[error("the weights in `{folder}` are damaged: {}", mistakes.join("; "))]
    NotFinite {
        /// The folder.
        folder: PathBuf,
        /// The tensors with NaN or infinite values.
        mistakes: Vec<String>,
    },
    /// libtorch refused.
    #[error("libtorch cannot hold the weights of `{path}`")]
    Torch {
        /// The file.
        path: PathBuf,
        /// Message of libtorch.
        #[source]
        source: TchError,
    },
}

impl CheckpointError {
    /// Advice to the user.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Damaged { .. } => "fetch or copy the file again, whole",
            Self::Pickle { .. } => {
                "pickles are never executed: load it where you trust it and save it with `save_pretrained`, which writes model.safetensors"
            }
            Self::Json { path, .. } | Self::Config { path, .. } if path.ends_with(CONFIG) => {
                "point to a wav2vec 2.0 encoder, or one of its relatives, as transformers saves it"
            }
            Self::NotFinite { .. } => {
                "such weights give no results: fetch the checkpoint again, or take one from before the training that made it diverged"
            }
            Self::NoWeights { .. } => "download the checkpoint whole",
            Self::Weights { .. } => "take config.json and weights from one and the same checkpoint",
            Self::Io { path, action: "read", source } if path.ends_with(CONFIG) && absent(source) => {
                "point to an encoder's folder as transformers saves it: config.json and model.safetensors"
            }
            Self::Io { path, action: "read", source }
                if ["adapter_config.json", "adapter_model.safetensors"].iter().any(|name| path.ends_with(name))
                    && absent(source) =>
            {
                "point to an adapter's folder: adapter_config.json and adapter_model.safetensors, as a training or peft leaves them"
            }
            _ => return None,
        })
    }

    /// For `map_err`: `File::open(path).map_err(CheckpointError::io("read", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
    /// For `map_err`, likewise.
    pub(crate) fn torch(path: &Path) -> impl FnOnce(TchError) -> Self {
        let path = path.to_owned();
        move |source| Self::Torch { path, source }
    }
}

/// True if a file, or a folder above it, is missing.
fn absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
