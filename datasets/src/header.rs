//! How long a recording is by its own header, and nothing more: no sample is decoded.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Length of a recording, as its header gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// In Hz, not 0.
    pub sample_rate: u32,
    /// Of each channel.
    pub num_samples: u64,
    /// The header claims more than the file has. Known of WAV alone.
    pub is_cut: bool,
}

impl Length {
    /// In seconds.
    pub fn secs(self) -> f64 {
        self.num_samples as f64 / f64::from(self.sample_rate)
    }

    /// Reads it from a WAV, FLAC, AIFF, AU or SPHERE file, whatever its name. `None` for every other format, for a file that cannot
    /// be read, and for a header that does not say. A WAV that is shorter than its header claims is as long as it is.
    pub fn read(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        Self::parse(&mut BufReader::with_capacity(512, file), size).ok().flatten()
    }

    /// Reads the length from anything that reads like a file of `size` bytes.
    fn parse(file: &mut (impl Read + Seek), size: u64) -> io::Result<Option<Self>> {
        match &read::<4>(file)? {
            b"RIFF" | b"RF64" | b"BW64" => parse_wav(file, size, u32::from_le_bytes, u16::from_le_bytes),
            b"RIFX" => parse_wav(file, size, u32::from_be_bytes, u16::from_be_bytes),
            b"fLaC" => parse_flac(file),
            b"FORM" => parse_aiff(file),
            b".snd" => parse_au(file, size),
            b"NIST" => parse_sphere(file),
            _ => Ok(None),
        }
    }
}

fn read<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Chunks up to `data`: at most so many, because each costs a seek.
const MOST_CHUNKS: usize = 64;

/// From here on a length means that whoever wrote the header did not know it: into a pipe, for example.
const UNKNOWN_LEN: u64 = 0x7fff_f000;

fn parse_wav(
    file: &mut (impl Read + Seek),
    size: u64,
    number: fn([u8; 4]) -> u32,
    short: fn([u8; 2]) -> u16,
) -> io::Result<Option<Length>> {
    let _riff_size: [u8; 4] = read(file)?;
    if &read::<4>(file)? != b"WAVE" {
        return Ok(None);
    }
    let (mut format, mut wide) = (None, None);
    for _ in 0..MOST_CHUNKS {
        let (name, len) = (read::<4>(file)?, u64::from(number(read(file)?)));
        let start = file.stream_position()?;
        match (&name, format) {
            (b"fmt ", _) if len >= 16 => {
                let _code_and_channels: [u8; 4] = read(file)?;
                let sample_rate = number(read(file)?);
                let _bytes_per_sec: [u8; 4] = read(file)?;
                let block = u64::from(short(read(file)?));
                format = (sample_rate > 0 && block > 0).then_some((sample_rate, block));
            }
            // RF64: sizes of the file and of the data.
            (b"ds64", _) if len >= 16 => {
                let _riff_size: [u8; 8] = read(file)?;
                wide = Some(u64::from_le_bytes(read(file)?));
            }
            (b"data", Some((sample_rate, block))) => {
                let there = size.saturating_sub(start);
                let len = match wide.unwrap_or(len) {
                    0 => there,
                    len => len,
                };
                let is_cut = len > there && len < UNKNOWN_LEN;
                return Ok(Some(Length { sample_rate, num_samples: len.min(there) / block, is_cut }));
            }
            (b"data", None) => return Ok(None),
            _ => {}
        }
        // Chunks begin at even places.
        file.seek(SeekFrom::Start(start.saturating_add(len).saturating_add(len % 2)))?;
    }
    Ok(None)
}

/// STREAMINFO (RFC 9639, section 8.2) is always first: after 10 bytes 20 bits of rate, 3 + 5 bits, 36 bits of length.
fn parse_flac(file: &mut impl Read) -> io::Result<Option<Length>> {
    let _block_header: [u8; 4] = read(file)?;
    let _block_and_frame_sizes: [u8; 10] = read(file)?;
    let bits = u64::from_be_bytes(read(file)?);
    let (sample_rate, num_samples) = ((bits >> 44) as u32, bits & 0xf_ffff_ffff);
    Ok((sample_rate > 0 && num_samples > 0).then_some(Length { sample_rate, num_samples, is_cut: false }))
}

/// The `COMM` chunk: channels, samples of each, bits, and the rate as an 80-bit number.
fn parse_aiff(file: &mut (impl Read + Seek)) -> io::Result<Option<Length>> {
    let _size_and_kind: [u8; 8] = read(file)?;
    for _ in 0..MOST_CHUNKS {
        let (name, len) = (read::<4>(file)?, u64::from(u32::from_be_bytes(read(file)?)));
        let start = file.stream_position()?;
        if &name == b"COMM" {
            let _channels: [u8; 2] = read(file)?;
            let num_samples = u64::from(u32::from_be_bytes(read(file)?));
            let _bits: [u8; 2] = read(file)?;
            let (exponent, mantissa) = (u16::from_be_bytes(read(file)?), u64::from_be_bytes(read(file)?));
            // Whole numbers below 2 to the 32nd.
            let shift = (0x3fff + 63_u16).checked_sub(exponent).filter(|shift| (32..64).contains(shift));
            let sample_rate = shift.map_or(0, |shift| (mantissa >> shift) as u32);
            return Ok((sample_rate > 0 && num_samples > 0).then_some(Length { sample_rate, num_samples, is_cut: false }));
        }
        file.seek(SeekFrom::Start(start.saturating_add(len).saturating_add(len % 2)))?;
    }
    Ok(None)
}

