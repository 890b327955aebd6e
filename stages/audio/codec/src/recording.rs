//! A recording as it lies on disk becomes a clip of a shard: decoded, channels averaged, resampled, rounded to 16 bits, written
//! as WAV or FLAC; or it is rejected with a reason. This is all that the stages use of decoding.
//!
//! Everything goes block by block, so that a recording of three hours takes the memory of its bytes in the shard and no more. What
//! conforms already keeps its bytes, once they have been decoded and found sound. Rounding: halves away from zero, scale 32768,
//! clamped, no dither, so that the same input gives the same bytes.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use multiversion::multiversion;

pub use crate::decode::SourceInfo;
use crate::decode::{self, DecodeError, Fallback, Source};
pub use crate::encode::Format;
use crate::encode::{Encoder, flac};
use crate::resample::{Resamplers, output_len};
use crate::sums::{LANES, Summed, sums};

/// What all clips of a shard are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// In Hz.
    pub sample_rate: u32,
    /// How the bytes are written.
    pub format: Format,
}

/// A stretch of a recording, in samples at the recording's own rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first sample.
    pub start: u64,
    /// How many.
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
    /// What the recording was.
    pub source: SourceInfo,
    /// Whether the bytes are those of the recording.
    pub kept: bool,
}

/// Why a recording gives no clip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// A sentence for the table of rejects.
    pub reason: String,
    /// Where in the file the trouble is, in bytes, if it is at one place.
    pub offset: Option<u64>,
}

/// Bytes of the largest recording that is read as a whole; larger ones are read piece by piece.
pub const WHOLE_IN_MEMORY: u64 = 32 << 20;

/// The most samples of a clip: 4.6 hours at 16 kHz, half a gigabyte of PCM.
pub const MAX_SAMPLES: u64 = 1 << 28;

/// Prepares one recording after the other. Holds resamplers and buffers, so use one per thread.
#[derive(Debug)]
pub struct Preparer {
    target: Target,
    fallback: Fallback,
    resamplers: Resamplers,
    buffers: Buffers,
}

#[derive(Debug, Default)]
struct Buffers {
    mono: Vec<f32>,
    resampled: Vec<f32>,
    pcm: Vec<i16>,
}

impl Preparer {
    /// For clips of this kind.
    pub fn new(target: Target) -> Self {
        let resamplers = Resamplers::new(target.sample_rate);
        Self { target, fallback: Fallback::Ffmpeg, resamplers, buffers: Buffers::default() }
    }

    /// Rejects what only the program `ffmpeg` could decode, also where there is one.
    #[must_use]
    pub fn without_ffmpeg(self) -> Self {
        Self { fallback: Fallback::None, ..self }
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
            return Err(Reject { reason: format!("{kind}, not a file"), offset: None });
        }
        let file = File::open(&path).map_err(DecodeError::from)?;
        if metadata.len() > WHOLE_IN_MEMORY { self.draft_pieces(&file, span) } else { self.draft_bytes(whole(&file)?, span) }
    }

    fn draft_pieces(&mut self, file: &File, span: Option<Span>) -> Result<Draft, Reject> {
        let mut draft = self.guarded(Source::File(file.try_clone().map_err(DecodeError::from)?), span)?;
        if draft.clip.kept {
            draft.clip.bytes = whole(file)?;
        }
        Ok(draft)
    }

    fn draft_bytes(&mut self, bytes: Vec<u8>, span: Option<Span>) -> Result<Draft, Reject> {
        let mut draft = self.guarded(Source::Memory(&bytes), span)?;
        if draft.clip.kept {
            draft.clip.bytes = bytes;
        }
        Ok(draft)
    }

    /// A decoder that panics has met a file that its makers did not think of: that rejects the file and no more.
    fn guarded(&mut self, source: Source<'_>, span: Option<Span>) -> Result<Draft, Reject> {
        match catch_unwind(AssertUnwindSafe(|| self.run(source, span))) {
            Ok(result) => result.map_err(Reject::from),
            Err(panic) => {
                *self = Self { fallback: self.fallback, ..Self::new(self.target) };
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
                Err(Reject { reason: format!("the decoder gave up on it: {text}"), offset: None })
            }
        }
    }

    /// Decodes, resamples and encodes. Kept bytes are left to the caller, who has them.
    fn run(&mut self, source: Source<'_>, span: Option<Span>) -> Result<Draft, DecodeError> {
        let Target { sample_rate: to, format } = self.target;
        let mut decoder = decode::open(source, self.fallback)?;
        let info = decoder.info();
        let kept = span.is_none() && info.sample_rate == to && decoder.conforms() == Some(format);
        let mut cut = Cut::new(span);
        if let Some(Span { start, .. }) = span {
            cut.skip(decoder.seek(start)?);
        }
        let Buffers { mono, resampled, pcm } = &mut self.buffers;
        let mut stream = self.resamplers.start(info.sample_rate)?;
        let mut encoder = (!kept).then(|| Encoder::new(format, to));
        let mut num_samples = 0;
        let verified = loop {
            mono.clear();
            let more = decoder.next(mono)?;
            if let Some(at) = not_finite(mono) {
                return Err(DecodeError::NotFinite { index: cut.seen + at as u64, value: mono[at] });
            }
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
        let clip = Prepared { bytes, num_samples: output_len(num_samples, info.sample_rate, to), source: info, kept };
        Ok(Draft { clip, summed: verified.into_iter().chain(unsigned).collect() })
    }
}

/// All that is in a file, from its beginning.
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
    clips.into_iter().for_each(|(key, clip)| done(key, clip));
}

impl From<DecodeError> for Reject {
    fn from(error: DecodeError) -> Self {
        Self { reason: error.to_string(), offset: error.offset() }
    }
}

/// Which of the samples that come by are wanted.
struct Cut {
    span: Span,
    /// Samples that came by.
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

/// The first sample that is no finite number. First all are looked at without a branch, several at a time.
#[multiversion(targets("x86_64+avx2"))]
fn not_finite(samples: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    let found = samples.iter().fold(0, |found, sample| found | u32::from(sample.to_bits() & EXPONENT == EXPONENT));
    if found == 0 { None } else { samples.iter().position(|sample| !sample.is_finite()) }
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

/// The samples of a file in memory, full scale 1, channels averaged, into `mono`, which is cleared first; gives the rate. For
/// clips that come from a shard.
///
/// Errors: [`Reject`].
pub fn samples(bytes: &[u8], mono: &mut Vec<f32>) -> Result<u32, Reject> {
    mono.clear();
    let mut read = || -> Result<u32, DecodeError> {
        let mut decoder = decode::open(Source::Memory(bytes), Fallback::Ffmpeg)?;
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
