//! Makes a clip of a recording: decodes it, averages the channels, resamples, rounds to 16 bits and writes WAV or FLAC; or rejects it
//! with a reason. The stages use nothing else of decoding.
//!
//! Works block by block, so that a recording of three hours takes the memory of its clip and no more. A recording that conforms keeps
//! its bytes, once they have been decoded and nothing unexpected was found. Rounding: halves away from zero, scale 32768, clamped, no
//! dither, so that the same input gives the same bytes.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use multiversion::multiversion;

use crate::decode::{self, DecodeError, Decoder, Source};
pub use crate::decode::{Flag, SourceInfo};
pub use crate::encode::Format;
use crate::encode::{Encoder, flac};
use crate::resample::{Resamplers, output_len};
use crate::sums::{LANES, Summed, sums};

/// Form of all clips of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// In Hz.
    pub sample_rate: u32,
    /// Format of the bytes.
    pub format: Format,
}

/// A stretch of a recording, in samples at the recording's own rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first sample.
    pub start: u64,
    /// Number of samples.
    pub num_samples: u64,
}

/// A recording that is to be prepared.
#[derive(Debug)]
pub enum Recording {
    /// A file on disk.
    File(PathBuf),
    /// The bytes of a file.
    Bytes(Vec<u8>),
}

/// A clip, ready for a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// A whole file in the target's format: mono, 16 bit, at the target's rate.
    pub bytes: Vec<u8>,
    /// Samples of it.
    pub num_samples: u64,
    /// Form of the recording.
    pub source: SourceInfo,
    /// True if the bytes are those of the recording.
    pub kept: bool,
    /// Oddities of the recording, in order and each once.
    pub flags: Vec<Flag>,
    /// True if the program `ffmpeg` decoded it.
    pub by_ffmpeg: bool,
}

/// Reason why a recording gives no clip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// A sentence for the table of rejects.
    pub reason: String,
    /// Offset of the fault in the file, in bytes, if it is at one place.
    pub offset: Option<u64>,
    /// Role of the program `ffmpeg`.
    pub ffmpeg: Ffmpeg,
    /// True if the recording may be sound, and this machine lacked something: room for a temporary file, say.
    pub of_machine: bool,
}

/// Role of the program `ffmpeg` in a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ffmpeg {
    /// Not needed: the recording is damaged.
    #[default]
    Unneeded,
    /// Tried, without success.
    Tried,
    /// Not on PATH, and it might have read the recording.
    Missing,
}

/// Bytes of the largest recording that is read as a whole; larger ones are read piece by piece.
pub const WHOLE_IN_MEMORY: u64 = 32 << 20;

/// The most samples of a clip: 4.6 hours at 16 kHz, half a gigabyte of PCM.
pub const MAX_SAMPLES: u64 = 1 << 28;

/// Returns the path of the program `ffmpeg`, if this machine has it.
type FindFfmpeg<'f> = Arc<dyn Fn() -> Option<PathBuf> + Send + Sync + 'f>;

/// Prepares one recording after the other. Holds resamplers and buffers, so use one per thread.
pub struct Preparer<'f> {
    target: Target,
    /// Absent if ffmpeg must not be used.
    ffmpeg: Option<FindFfmpeg<'f>>,
    resamplers: Resamplers,
    buffers: Buffers,
}

#[derive(Debug, Default)]
struct Buffers {
    mono: Vec<f32>,
    resampled: Vec<f32>,
    pcm: Vec<i16>,
}

impl<'f> Preparer<'f> {
    /// Returns a preparer of clips of this form that does not use the program `ffmpeg`.
    pub fn new(target: Target) -> Self {
        let resamplers = Resamplers::new(target.sample_rate);
        Self { target, ffmpeg: None, resamplers, buffers: Buffers::default() }
    }

    /// Decodes with the program `ffmpeg` what nothing here decodes. `find` is called when the first such recording comes.
    #[must_use]
    pub fn with_ffmpeg(self, find: impl Fn() -> Option<PathBuf> + Send + Sync + 'f) -> Self {
        Self { ffmpeg: Some(Arc::new(find)), ..self }
    }

    /// Prepares the recording at `path`, or a stretch of it.
    ///
    /// Errors: [`Reject`], also for a file that cannot be read.
    pub fn prepare(&mut self, path: &Path, span: Option<Span>) -> Result<Prepared, Reject> {
        self.prepare_one(Recording::File(path.to_owned()), span)
    }

