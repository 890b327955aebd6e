//! Errors of models: built, run, saved or restored.

use std::path::PathBuf;

use neural_spec::Misfit;
use pipeline::StageError;
use tch::TchError;

use crate::checkpoint::base::Base;
use crate::checkpoint::error::CheckpointError;

/// A model that cannot be built, run, saved or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Files of a model cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// libtorch refused: out of memory, or a batch of another shape than the model takes.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] TchError),
    /// The method does not fit the encoder.
    #[error(transparent)]
    Method(#[from] Misfit),
    /// Values do not fit what is trained.
    #[error("the trained values do not fit the model: {}", first_few(mistakes))]
    Values {
        /// Every tensor that is missing, unexpected or of another shape.
        mistakes: Vec<String>,
    },
    /// An adapter was trained on another encoder.
    #[error("the adapter in `{folder}` was made for another encoder: {}", difference(expected, found))]
    OtherBase {
        /// The adapter.
        folder: PathBuf,
        /// Encoder that it was trained on.
        expected: Box<Base>,
        /// Encoder that it was put on.
        found: Box<Base>,
    },
    /// An adapter names another encoder of the Hub than the one that it was put on.
    #[error("the adapter in `{folder}` was made for another encoder: for `{expected}`, this one is `{found}`")]
    OtherName {
        /// The adapter.
        folder: PathBuf,
        /// Encoder that it was trained on.
        expected: String,
        /// Encoder that it was put on.
        found: String,
    },
    /// An adapter was trained on an encoder of another family, as its names tell.
    #[error("the adapter in `{folder}` was made for a {found} encoder, this one is {expected}")]
    OtherFamily {
        /// The adapter.
        folder: PathBuf,
        /// Encoder that it was put on.
        expected: &'static str,
        /// Encoder that it was trained on.
        found: &'static str,
    },
    /// An adapter was trained on an encoder of another shape, as its tensors tell.
    #[error("the adapter in `{folder}` does not fit {encoder}: {}", first_few(mistakes))]
    OtherShape {
        /// The adapter.
        folder: PathBuf,
        /// Encoder that it was put on.
        encoder: String,
        /// Every tensor that is missing, unexpected, of another shape or not finite.
        mistakes: Vec<String>,
    },
    /// The method is more than a change of the encoder's weights.
    #[error("`{method}` adds to what the encoder computes, which no change of its weights does: it cannot be merged")]
    CannotMerge {
        /// Name of the method.
        method: &'static str,
    },
    /// Something is in the place of what would be written.
    #[error("`{path}` exists already")]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// There is no name for what would be written.
    #[error("the folder to write has no name")]
    NoName,
    /// An adapter of this project has lost the file that describes its head.
    #[error("no `sure.json` in the adapter's folder `{folder}`, which describes its head")]
    NoOrigin {
        /// The adapter.
        folder: PathBuf,
    },
    /// The head of a checkpoint is not the one that was asked for.
    #[error("the head of the checkpoint in `{folder}` does not fit: {}", first_few(mistakes))]
    OtherHead {
        /// The checkpoint.
        folder: PathBuf,
        /// Every tensor that is missing, unexpected, of another shape or not finite.
        mistakes: Vec<String>,
    },
    /// An adapter lacks tensors that it lists as saved.
    #[error("the adapter in `{folder}` lists a head with `{}`, but has no such tensor", lost.join("`, `"))]
    LostTensors {
        /// The adapter.
        folder: PathBuf,
        /// Modules, or lone tensors, that are missing.
        lost: Vec<String>,
    },
    /// A clip that the encoder has no positions for.
    #[error("a clip of {secs:.1} s is longer than the {limit_secs} s that this encoder has positions for")]
    TooLong {
        /// Length of the clip.
        secs: f64,
        /// Length of the longest one.
        limit_secs: f64,
    },
    /// A batch with no utterance, or one whose lengths do not fit.
    #[error("a batch of {rows} rows of {samples} samples came with lengths {lengths:?}")]
    Batch {
        /// Rows of the audio.
        rows: i64,
        /// Columns of the audio.
        samples: i64,
        /// Samples of each utterance, as given.
        lengths: Vec<i64>,
    },
}

/// Advice about clips that an encoder has no positions for.
pub(crate) const TOO_LONG: &str =
    "cut recordings into shorter utterances, leave longer ones out, or take an encoder without a limit";

/// Some of the sentences, and how many more there are: an adapter of the wrong shape has hundreds.
fn first_few(mistakes: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = mistakes[..mistakes.len().min(SHOWN)].join("; ");
    if mistakes.len() > SHOWN { format!("{shown}; and {} more", mistakes.len() - SHOWN) } else { shown }
}

/// How two encoders differ.
fn difference(expected: &Base, found: &Base) -> String {
    let same_shape = Base { digest: found.digest.clone(), ..expected.clone() } == *found;
    let shape = if same_shape { "of the same shape, but other weights: " } else { "" };
    format!("{shape}it belongs to {expected}, this one is {found}")
}

impl ModelError {
    /// Advice to the user.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Checkpoint(error) => error.hint(),
            Self::Method(misfit) => Some(misfit.hint()),
            Self::OtherBase { .. } | Self::OtherFamily { .. } | Self::OtherShape { .. } => {
                Some("give the encoder that the adapter was trained on")
            }
            Self::OtherName { .. } => Some(
                "give the encoder that it names; where both have the same weights, a copy outside of the Hub's cache is taken",
            ),
            Self::Exists { .. } => Some("name a folder that is not there yet: nothing is written over"),
            Self::OtherHead { .. } => Some("take a checkpoint with a head as `head` describes it, or start a fresh one"),
            Self::NoOrigin { .. } => Some("take the adapter's folder whole, as the training left it"),
            Self::LostTensors { .. } => Some(
                "take the adapter as it was trained: `save_pretrained` of peft leaves out tensors of a head that belong to no module",
            ),
            Self::TooLong { .. } => Some(TOO_LONG),
            Self::NoName => Some("give the name of the folder to make"),
            Self::CannotMerge { .. } => {
                Some("use the adapter beside its encoder; LoRA and its kin, AdaLoRA, VeRA, IA3 and BitFit can be merged")
            }
            _ if self.is_out_of_memory() => Some("smaller batches need less memory: lower `batch_secs`"),
            _ => None,
        }
    }

    /// True if memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        let Self::Torch(error) = self else { return false };
        // The words of libtorch's allocators, on a GPU and on a CPU.
        let text = first_line(error);
        ["out of memory", "can't allocate memory", "not enough memory"].iter().any(|words| text.contains(words))
    }
}

/// libtorch puts a C++ stack trace behind its message.
fn first_line(error: &TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        let hint = error.hint();
        let failed = Self::failed(error);
        match hint {
            Some(hint) => failed.with_hint(hint),
            None => failed,
        }
    }
}
