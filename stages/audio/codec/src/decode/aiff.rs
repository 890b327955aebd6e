//! AIFF and AIFF-C with samples that are not compressed.
//!
//! Sources: Apple "Audio Interchange File Format 1.3" (1989) and "AIFF-C draft" (1991); the codes of later Apple software in the
//! `QuickTime` file format.

use std::io::{Read, Seek};

use super::fields::{be16, be32, be64, bytes_at, some_at};
use super::pcm::{Encoding, Header, Kind, Order, data_len, rest_flag};
use super::{DecodeError, Flag};

/// A size from here on that exceeds the file stands for "unknown": SoX leaves 7F000000 where it writes to a pipe.
const OPEN_SIZE: u64 = 0x7f00_0000;

pub(super) fn read(file: &mut (impl Read + Seek + ?Sized), size: u64) -> Result<Header, DecodeError> {
    let damaged = |reason: &str, at: u64| DecodeError::damaged("aiff", reason, at);
    let head = bytes_at::<12>(file, 0)?.ok_or_else(|| damaged("the file ends within the header", size))?;
    let compressed = &head[8..] == b"AIFC";
    let (mut common, mut data, mut block_len, mut at) = (None, None, 0, 12);
    while let Some(chunk) = bytes_at::<8>(file, at)? {
        let (len, name) = (u64::from(be32(&chunk[4..])), &chunk[..4]);
        let ends = len > size - at - 8 || name == b"FORM" || !name.iter().all(|&byte| byte == b' ' || byte.is_ascii_graphic());
        match name {
            b"COMM" => common = Some(Common::parse(&some_at(file, at + 8, len.min(22))?, compressed)?),
            // An offset and a block size, then the samples.
            b"SSND" if data.is_none() => {
                let fields = bytes_at::<8>(file, at + 8)?.unwrap_or_default();
                let offset = u64::from(be32(&fields));
                block_len = u64::from(be32(&fields[4..]));
                let start = at.saturating_add(16).saturating_add(offset);
                data = Some((start, len.saturating_sub(8).saturating_sub(offset)));
                // Of a length that is not known, or more than there is.
                if len < 8 || ends {
                    at = size;
                }
            }
            _ if ends => break,
            _ => {}
        }
        at = at.saturating_add(8).saturating_add(len).saturating_add(len % 2);
    }
    let common = common.ok_or_else(|| damaged("no `COMM` chunk", size))?;
    let (data_start, chunk_len) = data.ok_or(DecodeError::NoSamples)?;
    let Common { sample_rate, num_channels, num_frames, encoding } = common;
    let frames_len = num_frames * encoding.kind.num_bytes() as u64 * u64::from(num_channels);
    let left = size.saturating_sub(data_start);
    // Programs that write to a pipe leave one of the sizes open, or both.
    let promised = match (chunk_len, frames_len) {
        (0, 0) => None,
        (0, frames) => Some(frames),
        (chunk, 0) => Some(chunk),
        (chunk, frames) => Some(chunk.min(frames)),
    };
    let open = promised.is_some_and(|promised| promised >= OPEN_SIZE && promised > left);
    let mut flag = rest_flag(file, at)?;
    if chunk_len > 0 && frames_len > 0 && !open {
        let frame_len = frames_len / num_frames;
        if frames_len > chunk_len && chunk_len <= left {
            let found = chunk_len / frame_len;
            return Err(DecodeError::Length {
                container: "aiff",
                found,
                promised: num_frames,
                offset: Some(data_start + chunk_len),
            });
        }
        // Blocks may be filled up.
        if chunk_len >= frames_len + block_len.max(frame_len) {
            flag = flag.or(Some(Flag::TrailingBytes));
        }
    }
    let header = Header {
        container: "aiff",
        sample_rate,
        num_channels,
        encoding,
        data_start,
        data_len: data_len(promised.filter(|_| !open), left, size)?,
        plain: false,
        flags: flag.into_iter().collect(),
    };
    header.checked()
}

/// The `COMM` chunk.
struct Common {
    num_channels: u16,
    num_frames: u64,
    sample_rate: u32,
    encoding: Encoding,
}

impl Common {
    fn parse(bytes: &[u8], compressed: bool) -> Result<Self, DecodeError> {
        if bytes.len() < 18 {
            return Err(DecodeError::damaged("aiff", "a `COMM` chunk that is too short", 12));
        }
        let num_bytes = u64::from(be16(&bytes[6..]).div_ceil(8));
        let code = bytes.get(18..22).filter(|_| compressed).unwrap_or(b"NONE");
        let (kind, order) = match code {
            b"NONE" | b"twos" | b"in24" | b"in32" => (Kind::integer(num_bytes), Order::Big),
            // The third is how libsndfile writes the second.
            b"sowt" | b"42ni" | b"42n1" | b"23ni" => (Kind::integer(num_bytes), Order::Little),
            b"raw " => ((num_bytes == 1).then_some(Kind::U8), Order::Big),
            b"fl32" | b"FL32" => (Some(Kind::F32), Order::Big),
            b"fl64" | b"FL64" => (Some(Kind::F64), Order::Big),
            b"alaw" | b"ALAW" => (Some(Kind::ALaw), Order::Big),
            b"ulaw" | b"ULAW" => (Some(Kind::MuLaw), Order::Big),
            _ => (None, Order::Big),
        };
        let kind = kind.ok_or_else(|| {
            let reason = format!("samples of the type `{}` in {num_bytes} bytes are not read", code.escape_ascii());
            DecodeError::unsupported("aiff", &reason)
        })?;
        Ok(Self {
            num_channels: be16(bytes),
            num_frames: u64::from(be32(&bytes[2..])),
            sample_rate: extended(&bytes[8..18]),
            encoding: Encoding { kind, order },
        })
    }
}

/// Reads an 80-bit IEEE 754 number as a whole number: 0 where it is none that a rate can be.
fn extended(bytes: &[u8]) -> u32 {
    let (exponent, mantissa) = (i32::from(be16(bytes) & 0x7fff) - 16_383, be64(&bytes[2..]));
    if be16(bytes) & 0x8000 != 0 || !(0..32).contains(&exponent) { 0 } else { (mantissa >> (63 - exponent)) as u32 }
}
