//! Samples that are stored one by one, whatever the container: integers, floats, A-law and mu-law. A container's reader finds the
//! [`Header`]; this decodes what follows it, block by block.

use std::io::{Read, Seek, SeekFrom};

use super::fields::some_at;
use super::{DecodeError, Decoder, Flag, Loudness, ReadSeek, Source, SourceInfo};
use crate::encode::Format;
use crate::wav::SAMPLE_RATES;

/// Bytes that are read at once: few enough to stay in the processor's cache.
const BLOCK_BYTES: usize = 32 << 10;

/// Position and form of the samples of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Name of the container, for messages.
    pub(crate) container: &'static str,
    /// In Hz; within [`SAMPLE_RATES`].
    pub(crate) sample_rate: u32,
    /// At least 1.
    pub(crate) num_channels: u16,
    /// Form of a sample.
    pub(crate) encoding: Encoding,
    /// Offset of the first sample in the file.
    pub(crate) data_start: u64,
    /// Bytes of samples: not 0, a whole number of frames, all within the file.
    pub(crate) data_len: u64,
    /// True if the file is RIFF with nothing unexpected in it, so that every program reads the same samples.
    pub(crate) plain: bool,
    /// Oddities of the file.
    pub(crate) flags: Vec<Flag>,
}

/// Form of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) kind: Kind,
    pub(crate) order: Order,
}

/// Order of the bytes of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

/// Type of a sample. Integers use the whole width: where fewer bits are valid, they are the upper ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 8 bits, 128 is zero.
    U8,
    I8,
    I16,
    I24,
    I32,
    I64,
    /// Full scale 1.
    F32,
    F64,
    /// ITU-T G.711.
    ALaw,
    MuLaw,
}

impl Kind {
    /// Returns the signed integer of `num_bytes` bytes.
    pub(crate) fn integer(num_bytes: u64) -> Option<Self> {
        match num_bytes {
            1 => Some(Self::I8),
            2 => Some(Self::I16),
            3 => Some(Self::I24),
            4 => Some(Self::I32),
            8 => Some(Self::I64),
            _ => None,
        }
    }

    /// Returns the float of `num_bytes` bytes.
    pub(crate) fn float(num_bytes: u64) -> Option<Self> {
        match num_bytes {
            4 => Some(Self::F32),
            8 => Some(Self::F64),
            _ => None,
        }
    }

    pub(crate) fn num_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::ALaw | Self::MuLaw => 1,
            Self::I16 => 2,
            Self::I24 => 3,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

impl Header {
    /// Checks what a container's reader found. `data_len` is cut to whole frames.
    pub(crate) fn checked(self) -> Result<Self, DecodeError> {
        if !SAMPLE_RATES.contains(&self.sample_rate) {
            return Err(DecodeError::SampleRate { found: self.sample_rate });
        }
        if self.num_channels == 0 {
            return Err(DecodeError::unsupported(self.container, "0 channels"));
        }
        let data_len = self.data_len - self.data_len % self.frame_len() as u64;
        if data_len == 0 {
            return Err(DecodeError::NoSamples);
        }
        let plain = self.plain && data_len == self.data_len;
        Ok(Self { data_len, plain, ..self })
    }

    /// Bytes of one sample of all channels.
    pub(crate) fn frame_len(&self) -> usize {
        self.encoding.kind.num_bytes() * usize::from(self.num_channels)
    }

    /// Samples per channel.
    pub(crate) fn num_samples(&self) -> u64 {
        self.data_len / self.frame_len() as u64
    }
}

/// Returns the length of the samples: `promised` by the header (`None`: up to the end of the file), `left` in the file.
pub(crate) fn data_len(promised: Option<u64>, left: u64, size: u64) -> Result<u64, DecodeError> {
    match promised {
        Some(promised) if promised > left => Err(DecodeError::Truncated { promised, found: left, offset: size }),
        Some(promised) => Ok(promised),
        None => Ok(left),
    }
}

/// Padding is looked for in so many bytes.
const MAX_PADDING: u64 = 64 << 10;

/// Returns a flag for what is at `at` in a file, behind the samples or where another chunk should begin: zeros are padding.
pub(super) fn rest_flag(file: &mut (impl Read + Seek + ?Sized), at: u64) -> Result<Option<Flag>, DecodeError> {
    let rest = some_at(file, at, MAX_PADDING)?;
    if super::begins_recording(&rest) {
        return Ok(Some(Flag::Joined));
    }
    Ok(rest.iter().any(|&byte| byte != 0).then_some(Flag::TrailingBytes))
}

pub(super) fn open<'s>(source: &Source<'s>, mut header: Header) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    // Other programs do not skip a tag in front.
    header.plain &= source.start() == 0;
    let mut reader = source.reader();
    reader.seek(SeekFrom::Start(header.data_start))?;
    let left = header.data_len;
    Ok(Box::new(PcmDecoder { reader, header, left, block: Vec::new(), loudness: Loudness::default() }))
}

