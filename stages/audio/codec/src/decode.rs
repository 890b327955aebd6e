//! Opens a recording by its content, whatever its name, and gives its samples block by block, channels averaged.
//!
//! | content | read by |
//! | --- | --- |
//! | RIFF, RF64, RIFX, W64, AIFF, AU, CAF, SPHERE with PCM, floats, A-law, mu-law | own readers of the headers, [`pcm`] |
//! | FLAC | own decoder, for speed and strictness |
//! | MPEG audio, layers I to III | nanomp3, frame by frame; tags, lengths and padding by [`mp3`] |
//! | MP4 with AAC-LC, Ogg Vorbis and FLAC, ADTS, RIFF with ADPCM | symphonia; edit lists by [`mp4`], pages by [`ogg`] |
//! | everything else | the program `ffmpeg`, if there is one |
//!
//! Every length in a header is compared with what was decoded: a damaged file may decode without an error, and shorter.

mod aiff;
mod au;
mod caf;
mod ffmpeg;
pub(crate) mod fields;
mod flac;
mod mp3;
mod mp4;
mod ogg;
mod packets;
mod parts;
pub(crate) mod pcm;
mod sphere;
mod w64;
mod window;

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::encode::Format;
use crate::resample::ResampleError;
use crate::sums::Summed;
use crate::wav::{self, Found};

/// Form of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceInfo {
    /// In Hz.
    pub sample_rate: u32,
    /// Channels that are averaged.
    pub num_channels: u16,
    /// Name of the container: `wav`, `flac`, `mp3`, `mp4`, `ogg`, `adts`, `aiff`, `au`, `caf`, `w64`, `sphere`, `unknown`.
    pub container: &'static str,
}

/// Oddity of a recording that gives a clip all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// Several recordings one after the other.
    Joined,
    /// Bytes before the first sample that belong to nothing.
    LeadingBytes,
    /// Bytes between samples that belong to nothing.
    SkippedBytes,
    /// Bytes after the last sample that belong to nothing.
    TrailingBytes,
    /// An incomplete frame at the end.
    CutShort,
    /// An Ogg stream without the mark of its last page.
    NoEndMark,
    /// Channels that cancel each other out when they are averaged.
    ChannelsCancel,
    /// More than a hundredth of the samples above full scale.
    BeyondFullScale,
}

impl Flag {
    /// Returns the text for tables.
    pub fn text(self) -> &'static str {
        match self {
            Self::Joined => "several recordings in one file",
            Self::LeadingBytes => "unknown bytes before the audio",
            Self::SkippedBytes => "unknown bytes within the audio",
            Self::TrailingBytes => "unknown bytes after the audio",
            Self::CutShort => "incomplete frame at the end",
            Self::NoEndMark => "no end-of-stream mark",
            Self::ChannelsCancel => "channels cancel out",
            Self::BeyondFullScale => "samples beyond full scale",
        }
    }
}

/// A recording that is being decoded.
pub(crate) trait Decoder {
    /// Returns the form of the recording.
    fn info(&self) -> SourceInfo;

    /// Returns the format whose clips look just like this file at its rate: one channel, 16 bits, nothing odd in the file.
    fn conforms(&self) -> Option<Format> {
        None
    }

    /// Goes to sample `start`, or to one before it, and returns which.
    fn seek(&mut self, start: u64) -> Result<u64, DecodeError> {
        let _ = start;
        Ok(0)
    }

    /// Adds the next samples to `mono`, full scale 1; false when they were the last.
    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError>;

    /// Returns the samples whose MD5 sum the header promises, after the last of them. The caller compares the sums.
    fn summed(&mut self) -> Option<Summed> {
        None
    }

    /// Returns the oddities found so far.
    fn flags(&self) -> Vec<Flag> {
        Vec::new()
    }
}

