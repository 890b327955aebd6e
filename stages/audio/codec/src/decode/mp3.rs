//! MPEG audio, layers I to III, frame by frame.
//!
//! nanomp3 decodes a frame. Everything around the frames is here: tags in front, between and behind; the header frame that counts
//! the others and tells what an encoder added; recordings joined to one file; bytes that belong to nothing. The length of a stream
//! is never estimated: it is decoded to its end, and compared with a count where the file has one.
//! Sources: ISO/IEC 11172-3 and 13818-3 (frames), id3.org "ID3v2.4 structure" 3.1, "Xing VBR header", "LAME tag 1" (delays).

use std::ops::Range;

use nanomp3_core::{DecodeError as FrameError, Decoder as FrameDecoder, MAX_SAMPLES_PER_FRAME};

use super::fields::{be16, be32, le32, some_at};
use super::window::Window;
use super::{DecodeError, Decoder, Flag, Loudness, Source, SourceInfo};

/// Bytes that contain any frame and the header of the next: a frame of free format may have about so many.
const MAX_FRAME: usize = 8 << 10;
/// The longest part of a frame that may come before the first whole one: all but a byte of a frame of layer I or II at 32 kHz.
const MAX_PART: usize = 2_880;
/// Frames that must follow each other where a stream is searched for.
const CHAIN: usize = 4;
/// Bytes that are searched for the next frame, once the frames end.
const MAX_SEARCH: usize = 256 << 10;
/// Samples that a decoder of layer III adds at the beginning.
const DECODER_DELAY: u64 = 529;

/// Opens the stream in `source`, whose first frame follows at most `max_leading` zeros and a part of a frame. `None` if there is none.
pub(super) fn open<'s>(source: &Source<'s>, max_leading: usize) -> Result<Option<Box<dyn Decoder + 's>>, DecodeError> {
    let mut window = Window::of(&source.part(0, end_of_frames(source)?));
    while let Some(len) = tag_len(window.at_least(1 << 10)?) {
        window.skip(len)?;
    }
    let bytes = window.at_least(max_leading + MAX_PART + CHAIN * MAX_FRAME)?;
    let zeros = bytes.iter().take(max_leading).take_while(|byte| **byte == 0).count();
    // Far into a file of another format, something looks like frames.
    let Some((at, first)) = find(&bytes[zeros..], MAX_PART.min(max_leading)) else { return Ok(None) };
    let leading = at > 0;
    // Headers of free format say so little that quiet samples of any other file look like them.
    if leading && first.free {
        return Ok(None);
    }
    window.consume(zeros + at);
    let info = SourceInfo { sample_rate: first.sample_rate, num_channels: first.num_channels, container: "mp3" };
    Ok(Some(Box::new(Mp3Decoder {
        window,
        first,
        info,
        frames: FrameDecoder::new(),
        knows_len: false,
        segment: None,
        flags: leading.then_some(Flag::LeadingBytes).into_iter().collect(),
        loudness: Loudness::default(),
        block: Box::new([0.0; MAX_SAMPLES_PER_FRAME]),
    })))
}

struct Mp3Decoder<'s> {
    window: Window<'s>,
    /// A frame like all others.
    first: Frame,
    info: SourceInfo,
    frames: FrameDecoder,
    /// True if `frames` knows the length of frames of free format.
    knows_len: bool,
    /// Absent before the first frame.
    segment: Option<Segment>,
    flags: Vec<Flag>,
    loudness: Loudness,
    block: Box<[f32; MAX_SAMPLES_PER_FRAME]>,
}

/// One recording of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    /// Frames by its header.
    promised: Option<u64>,
    /// Samples that are kept: without those that the encoder added.
    audible: Range<u64>,
    num_frames: u64,
    num_samples: u64,
}

