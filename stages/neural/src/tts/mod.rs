//! Speech synthesis: voices, trained, aligned and heard.
//!
//! ```text
//! feature shards -> tts.train -> voice -> tts.synthesise -> shards of audio
//!                                  └----> tts.align -> durations of symbols
//! ```
//!
//! `docs/speech-synthesis.md` describes the files.

pub mod voice;

pub mod train;

pub mod align;
pub mod copy;
pub mod synthesise;

mod data;
pub mod error;
mod learner;
pub mod say;
pub mod speak;
mod summary;
pub mod vocoder;

pub use self::error::TtsError;
pub use self::voice::Voice;
