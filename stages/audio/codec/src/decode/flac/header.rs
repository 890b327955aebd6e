//! Headers of a FLAC file and of its frames.

use symphonia::core::checksum::Crc8Ccitt;
use symphonia::core::io::Monitor;

use super::super::DecodeError;
use super::super::window::Window;
use super::bits::Stop;

/// Content of STREAMINFO (section 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamInfo {
    pub(super) sample_rate: u32,
    pub(super) num_channels: u8,
    pub(super) bits: u32,
    /// Of each channel; absent when the encoder did not know.
    pub(super) num_samples: Option<u64>,
    /// Samples of the smallest block but the last.
    pub(super) min_block: usize,
    /// Samples of the largest block.
    pub(super) max_block: usize,
    /// True if there is no metadata of an unknown type.
    pub(super) plain: bool,
    /// Bytes of the largest frame; 0 when the encoder did not know.
    pub(super) max_frame: usize,
}

/// Reads everything before the first frame. Returns the MD5 sum of the samples too, if it is set.
pub(super) fn read_metadata(window: &mut Window<'_>) -> Result<(StreamInfo, Option<[u8; 16]>), DecodeError> {
    window.skip(4)?; // the marker, which was seen
    let (mut found, mut plain) = (None, true);
    loop {
        let Some(&[kind, a, b, c]) = window.at_least(4)?.first_chunk::<4>() else {
            return Err(DecodeError::damaged("flac", "the file ends before the first frame", window.offset));
        };
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        window.skip(4)?;
        if found.is_none() {
            if kind & 0x7f != 0 || len != 34 {
                return Err(DecodeError::damaged("flac", "does not begin with STREAMINFO", window.offset));
            }
            let Some(block) = window.at_least(34)?.first_chunk::<34>() else {
                return Err(DecodeError::damaged("flac", "the file ends before the first frame", window.offset));
            };
            found = Some(stream_info(block));
        }
        // Section 8.1: types 0 to 6 are known.
        plain &= kind & 0x7f <= 6;
        window.skip(len)?;
        if kind & 0x80 != 0 {
            break;
        }
    }
    let (mut info, md5) = found.ok_or(DecodeError::NoSamples)?;
    info.plain = plain;
    if !(4..=32).contains(&info.bits) || info.max_block == 0 {
        return Err(DecodeError::damaged("flac", "STREAMINFO contradicts itself", window.offset));
    }
    Ok((info, md5))
}

fn stream_info(block: &[u8; 34]) -> (StreamInfo, Option<[u8; 16]>) {
    let mut eight = [0; 8];
    eight.copy_from_slice(&block[10..18]);
    let packed = u64::from_be_bytes(eight);
    let num_samples = packed & 0xf_ffff_ffff;
    let mut md5 = [0; 16];
    md5.copy_from_slice(&block[18..]);
    let info = StreamInfo {
        sample_rate: (packed >> 44) as u32,
        num_channels: (packed >> 41 & 7) as u8 + 1,
        bits: (packed >> 36 & 31) as u32 + 1,
        num_samples: (num_samples > 0).then_some(num_samples),
        min_block: usize::from(u16::from_be_bytes([block[0], block[1]])),
        max_block: usize::from(u16::from_be_bytes([block[2], block[3]])),
        plain: true,
        max_frame: u32::from_be_bytes([0, block[7], block[8], block[9]]) as usize,
    };
    (info, (md5 != [0; 16]).then_some(md5))
}

/// Coding of the channels of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Independent(u8),
    LeftSide,
    SideRight,
    MidSide,
}

/// Section 9.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) num_samples: usize,
    pub(super) channels: Channels,
    /// Absent: as in STREAMINFO.
    sample_rate: Option<u32>,
    /// Absent: as in STREAMINFO.
    bits: Option<u32>,
    /// Counts samples, if blocks differ in size, else frames.
    counts_samples: bool,
    number: u64,
}

