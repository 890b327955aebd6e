//! NIST SPHERE: the files of TIMIT, WSJ and other corpora of the Linguistic Data Consortium.
//!
//! ```text
//! NIST_1A
//!    1024
//! sample_rate -i 16000
//! sample_coding -s3 pcm
//! end_head
//! ```
//!
//! Text of as many bytes as the second line says, then the samples. Source: NIST SPHERE 2.6, `doc/header.doc`.

use std::io::{Read, Seek};

use super::DecodeError;
use super::fields::some_at;
use super::pcm::{Encoding, Header, Kind, Order, data_len, rest_flag};

/// A longer header is damage.
const MAX_HEADER: u64 = 1 << 20;

pub(super) fn read(file: &mut (impl Read + Seek + ?Sized), size: u64) -> Result<Header, DecodeError> {
    let damaged = |reason: &str| DecodeError::damaged("sphere", reason, 0);
    let head = some_at(file, 0, 16)?;
    let len = head.get(8..16).and_then(|line| std::str::from_utf8(line).ok()).and_then(|line| line.trim().parse::<u64>().ok());
    let len = len.filter(|len| (16..=MAX_HEADER).contains(len)).ok_or_else(|| damaged("no length of the header"))?;
    let text = some_at(file, 0, len)?;
    if (text.len() as u64) < len {
        return Err(damaged("the file ends within the header"));
    }
    let text = String::from_utf8_lossy(&text);
    let field = |name: &str| {
        let lines = text.lines().map(str::trim_end).take_while(|line| *line != "end_head");
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.split_once(' '));
        values.next().map(|(_, value)| value.trim())
    };
    // Some programs write whole numbers as reals: `sample_rate -r 16000.0`.
    let number = |name: &str| {
        let number: f64 = field(name)?.parse().ok()?;
        (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
    };
    let needed = |name: &str| number(name).ok_or_else(|| damaged(&format!("no `{name}` in the header")));

    let coding = field("sample_coding").unwrap_or("pcm").to_lowercase();
    let num_bytes = number("sample_n_bytes").unwrap_or(if coding.starts_with("pcm") { 2 } else { 1 });
    let kind = match coding.as_str() {
        "pcm" | "linear" => Kind::integer(num_bytes),
        "ulaw" | "mu-law" | "mulaw" if num_bytes == 1 => Some(Kind::MuLaw),
        "alaw" | "a-law" if num_bytes == 1 => Some(Kind::ALaw),
        _ => None,
    };
    let kind = kind.ok_or_else(|| {
        let compressed = coding.split("embedded-").nth(1).map(|name| name.split("-v").next().unwrap_or(name));
        let reason = match compressed {
            Some(name) => {
                format!("compressed with {name}, which is not read: decompress the corpus with `sph2pipe` or `w_decode`")
            }
            None => format!("samples of the coding `{coding}` in {num_bytes} bytes are not read"),
        };
        DecodeError::unsupported("sphere", &reason)
    })?;
    let sample_rate = u32::try_from(needed("sample_rate")?).unwrap_or(u32::MAX);
    // The places of the bytes: `01` and `012` have the low one first, `10` and `210` the high one.
    let places = (0..num_bytes.min(8)).map(|place| char::from(b'0' + place as u8)).collect::<String>();
    let order = match field("sample_byte_format") {
        _ if num_bytes < 2 => Order::Little,
        // SoX and libsndfile write two places, however many bytes there are.
        Some(order) if order == places || order == "01" => Order::Little,
        Some(order) if order.chars().rev().eq(places.chars()) || order == "10" => Order::Big,
        Some(order) => return Err(damaged(&format!("`sample_byte_format` is `{order}`, expected `{places}` or its reverse"))),
        None => return Err(damaged("no `sample_byte_format` in the header")),
    };
    let num_channels = u16::try_from(number("channel_count").unwrap_or(1)).unwrap_or(0);
    if num_channels > 1 && field("channels_interleaved").is_some_and(|value| value.eq_ignore_ascii_case("false")) {
        return Err(damaged("channels one after the other (`channels_interleaved`), expected interleaved samples"));
    }
    let promised = number("sample_count").map(|count| count.saturating_mul(kind.num_bytes() as u64 * u64::from(num_channels)));
    let data_len = data_len(promised.filter(|&promised| promised > 0), size.saturating_sub(len), size)?;
    let header = Header {
        container: "sphere",
        sample_rate,
        num_channels,
        encoding: Encoding { kind, order },
        data_start: len,
        data_len,
        plain: false,
        flags: rest_flag(file, len.saturating_add(data_len))?.into_iter().collect(),
    };
    header.checked()
}
