//! Errors of speech synthesis.

use std::path::PathBuf;

use pipeline::StageError;

/// Speech that cannot be learned or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TtsError {
    /// A folder without a voice.
    #[error("`{folder}` holds no voice: expected `config.json` and `model.safetensors` in it")]
    NoVoice {
        /// The folder.
        folder: PathBuf,
    },
    /// A voice that cannot be used.
    #[error("the voice in `{folder}` cannot be used: {problem}")]
    Voice {
        /// The folder.
        folder: PathBuf,
        /// Problem that was found.
        problem: String,
    },
    /// A published voice whose files do not belong together, or are not those that the parameters say.
    #[error("the published voice in `{folder}` cannot be used: {problem}")]
    Published {
        /// The folder.
        folder: PathBuf,
        /// Problem that was found.
        problem: String,
    },
    /// Parameters and inputs that contradict each other.
    #[error("{0}")]
    Setting(String),
    /// Features that a voice cannot learn from.
    #[error("`{path}` cannot be learned from: {problem}")]
    Features {
        /// The shard.
        path: PathBuf,
        /// Problem that was found.
        problem: String,
    },
    /// No utterance that can be learned from.
    #[error("the {split} set has no utterance to use: {reason}")]
    Nothing {
        /// `train` or `dev`.
        split: &'static str,
        /// Reason, of the first rejected utterance.
        reason: String,
    },
    /// A speaker that the voice does not have.
    #[error("the voice does not know the speaker `{name}`: it knows {}", quoted(known))]
    Speaker {
        /// The name.
        name: String,
        /// Names that the voice knows.
        known: Vec<String>,
    },
    /// An alignment that does not fit the recordings.
    #[error("the alignment of `{id}` does not fit: {problem}")]
    Alignment {
        /// The utterance.
        id: String,
        /// Problem that was found.
        problem: String,
    },
    /// Nothing to say.
    #[error("nothing to say: give `sentences`, or shards as `inputs.texts`")]
    NoTexts,
    /// A text that cannot be spoken.
    #[error("the text of `{id}` cannot be spoken: {problem}")]
    Text {
        /// The utterance or line.
        id: String,
        /// Problem that was found.
        problem: String,
    },
}

/// Names in quotes, the first ones of many.
fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text = format!("{text} and {} more", names.len() - SHOWN);
    }
    text
}

impl TtsError {
    /// Advice to the user.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoVoice { .. } => {
                "a voice is the folder `voice` that `tts.train` leaves, as in `inputs.voice = \"train/voice\"`"
            }
            Self::Published { .. } => {
                "put weights, `stats.json` and `speakers.json` of one and the same checkpoint into the folder, and state its \
                 spectrograms as parameters of `voice.published`"
            }
            Self::Features { .. } => {
                "make features with `features.log_mel` (`energy = \"log\"`), then `features.pitch`, and give their shards"
            }
            Self::Speaker { .. } => "name one of those, adapt the voice to this speaker, or set `speakers`",
            Self::Alignment { .. } => "make `tts.align` of the same recordings, with a voice of the same symbols",
            _ => return None,
        })
    }
}

impl From<TtsError> for StageError {
    fn from(error: TtsError) -> Self {
        let hint = error.hint();
        let failed = Self::failed(error);
        match hint {
            Some(hint) => failed.with_hint(hint),
            None => failed,
        }
    }
}
