//! WAV files: finds the chunks, turns samples into numbers, and writes mono 16-bit PCM.
//!
//! hound reads the format chunk (integer and float PCM, also in its extensible form) and says what the samples are. Chunks
//! are walked here, because hound does not skip the pad byte after an odd-sized chunk, knows no RF64, and refuses files whose
//! sizes were never filled in (measured); and samples are converted here in bulk, which is several times faster
//! than sample by sample. Nothing is allocated by what a header promises: only bytes that are there count.
//!
//! Two places say how long a file is, the size of the whole and that of the data chunk. When both promise more than there is, the
//! file is truncated. When only the data chunk does, its size is wrong and the samples go to the end of the file; so they do
//! when the sizes are those that a program leaves which writes to a pipe (0 or all ones).
//! Sources: Microsoft "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE); EBU Tech 3306 (RF64).

use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// What stands before the samples of a WAV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// In Hz; within [`SAMPLE_RATES`].
    pub sample_rate: u32,
    /// At least 1.
    pub num_channels: u16,
    /// How a sample is written.
    pub encoding: Encoding,
    /// Where the samples begin in the file.
    pub data_start: u64,
    /// Bytes of samples: not 0, a whole number of samples of all channels, all within the file.
    pub data_len: u64,
    /// Plain RIFF whose header says itself how many samples there are, so that every program reads the same.
    pub sound: bool,
}

/// A WAV file in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wav<'a> {
    /// What stands before the samples.
    pub header: Header,
    /// The samples, channels interleaved.
    pub data: &'a [u8],
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
        /// Where it was looked for last.
        offset: u64,
    },
    /// The file ends before the samples that it promises.
    #[error("truncated: the header promises {promised} bytes of samples, the file has {found}")]
    Truncated {
        /// By the header.
        promised: u64,
        /// In the file.
        found: u64,
        /// Where the file ends.
        offset: u64,
    },
    /// hound does not know the format, or the format chunk contradicts itself.
    #[error("a WAV format that cannot be read: {reason}")]
    Format {
        /// What hound says.
        reason: String,
        /// Where the format chunk begins.
        offset: u64,
    },
    /// A sample rate that no recording has.
    #[error("a sample rate of {found} Hz, expected {} to {} Hz", SAMPLE_RATES.start(), SAMPLE_RATES.end())]
    SampleRate {
        /// In Hz.
        found: u32,
    },
    /// A file of 0 samples.
    #[error("0 samples")]
    NoSamples,
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl WavError {
    /// Where in the file the trouble is, if it is at one place.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::NotWav => Some(0),
            Self::NoChunk { offset, .. } | Self::Truncated { offset, .. } | Self::Format { offset, .. } => Some(*offset),
            Self::SampleRate { .. } | Self::NoSamples | Self::Io(_) => None,
        }
    }
}

/// Rates taken for real. Outside of them a header is damaged, and to believe it could mean an output of terabytes.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 2_000..=768_000;

/// Reads the WAV file in `file`.
///
/// Errors: [`WavError`] for everything that is not a readable WAV file with at least one sample.
pub fn parse(file: &[u8]) -> Result<Wav<'_>, WavError> {
    let header = Header::read(&mut Cursor::new(file), file.len() as u64)?;
    let data = &file[header.data_start as usize..(header.data_start + header.data_len) as usize];
    Ok(Wav { header, data })
}

/// Sizes that stand for "to the end of the file": never filled in, or the largest there is (sox writes the last one to a pipe).
const OPEN_SIZES: [u32; 3] = [0, u32::MAX, 0x7fff_f000];
/// A longer format chunk is damage.
const MAX_FORMAT_LEN: u64 = 4_096;

