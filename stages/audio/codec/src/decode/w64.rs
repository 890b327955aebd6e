//! Sony Wave64: the chunks of RIFF with names of 16 bytes and lengths of 8.
//!
//! Source: Sonic Foundry "Sony Wave64 specification": a length counts the name and itself, and chunks begin at multiples of 8.

use std::io::{Read, Seek};

use super::fields::{bytes_at, le64, some_at};
use super::pcm::{Header, Order, data_len, rest_flag};
use super::{DecodeError, Flag};
use crate::wav::{Found, MAX_FORMAT_LEN, Riff};

/// Beginning of every file: the name `riff`.
pub(super) const MAGIC: [u8; 16] = *b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";
/// End of the names of the other chunks.
const NAME_END: [u8; 12] = *b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";

/// A length from here on stands for "unknown": programs that write to a pipe leave 2^63 - 1 or 2^64 - 1.
const OPEN_LEN: u64 = 1 << 62;

pub(super) fn read(file: &mut (impl Read + Seek + ?Sized), size: u64) -> Result<Found, DecodeError> {
    let (mut format, mut at) = (None, 40);
    while let Some(chunk) = bytes_at::<24>(file, at)? {
        let len = le64(&chunk[16..]);
        if chunk[4..16] == NAME_END {
            match &chunk[..4] {
                b"fmt " => format = Some(some_at(file, at + 24, len.saturating_sub(24).min(MAX_FORMAT_LEN))?),
                b"data" => {
                    let format = format.ok_or(DecodeError::NoChunk { container: "w64", chunk: "fmt ", offset: at })?;
                    let (start, left) = (at + 24, size - at - 24);
                    let promised = Some(len.saturating_sub(24)).filter(|&len| len > 0 && len < OPEN_LEN);
                    let riff = Riff { container: "w64", order: Order::Little };
                    let (data_start, data_len) = (start, data_len(promised, left, size)?);
                    let flag = rest(file, start.saturating_add(data_len), size)?;
                    return riff.describe(&format, (data_start, data_len), |encoding, sample_rate, num_channels| Header {
                        container: "w64",
                        sample_rate,
                        num_channels,
                        encoding,
                        data_start,
                        data_len,
                        plain: false,
                        flags: flag.into_iter().collect(),
                    });
                }
                _ => {}
            }
        }
        at = at.saturating_add(len.max(24).div_ceil(8).saturating_mul(8));
    }
    let chunk = if format.is_none() { "fmt " } else { "data" };
    Err(DecodeError::NoChunk { container: "w64", chunk, offset: size })
}

/// Returns a flag for what is behind the samples and is no chunk.
fn rest(file: &mut (impl Read + Seek + ?Sized), end: u64, size: u64) -> Result<Option<Flag>, DecodeError> {
    let mut at = end.div_ceil(8).saturating_mul(8).min(size.max(end));
    while let Some(chunk) = bytes_at::<24>(file, at)? {
        let (len, is_chunk) = (le64(&chunk[16..]), chunk[4..16] == NAME_END);
        if !is_chunk || len < 24 || len > size - at {
            break;
        }
        at = at.saturating_add(len.div_ceil(8).saturating_mul(8));
    }
    rest_flag(file, at)
}
