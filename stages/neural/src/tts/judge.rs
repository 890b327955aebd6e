//! Judges of synthesised speech: a recogniser and a network for speakers, trained on recordings alone.
//!
//! ```text
//! judge.json          format, kind, spectrogram, sizes, outputs
//! model.safetensors   its tensors
//! training.json       how the training went
//! events/             the same for TensorBoard
//! ```

mod clips;
pub mod evaluate;
mod folder;
mod learn;
pub mod network;
mod vary;

use std::path::PathBuf;

pub use folder::{Judge, JudgeFile};
pub use learn::run;

/// A judge that cannot be trained or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// Features whose spectrogram is not known.
    #[error("`{path}` does not say which spectrogram its frames are")]
    NoSpectrogram {
        /// The shard.
        path: PathBuf,
    },
    /// Nothing to learn from, or nothing to judge.
    #[error("`{path}` has no utterances")]
    Empty {
        /// The shard.
        path: PathBuf,
    },
    /// A clip without what is learned of it.
    #[error("`{id}` in `{path}` has no {missing}")]
    Missing {
        /// The clip.
        id: String,
        /// The shard.
        path: PathBuf,
        /// Missing part.
        missing: &'static str,
    },
    /// Fewer than two speakers.
    #[error("`{path}` has one speaker, `{speaker}`: expected at least two to tell apart")]
    OneSpeaker {
        /// The shard.
        path: PathBuf,
        /// The speaker.
        speaker: String,
    },
    /// Something else than a judge.
    #[error("`{folder}` holds no judge of {expected}{}", found.as_ref().map_or_else(String::new, |found| format!(": it judges {found}")))]
    NoJudge {
        /// The folder.
        folder: PathBuf,
        /// Expected kind.
        expected: &'static str,
        /// Kind found.
        found: Option<&'static str>,
    },
    /// Spectrograms of two recipes.
    #[error("the spectrograms of `{first}` and `{second}` differ: {difference}")]
    OtherSpectrogram {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// How they differ.
        difference: String,
    },
    /// Speech without the recording that it is compared with.
    #[error("the recordings have no `{id}`, which is among the speech")]
    NoRecording {
        /// The utterance.
        id: String,
    },
    /// Recordings that no speech was made for.
    #[error("{count} recordings have no synthesised counterpart, `{id}` for one")]
    NoSpeech {
        /// Number of these recordings.
        count: usize,
        /// The first.
        id: String,
    },
    /// A speaker without recordings.
    #[error("`{speaker}` has no recordings to compare the voice with; there are {known}")]
    NoVoice {
        /// The speaker.
        speaker: String,
        /// Speakers with recordings.
        known: String,
    },
    /// Speech of another text than the recording.
    #[error("`{id}` is speech of `{speech}`, and the recording is of `{recording}`")]
    OtherText {
        /// The utterance.
        id: String,
        /// Text of the speech.
        speech: String,
        /// Text of the recording.
        recording: String,
    },
}