impl Header {
    /// Reads the header of a file of `size` bytes, wherever the cursor is.
    ///
    /// Errors: [`WavError`] for everything that is not a readable WAV file with at least one sample.
    pub fn read(file: &mut (impl Read + Seek), size: u64) -> Result<Self, WavError> {
        file.seek(SeekFrom::Start(0))?;
        let mut head = [0; 12];
        if size < 12 || file.read_exact(&mut head).is_err() {
            return Err(WavError::NotWav);
        }
        let rf64 = matches!(&head[..4], b"RF64" | b"BW64");
        if !rf64 && &head[..4] != b"RIFF" || &head[8..] != b"WAVE" {
            return Err(WavError::NotWav);
        }
        let whole_claimed = u32_at(&head, 4);
        let mut wide = None;
        let (mut format, mut at) = (None, 12_u64);
        while at + 8 <= size {
            file.seek(SeekFrom::Start(at))?;
            let mut chunk = [0; 8];
            file.read_exact(&mut chunk)?;
            let (claimed, left) = (u64::from(u32_at(&chunk, 4)), size - at - 8);
            match &chunk[..4] {
                b"ds64" if rf64 && claimed >= 16 && left >= 16 => {
                    let mut sizes = [0; 16];
                    file.read_exact(&mut sizes)?;
                    let number = |at: usize| u64::from(u32_at(&sizes, at)) | u64::from(u32_at(&sizes, at + 4)) << 32;
                    wide = Some((number(0), number(8)));
                }
                b"fmt " => {
                    if claimed > left.min(MAX_FORMAT_LEN) {
                        return Err(WavError::NoChunk { chunk: "fmt ", offset: at });
                    }
                    let mut bytes = vec![0; claimed as usize];
                    file.read_exact(&mut bytes)?;
                    format = Some(Format { bytes, offset: at });
                }
                b"data" => {
                    let format = format.ok_or(WavError::NoChunk { chunk: "fmt ", offset: at })?;
                    let claims = match wide {
                        Some((whole, data)) => Claims { whole, whole_open: false, data, data_open: false },
                        None => Claims {
                            whole: u64::from(whole_claimed),
                            whole_open: OPEN_SIZES.contains(&whole_claimed),
                            data: claimed,
                            data_open: OPEN_SIZES.contains(&(claimed as u32)),
                        },
                    };
                    let (len, sound) = claims.settle(left, size)?;
                    return format.describe(at + 8, len, sound && !rf64);
                }
                _ => {}
            }
            // Chunks begin at even places.
            at = at.saturating_add(8).saturating_add(claimed).saturating_add(claimed % 2);
        }
        Err(WavError::NoChunk { chunk: if format.is_none() { "fmt " } else { "data" }, offset: size })
    }

    /// Samples per channel.
    pub fn num_samples(&self) -> u64 {
        self.data_len / self.frame_len() as u64
    }

    /// Bytes of a sample of all channels.
    pub fn frame_len(&self) -> usize {
        self.encoding.num_bytes() * usize::from(self.num_channels)
    }

    /// A stretch of it: `num_samples` per channel from `start`. Nothing when it does not lie within.
    #[must_use]
    pub fn slice(&self, start: u64, num_samples: u64) -> Option<Self> {
        let end = start.checked_add(num_samples)?;
        let frame_len = self.frame_len() as u64;
        (num_samples > 0 && end <= self.num_samples()).then(|| Self {
            data_start: self.data_start + start * frame_len,
            data_len: num_samples * frame_len,
            ..*self
        })
    }
}

/// What a file says of its sizes, the whole without its first eight bytes.
struct Claims {
    whole: u64,
    whole_open: bool,
    data: u64,
    data_open: bool,
}

impl Claims {
    /// How many bytes of samples there are, and whether that is what the header says. `left` follow the data chunk's size.
    fn settle(&self, left: u64, size: u64) -> Result<(u64, bool), WavError> {
        if self.data > 0 && self.data <= left {
            return Ok((self.data, true));
        }
        // All ones, or nothing in a file that says of itself too that its length is not known.
        let open = self.data_open && (self.data > 0 || self.whole_open);
        let only_data_is_wrong = self.data > left && !self.whole_open && self.whole + 8 <= size;
        if left == 0 && (self.data == 0 || self.data_open) || self.data == 0 && !open {
            Err(WavError::NoSamples)
        } else if open || only_data_is_wrong {
            Ok((left, false))
        } else {
            Err(WavError::Truncated { promised: self.data, found: left, offset: size })
        }
    }
}

/// A format chunk, and where it begins.
struct Format {
    bytes: Vec<u8>,
    offset: u64,
}