/// Reason why a recording gives no clip.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DecodeError {
    #[error("0 bytes")]
    Empty,
    #[error(
        "not an audio file that can be read: begins with {found}, expected WAV, FLAC, MP3, MP4, Ogg, AIFF, AU, CAF or SPHERE"
    )]
    Unknown { found: String },
    #[error("no `{chunk}` chunk in the {} file", container.to_uppercase())]
    NoChunk { container: &'static str, chunk: &'static str, offset: u64 },
    #[error("truncated: the header promises {promised} bytes of samples, the file has {found}")]
    Truncated { promised: u64, found: u64, offset: u64 },
    #[error("{container}: {reason}")]
    Damaged { container: &'static str, reason: String, offset: Option<u64> },
    #[error("{container}: {reason}")]
    Unsupported { container: &'static str, reason: String },
    #[error("a list of other files (a playlist), not a recording")]
    Playlist,
    /// A fault of this machine, not of the recording.
    #[error("cannot {action}: {source}")]
    Machine { action: &'static str, source: io::Error },
    #[error("{reason}; the program `ffmpeg` might read it, and is not on PATH")]
    NoFfmpeg { reason: String },
    #[error("{reason}; ffmpeg was tried and says: {said}")]
    Ffmpeg { reason: String, said: String },
    #[error("a sample rate of {found} Hz, expected 2000 to 768000 Hz")]
    SampleRate { found: u32 },
    #[error("{container}: decodes to {found} samples, its header promises {promised}: damaged or truncated")]
    Length { container: &'static str, found: u64, promised: u64, offset: Option<u64> },
    #[error("flac: the samples do not have the MD5 sum that the header promises")]
    Md5,
    #[error("sample {index} is {value}, not a finite number")]
    NotFinite { index: u64, value: f32 },
    #[error("samples {start} to {end} asked for, the recording has {num_samples}")]
    Span { start: u64, end: u64, num_samples: u64 },
    #[error("more than the {most} samples that a clip may have")]
    TooLong { most: u64 },
    #[error("0 samples")]
    NoSamples,
    #[error(transparent)]
    Resample(#[from] ResampleError),
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl DecodeError {
    pub(crate) fn damaged(container: &'static str, reason: &str, offset: u64) -> Self {
        Self::Damaged { container, reason: reason.to_owned(), offset: Some(offset) }
    }

    pub(crate) fn unsupported(container: &'static str, reason: &str) -> Self {
        Self::Unsupported { container, reason: reason.to_owned() }
    }

    /// True if the recording may be sound: this machine lacked something, so that another attempt may succeed.
    pub(crate) fn is_of_machine(&self) -> bool {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match self {
            Self::Machine { .. } => true,
            // Damaged files end too early, or say that something is where nothing can be.
            Self::Io(error) => !matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput),
            _ => false,
        }
    }

    /// Returns the offset of the fault in the file, if it is at one place.
    pub(crate) fn offset(&self) -> Option<u64> {
        match self {
            Self::Empty | Self::Unknown { .. } => Some(0),
            Self::NoChunk { offset, .. } | Self::Truncated { offset, .. } => Some(*offset),
            Self::Damaged { offset, .. } | Self::Length { offset, .. } => *offset,
            _ => None,
        }
    }
}

/// A size of 32 bits from here on may stand for "unknown": programs that write to a pipe leave 7FFFF000, 7FFFFFFF, 80000000,
/// FFFFFFFF, or that minus the header.
pub(crate) const OPEN_SIZE: u64 = 0x7fff_0000;

/// Zeros before the first frame of MPEG audio that are skipped.
const MAX_LEADING: usize = 64 << 10;

/// Finds out what a recording is and prepares to decode it.
pub(crate) fn open<'s>(source: &Source<'s>) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    let mut source = source.clone();
    // Tags in front of everything that programs put tags in front of.
    while let Some(len) = mp3::id3v2_len(&source.head(10)?) {
        source = source.part(len, source.len());
    }
    let head = source.head(16)?;
    let size = source.len();
    let reader = &mut source.reader();
    match head.as_slice() {
        [] => Err(if source.start() == 0 { DecodeError::Empty } else { DecodeError::NoSamples }),
        [b'R', b'I', b'F', b'F' | b'X', ..] | [b'R', b'F', b'6', b'4', ..] | [b'B', b'W', b'6', b'4', ..] => {
            found(wav::read(reader, size)?, &source)
        }
        head if *head == w64::MAGIC => found(w64::read(reader, size)?, &source),
        [b'f', b'L', b'a', b'C', ..] => flac::open(&source),
        [b'O', b'g', b'g', b'S', ..] => ogg::open(&source),
        [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..] => pcm::open(&source, aiff::read(reader, size)?),
        head if au::begins(head) => pcm::open(&source, au::read(reader, size)?),
        [b'c', b'a', b'f', b'f', ..] => pcm::open(&source, caf::read(reader, size)?),
        [b'N', b'I', b'S', b'T', b'_', b'1', b'A', ..] => pcm::open(&source, sphere::read(reader, size)?),
        [_, _, _, _, kind @ ..] if kind.len() >= 4 && mp4::BEGINNINGS.contains(&[kind[0], kind[1], kind[2], kind[3]]) => {
            packets::open(&source, "mp4")
        }
        // Twelve ones begin a frame; the layer is 0 in ADTS and never in MPEG audio.
        [0xff, second, ..] if second & 0xf6 == 0xf0 => packets::open(&source, "adts"),
        _ => match mp3::open(&source, MAX_LEADING)? {
            Some(decoder) => Ok(decoder),
            None if is_playlist(&source)? => Err(DecodeError::Playlist),
            None => Err(DecodeError::Unknown { found: format!("\"{}\"", head[..head.len().min(8)].escape_ascii()) }),
        },
    }
}

/// True for what ffmpeg takes for a list of other files: HLS, `ffconcat`, DASH, IMF. It would decode those, whatever and wherever
/// they are, and the clip would depend on files that are no part of the corpus.
fn is_playlist(source: &Source<'_>) -> io::Result<bool> {
    /// ffmpeg looks at so many bytes to find out what a file is.
    const LOOKED_AT: u64 = 1 << 20;
    let head = source.head(LOOKED_AT)?;
    let text = head.split(|&byte| byte == 0).next().unwrap_or_default();
    let contains = |name: &[u8]| text.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name));
    Ok(text.starts_with(b"#EXTM3U") || text.starts_with(b"ffconcat") || contains(b"<MPD") || contains(b"<CompositionPlaylist"))
}

