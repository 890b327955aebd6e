//! Turns the bytes of a recording into a mono 16-bit WAV at one rate, or says why it cannot.
//!
//! What conforms already keeps its bytes. The rest is averaged over channels, resampled, and rounded to 16 bits: halves away
//! from zero, scale 32768, clamped, no dither (so the same input gives the same bytes).

use crate::resample::{ResampleError, Resamplers, output_len};
use crate::wav::{self, Encoding, WavError};

/// A decoded recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// A whole WAV file: mono, 16 bit, at the rate asked for.
    pub bytes: Vec<u8>,
    /// Its samples.
    pub num_samples: u64,
    /// What the recording was.
    pub source: Source,
}

/// What a recording was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// In Hz.
    pub sample_rate: u32,
    /// Channels that were averaged.
    pub num_channels: u16,
    /// Whether the bytes were kept as they were.
    pub kept: bool,
}

/// Why a recording gives no clip. The text goes into the table of rejects.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file is not WAV, or damaged.
    #[error(transparent)]
    Wav(#[from] WavError),
    /// A float sample that is no number.
    #[error("sample {index} is {value}, not a finite number")]
    NotFinite {
        /// Counted from 0, at the recording's rate.
        index: usize,
        /// `NaN`, `inf` or `-inf`.
        value: f32,
    },
    /// The stretch asked for is not in the recording.
    #[error("samples {start} to {end} asked for, the recording has {num_samples}")]
    Span {
        /// First sample.
        start: u64,
        /// One behind the last sample.
        end: u64,
        /// Samples of the recording.
        num_samples: u64,
    },
    /// Longer than anything a shard should hold.
    #[error("{num_samples} samples, more than the {MAX_SAMPLES} that a clip may have")]
    TooLong {
        /// Samples in or out.
        num_samples: u64,
    },
    /// The rates do not go together.
    #[error(transparent)]
    Resample(#[from] ResampleError),
}

/// The most samples of one clip: 4.6 hours at 16 kHz, half a gigabyte of PCM.
pub const MAX_SAMPLES: u64 = 1 << 28;

/// Decodes one recording at a time. Holds resamplers and buffers, so use one per thread.
#[derive(Debug)]
pub struct Decoder {
    resamplers: Resamplers,
    mono: Vec<f32>,
    pcm: Vec<i16>,
}

impl Decoder {
    /// A decoder to `sample_rate` Hz.
    pub fn new(sample_rate: u32) -> Self {
        Self { resamplers: Resamplers::new(sample_rate), mono: Vec::new(), pcm: Vec::new() }
    }

    /// Decodes a file, or the stretch `(start, num_samples)` of it, in samples at the file's own rate.
    ///
    /// Errors: [`DecodeError`], each a reason to reject the recording.
    pub fn decode(&mut self, file: Vec<u8>, span: Option<(u64, u64)>) -> Result<Clip, DecodeError> {
        let to = self.resamplers.sample_rate();
        let whole = wav::parse(&file)?;
        let wav = match span {
            None => whole,
            Some((start, num_samples)) => whole.slice(start, num_samples).ok_or(DecodeError::Span {
                start,
                end: start.saturating_add(num_samples),
                num_samples: whole.num_samples() as u64,
            })?,
        };
        let (len_in, len_out) = (wav.num_samples(), output_len(wav.num_samples(), wav.sample_rate, to));
        let longest = len_in.max(len_out) as u64;
        if longest > MAX_SAMPLES {
            return Err(DecodeError::TooLong { num_samples: longest });
        }
        let conforms = wav.encoding == Encoding::I16 && wav.num_channels == 1 && wav.sample_rate == to;
        let kept = conforms && span.is_none();
        let source = Source { sample_rate: wav.sample_rate, num_channels: wav.num_channels, kept };
        if kept {
            return Ok(Clip { bytes: file, num_samples: len_out as u64, source });
        }
        wav.mono(&mut self.mono);
        if wav.encoding == Encoding::F32
            && let Some(index) = self.mono.iter().position(|sample| !sample.is_finite())
        {
            return Err(DecodeError::NotFinite { index, value: self.mono[index] });
        }
        let resampled = self.resamplers.resample(&self.mono, wav.sample_rate)?;
        self.pcm.clear();
        self.pcm.extend(resampled.iter().map(|&sample| to_pcm16(sample)));
        Ok(Clip { bytes: wav::write_pcm16(to, &self.pcm), num_samples: len_out as u64, source })
    }
}

/// Full scale 1 to 16 bits: halves away from zero, clamped. (`f32::round` is a library call on plain x86-64, hence by hand.)
fn to_pcm16(sample: f32) -> i16 {
    let scaled = (sample * 32_768.0).clamp(-32_768.0, 32_767.0);
    let whole = scaled as i32;
    let rest = scaled - whole as f32;
    (whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)) as i16
}

#[cfg(test)]
mod tests;
