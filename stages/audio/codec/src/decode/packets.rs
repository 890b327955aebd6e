//! Packets of MP4, Ogg, ADTS and of WAV with ADPCM, decoded by symphonia.
//!
//! Strict: a packet that does not decode rejects the recording, and so does a length other than the container's.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use symphonia::core::audio::conv::IntoSample;
use symphonia::core::audio::sample::Sample;
use symphonia::core::audio::{Audio, AudioBuffer, GenericAudioBufferRef};
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_PCM_F32BE, CODEC_ID_PCM_F32LE, CODEC_ID_PCM_F64BE, CODEC_ID_PCM_F64LE, CODEC_ID_PCM_S24BE, CODEC_ID_PCM_S24LE,
    CODEC_ID_PCM_S32BE, CODEC_ID_PCM_S32LE,
};
use symphonia::core::codecs::audio::{AudioCodecId, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::default::formats::{IsoMp4Reader, OggReader, WavReader};

use super::{DecodeError, Decoder, Flag, Loudness, ReadSeek, Source, SourceInfo, mp4};
use crate::wav::SAMPLE_RATES;

/// So many packets in a row may give no sample: a few do at the beginning of Vorbis and MP3, no sound file has more.
const MAX_SILENT_PACKETS: u32 = 1_000;

/// Codecs of `QuickTime` whose byte order is in an atom of their own (`enda`). symphonia takes all for little-endian.
const WIDE_PCM: [AudioCodecId; 8] = [
    CODEC_ID_PCM_S24LE,
    CODEC_ID_PCM_S24BE,
    CODEC_ID_PCM_S32LE,
    CODEC_ID_PCM_S32BE,
    CODEC_ID_PCM_F32LE,
    CODEC_ID_PCM_F32BE,
    CODEC_ID_PCM_F64LE,
    CODEC_ID_PCM_F64BE,
];

/// Samples of an AAC packet, with band replication.
const MAX_AAC_PACKET: u64 = 2_048;

/// Opens a source. What fails before the first sample is not supported rather than damaged, so that ffmpeg is asked too.
pub(super) fn open<'s>(source: &Source<'s>, container: &'static str) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    open_strictly(source, container).map_err(|error| match error {
        DecodeError::Damaged { container, reason, .. } => DecodeError::Unsupported { container, reason },
        other => other,
    })
}

fn open_strictly<'s>(source: &Source<'s>, container: &'static str) -> Result<Box<dyn Decoder + 's>, DecodeError> {
    let len = source.len();
    let (timeline, joined) = match container {
        "mp4" => (mp4::timeline(&mut source.reader(), len)?, mp4::is_joined(&mut source.reader(), len)?),
        _ => (None, false),
    };
    let position = Arc::new(AtomicU64::new(0));
    let base = source.start();
    let source = Counted { inner: source.reader(), len, position: Arc::clone(&position) };
    let stream = MediaSourceStream::new(Box::new(source), MediaSourceStreamOptions::default());
    let place = Place { container, base, position };
    let options = FormatOptions::default();
    let reader: Box<dyn FormatReader + 's> = match container {
        "mp4" => IsoMp4Reader::try_new(stream, options).map(|reader| Box::new(reader) as _),
        "ogg" => OggReader::try_new(stream, options).map(|reader| Box::new(reader) as _),
        "wav" => WavReader::try_new(stream, options).map(|reader| Box::new(reader) as _),
        // With a tag in front, or none.
        _ => {
            let mut hint = Hint::new();
            hint.with_extension(if container == "adts" { "aac" } else { container });
            symphonia::default::get_probe().probe(&hint, stream, options, MetadataOptions::default())
        }
    }
    .map_err(|error| place.error(&error))?;

    let track = reader.default_track(TrackType::Audio).ok_or_else(|| place.unsupported("no audio track"))?;
    let (track_id, promised) = (track.id, track.num_frames.filter(|_| container == "wav"));
    let Some(CodecParameters::Audio(params)) = track.codec_params.clone() else {
        return Err(place.unsupported("a track without a codec"));
    };
    if container == "mp4" && WIDE_PCM.contains(&params.codec) {
        return Err(place.unsupported("PCM of more than 16 bits, whose byte order symphonia 0.6 does not read"));
    }
    // FLAC in Ogg: its MD5 sum.
    let options = AudioDecoderOptions::default().verify(true);
    let decoder = symphonia::default::get_codecs().make_audio_decoder(&params, &options).map_err(|error| place.error(&error))?;
    let mut opened = PacketDecoder {
        reader,
        decoder,
        track_id,
        info: SourceInfo { sample_rate: 0, num_channels: 0, container },
        promised,
        audible: 0..u64::MAX,
        decoded: 0,
        waiting: Vec::new(),
        place,
        flags: if joined { vec![Flag::Joined] } else { Vec::new() },
        loudness: Loudness::default(),
    };
    // What a codec decodes to is known for certain once it has decoded something.
    let mut first = Vec::new();
    opened.packets(&mut first)?;
    if let Some(timeline) = timeline {
        opened.trim(timeline, &mut first);
    }
    opened.waiting = first;
    Ok(Box::new(opened))
}

