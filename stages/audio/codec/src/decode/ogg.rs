//! Ogg: its pages are checked before anything is decoded, and its links decoded one after the other.
//!
//! symphonia steps over damaged pages in silence and takes a file for one stream. Here every page must have its checksum and follow
//! the one before, so that nothing is missing within; a missing mark at the end is a flag (Android's recorder writes none).
//! Source: RFC 3533, section 6.

use std::io::{Read, Seek, SeekFrom};

use symphonia::core::checksum::Crc32;
use symphonia::core::io::Monitor;

use super::parts::Parts;
use super::{DecodeError, Decoder, Flag, Source, packets};

pub(super) fn open<'s>(source: &Source<'s>) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    let Pages { links, flags } = Pages::read(&mut source.reader(), source.len())?;
    let parts = links.iter().map(|&(start, end)| source.part(start, end)).collect();
    Parts::open(parts, flags, |part| packets::open(part, "ogg"))
}

/// Pages of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pages {
    /// Start and end of each link: streams that begin together.
    links: Vec<(u64, u64)>,
    flags: Vec<Flag>,
}

/// Logical stream of a link.
struct Stream {
    serial: u32,
    /// Number of its last page.
    sequence: u32,
    /// True after the first page with samples.
    begun: bool,
    ended: bool,
    codec: &'static str,
}

/// First bytes of a stream, and the name of its codec.
const CODECS: [(&[u8], &str); 7] = [
    (b"\x01vorbis", VORBIS),
    (b"\x7fFLAC", FLAC),
    (b"OpusHead", "Opus"),
    (b"Speex   ", "Speex"),
    (b"CELT    ", "CELT"),
    (b"\x80theora", "Theora"),
    (b"fishead\0", "Skeleton"),
];
const VORBIS: &str = "Vorbis";
const FLAC: &str = "FLAC";

impl Pages {
    fn read(file: &mut (impl Read + Seek), size: u64) -> Result<Self, DecodeError> {
        let (mut pages, mut streams, mut at) = (Self::default(), Vec::<Stream>::new(), 0);
        // The first pages of all streams of a link come before all others.
        let mut beginning = true;
        let mut bytes = Vec::new();
        while at < size {
            file.seek(SeekFrom::Start(at))?;
            bytes.clear();
            file.by_ref().take(27).read_to_end(&mut bytes)?;
            if !bytes.starts_with(b"OggS") {
                return pages.rest(file, &streams, bytes, at);
            }
            let truncated = || DecodeError::damaged("ogg", "truncated: the file ends within a page", size);
            let segments = u64::from(*bytes.get(26).ok_or_else(truncated)?);
            file.by_ref().take(segments).read_to_end(&mut bytes)?;
            let body: u64 = bytes[27..].iter().map(|&len| u64::from(len)).sum();
            file.by_ref().take(body).read_to_end(&mut bytes)?;
            if (bytes.len() as u64) < 27 + segments + body {
                return Err(truncated());
            }
            let damaged = |reason: &str| DecodeError::damaged("ogg", reason, at);
            let page = Page::parse(&mut bytes).ok_or_else(|| damaged("a page does not have its checksum"))?;
            if page.first {
                if !beginning {
                    pages.end_link(&streams)?;
                    streams.clear();
                }
                if streams.is_empty() {
                    pages.links.push((at, at));
                }
                streams.push(Stream {
                    serial: page.serial,
                    sequence: page.sequence,
                    begun: false,
                    ended: page.last,
                    codec: page.codec,
                });
            } else {
                let stream = streams.iter_mut().find(|stream| stream.serial == page.serial);
                let stream = stream.ok_or_else(|| damaged("a page of a stream that did not begin"))?;
                // A stream that was recorded in the middle goes on with another number after its headers.
                let begins = !stream.begun && page.has_samples;
                if page.sequence != stream.sequence.wrapping_add(1) && !begins {
                    return Err(damaged("a page is missing"));
                }
                (stream.sequence, stream.ended) = (page.sequence, stream.ended | page.last);
                stream.begun |= page.has_samples;
            }
            beginning = page.first;
            at += bytes.len() as u64;
            if let Some((_, end)) = pages.links.last_mut() {
                *end = at;
            }
        }
        pages.end_link(&streams)?;
        Ok(pages)
    }

    /// Ends the file at bytes that are no page.
    fn rest(mut self, file: &mut impl Read, streams: &[Stream], first: Vec<u8>, at: u64) -> Result<Self, DecodeError> {
        let mut rest = first;
        file.read_to_end(&mut rest)?;
        if rest.windows(4).any(|four| four == b"OggS") {
            return Err(DecodeError::damaged("ogg", "bytes between pages that are no page", at));
        }
        if rest.iter().any(|&byte| byte != 0) {
            self.flag(Flag::TrailingBytes);
        }
        self.end_link(streams)?;
        Ok(self)
    }

    /// Errors: a link that has neither Vorbis nor FLAC.
    fn end_link(&mut self, streams: &[Stream]) -> Result<(), DecodeError> {
        if !streams.iter().any(|stream| [VORBIS, FLAC].contains(&stream.codec)) {
            let codecs = streams.iter().map(|stream| stream.codec).collect::<Vec<_>>().join(" and ");
            return Err(DecodeError::unsupported("ogg", &format!("{codecs}, which is not decoded here")));
        }
        if !streams.iter().any(|stream| stream.ended) {
            self.flag(Flag::NoEndMark);
        }
        Ok(())
    }

    fn flag(&mut self, flag: Flag) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }
}

/// Header of a page.
struct Page {
    first: bool,
    last: bool,
    has_samples: bool,
    serial: u32,
    sequence: u32,
    /// Of the stream that begins with the page.
    codec: &'static str,
}

impl Page {
    /// Reads the page in `bytes`. `None` if the checksum is wrong.
    fn parse(bytes: &mut [u8]) -> Option<Self> {
        let number = |bytes: &[u8], at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let expected = number(bytes, 22);
        bytes[22..26].fill(0);
        let mut crc = Crc32::new(0);
        crc.process_buf_bytes(bytes);
        let granule = u64::from(number(bytes, 6)) | u64::from(number(bytes, 10)) << 32;
        let body = &bytes[27 + usize::from(bytes[26])..];
        let codec = CODECS.iter().find(|(first, _)| body.starts_with(first)).map_or("an unknown codec", |(_, name)| name);
        (crc.crc() == expected).then(|| Self {
            first: bytes[5] & 2 != 0,
            last: bytes[5] & 4 != 0,
            has_samples: granule != 0 && granule != u64::MAX,
            serial: number(bytes, 14),
            sequence: number(bytes, 18),
            codec,
        })
    }
}
