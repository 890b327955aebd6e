//! WAV files: finds the samples in RIFF, RF64 and RIFX, and writes mono 16-bit PCM.
//!
//! Read by hand, because published readers refuse files that others read: sizes that were never filled in, odd chunks, format
//! chunks of unusual length, valid bits that do not fill their bytes. Nothing is allocated by what a header promises.
//!
//! Two places give the length, the size of the whole file and that of the data chunk. If both promise more than there is, the file
//! is truncated. If only the data chunk does, its size is wrong and the samples end with the file. The same holds for the sizes that
//! a program leaves which writes to a pipe: 0, or one near 2 or 4 GiB.
//! Sources: Microsoft "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE) and "Multiple Channel Audio Data
//! and WAVE Files" (extensible); EBU Tech 3306 (RF64).

use std::io::{Read, Seek};

use crate::decode::fields::{be32, bytes_at, le64, some_at};
use crate::decode::pcm::{Encoding, Header, Kind, Order};
use crate::decode::{DecodeError, Flag, OPEN_SIZE};

/// Rates of recordings, in Hz. A header with another rate is damaged, and believing it could mean an output of terabytes.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 2_000..=768_000;

/// A longer format chunk is damage.
pub(crate) const MAX_FORMAT_LEN: u64 = 4_096;

/// Content of a RIFF file.
#[derive(Debug)]
pub(crate) enum Found {
    /// Samples that are stored one by one.
    Samples(Header),
    /// An MPEG audio stream of that many bytes.
    Mpeg {
        /// Offset of the first byte.
        start: u64,
        /// In bytes.
        len: u64,
    },
    /// Samples in another coding, such as ADPCM.
    Coded,
}

/// Reads the header of a file of `size` bytes.
///
/// Errors: a file without a format or a sample, a truncated file, a form that nothing can be made of.
pub(crate) fn read(file: &mut (impl Read + Seek + ?Sized), size: u64) -> Result<Found, DecodeError> {
    let not_wav = || DecodeError::unsupported("wav", "RIFF without WAVE");
    let head = bytes_at::<12>(file, 0)?.ok_or_else(not_wav)?;
    let riff = Riff { container: "wav", order: if &head[..4] == b"RIFX" { Order::Big } else { Order::Little } };
    let wide = matches!(&head[..4], b"RF64" | b"BW64");
    if &head[8..] != b"WAVE" {
        return Err(not_wav());
    }
    let whole = riff.number(&head[4..]);
    let (mut sizes, mut format, mut ordinary, mut at) = (None, None, true, 12);
    while let Some(chunk) = bytes_at::<8>(file, at)? {
        let (claimed, left) = (riff.number(&chunk[4..]), size - at - 8);
        match &chunk[..4] {
            b"ds64" if wide && claimed >= 16 => {
                sizes = bytes_at::<16>(file, at + 8)?.map(|sizes| (le64(&sizes), le64(&sizes[8..])));
            }
            b"fmt " => {
                if claimed > left.min(MAX_FORMAT_LEN) {
                    return Err(DecodeError::NoChunk { container: "wav", chunk: "fmt ", offset: at });
                }
                let found = some_at(file, at + 8, claimed)?;
                if format.as_ref().is_some_and(|first| *first != found) {
                    return Err(DecodeError::damaged("wav", "two `fmt ` chunks that differ", at));
                }
                ordinary &= format.is_none();
                format = Some(found);
            }
            b"data" => {
                let Some(format) = format else {
                    return Err(DecodeError::unsupported("wav", "the samples come before the `fmt ` chunk"));
                };
                let (start, claims) = (at + 8, sizes.unwrap_or((whole, claimed)));
                let len = data_len(claims, sizes.is_none(), left, size, || is_chunk(file, start))?;
                let rest = if len.exact {
                    walk(file, &riff, start.saturating_add(len.bytes + len.bytes % 2), size)?
                } else {
                    Rest::None
                };
                let ends = size == whole + 8 || size + 1 == whole + 8 && size % 2 == 1;
                let plain = ordinary
                    && is_plain(&format)
                    && !wide
                    && riff.order == Order::Little
                    && len.exact
                    && ends
                    && rest == Rest::Chunks;
                let flag = match rest {
                    Rest::None | Rest::Chunks => None,
                    Rest::Data => Some(Flag::Joined),
                    Rest::Bytes => Some(Flag::TrailingBytes),
                };
                return riff.describe(&format, (start, len.bytes), |encoding, sample_rate, num_channels| Header {
                    container: "wav",
                    sample_rate,
                    num_channels,
                    encoding,
                    data_start: start,
                    data_len: len.bytes,
                    plain,
                    flags: flag.into_iter().collect(),
                });
            }
            name => ordinary &= is_name(name),
        }
        // Chunks begin at even offsets.
        at = at.saturating_add(8).saturating_add(claimed).saturating_add(claimed % 2);
    }
    let chunk = if format.is_none() { "fmt " } else { "data" };
    Err(DecodeError::NoChunk { container: "wav", chunk, offset: size })
}

/// Length of the samples in bytes.
struct DataLen {
    bytes: u64,
    /// True if the header says so itself.
    exact: bool,
}