/// Fields of four bytes: offset of the samples, their bytes, encoding, rate, channels.
fn parse_au(file: &mut impl Read, size: u64) -> io::Result<Option<Length>> {
    let mut field = || read(file).map(u32::from_be_bytes);
    let [start, len, encoding, sample_rate, channels] = [field()?, field()?, field()?, field()?, field()?];
    let num_bytes = match encoding {
        1 | 2 | 27 => 1,
        3 => 2,
        4 => 3,
        5 | 6 => 4,
        7 => 8,
        _ => return Ok(None),
    };
    let there = size.saturating_sub(u64::from(start));
    let len = if len == 0 { there } else { u64::from(len).min(there) };
    let num_samples = len / (num_bytes * u64::from(channels)).max(1);
    Ok((sample_rate > 0 && channels > 0).then_some(Length { sample_rate, num_samples, is_cut: false }))
}

/// Lines such as `sample_rate -i 16000`.
fn parse_sphere(file: &mut impl Read) -> io::Result<Option<Length>> {
    const HEADER_LEN: u64 = 1_024;
    let mut text = Vec::new();
    file.take(HEADER_LEN).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let number = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" -i "))?;
        value.trim().parse::<u64>().ok().filter(|number| *number > 0)
    };
    let rate = number("sample_rate").and_then(|rate| u32::try_from(rate).ok());
    Ok(rate.zip(number("sample_count")).map(|(sample_rate, num_samples)| Length { sample_rate, num_samples, is_cut: false }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Option<Length> {
        Length::parse(&mut Cursor::new(bytes), bytes.len() as u64).ok().flatten()
    }

    /// 16-bit stereo at 8000 Hz, with an odd chunk before the samples.
    fn wav(claimed: u32, there: usize) -> Vec<u8> {
        let mut bytes =
            b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0data".to_vec();
        bytes.extend_from_slice(&claimed.to_le_bytes());
        bytes.resize(bytes.len() + there, 0);
        bytes
    }

    #[test]
    fn wav_headers_are_read_and_not_believed_beyond_the_file() {
        let check = |bytes: &[u8], num_samples, is_cut| {
            assert_eq!(parse(bytes), Some(Length { sample_rate: 8_000, num_samples, is_cut }));
        };
        check(&wav(400, 400), 100, false);
        check(&wav(400, 500), 100, false);
        check(&wav(400, 396), 99, true);
        check(&wav(u32::MAX, 40), 10, false);
        assert_eq!(parse(&wav(400, 400)[..40]), None);
        assert_eq!(parse(b"RIFF\0\0\0\0AVI "), None);
    }

    #[test]
    fn flac_headers_are_read() {
        let mut bytes = b"fLaC\x80\0\0\x22\x10\0\x10\0\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(&((16_000_u64 << 44) + (15 << 36) + 48_000).to_be_bytes());
        assert_eq!(parse(&bytes), Some(Length { sample_rate: 16_000, num_samples: 48_000, is_cut: false }));
        assert!((parse(&bytes).unwrap().secs() - 3.0).abs() < 1e-12);
        assert_eq!(parse(&bytes[..20]), None);
    }

    #[test]
    fn other_headers_are_read() {
        let length = Length { sample_rate: 16_000, num_samples: 5, is_cut: false };
        let sphere = b"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i 5\nsample_rate -i 16000\nend_head\n";
        assert_eq!(parse(sphere), Some(length));
        let aiff = b"FORM\0\0\0\0AIFFNAME\0\0\0\x01a\0COMM\0\0\0\x12\0\x01\0\0\0\x05\0\x10\x40\x0c\xfa\0\0\0\0\0\0\0";
        assert_eq!(parse(aiff), Some(length));
        let au = |len: u8| [b".snd\0\0\0\x18\0\0\0".as_slice(), &[len], b"\0\0\0\x03\0\0\x3e\x80\0\0\0\x01", &[0; 10]].concat();
        assert_eq!((parse(&au(10)), parse(&au(0)), parse(&au(99))), (Some(length), Some(length), Some(length)));
        let format = b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data";
        let wav = |head: &[u8], len: u32, rest: &[u8]| [head, format, &len.to_le_bytes(), &[0; 10], rest].concat();
        assert_eq!(parse(&wav(b"RIFF\0\0\0\0", 0, b"")), Some(length));
        let mut wide = wav(b"RF64\xff\xff\xff\xff", u32::MAX, b"LIST\0\0\0\0");
        wide.splice(12..12, *b"ds64\x10\0\0\0\0\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0");
        assert_eq!(parse(&wide), Some(length));
        let big =
            b"RIFX\0\0\0\0WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x3e\x80\0\0\x7d\0\0\x02\0\x10data\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(parse(big), Some(length));
    }

    proptest! {
        #[test]
        fn damage_is_never_more_than_an_unknown_length(mut bytes in Just(wav(400, 40)), at in 0_usize..60, value: u8, cut in 0_usize..100) {
            bytes[at] = value;
            bytes.truncate(cut);
            parse(&bytes);
        }
    }
}
