//! Apple's Core Audio Format with samples that are not compressed.
//!
//! Source: Apple "Core Audio Format Specification 1.0".

use std::io::{Read, Seek};

use super::fields::{be32, be64, bytes_at};
use super::pcm::{Encoding, Header, Kind, Order, data_len, rest_flag};
use super::{DecodeError, Flag};

pub(super) fn read(file: &mut (impl Read + Seek + ?Sized), size: u64) -> Result<Header, DecodeError> {
    let damaged = |reason: &str, at: u64| DecodeError::damaged("caf", reason, at);
    let (mut description, mut at) = (None, 8);
    while let Some(chunk) = bytes_at::<12>(file, at)? {
        // A length of -1: up to the end of the file.
        let (start, len) = (at + 12, be64(&chunk[4..]));
        match &chunk[..4] {
            b"desc" => description = bytes_at::<32>(file, start)?,
            b"data" => {
                let description = description.ok_or_else(|| damaged("no `desc` chunk before the samples", at))?;
                // Before the samples, four bytes count the edits.
                let data_start = start + 4;
                let left = size.saturating_sub(data_start);
                let promised = (len != u64::MAX).then(|| len.saturating_sub(4));
                let data_len = data_len(promised, left, size)?;
                return header(&description, data_start, data_len, rest(file, data_start.saturating_add(data_len), size)?);
            }
            _ => {}
        }
        at = start.saturating_add(len);
    }
    Err(if description.is_some() { DecodeError::NoSamples } else { damaged("no `desc` chunk", size) })
}

/// Returns a flag for what is behind the samples and is no chunk.
fn rest(file: &mut (impl Read + Seek + ?Sized), mut at: u64, size: u64) -> Result<Option<Flag>, DecodeError> {
    while let Some(chunk) = bytes_at::<12>(file, at)? {
        let (end, name) = (at.saturating_add(12).saturating_add(be64(&chunk[4..])), &chunk[..4]);
        if name == b"caff" || !name.iter().all(u8::is_ascii_alphanumeric) || end > size {
            break;
        }
        at = end;
    }
    rest_flag(file, at)
}

fn header(description: &[u8; 32], data_start: u64, data_len: u64, flag: Option<Flag>) -> Result<Header, DecodeError> {
    let flags = be32(&description[12..]);
    let (packet, channels, bits) = (be32(&description[16..]), be32(&description[24..]), be32(&description[28..]));
    let num_bytes = if packet > 0 { u64::from(packet / channels.max(1)) } else { u64::from(bits.div_ceil(8)) };
    let kind = match &description[8..12] {
        b"lpcm" if flags & 1 != 0 => Kind::float(num_bytes),
        b"lpcm" => Kind::integer(num_bytes),
        b"alaw" => Some(Kind::ALaw),
        b"ulaw" => Some(Kind::MuLaw),
        _ => None,
    };
    let kind = kind.ok_or_else(|| {
        let reason = format!("samples of the type `{}` in {num_bytes} bytes are not read", description[8..12].escape_ascii());
        DecodeError::unsupported("caf", &reason)
    })?;
    let header = Header {
        container: "caf",
        sample_rate: f64::from_bits(be64(description)) as u32,
        num_channels: u16::try_from(channels).unwrap_or(0),
        encoding: Encoding { kind, order: if flags & 2 != 0 { Order::Little } else { Order::Big } },
        data_start,
        data_len,
        plain: false,
        flags: flag.into_iter().collect(),
    };
    header.checked()
}