struct PcmDecoder<'s> {
    reader: Box<dyn ReadSeek + 's>,
    header: Header,
    /// Bytes that are still to come.
    left: u64,
    block: Vec<u8>,
    loudness: Loudness,
}

impl Decoder for PcmDecoder<'_> {
    fn info(&self) -> SourceInfo {
        let Header { sample_rate, num_channels, container, .. } = self.header;
        SourceInfo { sample_rate, num_channels, container }
    }

    fn conforms(&self) -> Option<Format> {
        let Header { plain, num_channels, encoding, .. } = self.header;
        let pcm16 = Encoding { kind: Kind::I16, order: Order::Little };
        (plain && num_channels == 1 && encoding == pcm16).then_some(Format::Wav)
    }

    fn seek(&mut self, start: u64) -> Result<u64, DecodeError> {
        let start = start.min(self.header.num_samples());
        let skipped = start * self.header.frame_len() as u64;
        self.reader.seek(SeekFrom::Start(self.header.data_start + skipped))?;
        self.left = self.header.data_len - skipped;
        Ok(start)
    }

    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        let frame_len = self.header.frame_len();
        let whole_frames = (BLOCK_BYTES / frame_len).max(1) * frame_len;
        let len = self.left.min(whole_frames as u64);
        self.block.resize(len as usize, 0);
        self.reader.read_exact(&mut self.block)?;
        self.header.encoding.average(&self.block, self.header.num_channels, &mut self.loudness, mono);
        self.left -= len;
        Ok(self.left > 0)
    }

    fn flags(&self) -> Vec<Flag> {
        self.header.flags.iter().copied().chain(self.loudness.flag()).collect()
    }
}

impl Encoding {
    /// Adds the samples in `data` to `mono` as numbers, full scale 1, channels averaged.
    pub(crate) fn average(self, data: &[u8], num_channels: u16, loudness: &mut Loudness, mono: &mut Vec<f32>) {
        const SCALE_24: f32 = 8_388_608.0;
        let mut to = Average { channels: usize::from(num_channels), loudness, mono };
        match (self.kind, self.order) {
            (Kind::U8, _) => to.add(data, |[byte]: [u8; 1]| (f32::from(byte) - 128.0) / 128.0),
            (Kind::I8, _) => to.add(data, |bytes| f32::from(i8::from_le_bytes(bytes)) / 128.0),
            (Kind::I16, Order::Little) => to.add(data, |bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0),
            (Kind::I16, Order::Big) => to.add(data, |bytes| f32::from(i16::from_be_bytes(bytes)) / 32_768.0),
            (Kind::I24, Order::Little) => {
                to.add(data, |[a, b, c]: [u8; 3]| (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / SCALE_24);
            }
            (Kind::I24, Order::Big) => {
                to.add(data, |[a, b, c]: [u8; 3]| (i32::from_be_bytes([a, b, c, 0]) >> 8) as f32 / SCALE_24);
            }
            (Kind::I32, Order::Little) => to.add(data, |bytes| i32::from_le_bytes(bytes) as f32 / 2_147_483_648.0),
            (Kind::I32, Order::Big) => to.add(data, |bytes| i32::from_be_bytes(bytes) as f32 / 2_147_483_648.0),
            (Kind::I64, Order::Little) => to.add(data, |bytes| i64::from_le_bytes(bytes) as f32 / 9_223_372_036_854_775_808.0),
            (Kind::I64, Order::Big) => to.add(data, |bytes| i64::from_be_bytes(bytes) as f32 / 9_223_372_036_854_775_808.0),
            (Kind::F32, Order::Little) => to.add(data, f32::from_le_bytes),
            (Kind::F32, Order::Big) => to.add(data, f32::from_be_bytes),
            (Kind::F64, Order::Little) => to.add(data, |bytes| f64::from_le_bytes(bytes) as f32),
            (Kind::F64, Order::Big) => to.add(data, |bytes| f64::from_be_bytes(bytes) as f32),
            (Kind::ALaw, _) => to.add(data, |[code]: [u8; 1]| f32::from(a_law(code)) / 32_768.0),
            (Kind::MuLaw, _) => to.add(data, |[code]: [u8; 1]| f32::from(mu_law(code)) / 32_768.0),
        }
    }
}

/// Target of interleaved samples.
struct Average<'a> {
    channels: usize,
    loudness: &'a mut Loudness,
    mono: &'a mut Vec<f32>,
}