impl Format {
    /// Lets hound judge the format chunk, in a minimal file made of it and one sample of each channel.
    fn describe(&self, data_start: u64, len: u64, sound: bool) -> Result<Header, WavError> {
        let refused = |reason: String| WavError::Format { reason, offset: self.offset };
        let frame_len = self.bytes.get(12..14).map_or(0, |len| u64::from(u16::from_le_bytes([len[0], len[1]])));
        if frame_len == 0 {
            return Err(refused("no bytes per sample".to_owned()));
        }
        let mut head = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
        head.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        head.extend_from_slice(&self.bytes);
        head.extend_from_slice(b"data");
        head.extend_from_slice(&(frame_len as u32).to_le_bytes());
        let reader = hound::WavReader::new(Cursor::new(head)).map_err(|error| refused(error.to_string()))?;
        let spec = reader.spec();
        if !SAMPLE_RATES.contains(&spec.sample_rate) {
            return Err(WavError::SampleRate { found: spec.sample_rate });
        }
        if !frame_len.is_multiple_of(u64::from(spec.channels.max(1))) {
            return Err(refused(format!("{frame_len} bytes for a sample of {} channels", spec.channels)));
        }
        let bytes = frame_len / u64::from(spec.channels.max(1));
        let encoding = match (spec.sample_format, spec.bits_per_sample, bytes) {
            (hound::SampleFormat::Int, 8, 1) => Encoding::U8,
            (hound::SampleFormat::Int, 16, 2) => Encoding::I16,
            (hound::SampleFormat::Int, 24, 3) => Encoding::I24,
            (hound::SampleFormat::Int, 24, 4) => Encoding::I24In32,
            (hound::SampleFormat::Int, 32, 4) => Encoding::I32,
            (hound::SampleFormat::Float, 32, 4) => Encoding::F32,
            (_, bits, bytes) => return Err(refused(format!("{bits} bits in {bytes} bytes"))),
        };
        let data_len = len - len % frame_len;
        if data_len == 0 {
            return Err(WavError::NoSamples);
        }
        let sound = sound && data_len == len;
        Ok(Header { sample_rate: spec.sample_rate, num_channels: spec.channels, encoding, data_start, data_len, sound })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
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

    /// Adds the samples in `data` to `mono` as numbers, full scale 1, channels averaged.
    pub fn average(self, data: &[u8], num_channels: u16, mono: &mut Vec<f32>) {
        const SCALE_24: f32 = 8_388_608.0;
        let channels = usize::from(num_channels);
        match self {
            Self::U8 => average(data, channels, mono, |[byte]: [u8; 1]| (f32::from(byte) - 128.0) / 128.0),
            Self::I16 => average(data, channels, mono, |bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0),
            Self::I24 => {
                average(data, channels, mono, |[a, b, c]: [u8; 3]| (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / SCALE_24);
            }
            Self::I24In32 => {
                average(data, channels, mono, |[a, b, c, _]: [u8; 4]| (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / SCALE_24);
            }
            Self::I32 => average(data, channels, mono, |bytes| i32::from_le_bytes(bytes) as f32 / 2_147_483_648.0),
            Self::F32 => average(data, channels, mono, f32::from_le_bytes),
        }
    }
}

impl Wav<'_> {
    /// Samples per channel.
    pub fn num_samples(&self) -> usize {
        self.header.num_samples() as usize
    }

    /// The samples as numbers, full scale 1, channels averaged into `mono`, which is cleared first.
    pub fn mono(&self, mono: &mut Vec<f32>) {
        mono.clear();
        self.header.encoding.average(self.data, self.header.num_channels, mono);
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

/// Collects samples and gives a WAV file with the plain 44-byte header.
#[derive(Debug)]
pub(crate) struct WavWriter {
    file: Vec<u8>,
    sample_rate: u32,
}

const PLAIN_HEADER_LEN: usize = 44;

impl WavWriter {
    pub(crate) fn new(sample_rate: u32) -> Self {
        Self { file: vec![0; PLAIN_HEADER_LEN], sample_rate }
    }

    pub(crate) fn push(&mut self, samples: &[i16]) {
        self.file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let num_bytes = (self.file.len() - PLAIN_HEADER_LEN) as u32;
        let mut header = Vec::with_capacity(PLAIN_HEADER_LEN);
        header.extend_from_slice(b"RIFF");
        header.extend_from_slice(&(36 + num_bytes).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        header.extend_from_slice(&self.sample_rate.to_le_bytes());
        header.extend_from_slice(&self.sample_rate.wrapping_mul(2).to_le_bytes());
        header.extend_from_slice(b"\x02\0\x10\0data");
        header.extend_from_slice(&num_bytes.to_le_bytes());
        self.file[..PLAIN_HEADER_LEN].copy_from_slice(&header);
        self.file
    }
}

/// Writes mono 16-bit PCM with the plain 44-byte header.
pub fn write_pcm16(sample_rate: u32, samples: &[i16]) -> Vec<u8> {
    let mut writer = WavWriter::new(sample_rate);
    writer.push(samples);
    writer.finish()
}

#[cfg(test)]
mod tests;