struct PacketDecoder<'s> {
    reader: Box<dyn FormatReader + 's>,
    decoder: Box<dyn AudioDecoder>,
    track_id: u32,
    info: SourceInfo,
    /// Samples by the container.
    promised: Option<u64>,
    /// The samples that are to be heard; what an encoder put before and behind them is left out.
    audible: Range<u64>,
    /// Samples so far, audible or not.
    decoded: u64,
    /// The samples of the first packet, until they are asked for.
    waiting: Vec<f32>,
    place: Place,
    flags: Vec<Flag>,
    loudness: Loudness,
}

impl Decoder for PacketDecoder<'_> {
    fn info(&self) -> SourceInfo {
        self.info
    }

    fn next(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        if !self.waiting.is_empty() {
            mono.append(&mut self.waiting);
            return Ok(true);
        }
        if self.packets(mono)? {
            return Ok(true);
        }
        self.check()?;
        Ok(false)
    }

    fn flags(&self) -> Vec<Flag> {
        self.flags.iter().copied().chain(self.loudness.flag()).collect()
    }
}

impl PacketDecoder<'_> {
    /// Decodes packets until one has samples. False at the end.
    fn packets(&mut self, mono: &mut Vec<f32>) -> Result<bool, DecodeError> {
        for _ in 0..MAX_SILENT_PACKETS {
            let packet = match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track_id => packet,
                Ok(Some(_)) => continue,
                Ok(None) => return Ok(false),
                Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    // symphonia ends some files this way. Their length is checked afterwards, or their pages were before.
                    if self.promised.is_some() || self.info.container == "ogg" {
                        return Ok(false);
                    }
                    return Err(self.place.damaged("the file ends within a packet".to_owned()));
                }
                Err(error) => return Err(self.place.error(&error)),
            };
            let buffer = self.decoder.decode(&packet).map_err(|error| self.place.error(&error))?;
            let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count() as u16);
            let info = &mut self.info;
            if info.num_channels == 0 && channels > 0 {
                if !SAMPLE_RATES.contains(&rate) {
                    return Err(DecodeError::SampleRate { found: rate });
                }
                (info.sample_rate, info.num_channels) = (rate, channels);
            }
            if (rate, channels) != (info.sample_rate, info.num_channels) {
                let (from, of) = (info.sample_rate, info.num_channels);
                let reason = format!("changes from {from} Hz, {of} channels to {rate} Hz, {channels} channels");
                return Err(self.place.damaged(reason));
            }
            let before = mono.len();
            average(&buffer, &mut self.loudness, mono);
            if mono.len() > before {
                let start = self.decoded;
                self.decoded += (mono.len() - before) as u64;
                keep(&self.audible, start, before, mono);
                return Ok(true);
            }
        }
        Err(self.place.damaged(format!("{MAX_SILENT_PACKETS} packets in a row without a sample")))
    }

    /// Leaves out what the edit list leaves out, and what fills the last packet up. `first` is the first packet.
    fn trim(&mut self, timeline: mp4::Timeline, first: &mut Vec<f32>) {
        let rate = u64::from(self.info.sample_rate);
        let samples = |ticks: u64| {
            (u128::from(ticks) * u128::from(rate)).div_ceil(u128::from(timeline.timescale)).min(u128::from(u64::MAX)) as u64
        };
        let ends = [timeline.end, timeline.duration];
        self.audible = samples(timeline.start)..ends.into_iter().flatten().map(samples).min().unwrap_or(u64::MAX);
        self.promised = timeline.duration.map(samples);
        keep(&self.audible, 0, 0, first);
    }

    /// At the end: is that all, and is it right?
    fn check(&mut self) -> Result<(), DecodeError> {
        // The last packet of an MP4 file holds more than it is worth.
        let surplus = if self.info.container == "mp4" { MAX_AAC_PACKET } else { 0 };
        if let Some(promised) = self.promised
            && !(promised..=promised + surplus).contains(&self.decoded)
        {
            let (container, found, offset) = (self.place.container, self.decoded, Some(self.place.offset()));
            return Err(DecodeError::Length { container, found, promised, offset });
        }
        match self.decoder.finalize().verify_ok {
            Some(false) => Err(DecodeError::Md5),
            _ => Ok(()),
        }
    }
}