    /// Prepares a recording that is in memory.
    ///
    /// Errors: [`Reject`].
    pub fn prepare_bytes(&mut self, bytes: Vec<u8>, span: Option<Span>) -> Result<Prepared, Reject> {
        self.prepare_one(Recording::Bytes(bytes), span)
    }

    fn prepare_one(&mut self, recording: Recording, span: Option<Span>) -> Result<Prepared, Reject> {
        let (mut waiting, mut prepared) = (Some(recording), None);
        self.prepare_each(|| waiting.take().map(|recording| ((), recording, span)), |(), result| prepared = Some(result));
        prepared.expect("a recording gives a result")
    }

    /// Prepares one recording after the other: `next` returns each with a key, `done` gets the results in another order. Faster
    /// than one by one for FLAC (14 % measured), because the MD5 sums of several clips are computed side by side.
    pub fn prepare_each<K>(
        &mut self,
        mut next: impl FnMut() -> Option<(K, Recording, Option<Span>)>,
        mut done: impl FnMut(K, Result<Prepared, Reject>),
    ) {
        let mut drafts = Vec::new();
        while let Some((key, recording, span)) = next() {
            match self.draft(recording, span) {
                Ok(draft) => drafts.push((key, draft)),
                Err(reject) => done(key, Err(reject)),
            }
            if drafts.len() == LANES {
                finish(std::mem::take(&mut drafts), &mut done);
            }
        }
        finish(drafts, &mut done);
    }

