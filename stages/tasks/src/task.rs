//! The tasks, their protocols, and the file `task.json` that says what a model of a task puts out.

use std::fs;
use std::path::{Path, PathBuf};

use pipeline::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Vocabulary;

/// A task of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Which emotion is heard.
    Emotion,
    /// Who speaks, of the speakers of the training set.
    Speaker,
    /// Which of a few words is said.
    KeywordSpotting,
    /// What is wanted: an action, an object and a place.
    Intent,
    /// What is said, with the values of slots marked.
    SlotFilling,
    /// What is said, in characters.
    SpeechRecognition,
    /// What is said, in phonemes.
    PhonemeRecognition,
}

/// How closely the published experiment is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Whole utterances, vocabularies from the training set, shuffled data.
    #[default]
    Sound,
    /// As the benchmark's reference code does it, defects included where they move numbers.
    Paper,
}

/// What a model of the task puts out, and how its clips are prepared: the content of `task.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// The task.
    pub task: Task,
    /// The protocol.
    pub protocol: Protocol,
    /// What a model puts out.
    pub outputs: Outputs,
    /// How clips become batches.
    pub clips: Clips,
}

/// What a model puts out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outputs {
    /// One class for an utterance.
    Classes {
        /// Their names, by index.
        labels: Vec<String>,
    },
    /// One class of each group for an utterance.
    Groups {
        /// In the order of a model's outputs.
        groups: Vec<Group>,
    },
    /// Tokens for an utterance.
    Tokens(Vocabulary),
}

/// Classes that exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// For example `action`.
    pub name: String,
    /// Names of the classes, by index.
    pub labels: Vec<String>,
}

/// How clips become batches. The default does nothing to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clips {
    /// Samples that a clip is cut to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
    /// Samples that every clip is padded to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad: Option<usize>,
    /// Whether mean and variance are those of the whole clip, and not of what is left after the cut.
    pub normalise_before_cut: bool,
    /// Whether clips are fed as they are, without zero mean and unit variance.
    pub raw: bool,
    /// Whether the model is told which samples are padding, where its checkpoint has a say in it at all.
    pub unmasked: bool,
    /// The model is told of padding only beyond so many samples: what is shorter counts as having this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmasked_to: Option<usize>,
    /// In which order training sees them.
    pub order: Order,
    /// Batches whose first clip has more samples than this lose their second half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halve_above: Option<usize>,
}

/// In which order training sees clips.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Batches of similar lengths, drawn anew for every epoch.
    #[default]
    Shuffled,
    /// Those with the longest targets first, the same in every epoch.
    LongestTargetFirst,
}

/// A `task.json` that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` does not describe a task")]
pub struct TaskFileError {
    path: PathBuf,
    source: serde_json::Error,
}

/// The file's name.
pub const FILE_NAME: &str = "task.json";

impl Task {
    /// The name that workflow files and tables use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emotion => "emotion",
            Self::Speaker => "speaker",
            Self::KeywordSpotting => "keyword_spotting",
            Self::Intent => "intent",
            Self::SlotFilling => "slot_filling",
            Self::SpeechRecognition => "speech_recognition",
            Self::PhonemeRecognition => "phoneme_recognition",
        }
    }

    /// How the task's clips become batches.
    ///
    /// The numbers of [`Protocol::Paper`] are those of the benchmark's reference code: 2.5 s for one class of an utterance,
    /// 13.75 s for intents, 12.5 s for texts; phonemes see every batch padded to its longest clip, as recorded and unmasked.
    /// Recognition with `defects_of_esd`, as published: 2.5 s, all of which counts as sound, padded to 12.5 s.
    pub fn clips(self, protocol: Protocol, defects_of_esd: bool) -> Clips {
        if protocol == Protocol::Sound {
            return Clips::default();
        }
        let fixed = |samples, normalise_before_cut| Clips {
            cut: Some(samples),
            pad: Some(samples),
            normalise_before_cut,
            ..Clips::default()
        };
        match self {
            Self::Emotion | Self::Speaker | Self::KeywordSpotting => fixed(40_000, false),
            Self::Intent => fixed(220_000, false),
            Self::SpeechRecognition if defects_of_esd => {
                Clips { cut: Some(40_000), pad: Some(200_000), unmasked_to: Some(40_000), ..Clips::default() }
            }
            Self::SpeechRecognition | Self::SlotFilling => fixed(200_000, true),
            Self::PhonemeRecognition => Clips {
                raw: true,
                unmasked: true,
                order: Order::LongestTargetFirst,
                halve_above: Some(300_000),
                ..Clips::default()
            },
        }
    }
}

impl Outputs {
    /// How many numbers a model puts out, for an utterance or a frame.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels } => labels.len(),
            Self::Groups { groups } => groups.iter().map(|group| group.labels.len()).sum(),
            Self::Tokens(vocabulary) => vocabulary.tokens().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their names, in order: classes, `action=bring`, tokens.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Classes { labels } => labels.clone(),
            Self::Groups { groups } => {
                let of = |group: &Group| group.labels.iter().map(|label| format!("{}={label}", group.name)).collect::<Vec<_>>();
                groups.iter().flat_map(of).collect()
            }
            Self::Tokens(vocabulary) => vocabulary.tokens().to_vec(),
        }
    }
}

impl TaskFile {
    /// Whether repeated tokens count as said again when a dev set is scored: for phonemes, as published.
    pub fn keeps_repeats(&self) -> bool {
        (self.task, self.protocol) == (Task::PhonemeRecognition, Protocol::Paper)
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
