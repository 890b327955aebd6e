//! WAV files as slices of bytes: finds the chunks, and turns samples into numbers.
//!
//! hound reads the format chunk (integer and float PCM, also in its extensible form) and says what the samples are. Chunks
//! are walked here, because hound does not skip the pad byte after an odd-sized chunk (measured, `audio.md` 4.2), and samples
//! are converted here in bulk, which is several times faster than sample by sample. Nothing is allocated by what a header
//! promises: only bytes that are there count.
//! Source: Microsoft "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE).

use std::io::{Cursor, Read};

/// A WAV file that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wav<'a> {
    /// In Hz; within [`SAMPLE_RATES`].
    pub sample_rate: u32,
    /// At least 1.
    pub num_channels: u16,
    /// How a sample is written.
    pub encoding: Encoding,
    /// The samples, channels interleaved; never empty, a whole number of samples of all channels.
    pub data: &'a [u8],
    /// Where `data` begins in the file.
    pub data_start: usize,
}

/// How a sample is written, always little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 8 bits, 128 is zero.
    U8,
    /// 16 bits.
    I16,
    /// 24 bits in three bytes.
    I24,
    /// 24 bits in the lower part of four bytes.
    I24In32,
    /// 32 bits.
    I32,
    /// 32-bit float, full scale 1.
    F32,
}

/// Why a file is not a WAV file that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WavError {
    /// It does not begin as a WAV file does.
    #[error("not a WAV file: does not begin with RIFF and WAVE")]
    NotWav,
    /// The format or the data chunk is not there.
    #[error("no `{chunk}` chunk in the WAV file")]
    NoChunk {
        /// `fmt ` or `data`.
        chunk: &'static str,
    },
    /// The data chunk promises more than the file has.
    #[error("truncated: the header promises {promised} bytes of samples, the file has {found}")]
    Truncated {
        /// By the header.
        promised: u64,
        /// In the file.
        found: u64,
    },
    /// hound does not know the format, or the format chunk contradicts itself.
    #[error("a WAV format that cannot be read: {0}")]
    Format(String),
    /// A sample rate that no recording has.
    #[error("a sample rate of {found} Hz, expected {} to {} Hz", SAMPLE_RATES.start(), SAMPLE_RATES.end())]
    SampleRate {
        /// In Hz.
        found: u32,
    },
    /// A file of 0 samples.
    #[error("0 samples")]
    NoSamples,
}

/// Rates taken for real. Outside of them a header is damaged, and to believe it could mean an output of terabytes.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 2_000..=768_000;

/// Reads the header of a WAV file.
///
/// Errors: [`WavError`] for everything that is not a readable WAV file with at least one sample.
pub fn parse(file: &[u8]) -> Result<Wav<'_>, WavError> {
    if file.len() < 12 || &file[..4] != b"RIFF" || &file[8..12] != b"WAVE" {
        return Err(WavError::NotWav);
    }
    let (mut format, mut at) = (None, 12);
    while let Some(header) = file.get(at..at + 8) {
        let promised = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let body = &file[at + 8..];
        match &header[..4] {
            b"fmt " => format = Some(body.get(..promised).ok_or(WavError::NoChunk { chunk: "fmt " })?),
            b"data" => {
                let format = format.ok_or(WavError::NoChunk { chunk: "fmt " })?;
                let data =
                    body.get(..promised).ok_or(WavError::Truncated { promised: promised as u64, found: body.len() as u64 })?;
                return describe(format, data, at + 8);
            }
            _ => {}
        }
        at = at.saturating_add(8).saturating_add(promised).saturating_add(promised % 2);
    }
    Err(WavError::NoChunk { chunk: if format.is_none() { "fmt " } else { "data" } })
}