impl Average<'_> {
    fn add<const N: usize>(&mut self, data: &[u8], sample: impl Fn([u8; N]) -> f32) {
        let samples = data.as_chunks::<N>().0;
        if self.channels == 1 {
            return self.mono.extend(samples.iter().map(|&bytes| sample(bytes)));
        }
        let (before, mut squares) = (self.mono.len(), 0.0);
        self.mono.extend(samples.chunks_exact(self.channels).map(|frame| {
            let sum: f32 = frame
                .iter()
                .map(|&bytes| {
                    let value = sample(bytes);
                    squares += value * value;
                    value
                })
                .sum();
            sum / self.channels as f32
        }));
        self.loudness.add(squares / self.channels as f32, &self.mono[before..]);
    }
}

/// Decodes A-law to 16 bits. Source: ITU-T G.711, table 1: even bits inverted, sign, three bits of exponent, four of mantissa.
fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = (code >> 4 & 7, i16::from(code & 15));
    let magnitude = match exponent {
        0 => mantissa << 4 | 8,
        _ => (mantissa << 4 | 0x108) << (exponent - 1),
    };
    if code & 0x80 != 0 { magnitude } else { -magnitude }
}

/// Decodes mu-law to 16 bits. Source: ITU-T G.711, table 2: all bits inverted, a bias of 132.
fn mu_law(code: u8) -> i16 {
    let code = !code;
    let (exponent, mantissa) = (code >> 4 & 7, i16::from(code & 15));
    let magnitude = ((mantissa << 3 | 0x84) << exponent) - 0x84;
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_the_same_numbers() {
        let half = |kind: Kind, order: Order, bytes: &[u8]| {
            let (mut mono, mut loudness) = (Vec::new(), Loudness::default());
            Encoding { kind, order }.average(bytes, 1, &mut loudness, &mut mono);
            assert_eq!(mono, [-0.5], "{kind:?} {order:?}");
        };
        half(Kind::U8, Order::Little, &[64]);
        half(Kind::I8, Order::Big, &[0xc0]);
        half(Kind::I16, Order::Little, &[0, 0xc0]);
        half(Kind::I16, Order::Big, &[0xc0, 0]);
        half(Kind::I24, Order::Little, &[0, 0, 0xc0]);
        half(Kind::I24, Order::Big, &[0xc0, 0, 0]);
        half(Kind::I32, Order::Little, &[0, 0, 0, 0xc0]);
        half(Kind::I32, Order::Big, &[0xc0, 0, 0, 0]);
        half(Kind::I64, Order::Little, &[0, 0, 0, 0, 0, 0, 0, 0xc0]);
        half(Kind::I64, Order::Big, &[0xc0, 0, 0, 0, 0, 0, 0, 0]);
        half(Kind::F32, Order::Little, &(-0.5_f32).to_le_bytes());
        half(Kind::F32, Order::Big, &(-0.5_f32).to_be_bytes());
        half(Kind::F64, Order::Little, &(-0.5_f64).to_le_bytes());
        half(Kind::F64, Order::Big, &(-0.5_f64).to_be_bytes());
    }

    #[test]
    fn the_laws_are_those_of_the_standard() {
        // G.711: decision values of the ends of both tables, and the smallest codes around zero.
        for (code, expected) in [(0xd5, 8), (0x55, -8), (0xaa, 32_256), (0x2a, -32_256), (0xd4, 24), (0x80, 5_504)] {
            assert_eq!(a_law(code), expected, "{code:#x}");
        }
        for (code, expected) in [(0xff, 0), (0x7f, 0), (0x80, 32_124), (0x00, -32_124), (0xfe, 8), (0x8f, 16_764)] {
            assert_eq!(mu_law(code), expected, "{code:#x}");
        }
    }

    #[test]
    fn channels_that_differ_are_averaged() {
        let bytes: Vec<u8> = [16_384_i16, 0, -16_384, 16_384].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let (mut mono, mut loudness) = (Vec::new(), Loudness::default());
        Encoding { kind: Kind::I16, order: Order::Little }.average(&bytes, 2, &mut loudness, &mut mono);
        assert_eq!(mono, [0.25, 0.0]);
    }
}
