//! Recordings to clips: [`recording`] decodes, averages the channels, resamples and writes mono WAV or FLAC of 16 bits, or says
//! why not. Knows no corpus, no Parquet and no engine, so that fuzzing can link it.
//!
//! ```text
//! one recording -> decode -> resample -> encode -> a clip, or the reason why not
//! ```

mod decode;
mod encode;
pub mod recording;
pub mod resample;
mod sums;
pub mod wav;
