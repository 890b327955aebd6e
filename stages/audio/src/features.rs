//! Features of recordings: computed once, stored next to the annotations of the corpus, and read instead of the audio.
//!
//! A feature shard has every column of the shard it was made from except the audio. In its place are `features` (binary, the frames
//! one after the other, little endian) and `num_frames`. Further streams of an utterance (energy, pitch, durations, a speaker vector)
//! are binary columns `features_NAME`. The file's metadata describes all of them: [`FeatureInfo`].
//!
//! ```text
//! features.fbank     Kaldi's filter bank                            fbank.rs
//! features.mfcc      Kaldi's cepstra                                fbank.rs
//! features.log_mel   the spectrograms of vocoders, and energy       mel.rs
//! features.pitch     fundamental frequency and voicing by pYIN      pitch.rs
//! features.front     an encoder's convolutions; in the crate that links libtorch
//! ```
//!
//! `whisper.rs` computes the frames that a Whisper encoder reads. `griffin_lim.rs` turns a mel spectrogram back into samples.

pub mod fbank;
pub mod griffin_lim;
pub mod mel;
pub mod pitch;
pub mod shard;
mod spectrum;
pub mod stages;
pub mod streams;
pub mod whisper;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The metadata key of a feature shard.
pub const FEATURES: &str = "sure.features";

/// Description of the numbers of a feature shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// Stage kind that made them, such as `features.fbank`.
    pub kind: String,
    /// Numbers of one frame.
    pub width: usize,
    /// Storage format of a number.
    pub format: Format,
    /// Digest of an encoder's convolutions, where parameters alone do not determine the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<String>,
    /// Spectrogram that the frames are, where several streams share its frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mel: Option<mel::MelSpectrogram>,
    /// Scale of the stream `energy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<mel::Energy>,
    /// Further streams, in the order of their columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamInfo>,
}

impl FeatureInfo {
    /// Describes a shard of one stream.
    pub fn new(kind: &str, width: usize, format: Format) -> Self {
        Self { kind: kind.to_owned(), width, format, maker: None, mel: None, energy: None, streams: Vec::new() }
    }

    /// Returns the further stream of that name.
    pub fn stream(&self, name: &str) -> Option<&StreamInfo> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}

/// A further stream of a feature shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Name, unique in the shard: `energy`, `f0`.
    pub name: String,
    /// Numbers of one entry.
    pub width: usize,
    /// Storage format of a number.
    pub format: Format,
    /// Number of entries of an utterance.
    pub length: Length,
}

impl StreamInfo {
    /// Describes a stream of one number for every frame.
    pub fn of_frames(name: &str) -> Self {
        Self { name: name.to_owned(), width: 1, format: Format::F32, length: Length::Frames }
    }

    /// Column of the stream.
    pub fn column(&self) -> String {
        format!("features_{}", self.name)
    }
}

/// Number of entries that a stream has for an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// One for each frame of `features`.
    Frames,
    /// One.
    Utterance,
    /// Any number: one for each symbol of a text, say.
    Any,
}

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// 32 bits.
    F32,
    /// The upper 16 bits of them (bfloat16), rounded to even: three significant digits, half the disk.
    Bf16,
}

impl Format {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Numbers to bytes.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&value| to_bf16(value).to_le_bytes()).collect(),
        }
    }

    /// Bytes to numbers; a broken last number is left out.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::Bf16 => {
                bytes.chunks_exact(2).map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)).collect()
            }
        }
    }
}

fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40; // stays a NaN whatever is cut off
    }
    let even = (bits >> 16) & 1;
    ((bits + 0x7fff + even) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_exactly_or_rounded_to_even() {
        let values = [0.0, -1.5, 0.1, f32::MIN_POSITIVE, 65_280.0];
        assert_eq!(Format::F32.decode(&Format::F32.encode(&values)), values);
        // 1 + 2^-8 lies between two bfloat16 numbers and goes to the even one, 1; 1 + 3 * 2^-8 goes up to 1 + 2^-6.
        let halves = Format::Bf16.decode(&Format::Bf16.encode(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -2.0, f32::INFINITY]));
        assert_eq!(halves, [1.0, 1.015_625, -2.0, f32::INFINITY]);
        assert!(Format::Bf16.decode(&Format::Bf16.encode(&[f32::NAN]))[0].is_nan());
    }
}