/// Settles what the `claims` of a file (of the whole without its first eight bytes, and of the data chunk) mean. `left` bytes
/// follow the data chunk's size. `narrow` sizes are of 32 bits.
fn data_len(
    (whole, data): (u64, u64),
    narrow: bool,
    left: u64,
    size: u64,
    mut chunk_follows: impl FnMut() -> Result<bool, DecodeError>,
) -> Result<DataLen, DecodeError> {
    let open = |claim: u64| if narrow { claim == 0 || claim >= OPEN_SIZE } else { claim >= 1 << 62 };
    if data > 0 && data <= left {
        Ok(DataLen { bytes: data, exact: true })
    } else if left == 0 && (data == 0 || open(data)) || data == 0 && chunk_follows()? {
        Err(DecodeError::NoSamples)
    } else if open(data) || !open(whole) && whole.saturating_add(8) <= size {
        Ok(DataLen { bytes: left, exact: false })
    } else {
        Err(DecodeError::Truncated { promised: data, found: left, offset: size })
    }
}

/// Content of a file after its samples.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// Not examined.
    None,
    /// Chunks, or nothing.
    Chunks,
    /// A second data chunk, or another file.
    Data,
    /// Something else.
    Bytes,
}

fn walk(file: &mut (impl Read + Seek + ?Sized), riff: &Riff, mut at: u64, size: u64) -> Result<Rest, DecodeError> {
    while at < size {
        let Some(chunk) = bytes_at::<8>(file, at)? else { return Ok(Rest::Bytes) };
        if matches!(&chunk[..4], b"data" | b"RIFF" | b"RIFX" | b"RF64" | b"BW64") {
            return Ok(Rest::Data);
        }
        let claimed = riff.number(&chunk[4..]);
        if !is_name(&chunk[..4]) || claimed > size - at - 8 {
            return Ok(Rest::Bytes);
        }
        at = at.saturating_add(8).saturating_add(claimed).saturating_add(claimed % 2);
    }
    Ok(Rest::Chunks)
}

/// True if a chunk that fits begins at `at`.
fn is_chunk(file: &mut (impl Read + Seek + ?Sized), at: u64) -> Result<bool, DecodeError> {
    Ok(bytes_at::<8>(file, at)?.is_some_and(|chunk| is_name(&chunk[..4]) && chunk[..4] != *b"data"))
}

/// True for a format chunk of 16-bit PCM that every program reads.
fn is_plain(format: &[u8]) -> bool {
    let little = |at: usize, len: usize| format[at..at + len].iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
    let known_len = format.len() == 16 || format.len() == 18 && little(16, 2) == 0;
    known_len
        && little(0, 2) == 1
        && little(14, 2) == 16
        && little(12, 2) == 2 * little(2, 2)
        && little(8, 4) == little(4, 4) * little(12, 2)
}

/// True for the name of a chunk: printable, and not the beginning of a tag at the end of other files.
fn is_name(name: &[u8]) -> bool {
    name.iter().all(|&byte| byte == b' ' || byte.is_ascii_graphic()) && !name.starts_with(b"TAG") && name != b"APET"
}

/// Kind of a chunked file.
pub(crate) struct Riff {
    pub(crate) container: &'static str,
    pub(crate) order: Order,
}

impl Riff {
    fn number(&self, bytes: &[u8]) -> u64 {
        u64::from(if self.order == Order::Big { be32(bytes) } else { be32(bytes).swap_bytes() })
    }

    fn short(&self, bytes: &[u8]) -> u16 {
        let bytes = [bytes[0], bytes[1]];
        if self.order == Order::Big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    /// Reads a format chunk. `header` makes the header of an encoding, a rate and a number of channels; `(start, len)` is the
    /// position of the data.
    pub(crate) fn describe(
        &self,
        format: &[u8],
        (start, len): (u64, u64),
        header: impl FnOnce(Encoding, u32, u16) -> Header,
    ) -> Result<Found, DecodeError> {
        if format.len() < 14 {
            return Err(DecodeError::unsupported(self.container, "a format chunk that is too short"));
        }
        let mut code = self.short(format);
        let (channels, rate) = (self.short(&format[2..]), self.number(&format[4..]) as u32);
        let frame_len = u64::from(self.short(&format[12..]));
        let bits = u64::from(format.get(14..16).map_or(0, |bits| self.short(bits)));
        // Extensible: the code begins a name of 16 bytes.
        if code == 0xfffe
            && let Some(name) = format.get(24..40)
        {
            // In RIFX as one number of 32 bits, or of 16, or as in RIFF.
            code = match (self.order, name) {
                (Order::Big, [0, 0, _, _, ..]) => self.short(&name[2..]),
                (Order::Big, [code, 0, 0, 0, ..]) => u16::from(*code),
                _ => self.short(name),
            };
        }
        if channels == 0 {
            return Err(DecodeError::unsupported(self.container, "0 channels"));
        }
        // Valid bits are the upper ones of their bytes, so their number does not matter.
        let (whole, by_bits) = (frame_len / u64::from(channels), bits.div_ceil(8));
        let fits = frame_len.is_multiple_of(u64::from(channels)) && whole >= by_bits;
        let num_bytes = if fits && whole > 0 { whole } else { by_bits };
        let kind = match code {
            1 if num_bytes == 1 => Some(Kind::U8),
            1 => Kind::integer(num_bytes),
            3 => Kind::float(num_bytes),
            // Some programs state the 16 bits that a code stands for.
            6 => Some(Kind::ALaw),
            7 => Some(Kind::MuLaw),
            0x50 | 0x55 => return Ok(Found::Mpeg { start, len }),
            _ => return Ok(Found::Coded),
        };
        let kind = kind.ok_or_else(|| {
            DecodeError::unsupported(
                self.container,
                &format!("samples of {bits} bits in {num_bytes} bytes (format {code}) are not read"),
            )
        })?;
        header(Encoding { kind, order: self.order }, rate, channels).checked().map(Found::Samples)
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
