//! FLAC recordings, a frame at a time.
//!
//! Own code for speed: half of the time of preparing a FLAC corpus was symphonia's decoder. Here the residual of a sample is
//! read and its prediction added in one loop, so that the processor works on both at once. And it is strict: every frame must
//! follow the one before, have the right checksums, and all together the length and the MD5 sum of the header; a damaged
//! frame that symphonia steps over in silence rejects the recording, with its place. Source: RFC 9639; the section stands
//! beside each part.

mod bits;
mod header;
mod subframe;
mod wide;

use crc_fast::CrcAlgorithm::Crc16Umts;

use super::window::Window;
use super::{DecodeError, Decoder, Flag, Loudness, Source, SourceInfo};
use crate::encode::Format;
use crate::sums::Summed;
use crate::wav::SAMPLE_RATES;
use bits::{Bits, Stop};
use header::{Channels, FrameHeader, StreamInfo};

/// The longest frame that its size in STREAMINFO can stand for.
const MAX_FRAME_LEN: usize = 1 << 24;

pub(super) fn open<'s>(source: &Source<'s>) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    let mut window = Window::of(source);
    let begins_file = window.offset == 0;
    let (info, md5) = header::read_metadata(&mut window)?;
    if !SAMPLE_RATES.contains(&info.sample_rate) {
        return Err(DecodeError::SampleRate { found: info.sample_rate });
    }
    let summed = md5.map(|md5| Summed::new(Some(md5)));
    let channels = vec![Vec::new(); usize::from(info.num_channels)];
    let loudness = Loudness::default();
    Ok(Box::new(FlacDecoder {
        window,
        info,
        begins_file,
        channels,
        num_frames: 0,
        decoded: 0,
        summed,
        flags: Vec::new(),
        loudness,
    }))
}

struct FlacDecoder<'s> {
    window: Window<'s>,
    info: StreamInfo,
    /// The samples of a frame, channel by channel.
    channels: Vec<Vec<i32>>,
    /// False if a tag is in front.
    begins_file: bool,
    num_frames: u64,
    decoded: u64,
    flags: Vec<Flag>,
    loudness: Loudness,
    /// Samples for the MD5 sum, where the header has one.
    summed: Option<Summed>,
}

impl Decoder for FlacDecoder<'_> {
    fn info(&self) -> SourceInfo {
        let StreamInfo { sample_rate, num_channels, .. } = self.info;
        SourceInfo { sample_rate, num_channels: u16::from(num_channels), container: "flac" }
    }

    fn conforms(&self) -> Option<Format> {
        let StreamInfo { num_channels, bits, num_samples, plain, .. } = self.info;
        (num_channels == 1 && bits == 16 && num_samples.is_some() && plain && self.begins_file).then_some(Format::Flac)
    }

    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        let whole = match self.info.num_samples {
            Some(promised) => self.decoded >= promised,
            // Another recording, or a tag.
            None => {
                self.num_frames > 0 && matches!(self.window.at_least(4)?, [b'f', b'L', b'a', b'C', ..] | [b'T', b'A', b'G', ..])
            }
        };
        if whole || self.window.at_end()? {
            self.check()?;
            self.examine_rest()?;
            return Ok(false);
        }
        self.window.at_least(self.info.max_frame)?;
        let len = loop {
            match decode_frame(self.window.rest(), &self.info, self.decoded, self.num_frames, &mut self.channels) {
                Ok(len) => break len,
                Err(Stop::End) if self.window.rest().len() < MAX_FRAME_LEN && self.window.more()? => {}
                Err(Stop::End) => return Err(self.truncated()),
                Err(Stop::Bad(reason)) => return Err(DecodeError::damaged("flac", reason, self.window.offset)),
            }
        };
        self.window.consume(len);
        let num_samples = self.channels[0].len();
        self.decoded += num_samples as u64;
        self.num_frames += 1;
        if let Some(summed) = &mut self.summed {
            interleave_all(&self.channels, self.info.bits, summed.room());
        }
        average(&self.channels, self.info.bits, &mut self.loudness, mono);
        Ok(true)
    }

    fn summed(&mut self) -> Option<Summed> {
        self.summed.take()
    }

    fn flags(&self) -> Vec<Flag> {
        self.flags.iter().copied().chain(self.loudness.flag()).collect()
    }
}

impl FlacDecoder<'_> {
    /// At the end: is that all?
    fn check(&self) -> Result<(), DecodeError> {
        if let Some(promised) = self.info.num_samples
            && promised != self.decoded
        {
            return Err(self.truncated());
        }
        Ok(())
    }

    /// Flags what follows the last frame: a tag, padding, another recording.
    fn examine_rest(&mut self) -> Result<(), DecodeError> {
        let rest = self.window.at_least(4)?;
        if !rest.is_empty() {
            self.flags.push(if rest.starts_with(b"fLaC") { Flag::Joined } else { Flag::TrailingBytes });
        }
        Ok(())
    }

    fn truncated(&self) -> DecodeError {
        let offset = Some(self.window.offset + self.window.rest().len() as u64);
        match self.info.num_samples {
            Some(promised) => DecodeError::Length { container: "flac", found: self.decoded, promised, offset },
            None => DecodeError::damaged("flac", "the file ends within a frame", self.window.offset),
        }
    }
}

