//! Speech synthesis: voices, trained, aligned and heard; vocoders; judges of speech.
//!
//! ```text
//! feature shards -> tts.train ───────> voice -> tts.synthesise -> shards of audio
//! published files -> voice.published ────┘ └----> tts.align -> durations of symbols
//! ```
//!
//! `docs/speech-synthesis.md` describes the files.

pub mod voice;

pub mod train;

pub mod align;
pub mod copy;
pub mod published;
pub mod synthesise;

pub mod judge;
pub mod train_vocoder;

mod data;
pub mod error;
mod learner;
pub mod say;
pub mod speak;
mod summary;
pub mod vocoder;

pub use self::error::TtsError;
pub use self::voice::Voice;
