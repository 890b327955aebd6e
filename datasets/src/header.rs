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

    /// Reads it from a WAV or FLAC file, whatever its name. `None` for every other format, for a file that cannot be read, and
    /// for a header that does not say. A WAV that is shorter than its header claims is as long as it is.
    pub fn read(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        Self::parse(&mut BufReader::with_capacity(512, file), size).ok().flatten()
    }

    /// Reads the length from anything that reads like a file of `size` bytes.
    fn parse(file: &mut (impl Read + Seek), size: u64) -> io::Result<Option<Self>> {
        match &read::<4>(file)? {
            b"RIFF" => parse_wav(file, size),
            b"fLaC" => parse_flac(file),
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

fn parse_wav(file: &mut (impl Read + Seek), size: u64) -> io::Result<Option<Length>> {
    let _riff_size: [u8; 4] = read(file)?;
    if &read::<4>(file)? != b"WAVE" {
        return Ok(None);
    }
    let mut format = None;
    for _ in 0..MOST_CHUNKS {
        let (name, len) = (read::<4>(file)?, u64::from(u32::from_le_bytes(read(file)?)));
        let start = file.stream_position()?;
        match (&name, format) {
            (b"fmt ", _) if len >= 16 => {
                let _code_and_channels: [u8; 4] = read(file)?;
                let sample_rate = u32::from_le_bytes(read(file)?);
                let _bytes_per_sec: [u8; 4] = read(file)?;
                let block = u64::from(u16::from_le_bytes(read(file)?));
                format = (sample_rate > 0 && block > 0).then_some((sample_rate, block));
            }
            (b"data", Some((sample_rate, block))) => {
                let there = size.saturating_sub(start);
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

    proptest! {
        #[test]
        fn damage_is_never_more_than_an_unknown_length(mut bytes in Just(wav(400, 40)), at in 0_usize..60, value: u8, cut in 0_usize..100) {
            bytes[at] = value;
            bytes.truncate(cut);
            parse(&bytes);
        }
    }
}
