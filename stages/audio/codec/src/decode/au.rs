//! AU, the sound files of Sun and NEXT: a header of 24 bytes or more, then the samples.
//!
//! Source: Sun Microsystems, manual page `au(4)`. `dns.` begins the same header in little-endian order. DEC wrote `.sd` and a zero byte,
//! in both orders, as SoX does for little-endian files.

use std::io::{Read, Seek};

use super::DecodeError;
use super::fields::{be32, bytes_at};
use super::pcm::{Encoding, Header, Kind, Order, data_len, rest_flag};

/// True for the first bytes of a file.
pub(super) fn begins(head: &[u8]) -> bool {
    [b".snd", b"dns.", b".sd\0", b"\0ds."].iter().any(|name| head.starts_with(*name))
}

pub(super) fn read(file: &mut (impl Read + Seek + ?Sized), size: u64) -> Result<Header, DecodeError> {
    let head = bytes_at::<24>(file, 0)?;
    let head = head.ok_or_else(|| DecodeError::damaged("au", "the file ends within the header", size))?;
    let order = if &head[2..4] == b"s." { Order::Little } else { Order::Big };
    let field = |number: usize| {
        let value = be32(&head[4 * number..]);
        if order == Order::Little { value.swap_bytes() } else { value }
    };
    let kind = match field(3) {
        1 => Kind::MuLaw,
        2 => Kind::I8,
        3 => Kind::I16,
        4 => Kind::I24,
        5 => Kind::I32,
        6 => Kind::F32,
        7 => Kind::F64,
        27 => Kind::ALaw,
        other => return Err(DecodeError::unsupported("au", &format!("samples of the encoding {other} are not read"))),
    };
    // A header is never shorter than its fields, whatever it says.
    let data_start = u64::from(field(1)).max(head.len() as u64);
    let left = size.saturating_sub(data_start);
    let promised = u64::from(field(2));
    // All ones stand for a length that was not known; 0 was never filled in.
    let open = promised == 0 || promised >= super::OPEN_SIZE && promised > left;
    let data_len = data_len((!open).then_some(promised), left, size)?;
    let header = Header {
        container: "au",
        sample_rate: field(4),
        num_channels: u16::try_from(field(5)).unwrap_or(0),
        encoding: Encoding { kind, order },
        data_start,
        data_len,
        plain: false,
        flags: rest_flag(file, data_start.saturating_add(data_len))?.into_iter().collect(),
    };
    header.checked()
}