/// Adds the bytes of the MD5 sum. Section 8.2: little endian, channels interleaved, as many whole bytes as the samples need.
fn interleave_all(channels: &[Vec<i32>], bits: u32, bytes: &mut Vec<u8>) {
    match bits.div_ceil(8) {
        1 => interleave::<1>(channels, bytes),
        2 => interleave::<2>(channels, bytes),
        3 => interleave::<3>(channels, bytes),
        _ => interleave::<4>(channels, bytes),
    }
}

fn interleave<const WIDTH: usize>(channels: &[Vec<i32>], bytes: &mut Vec<u8>) {
    let low = |sample: i32| -> [u8; WIDTH] { std::array::from_fn(|at| sample.to_le_bytes()[at]) };
    match channels {
        [mono] => bytes.extend(mono.iter().flat_map(|&sample| low(sample))),
        [left, right] => bytes.extend(left.iter().zip(right).flat_map(|(&left, &right)| [low(left), low(right)]).flatten()),
        more => {
            let samples = (0..more[0].len()).flat_map(|at| more.iter().map(move |channel| channel[at]));
            bytes.extend(samples.flat_map(low));
        }
    }
}

/// Adds the samples of a frame, full scale 1, channels averaged.
fn average(channels: &[Vec<i32>], bits: u32, loudness: &mut Loudness, mono: &mut Vec<f32>) {
    let before = mono.len();
    let scale = 1.0 / (1_u64 << (bits - 1)) as f32; // a power of two: exact
    match channels {
        [only] => mono.extend(only.iter().map(|&sample| sample as f32 * scale)),
        [left, right] => mono.extend(left.iter().zip(right).map(|(&l, &r)| (l as f32 + r as f32) * (scale * 0.5))),
        more => {
            let sum = |at: usize| more.iter().map(|channel| channel[at] as f32 * scale).sum::<f32>();
            mono.extend((0..more[0].len()).map(|at| sum(at) / more.len() as f32));
        }
    }
    if channels.len() > 1 {
        let squares = |channel: &Vec<i32>| channel.iter().map(|&sample| (sample as f32 * scale).powi(2)).sum::<f32>();
        loudness.add(channels.iter().map(squares).sum::<f32>() / channels.len() as f32, &mono[before..]);
    }
}

/// Decodes the frame at the beginning of `bytes` (section 9), and gives its length in bytes.
fn decode_frame(
    bytes: &[u8],
    info: &StreamInfo,
    decoded: u64,
    num_frames: u64,
    channels: &mut [Vec<i32>],
) -> Result<usize, Stop> {
    let (header, header_len) = FrameHeader::parse(bytes)?;
    header.check(info, decoded, num_frames)?;
    let mut bits = Bits::new(bytes, header_len);
    let mut difference = None;
    for (number, channel) in channels.iter_mut().enumerate() {
        channel.resize(header.num_samples, 0);
        let side = match header.channels {
            Channels::Independent(_) => false,
            Channels::LeftSide | Channels::MidSide => number == 1,
            Channels::SideRight => number == 0,
        };
        if side && info.bits == 32 {
            wide::decode(&mut bits, difference.insert(vec![0; header.num_samples]))?;
        } else {
            subframe::decode(&mut bits, info.bits + u32::from(side), channel)?;
        }
    }
    let len = bits.end_of_byte()?;
    let Some(footer) = bytes.get(len..len + 2) else { return Err(Stop::End) };
    if crc_fast::checksum(Crc16Umts, &bytes[..len]) as u16 != u16::from_be_bytes([footer[0], footer[1]]) {
        return Err(Stop::Bad("a frame does not have its checksum"));
    }
    match (channels, difference) {
        ([first, second], Some(difference)) => wide::restore(header.channels, &difference, first, second),
        ([first, second], None) => restore(header.channels, first, second),
        _ => {}
    }
    Ok(len + 2)
}

/// Section 4.2: what was coded in place of left and right.
fn restore(coded: Channels, first: &mut [i32], second: &mut [i32]) {
    let pairs = first.iter_mut().zip(second);
    match coded {
        Channels::Independent(_) => {}
        Channels::LeftSide => pairs.for_each(|(left, side)| *side = left.wrapping_sub(*side)),
        Channels::SideRight => pairs.for_each(|(side, right)| *side = side.wrapping_add(*right)),
        Channels::MidSide => pairs.for_each(|(mid, side)| {
            let double = i64::from(*mid) << 1 | i64::from(*side & 1);
            let difference = i64::from(*side);
            *mid = ((double + difference) >> 1) as i32;
            *side = ((double - difference) >> 1) as i32;
        }),
    }
}