impl Decoder for Mp3Decoder<'_> {
    fn info(&self) -> SourceInfo {
        self.info
    }

    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        let before = mono.len();
        while mono.len() == before {
            if !self.frame(mono)? {
                self.end_segment()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn flags(&self) -> Vec<Flag> {
        self.flags.iter().copied().chain(self.loudness.flag()).collect()
    }
}

impl Mp3Decoder<'_> {
    /// Decodes the next frame, if it has samples that are kept. False at the end.
    fn frame(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        let rest = self.window.at_least(2 * MAX_FRAME)?;
        if rest.is_empty() {
            return Ok(false);
        }
        let Some(frame) = Frame::parse(rest).filter(|frame| frame.is_like(&self.first)) else { return self.resume() };
        let len = frame.len(&self.first);
        if len > rest.len() {
            let left = rest.len();
            self.window.consume(left);
            self.flag(Flag::CutShort);
            return Ok(false);
        }
        let follows = &rest[len..];
        let sound = follows.is_empty()
            || Frame::parse(follows).is_some_and(|next| next.is_like(&self.first))
            || tag_len(follows).is_some()
            || follows.len() < 4
            || self.segment.is_none();
        // The rest of a frame that another recording was written over.
        if !sound && find(&follows[..follows.len().min(MAX_SEARCH)], MAX_SEARCH).is_some() {
            self.window.consume(1);
            return self.resume();
        }
        if let Some(segment) = Segment::of_header(&frame, &rest[..len]) {
            if self.segment.is_some() {
                self.end_segment()?;
                self.flag(Flag::Joined);
                (self.frames, self.knows_len) = (FrameDecoder::new(), false);
            }
            self.segment = Some(segment);
            self.window.consume(len);
            return Ok(true);
        }
        // Exactly a frame. From the first of free format and the next ones the decoder finds out the length of all.
        let given = if frame.free && !self.knows_len { rest } else { &rest[..len] };
        let (used, result) = self.frames.decode(given, self.block.as_mut_slice());
        self.knows_len = true;
        if used != len {
            return Err(DecodeError::damaged("mp3", "a frame of free format has another length", self.window.offset));
        }
        let channels = match result {
            Ok(decoded) => usize::from(decoded.channels.num()),
            // At the beginning of a stream that was cut out of another: what came before is not there.
            Err(FrameError::ReservoirUnavailable(_)) => {
                self.block.fill(0.0);
                1
            }
            Err(error) => return Err(DecodeError::damaged("mp3", &error.to_string(), self.window.offset)),
        };
        self.window.consume(len);
        let segment = self.segment.get_or_insert_with(Segment::unknown);
        let kept = segment.advance(frame.num_samples as u64);
        let block = &self.block[kept.start * channels..kept.end * channels];
        let before = mono.len();
        if channels == 1 {
            mono.extend_from_slice(block);
        } else {
            mono.extend(block.as_chunks::<2>().0.iter().map(|[left, right]| (left + right) * 0.5));
            let squares: f32 = block.iter().map(|sample| sample * sample).sum();
            self.loudness.add(squares * 0.5, &mono[before..]);
        }
        Ok(true)
    }

    /// Goes on where no frame is: after a tag, or where the next frames begin. False if nothing follows.
    fn resume(&mut self) -> Result<bool, DecodeError> {
        if let Some(len) = tag_len(self.window.rest()) {
            self.window.skip(len)?;
            return Ok(true);
        }
        let rest = self.window.at_least(MAX_SEARCH)?;
        let found = find(rest, MAX_SEARCH);
        let skipped = &rest[..found.as_ref().map_or(rest.len(), |(at, _)| *at)];
        let (len, empty) = (skipped.len(), skipped.iter().all(|&byte| byte == 0));
        let oddity = if len < 4 && skipped.first() == Some(&0xff) { Flag::CutShort } else { Flag::TrailingBytes };
        let Some((_, next)) = found else {
            if !empty {
                self.flag(oddity);
            }
            self.window.consume(len);
            // Far more bytes than any tag has are no longer examined.
            while self.window.more()? {
                self.window.consume(self.window.rest().len());
            }
            return Ok(false);
        };
        if !next.is_like(&self.first) {
            let (from, to) = (&self.first, &next);
            let reason = format!("changes from {from} to {to}");
            return Err(DecodeError::damaged("mp3", &reason, self.window.offset + len as u64));
        }
        if next.free && next.len != self.first.len {
            (self.first, self.frames, self.knows_len) = (next, FrameDecoder::new(), false);
        }
        self.window.consume(len);
        if !empty {
            self.flag(Flag::SkippedBytes);
        }
        Ok(true)
    }

    /// Compares what was decoded with what the header of the segment says.
    fn end_segment(&mut self) -> Result<(), DecodeError> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let Some(promised) = segment.promised else { return Ok(()) };
        let found = segment.num_frames;
        if found < promised {
            let samples = |frames: u64| frames * self.first.num_samples as u64;
            let (found, promised) = (samples(found), samples(promised));
            return Err(DecodeError::Length { container: "mp3", found, promised, offset: Some(self.window.offset) });
        }
        // Some encoders count their header, some do not.
        if found > promised + 1 {
            self.flag(Flag::Joined);
        }
        Ok(())
    }

    fn flag(&mut self, flag: Flag) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }
}

