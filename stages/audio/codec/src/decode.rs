//! Opens a recording by what it is, whatever its name says, and gives its samples block by block, channels averaged.
//!
//! | content | read by |
//! | --- | --- |
//! | RIFF or RF64 with PCM | [`wav`](crate::wav): hound for the format chunk, the rest by hand |
//! | RIFF with A-law, mu-law, ADPCM | symphonia |
//! | FLAC | by hand, for speed and strictness |
//! | MP3, MP4 with AAC-LC, Ogg Vorbis and FLAC, ADTS | symphonia; the edit list of MP4 by hand |
//! | what symphonia knows and cannot decode: 5.1 or HE AAC, AC-3, Opus | the program `ffmpeg`, or not at all |
//!
//! How long the result is, is compared with what the container says: a damaged FLAC or MP3 decodes without an error, and shorter.

mod ends;
mod ffmpeg;
mod flac;
mod mp4;
mod packets;
mod riff;

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};

use crate::encode::Format;
use crate::resample::ResampleError;
use crate::sums::Summed;
use crate::wav::WavError;

/// What a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceInfo {
    /// In Hz.
    pub sample_rate: u32,
    /// Channels that are averaged.
    pub num_channels: u16,
    /// `wav`, `flac`, `mp3`, `mp4`, `ogg`, `adts`.
    pub container: &'static str,
}

/// Where a recording is.
pub(crate) enum Source<'s> {
    Memory(&'s [u8]),
    File(File),
}

/// Who decodes what symphonia cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    Ffmpeg,
    None,
}

/// A recording that is being decoded.
pub(crate) trait Decoder {
    /// What it is.
    fn info(&self) -> SourceInfo;

    /// The format whose clips look just like this file, if they have its rate: one channel, 16 bits, no fault in the header.
    fn conforms(&self) -> Option<Format> {
        None
    }

    /// Goes to sample `start`, or to one before it, which is returned.
    fn seek(&mut self, start: u64) -> Result<u64, DecodeError> {
        let _ = start;
        Ok(0)
    }

    /// Adds the next samples to `mono`, full scale 1; false when they were the last.
    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError>;

    /// Returns the samples whose MD5 sum the header promises, after the last of them. The caller compares the sums.
    fn summed(&mut self) -> Option<Summed> {
        None
    }
}

/// Why a recording gives no clip.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DecodeError {
    #[error("0 bytes")]
    Empty,
    #[error("not an audio file that can be read: begins with {found}, expected WAV, FLAC, MP3, MP4 or Ogg")]
    Unknown { found: String },
    #[error(transparent)]
    Wav(#[from] WavError),
    #[error("{container}: {reason}")]
    Damaged { container: &'static str, reason: String, offset: Option<u64> },
    #[error("{container}: {reason}")]
    Unsupported { container: &'static str, reason: String },
    #[error("a sample rate of {found} Hz, expected 2000 to 768000 Hz")]
    SampleRate { found: u32 },
    #[error("{container}: decodes to {found} samples, its header promises {promised}: damaged or truncated")]
    Length { container: &'static str, found: u64, promised: u64, offset: Option<u64> },
    #[error("flac: the samples do not have the MD5 sum that the header promises")]
    Md5,
    #[error("sample {index} is {value}, not a finite number")]
    NotFinite { index: u64, value: f32 },
    #[error("samples {start} to {end} asked for, the recording has {num_samples}")]
    Span { start: u64, end: u64, num_samples: u64 },
    #[error("more than the {most} samples that a clip may have")]
    TooLong { most: u64 },
    #[error("0 samples")]
    NoSamples,
    #[error(transparent)]
    Resample(#[from] ResampleError),
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

impl DecodeError {
    pub(crate) fn offset(&self) -> Option<u64> {
        match self {
            Self::Empty | Self::Unknown { .. } => Some(0),
            Self::Wav(error) => error.offset(),
            Self::Damaged { offset, .. } | Self::Length { offset, .. } => *offset,
            _ => None,
        }
    }
}

/// Finds out what a recording is and prepares to decode it.
pub(crate) fn open(source: Source<'_>, fallback: Fallback) -> Result<Box<dyn Decoder + '_>, DecodeError> {
    let again = source.again()?;
    match open_here(source) {
        Err(DecodeError::Unsupported { container, reason }) if fallback == Fallback::Ffmpeg => {
            ffmpeg::open(&again, container, &reason)
        }
        opened => opened,
    }
}

fn open_here(mut source: Source<'_>) -> Result<Box<dyn Decoder + '_>, DecodeError> {
    let head = source.head()?;
    match head.as_slice() {
        [] => Err(DecodeError::Empty),
        [b'R', b'I' | b'F', b'F' | b'6', b'F' | b'4', ..] | [b'B', b'W', b'6', b'4', ..] => riff::open(source),
        [b'f', b'L', b'a', b'C', ..] => flac::open(source),
        [b'O', b'g', b'g', b'S', ..] => packets::open(source, "ogg"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] | [_, _, _, _, b'm', b'o', b'o', b'v', ..] => packets::open(source, "mp4"),
        // Twelve ones begin a frame; the layer is 0 in ADTS and never in MPEG audio.
        [0xff, second, ..] if second & 0xf6 == 0xf0 => packets::open(source, "adts"),
        [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0 => packets::open(source, "mp3"),
        [b'I', b'D', b'3', ..] => packets::open(source, "mp3"),
        _ => {
            let first = &head[..head.len().min(8)];
            Err(DecodeError::Unknown { found: format!("\"{}\"", first.escape_ascii()) })
        }
    }
}

impl Source<'_> {
    /// The first bytes.
    fn head(&mut self) -> std::io::Result<Vec<u8>> {
        let mut head = Vec::new();
        match self {
            Self::Memory(bytes) => head.extend_from_slice(&bytes[..bytes.len().min(16)]),
            Self::File(file) => {
                file.take(16).read_to_end(&mut head)?;
            }
        }
        Ok(head)
    }

    fn len(&self) -> std::io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    /// A second view of it.
    fn again(&self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Memory(bytes) => Self::Memory(bytes),
            Self::File(file) => Self::File(file.try_clone()?),
        })
    }
}

/// What both kinds of sources can do.
trait ReadSeek: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

impl<'s> Source<'s> {
    /// Reads it from the beginning. Views of one file share its cursor, so only the last reader made is of use.
    fn reader(self) -> std::io::Result<Box<dyn ReadSeek + 's>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(Cursor::new(bytes)),
            Self::File(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                Box::new(std::io::BufReader::with_capacity(1 << 16, file))
            }
        })
    }
}