    /// Prepares a recording but for its MD5 sums.
    fn draft(&mut self, recording: Recording, span: Option<Span>) -> Result<Draft, Reject> {
        let path = match recording {
            Recording::Bytes(bytes) => return self.draft_bytes(bytes, span),
            Recording::File(path) => path,
        };
        let metadata = fs::metadata(&path).map_err(DecodeError::from)?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "a folder" } else { "a device or pipe" };
            return Err(Reject::because(format!("{kind}, not a file")));
        }
        let file = File::open(&path).map_err(DecodeError::from)?;
        if metadata.len() > WHOLE_IN_MEMORY { self.draft_pieces(&file, span) } else { self.draft_bytes(whole(&file)?, span) }
    }

    fn draft_pieces(&mut self, file: &File, span: Option<Span>) -> Result<Draft, Reject> {
        let mut draft = self.guarded(&file.try_clone().and_then(Source::file).map_err(DecodeError::from)?, span)?;
        if draft.clip.kept {
            draft.clip.bytes = whole(file)?;
        }
        Ok(draft)
    }

    fn draft_bytes(&mut self, bytes: Vec<u8>, span: Option<Span>) -> Result<Draft, Reject> {
        let mut draft = self.guarded(&Source::memory(&bytes), span)?;
        if draft.clip.kept {
            draft.clip.bytes = bytes;
        }
        Ok(draft)
    }

    /// Rejects a recording on which a decoder panics, which its makers did not think of.
    fn guarded(&mut self, source: &Source<'_>, span: Option<Span>) -> Result<Draft, Reject> {
        match catch_unwind(AssertUnwindSafe(|| self.decode(source, span))) {
            Ok(result) => result.map_err(Reject::from),
            Err(panic) => {
                *self = Self { ffmpeg: self.ffmpeg.take(), ..Self::new(self.target) };
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
                Err(Reject::because(format!("the decoder panicked: {text}")))
            }
        }
    }

    /// Decodes a recording here, or with ffmpeg where nothing here can.
    fn decode(&mut self, source: &Source<'_>, span: Option<Span>) -> Result<Draft, DecodeError> {
        let here = decode::open(source).and_then(|decoder| self.run(decoder, span, true));
        let (container, reason) = match here {
            // Something unexpected was found at the end.
            Ok(draft) if draft.clip.kept && !draft.clip.flags.is_empty() => return self.run(decode::open(source)?, span, false),
            Err(error @ DecodeError::Unknown { .. }) => ("unknown", error.to_string()),
            Err(DecodeError::Unsupported { container, reason }) => (container, format!("{container}: {reason}")),
            other => return other,
        };
        let Some(ffmpeg) = self.ffmpeg.as_ref().and_then(|find| find()) else { return Err(DecodeError::NoFfmpeg { reason }) };
        let mut draft = self.run(decode::open_with_ffmpeg(source, &ffmpeg, container, &reason)?, span, false)?;
        draft.clip.by_ffmpeg = true;
        Ok(draft)
    }

    /// Decodes, resamples and encodes. Leaves kept bytes to the caller, who has them.
    fn run(&mut self, mut decoder: Box<dyn Decoder + '_>, span: Option<Span>, keep: bool) -> Result<Draft, DecodeError> {
        let Target { sample_rate: to, format } = self.target;
        let info = decoder.info();
        let kept = keep && span.is_none() && info.sample_rate == to && decoder.conforms() == Some(format);
        let mut cut = Cut::new(span);
        if let Some(Span { start, .. }) = span {
            cut.skip(decoder.seek(start)?);
        }
        let Buffers { mono, resampled, pcm } = &mut self.buffers;
        let mut stream = self.resamplers.start(info.sample_rate)?;
        let mut encoder = (!kept).then(|| Encoder::new(format, to));
        let (mut num_samples, mut num_beyond) = (0, 0);
        let verified = loop {
            mono.clear();
            let more = decoder.next(mono)?;
            let (finite, beyond) = examine(mono);
            if !finite && let Some(at) = mono.iter().position(|sample| !sample.is_finite()) {
                return Err(DecodeError::NotFinite { index: cut.seen + at as u64, value: mono[at] });
            }
            num_beyond += u64::from(beyond);
            let wanted = cut.wanted(mono);
            num_samples += wanted.len() as u64;
            if output_len(num_samples, info.sample_rate, to) > MAX_SAMPLES {
                return Err(DecodeError::TooLong { most: MAX_SAMPLES });
            }
            if let Some(encoder) = &mut encoder {
                if info.sample_rate == to {
                    encode(wanted, pcm, encoder);
                } else {
                    resampled.clear();
                    stream.push(wanted, resampled);
                    encode(resampled, pcm, encoder);
                }
            }
            if !more {
                break decoder.summed();
            }
            if cut.done() {
                break None;
            }
        };
        if let Some(span) = span
            && num_samples < span.num_samples
        {
            return Err(DecodeError::Span {
                start: span.start,
                end: span.start.saturating_add(span.num_samples),
                num_samples: cut.seen,
            });
        }
        if num_samples == 0 {
            return Err(DecodeError::NoSamples);
        }
        resampled.clear();
        stream.finish(resampled);
        if let Some(encoder) = &mut encoder {
            encode(resampled, pcm, encoder);
        }
        let (bytes, unsigned) = encoder.map(Encoder::finish).unwrap_or_default();
        let mut flags = decoder.flags();
        if 100 * num_beyond > cut.seen {
            flags.push(Flag::BeyondFullScale);
        }
        flags.sort();
        flags.dedup();
        let num_samples = output_len(num_samples, info.sample_rate, to);
        let clip = Prepared { bytes, num_samples, source: info, kept, flags, by_ffmpeg: false };
        Ok(Draft { clip, summed: verified.into_iter().chain(unsigned).collect() })
    }
}

/// Reads a whole file.
fn whole(mut file: &File) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::with_capacity(file.metadata()?.len() as usize + 1);
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A clip whose MD5 sums are not computed yet.
struct Draft {
    clip: Prepared,
    /// Samples of the recording, whose header promises a sum, and of the clip, whose header lacks it.
    summed: Vec<Summed>,
}