impl Segment {
    /// A stream without a header.
    fn unknown() -> Self {
        Self { promised: None, audible: 0..u64::MAX, num_frames: 0, num_samples: 0 }
    }

    /// Reads a frame that is the header of the others (`Xing`, `Info` or `VBRI`).
    fn of_header(frame: &Frame, bytes: &[u8]) -> Option<Self> {
        if frame.layer != 3 {
            return None;
        }
        let side = match (frame.low_rate, frame.num_channels) {
            (false, 1) | (true, 2) => 17,
            (false, _) => 32,
            (true, _) => 9,
        };
        let at =
            |offset: usize, names: &[&[u8]]| bytes.get(offset..).filter(|rest| names.iter().any(|name| rest.starts_with(name)));
        if let Some(tag) = at(4 + side, &[b"Xing", b"Info"]).or_else(|| at(6 + side, &[b"Xing", b"Info"])) {
            return Some(Self::of_xing(frame, tag).unwrap_or_else(Self::unknown));
        }
        let promised = at(36, &[b"VBRI"])?.get(14..18).map(|count| u64::from(be32(count)));
        Some(Self { promised: promised.filter(|&count| count > 0), ..Self::unknown() })
    }

    fn of_xing(frame: &Frame, tag: &[u8]) -> Option<Self> {
        let fields = be32(tag.get(4..8)?);
        let mut at = 8;
        let mut field = |bit: u32, len: usize| {
            let start = at;
            at += if fields & bit != 0 { len } else { 0 };
            tag.get(start..at).filter(|field| !field.is_empty())
        };
        let promised = field(1, 4).map(|count| u64::from(be32(count))).filter(|&count| count > 0);
        field(2, 4);
        field(4, 100);
        field(8, 4);
        let mut audible = 0..u64::MAX;
        // The encoder's name, and 21 bytes on how much it added in front and behind, 12 bits each.
        if let Some(encoder) = tag.get(at..at + 24)
            && [&b"LAME"[..], b"Lavf", b"Lavc"].contains(&&encoder[..4])
        {
            let (front, behind) = (u64::from(be16(&encoder[21..]) >> 4), u64::from(be16(&encoder[22..]) & 0xfff));
            audible.start = front + DECODER_DELAY;
            if let Some(count) = promised {
                let total = count * frame.num_samples as u64;
                audible.end = total - behind.saturating_sub(DECODER_DELAY).min(total);
            }
        }
        Some(Self { promised, audible, ..Self::unknown() })
    }

    /// Counts a frame and returns which of its samples are kept.
    fn advance(&mut self, num_samples: u64) -> Range<usize> {
        let start = self.num_samples;
        self.num_frames += 1;
        self.num_samples += num_samples;
        // What follows the frames that were counted is kept.
        if self.promised.is_some_and(|promised| self.num_frames > promised) {
            return 0..num_samples as usize;
        }
        let within = |at: u64| at.saturating_sub(start).min(num_samples) as usize;
        within(self.audible.start)..within(self.audible.end).max(within(self.audible.start))
    }
}

/// Header of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    bytes: [u8; 4],
    layer: u8,
    /// MPEG-2 or 2.5.
    low_rate: bool,
    sample_rate: u32,
    num_channels: u16,
    num_samples: usize,
    /// In bytes, without the padding. Of free format, 0 until it was found out.
    len: usize,
    /// True if the header does not give the bit rate.
    free: bool,
    padding: usize,
}

impl std::fmt::Display for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} Hz in layer {}", self.sample_rate, self.layer)
    }
}