/// Lets hound judge the format chunk, in a minimal file made of it and the length of the data.
fn describe<'a>(format: &[u8], data: &'a [u8], data_start: usize) -> Result<Wav<'a>, WavError> {
    if data.is_empty() {
        return Err(WavError::NoSamples);
    }
    let mut head = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
    head.extend_from_slice(&(format.len() as u32).to_le_bytes());
    head.extend_from_slice(format);
    head.extend_from_slice(b"data");
    head.extend_from_slice(&(data.len() as u32).to_le_bytes());
    let reader = hound::WavReader::new(Cursor::new(head).chain(data)).map_err(|error| WavError::Format(error.to_string()))?;
    let spec = reader.spec();
    if !SAMPLE_RATES.contains(&spec.sample_rate) {
        return Err(WavError::SampleRate { found: spec.sample_rate });
    }
    let bytes = data.len() / reader.len().max(1) as usize;
    let encoding = match (spec.sample_format, spec.bits_per_sample, bytes) {
        (hound::SampleFormat::Int, 8, 1) => Encoding::U8,
        (hound::SampleFormat::Int, 16, 2) => Encoding::I16,
        (hound::SampleFormat::Int, 24, 3) => Encoding::I24,
        (hound::SampleFormat::Int, 24, 4) => Encoding::I24In32,
        (hound::SampleFormat::Int, 32, 4) => Encoding::I32,
        (hound::SampleFormat::Float, 32, 4) => Encoding::F32,
        (_, bits, bytes) => return Err(WavError::Format(format!("{bits} bits in {bytes} bytes"))),
    };
    Ok(Wav { sample_rate: spec.sample_rate, num_channels: spec.channels, encoding, data, data_start })
}

impl Encoding {
    /// Bytes of one sample.
    pub fn num_bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I16 => 2,
            Self::I24 => 3,
            Self::I24In32 | Self::I32 | Self::F32 => 4,
        }
    }
}

impl<'a> Wav<'a> {
    /// Samples per channel.
    pub fn num_samples(&self) -> usize {
        self.data.len() / (self.encoding.num_bytes() * usize::from(self.num_channels))
    }

    /// A stretch of it: `num_samples` per channel from `start`. Nothing when it does not lie within.
    #[must_use]
    pub fn slice(&self, start: u64, num_samples: u64) -> Option<Self> {
        let block = (self.encoding.num_bytes() * usize::from(self.num_channels)) as u64;
        let first = start.checked_mul(block)?;
        let last = num_samples.checked_mul(block)?.checked_add(first)?;
        let data: &'a [u8] = self.data.get(usize::try_from(first).ok()?..usize::try_from(last).ok()?)?;
        let data_start = self.data_start + usize::try_from(first).ok()?;
        (!data.is_empty()).then_some(Self { data, data_start, ..*self })
    }

    /// The samples as numbers, full scale 1, channels averaged into `mono`, which is cleared first.
    pub fn mono(&self, mono: &mut Vec<f32>) {
        const SCALE_24: f32 = 8_388_608.0;
        mono.clear();
        let channels = usize::from(self.num_channels);
        match self.encoding {
            Encoding::U8 => average(self.data, channels, mono, |[byte]: [u8; 1]| (f32::from(byte) - 128.0) / 128.0),
            Encoding::I16 => average(self.data, channels, mono, |bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0),
            Encoding::I24 => {
                average(self.data, channels, mono, |[a, b, c]: [u8; 3]| {
                    (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / SCALE_24
                });
            }
            Encoding::I24In32 => {
                average(self.data, channels, mono, |[a, b, c, _]: [u8; 4]| {
                    (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / SCALE_24
                });
            }
            Encoding::I32 => average(self.data, channels, mono, |bytes| i32::from_le_bytes(bytes) as f32 / 2_147_483_648.0),
            Encoding::F32 => average(self.data, channels, mono, f32::from_le_bytes),
        }
    }
}

fn average<const N: usize>(data: &[u8], channels: usize, mono: &mut Vec<f32>, sample: impl Fn([u8; N]) -> f32) {
    let samples = data.as_chunks::<N>().0;
    if channels == 1 {
        mono.extend(samples.iter().map(|&bytes| sample(bytes)));
    } else {
        let frames = samples.chunks_exact(channels);
        mono.extend(frames.map(|frame| frame.iter().map(|&bytes| sample(bytes)).sum::<f32>() / channels as f32));
    }
}

/// Writes mono 16-bit PCM with the plain 44-byte header.
pub fn write_pcm16(sample_rate: u32, samples: &[i16]) -> Vec<u8> {
    let num_bytes = samples.len() as u32 * 2;
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + num_bytes).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&sample_rate.to_le_bytes());
    file.extend_from_slice(&(sample_rate * 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&num_bytes.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

#[cfg(test)]
mod tests;
