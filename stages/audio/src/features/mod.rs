//! Features of recordings: computed once, stored beside what the corpus says of them, read instead of the audio.
//!
//! A feature shard has every column of the shard it was made from but the audio, and in its place `features` (binary, the frames
//! one after the other, little endian) and `num_frames`. What the numbers are stands in the file's metadata: [`FeatureInfo`].
//!
//! ```text
//! features.fbank     Kaldi's filter bank               fbank.rs
//! features.mfcc      Kaldi's cepstra                   fbank.rs
//! features.log_mel   the spectrograms of vocoders      mel.rs
//! features.front     an encoder's convolutions; in the crate that links libtorch
//! ```

pub mod fbank;
pub mod mel;
pub mod shard;
mod spectrum;
pub mod stages;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The metadata key of a feature shard.
pub const FEATURES: &str = "sure.features";

/// What the numbers of a feature shard are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// The stage kind that made them: `features.fbank`.
    pub kind: String,
    /// Numbers of one frame.
    pub width: usize,
    /// How a number is stored.
    pub format: Format,
    /// What they were made with, when it is more than parameters: the digest of an encoder's convolutions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<String>,
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