/// True for the first bytes of a recording whose beginning cannot be anything else.
fn begins_recording(head: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 13] = [
        b"RIFF",
        b"RIFX",
        b"RF64",
        b"BW64",
        &w64::MAGIC,
        b"fLaC",
        b"OggS",
        b"FORM",
        b".snd",
        b"dns.",
        b"caff",
        b"NIST_1A",
        b"ID3",
    ];
    BEGINNINGS.iter().any(|beginning| head.starts_with(beginning))
}

/// Opens the content of a chunked file.
fn found<'s>(content: Found, source: &Source<'s>) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    match content {
        Found::Samples(header) => pcm::open(source, header),
        Found::Mpeg { start, len } => {
            let decoder = mp3::open(&source.part(start, start.saturating_add(len)), MAX_LEADING)?;
            decoder.ok_or_else(|| DecodeError::unsupported("wav", "MPEG audio without a frame"))
        }
        Found::Coded => packets::open(source, "wav"),
    }
}

pub(crate) use ffmpeg::open as open_with_ffmpeg;

/// Position of a recording: a stretch of bytes in memory or on disk.
#[derive(Clone)]
pub(crate) struct Source<'s> {
    bytes: Place<'s>,
    start: u64,
    end: u64,
}

#[derive(Clone)]
enum Place<'s> {
    Memory(&'s [u8]),
    File(Arc<File>),
}

/// Reading and seeking, for sources of both kinds.
pub(crate) trait ReadSeek: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

impl<'s> Source<'s> {
    pub(crate) fn memory(bytes: &'s [u8]) -> Self {
        Self { bytes: Place::Memory(bytes), start: 0, end: bytes.len() as u64 }
    }

    pub(crate) fn file(file: File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self { bytes: Place::File(Arc::new(file)), start: 0, end })
    }

    /// Returns the part from `start` to `end`, counted from the beginning of this one.
    fn part(&self, start: u64, end: u64) -> Self {
        let within = |at: u64| self.start.saturating_add(at).min(self.end);
        Self { bytes: self.bytes.clone(), start: within(start), end: within(end.max(start)) }
    }

    fn start(&self) -> u64 {
        self.start
    }

    fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns the bytes if they are in memory.
    fn bytes(&self) -> Option<&'s [u8]> {
        match self.bytes {
            Place::Memory(bytes) => Some(&bytes[self.start as usize..self.end as usize]),
            Place::File(_) => None,
        }
    }

    /// Reads the first bytes.
    fn head(&self, len: u64) -> io::Result<Vec<u8>> {
        fields::some_at(&mut self.reader(), 0, len)
    }

    /// Returns a reader of its own, at the beginning.
    fn reader(&self) -> Box<dyn ReadSeek + 's> {
        match &self.bytes {
            Place::Memory(_) => Box::new(Cursor::new(self.bytes().unwrap_or_default())),
            Place::File(file) => {
                let file = FileReader { file: Arc::clone(file), start: self.start, len: self.len(), at: 0 };
                Box::new(BufReader::with_capacity(1 << 16, file))
            }
        }
    }
}

/// Reads a part of a file, independent of its cursor.
struct FileReader {
    file: Arc<File>,
    start: u64,
    len: u64,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.len.saturating_sub(self.at).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..len], self.start + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Energy of the channels of a recording and of their average.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loudness {
    channels: f64,
    average: f64,
}

impl Loudness {
    /// Adds a block: the sum of the squares of all samples divided by the number of channels, and the average.
    pub(crate) fn add(&mut self, squares: f32, average: &[f32]) {
        self.channels += f64::from(squares);
        self.average += f64::from(average.iter().map(|sample| sample * sample).sum::<f32>());
    }

    /// Returns a flag if the average lost 20 dB or more.
    pub(crate) fn flag(&self) -> Option<Flag> {
        (self.channels > 0.0 && self.average < 0.01 * self.channels).then_some(Flag::ChannelsCancel)
    }
}