/// Computes the sums of several clips; compares those that a header promises, and writes the others.
fn finish<K>(drafts: Vec<(K, Draft)>, done: &mut impl FnMut(K, Result<Prepared, Reject>)) {
    let (mut clips, mut summed, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for (owner, (key, draft)) in drafts.into_iter().enumerate() {
        owners.extend(draft.summed.iter().map(|summed| (owner, summed.promised)));
        summed.extend(draft.summed);
        clips.push((key, Ok(draft.clip)));
    }
    for ((owner, promised), sum) in owners.into_iter().zip(sums(summed)) {
        match (promised, &mut clips[owner].1) {
            (Some(promised), clip) if promised != sum => *clip = Err(DecodeError::Md5.into()),
            (None, Ok(clip)) => flac::sign(&mut clip.bytes, sum),
            _ => {}
        }
    }
    for (key, clip) in clips {
        done(key, clip);
    }
}

impl Reject {
    fn because(reason: String) -> Self {
        Self { reason, offset: None, ffmpeg: Ffmpeg::Unneeded, of_machine: false }
    }
}

impl From<DecodeError> for Reject {
    fn from(error: DecodeError) -> Self {
        let ffmpeg = match error {
            DecodeError::NoFfmpeg { .. } => Ffmpeg::Missing,
            DecodeError::Ffmpeg { .. } => Ffmpeg::Tried,
            _ => Ffmpeg::Unneeded,
        };
        Self { reason: error.to_string(), offset: error.offset(), ffmpeg, of_machine: error.is_of_machine() }
    }
}

/// Cuts a stretch out of the samples of a recording.
struct Cut {
    span: Span,
    /// Samples so far.
    seen: u64,
}

impl Cut {
    fn new(span: Option<Span>) -> Self {
        Self { span: span.unwrap_or(Span { start: 0, num_samples: u64::MAX }), seen: 0 }
    }

    /// The decoder begins so many samples later.
    fn skip(&mut self, num_samples: u64) {
        self.seen = num_samples;
    }

    fn wanted<'a>(&mut self, block: &'a [f32]) -> &'a [f32] {
        let len = block.len() as u64;
        let from = self.span.start.saturating_sub(self.seen).min(len);
        let to = self.span.start.saturating_add(self.span.num_samples).saturating_sub(self.seen).min(len);
        self.seen += len;
        &block[from as usize..to.max(from) as usize]
    }

    fn done(&self) -> bool {
        self.seen >= self.span.start.saturating_add(self.span.num_samples)
    }
}

fn encode(samples: &[f32], pcm: &mut Vec<i16>, encoder: &mut Encoder) {
    pcm.resize(samples.len(), 0);
    round(samples, pcm);
    encoder.push(pcm);
}

#[multiversion(targets("x86_64+avx2"))]
fn round(samples: &[f32], pcm: &mut [i16]) {
    for (rounded, &sample) in pcm.iter_mut().zip(samples) {
        *rounded = to_pcm16(sample);
    }
}

/// Returns true if all samples are finite, and how many are beyond full scale. Without a branch, several at a time.
#[multiversion(targets("x86_64+avx2"))]
fn examine(samples: &[f32]) -> (bool, u32) {
    const SIGN: u32 = 0x8000_0000;
    const INFINITE: u32 = f32::INFINITY.to_bits();
    const FULL_SCALE: u32 = 1.0_f32.to_bits();
    let (mut largest, mut beyond) = (0, 0);
    for sample in samples {
        // Without their signs, the bits of floats have the order of their values.
        let size = sample.to_bits() & !SIGN;
        largest = largest.max(size);
        beyond += u32::from(size > FULL_SCALE);
    }
    (largest < INFINITE, beyond)
}

/// Full scale 1 to 16 bits: halves away from zero, clamped. By hand, and without a branch, because `f32::round` and `as i32` are
/// much slower on plain x86-64.
#[inline]
fn to_pcm16(sample: f32) -> i16 {
    // Added to a number of 16 bits, its lowest bits are that number, rounded with halves to even: 1.5 times 2 to the 23rd.
    const SHIFT: f32 = 12_582_912.0;
    let scaled = (sample * 32_768.0).clamp(-32_768.0, 32_767.0);
    let shifted = scaled + SHIFT;
    let rest = scaled - (shifted - SHIFT);
    let even = shifted.to_bits() as i32 - SHIFT.to_bits() as i32;
    let up = i32::from(rest >= 0.5) & i32::from(scaled > 0.0);
    let down = i32::from(rest <= -0.5) & i32::from(scaled < 0.0);
    (even + up - down) as i16
}

/// Decodes a clip of a shard into `mono`, which is cleared first: full scale 1, channels averaged. Returns the rate.
///
/// Errors: [`Reject`].
pub fn samples(bytes: &[u8], mono: &mut Vec<f32>) -> Result<u32, Reject> {
    mono.clear();
    let mut read = || -> Result<u32, DecodeError> {
        let mut decoder = decode::open(&Source::memory(bytes))?;
        while decoder.next(mono)? {}
        let promised = decoder.summed().map(|summed| (summed.promised, Some(sums(vec![summed])[0])));
        if promised.is_some_and(|(promised, sum)| promised != sum) {
            return Err(DecodeError::Md5);
        }
        Ok(decoder.info().sample_rate)
    };
    read().map_err(Reject::from)
}

#[cfg(test)]
mod tests;