impl Frame {
    /// Reads a header (ISO/IEC 11172-3, section 2.4.2.3).
    fn parse(bytes: &[u8]) -> Option<Self> {
        const RATES: [u32; 3] = [44_100, 48_000, 32_000];
        let bytes = *bytes.first_chunk::<4>()?;
        let [sync, second, third, fourth] = bytes;
        let (version, layer) = (second >> 3 & 3, 4 - (second >> 1 & 3));
        let (rate, bit_rate) = (third >> 2 & 3, usize::from(third >> 4));
        if sync != 0xff || second & 0xe0 != 0xe0 || version == 1 || layer == 4 || rate == 3 || bit_rate == 15 {
            return None;
        }
        let low_rate = version != 3;
        let sample_rate = RATES[usize::from(rate)] >> [2, 0, 1, 0][usize::from(version)];
        // In units of 8 kbit/s.
        let bit_rates: [usize; 15] = match (low_rate, layer) {
            (false, 1) => [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56],
            (false, 2) => [0, 4, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48],
            (false, _) => [0, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40],
            (true, 1) => [0, 4, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32],
            (true, _) => [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20],
        };
        let bits_per_sec = 8_000 * bit_rates[bit_rate];
        let padding = usize::from(third >> 1 & 1) * if layer == 1 { 4 } else { 1 };
        let (num_samples, len) = match (layer, low_rate) {
            (1, _) => (384, 12 * bits_per_sec / sample_rate as usize * 4),
            (3, true) => (576, 72 * bits_per_sec / sample_rate as usize),
            _ => (1_152, 144 * bits_per_sec / sample_rate as usize),
        };
        let free = bit_rate == 0;
        let num_channels = if fourth >> 6 == 3 { 1 } else { 2 };
        Some(Self { bytes, layer, low_rate, sample_rate, num_channels, num_samples, len, free, padding })
    }

    /// True if both may be of one stream: the same version, layer and rate, and both of free format or none.
    fn is_like(&self, other: &Self) -> bool {
        (self.bytes[1] ^ other.bytes[1]) & 0xfe == 0 && (self.bytes[2] ^ other.bytes[2]) & 0x0c == 0 && self.free == other.free
    }

    /// Returns the length of the frame, of a stream that begins with `first`.
    fn len(&self, first: &Self) -> usize {
        self.padding + if self.free { first.len } else { self.len }
    }

    /// Returns lengths that a frame of free format at the beginning of `bytes` may have, without the padding: up to another
    /// header, or to the end. All frames of a stream have the same.
    fn free_lens(&self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        let is_next = |at: &usize| bytes.get(*at..).and_then(Self::parse).is_some_and(|next| next.is_like(self));
        let least = if self.layer == 1 { 16 } else { 24 };
        let end = (bytes.len() < MAX_FRAME / 2).then_some(bytes.len());
        (least..bytes.len().min(MAX_FRAME / 2)).filter(is_next).chain(end).map(|at| at - self.padding)
    }
}

/// Finds the first of several frames, at most `within` bytes from the beginning.
fn find(bytes: &[u8], within: usize) -> Option<(usize, Frame)> {
    let last = within.min(bytes.len().saturating_sub(4));
    (0..=last).filter(|&at| bytes[at..].first() == Some(&0xff)).find_map(|at| {
        let (mut frame, rest) = (Frame::parse(&bytes[at..])?, &bytes[at..]);
        if frame.free {
            let fits = |&len: &usize| is_chain(rest, &Frame { len, ..frame.clone() }, at == 0);
            let len = frame.free_lens(rest).find(fits)?;
            frame.len = len;
            return Some((at, frame));
        }
        is_chain(rest, &frame, at == 0).then_some((at, frame))
    })
}

/// True if frames follow each other up to the end of the file or a tag, or as many as make a chance unlikely. Fewer suffice if
/// the file begins with them.
fn is_chain(bytes: &[u8], first: &Frame, begins: bool) -> bool {
    let few = usize::from(!begins);
    let mut at = 0;
    for number in 0..CHAIN {
        let rest = &bytes[at.min(bytes.len())..];
        let Some(frame) = Frame::parse(rest).filter(|frame| frame.is_like(first)) else {
            let ends = rest.len() < 4 || tag_len(rest).is_some() || rest.iter().all(|&byte| byte == 0);
            return number > few && ends || number == 1 && rest.is_empty();
        };
        let len = frame.len(first);
        // The last frame may be cut.
        if len > rest.len() {
            return number > few;
        }
        at += len;
    }
    true
}

/// Returns the length of the tag at the beginning: `ID3v2`, `APEv2`, `Lyrics3`, or `ID3v1` where it ends the file or a recording of it.
fn tag_len(bytes: &[u8]) -> Option<usize> {
    if let Some(len) = id3v2_len(bytes) {
        return Some(len as usize);
    }
    match bytes {
        [b'A', b'P', b'E', b'T', b'A', b'G', b'E', b'X', rest @ ..] if rest.len() >= 16 => {
            // Bytes of the items and the footer; the header is not counted. At least the name and the fields that were read.
            let header = if le32(&rest[12..]) & 1 << 31 != 0 { 32 } else { 0 };
            Some((le32(&rest[4..]) as usize + header).max(24))
        }
        [b'L', b'Y', b'R', b'I', b'C', b'S', b'B', b'E', b'G', b'I', b'N', ..] => {
            let end = bytes.windows(9).position(|nine| nine == b"LYRICS200" || nine == b"LYRICSEND")?;
            Some(end + 9)
        }
        [b'T', b'A', b'G', b'+', ..] => Some(227),
        [b'T', b'A', b'G', ..] if bytes.len() >= 128 => Some(128),
        _ => None,
    }
}