impl FrameHeader {
    /// Gives the header and its length.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize), Stop> {
        let Some(&[sync, second, sizes, layout]) = bytes.first_chunk::<4>() else { return Err(Stop::End) };
        if sync != 0xff || second & 0xfe != 0xf8 {
            return Err(Stop::Bad("no frame where one should begin"));
        }
        let (number, mut at) = coded_number(bytes, 4)?;
        let mut take = |len: usize| {
            let field = bytes.get(at..at + len).ok_or(Stop::End)?;
            at += len;
            Ok(field.iter().fold(0_u32, |value, &byte| value << 8 | u32::from(byte)))
        };
        let num_samples = match sizes >> 4 {
            0 => return Err(Stop::Bad("a frame of no known size")),
            1 => 192,
            code @ 2..=5 => 144 << code,
            6 => take(1)? as usize + 1,
            7 => take(2)? as usize + 1,
            code => 1 << code,
        };
        let sample_rate = match sizes & 15 {
            0 => None,
            code @ 1..=11 => {
                let rates = [88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000];
                Some(rates[usize::from(code) - 1])
            }
            12 => Some(take(1)? * 1_000),
            13 => Some(take(2)?),
            14 => Some(take(2)? * 10),
            _ => return Err(Stop::Bad("a frame of no known rate")),
        };
        let channels = match layout >> 4 {
            code @ 0..=7 => Channels::Independent(code + 1),
            8 => Channels::LeftSide,
            9 => Channels::SideRight,
            10 => Channels::MidSide,
            _ => return Err(Stop::Bad("a frame of no known channels")),
        };
        let bits = match layout >> 1 & 7 {
            0 => None,
            3 => return Err(Stop::Bad("a frame of no known width")),
            code => Some([8, 12, 0, 16, 20, 24, 32][usize::from(code) - 1]),
        };
        let mut crc = Crc8Ccitt::new(0);
        crc.process_buf_bytes(&bytes[..at]);
        let Some(&expected) = bytes.get(at) else { return Err(Stop::End) };
        if crc.crc() != expected {
            return Err(Stop::Bad("the header of a frame does not have its checksum"));
        }
        let counts_samples = second & 1 == 1;
        Ok((Self { num_samples, channels, sample_rate, bits, counts_samples, number }, at + 1))
    }

    /// Checks that this is the frame after `decoded` samples in `num_frames` frames.
    pub(super) fn check(&self, info: &StreamInfo, decoded: u64, num_frames: u64) -> Result<(), Stop> {
        let num_channels = if let Channels::Independent(number) = self.channels { number } else { 2 };
        let same = self.sample_rate.is_none_or(|rate| rate == info.sample_rate)
            && self.bits.is_none_or(|bits| bits == info.bits)
            && num_channels == info.num_channels;
        if !same {
            return Err(Stop::Bad("a frame of another rate, width or number of channels"));
        }
        if self.num_samples > info.max_block {
            return Err(Stop::Bad("a frame larger than the header promises"));
        }
        // Blocks of one size: all but the last have the largest.
        let start = if self.counts_samples { self.number } else { self.number.saturating_mul(info.max_block as u64) };
        // Encoders before version 1.2.1 did not mark that blocks differ in size, and counted frames or samples (appendix B.1).
        let old = !self.counts_samples && info.min_block != info.max_block;
        if start != decoded && !(old && [decoded, num_frames].contains(&self.number)) {
            return Err(Stop::Bad("a frame is missing"));
        }
        Ok(())
    }
}

/// Section 9.1.5: coded as UTF-8 codes a character, up to 36 bits. Gives where it ends too.
fn coded_number(bytes: &[u8], at: usize) -> Result<(u64, usize), Stop> {
    let Some(&lead) = bytes.get(at) else { return Err(Stop::End) };
    let num_more = match lead.leading_ones() {
        0 => return Ok((u64::from(lead), at + 1)),
        ones @ 2..=7 => ones as usize - 1,
        _ => return Err(Stop::Bad("a frame without a number")),
    };
    let more = bytes.get(at + 1..at + 1 + num_more).ok_or(Stop::End)?;
    if more.iter().any(|byte| byte & 0xc0 != 0x80) {
        return Err(Stop::Bad("a frame without a number"));
    }
    let first = u64::from(lead) & (0x7f >> (num_more + 1));
    Ok((more.iter().fold(first, |number, byte| number << 6 | u64::from(byte & 0x3f)), at + 1 + num_more))
}