/// Of samples `before` and on, the first of which is number `start` of the recording, keeps the audible ones.
fn keep(audible: &Range<u64>, start: u64, before: usize, mono: &mut Vec<f32>) {
    let len = (mono.len() - before) as u64;
    let from = audible.start.saturating_sub(start).min(len) as usize;
    let to = audible.end.saturating_sub(start).min(len) as usize;
    mono.truncate(before + to.max(from));
    mono.drain(before..before + from);
}

/// Adds the frames of a buffer, channels averaged.
fn average(buffer: &GenericAudioBufferRef<'_>, loudness: &mut Loudness, mono: &mut Vec<f32>) {
    fn planes<S: Sample + IntoSample<f32>>(buffer: &AudioBuffer<S>, loudness: &mut Loudness, mono: &mut Vec<f32>) {
        let start = mono.len();
        let mut squares = 0.0;
        for (number, plane) in buffer.iter_planes().enumerate() {
            if number == 0 {
                mono.extend(plane.iter().map(|&sample| IntoSample::<f32>::into_sample(sample)));
            } else {
                for (sum, &sample) in mono[start..].iter_mut().zip(plane) {
                    *sum += IntoSample::<f32>::into_sample(sample);
                }
            }
        }
        let channels = buffer.num_planes();
        if channels > 1 {
            mono[start..].iter_mut().for_each(|sum| *sum /= channels as f32);
            for plane in buffer.iter_planes() {
                squares += plane.iter().map(|&sample| IntoSample::<f32>::into_sample(sample).powi(2)).sum::<f32>();
            }
            loudness.add(squares / channels as f32, &mono[start..]);
        }
    }
    match buffer {
        GenericAudioBufferRef::U8(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::U16(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::U24(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::U32(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::S8(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::S16(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::S24(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::S32(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::F32(buffer) => planes(buffer, loudness, mono),
        GenericAudioBufferRef::F64(buffer) => planes(buffer, loudness, mono),
    }
}

/// Where the decoder is, for messages.
struct Place {
    container: &'static str,
    /// Offset of the source in the file.
    base: u64,
    position: Arc<AtomicU64>,
}

impl Place {
    /// Returns how far the file has been read: the fault is before it, by no more than a buffer.
    fn offset(&self) -> u64 {
        self.base + self.position.load(Ordering::Relaxed)
    }

    fn damaged(&self, reason: String) -> DecodeError {
        DecodeError::Damaged { container: self.container, reason, offset: Some(self.offset()) }
    }

    fn unsupported(&self, reason: &str) -> DecodeError {
        DecodeError::Unsupported { container: self.container, reason: reason.to_owned() }
    }

    fn error(&self, error: &Error) -> DecodeError {
        match error {
            Error::Unsupported(reason) => self.unsupported(reason),
            Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.damaged("the file ends too early".to_owned())
            }
            other => self.damaged(other.to_string()),
        }
    }
}

/// A source that says how far it was read.
struct Counted<'s> {
    inner: Box<dyn ReadSeek + 's>,
    len: u64,
    position: Arc<AtomicU64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.position.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let position = self.inner.seek(to)?;
        self.position.store(position, Ordering::Relaxed);
        Ok(position)
    }
}

impl MediaSource for Counted<'_> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.len)
    }
}