/// Returns the end of what is no tag with its length at its end: `APEv1` and `APEv2`, which may have no header, and an `ID3v1`
/// behind it. Whatever they contain, it is not taken for frames.
fn end_of_frames(source: &Source<'_>) -> Result<u64, DecodeError> {
    let mut reader = source.reader();
    let mut end = source.len();
    if end >= 128 && some_at(&mut reader, end - 128, 3)? == b"TAG" {
        end -= 128;
    }
    let footer = some_at(&mut reader, end.saturating_sub(32), 32)?;
    if !footer.starts_with(b"APETAGEX") || footer.len() < 32 || le32(&footer[20..]) & 1 << 29 != 0 {
        return Ok(source.len());
    }
    // Bytes of the items and the footer; the header is not counted.
    let header = if le32(&footer[20..]) & 1 << 31 != 0 { 32 } else { 0 };
    Ok(end.checked_sub(u64::from(le32(&footer[12..])) + header).unwrap_or(source.len()))
}

/// Returns the length of the `ID3v2` tag at the beginning.
pub(super) fn id3v2_len(bytes: &[u8]) -> Option<u64> {
    match bytes {
        // Ten bytes, then as many as four of them say, seven bits each; and ten more if there is a footer.
        [b'I', b'D', b'3', major, minor, flags, a, b, c, d, ..]
            if *major < 0xff && *minor < 0xff && (a | b | c | d) & 0x80 == 0 =>
        {
            let len = [a, b, c, d].iter().fold(0, |len, &&byte| len << 7 | u64::from(byte));
            Some(len + if flags & 0x10 != 0 { 20 } else { 10 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_how_long_a_frame_is() {
        let check = |bytes: [u8; 4], expected: (u8, u32, u16, usize, usize)| {
            let frame = Frame::parse(&bytes).unwrap();
            let found = (frame.layer, frame.sample_rate, frame.num_channels, frame.num_samples, frame.len + frame.padding);
            assert_eq!(found, expected);
        };
        check([0xff, 0xfb, 0x50, 0xc0], (3, 44_100, 1, 1_152, 208));
        check([0xff, 0xfb, 0x92, 0x00], (3, 44_100, 2, 1_152, 418));
        check([0xff, 0xf3, 0x88, 0xc4], (3, 16_000, 1, 576, 288));
        check([0xff, 0xe3, 0x18, 0xc4], (3, 8_000, 1, 576, 72));
        check([0xff, 0xfd, 0x84, 0x00], (2, 48_000, 2, 1_152, 384));
        check([0xff, 0xff, 0x88, 0x00], (1, 32_000, 2, 384, 384));
        for none in [[0xff, 0xff, 0xff, 0xff], [0xff, 0xe9, 0x50, 0], [0xff, 0xfb, 0x5c, 0], [0xff, 0xf9, 0x50, 0], [0; 4]] {
            assert_eq!(Frame::parse(&none), None, "{none:x?}");
        }
    }

    #[test]
    fn tags_are_skipped_by_their_length() {
        assert_eq!(id3v2_len(b"ID3\x04\0\x10\0\0\x01\x02rest"), Some(150));
        assert_eq!(id3v2_len(b"ID3\x04\0\0\0\0\x80\x02rest"), None);
        let mut ape = b"APETAGEX".to_vec();
        ape.extend_from_slice(&2_000_u32.to_le_bytes());
        ape.extend_from_slice(&[0x40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(tag_len(&ape), Some(64 + 32));
        // A tag that claims to have no length must not be skipped for ever.
        ape[12..].fill(0);
        assert_eq!(tag_len(&ape), Some(24));
        assert_eq!(tag_len(b"LYRICSBEGINabcLYRICS200"), Some(23));
        assert_eq!(tag_len(&[b"TAG", [0; 125].as_slice()].concat()), Some(128));
        assert_eq!(tag_len(b"TAG"), None);
    }
}
