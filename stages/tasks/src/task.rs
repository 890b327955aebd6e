//! File `task.json`: the outputs of a model of a task, and the preparation of its clips.

use std::fs;
use std::path::{Path, PathBuf};

use pipeline::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{TargetKind, Task, Vocabulary};

/// Protocol: how closely the published experiment is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Whole utterances, vocabularies from the training set, shuffled data.
    #[default]
    Sound,
    /// As the benchmark's reference code does it, defects included where they move numbers.
    Paper,
}

/// Content of `task.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Task.
    pub task: Task,
    /// Name of the task, where it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Protocol.
    pub protocol: Protocol,
    /// Outputs of a model.
    pub outputs: Outputs,
    /// Preparation of clips.
    pub clips: Clips,
}

/// Outputs of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outputs {
    /// One class for an utterance.
    Classes {
        /// Names of the classes, by index.
        labels: Vec<String>,
    },
    /// Any number of labels for an utterance.
    Tags {
        /// Names of the labels, by index.
        labels: Vec<String>,
    },
    /// One class of each group for an utterance.
    Groups {
        /// Groups, in the order of a model's outputs.
        groups: Vec<Group>,
    },
    /// Tokens for an utterance.
    Tokens(Vocabulary),
}

/// Classes that exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Name, for example `action`.
    pub name: String,
    /// Names of the classes, by index.
    pub labels: Vec<String>,
}

/// Preparation of clips before they become batches. The default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clips {
    /// Samples that a clip is cut to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
    /// Samples that every clip is padded to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad: Option<usize>,
    /// True if mean and variance are computed over the whole clip, before the cut.
    pub normalise_before_cut: bool,
    /// True if clips are not normalised to zero mean and unit variance.
    pub raw: bool,
    /// True if the model gets no attention mask.
    pub unmasked: bool,
    /// Samples below which the attention mask hides no padding: a shorter clip counts as having this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmasked_to: Option<usize>,
    /// Order in which training sees clips.
    pub order: Order,
    /// Samples of the first clip above which a batch loses its second half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halve_above: Option<usize>,
}

/// Order in which training sees clips.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Batches of similar lengths, drawn anew for every epoch.
    #[default]
    Shuffled,
    /// Clips with the longest targets first, in the same order in every epoch.
    LongestTargetFirst,
}

/// Invalid `task.json`.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` does not describe a task")]
pub struct TaskFileError {
    path: PathBuf,
    source: serde_json::Error,
}

/// Name of the file.
pub const FILE_NAME: &str = "task.json";

impl Outputs {
    /// Number of outputs of a model, for an utterance or a frame.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels } | Self::Tags { labels } => labels.len(),
            Self::Groups { groups } => groups.iter().map(|group| group.labels.len()).sum(),
            Self::Tokens(vocabulary) => vocabulary.tokens().len(),
        }
    }

    /// True if there are no outputs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the outputs, in order: classes, `action=bring`, tokens.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Classes { labels } | Self::Tags { labels } => labels.clone(),
            Self::Groups { groups } => {
                let of = |group: &Group| group.labels.iter().map(|label| format!("{}={label}", group.name)).collect::<Vec<_>>();
                groups.iter().flat_map(of).collect()
            }
            Self::Tokens(vocabulary) => vocabulary.tokens().to_vec(),
        }
    }
}

impl TaskFile {
    /// Name of the task for people: its own, or that of the task it is made from.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.task.name())
    }

    /// True if repeated tokens are not collapsed when a dev set is scored: for phonemes by the protocol `paper`.
    pub fn keeps_repeats(&self) -> bool {
        (self.task.target(), self.protocol) == (TargetKind::Phonemes, Protocol::Paper)
    }

    /// Reads the file, or the file in a folder of targets.
    ///
    /// Errors: a file that cannot be read, [`TaskFileError`].
    pub fn read(path: &Path) -> Result<Self, StageError> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text = fs::read(&path).map_err(StageError::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| StageError::failed(TaskFileError { path, source }))
    }

    /// Writes the file into `folder`.
    ///
    /// Errors: a file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        let path = folder.join(FILE_NAME);
        let mut text = serde_json::to_vec_pretty(self).map_err(StageError::failed)?;
        text.push(b'\n');
        fs::write(&path, text).map_err(StageError::io("write", &path))
    }
}
