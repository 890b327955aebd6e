//! Changes the sample rate of clips, block by block.
//!
//! The scheme of rubato's FFT resampler in f32 with a block of (rate / gcd) times an even number, whose only factors are 2, 3, 5 and
//! 7: so the delay is a whole number of output samples (no shift) and the transforms are fast. Measured against soxr and sinc
//! resamplers: as clean as soxr VHQ, 145 dB of alias rejection, no loss up to 7.5 kHz. The transforms use what
//! vector instructions the processor has, so a sample can differ by its last bit between processors with and without AVX.

mod convert;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use convert::Converter;

/// About this many input samples make a block: long enough for a sharp filter, short enough for short clips.
const BLOCK: u64 = 1_536;
/// No two rates that occur need more.
const MAX_BLOCK: usize = 1 << 21;
/// Samples of the blocks of all resamplers that are kept: a hundred of usual ones.
const MAX_HELD: usize = 1 << 20;

/// Resamplers to one output rate, one per input rate, made when first needed. Use one set per thread.
#[derive(Debug)]
pub struct Resamplers {
    to: u32,
    by_rate: BTreeMap<u32, Converter>,
    /// Input that does not fill a block yet.
    pending: Vec<f32>,
}

/// Two rates between which nothing can be converted.
#[derive(Debug, thiserror::Error)]
#[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
pub struct ResampleError {
    from: u32,
    to: u32,
    reason: String,
}

impl Resamplers {
    /// Resamplers to `to` Hz.
    pub fn new(to: u32) -> Self {
        Self { to, by_rate: BTreeMap::new(), pending: Vec::new() }
    }

    /// The rate of what comes out, in Hz.
    pub fn sample_rate(&self) -> u32 {
        self.to
    }

    /// Begins a mono clip of `from` Hz. What comes out does not depend on the clips before.
    ///
    /// Errors: a rate of 0, or of which a block would be too long.
    pub fn start(&mut self, from: u32) -> Result<Stream<'_>, ResampleError> {
        let to = self.to;
        self.pending.clear();
        let mut stream = Stream { from, to, converter: None, pending: &mut self.pending, late: 0, taken: 0, given: 0 };
        if from == to {
            return Ok(stream);
        }
        let error = |reason: &str| ResampleError { from, to, reason: reason.to_owned() };
        if from == 0 || to == 0 {
            return Err(error("a rate of 0 Hz"));
        }
        // Damaged headers name rates of which a block is long, and each another.
        let held: usize = self.by_rate.values().map(|converter| converter.lens().0 + converter.lens().1).sum();
        if held > MAX_HELD && !self.by_rate.contains_key(&from) {
            self.by_rate.clear();
        }
        let converter = match self.by_rate.entry(from) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let num_in = block_len(from, to);
                let num_out = num_in / (from / gcd(from, to)) as usize * (to / gcd(from, to)) as usize;
                if num_in.max(num_out) > MAX_BLOCK {
                    return Err(error("their ratio is of two numbers that are too large"));
                }
                entry.insert(Converter::new(num_in, num_out))
            }
        };
        converter.reset();
        stream.late = converter.late();
        stream.converter = Some(converter);
        Ok(stream)
    }
}

/// A clip that is being resampled, from first to last sample.
pub struct Stream<'a> {
    from: u32,
    to: u32,
    /// Absent when the rate stays.
    converter: Option<&'a mut Converter>,
    pending: &'a mut Vec<f32>,
    /// Samples of the filter's delay that are still to be left out.
    late: usize,
    taken: u64,
    given: u64,
}

impl Stream<'_> {
    /// Takes the next samples of the clip, and adds to `output` what is known of the result by then.
    pub fn push(&mut self, mut samples: &[f32], output: &mut Vec<f32>) {
        self.taken += samples.len() as u64;
        let Some(len) = self.converter.as_ref().map(|converter| converter.lens().0) else {
            return output.extend_from_slice(samples);
        };
        if !self.pending.is_empty() {
            let (head, rest) = samples.split_at(samples.len().min(len - self.pending.len()));
            self.pending.extend_from_slice(head);
            samples = rest;
            if self.pending.len() == len {
                let block = std::mem::take(self.pending);
                self.convert(&block, output);
                *self.pending = block;
                self.pending.clear();
            }
        }
        let blocks = samples.chunks_exact(len);
        let rest = blocks.remainder();
        blocks.for_each(|block| self.convert(block, output));
        self.pending.extend_from_slice(rest);
    }

    /// Ends the clip. In all, [`output_len`] samples have come out, without a shift in time.
    pub fn finish(mut self, output: &mut Vec<f32>) {
        let Some(len) = self.converter.as_ref().map(|converter| converter.lens().0) else { return };
        let total = output_len(self.taken, self.from, self.to);
        let mut block = std::mem::take(self.pending);
        while self.given < total {
            block.resize(len, 0.0);
            self.convert(&block, output);
            block.clear();
        }
        let surplus = self.given - total;
        output.truncate(output.len().saturating_sub(surplus as usize));
        *self.pending = block;
    }

    /// Converts as many samples as the converter asks for.
    fn convert(&mut self, samples: &[f32], output: &mut Vec<f32>) {
        let Some(converter) = self.converter.as_mut() else { return };
        let before = output.len();
        converter.convert(samples, output);
        let late = self.late.min(output.len() - before);
        self.late -= late;
        output.drain(before..before + late);
        self.given += (output.len() - before) as u64;
    }
}

/// Samples that come out of `len`: `ceil(len * to / from)`.
pub fn output_len(len: u64, from: u32, to: u32) -> u64 {
    (u128::from(len) * u128::from(to)).div_ceil(u128::from(from.max(1))) as u64
}

/// The input block: (rate / gcd) times the even number, of factors 2, 3, 5 and 7 only, that comes nearest to [`BLOCK`].
fn block_len(from: u32, to: u32) -> usize {
    let base = u64::from(from / gcd(from, to));
    let smooth = |mut number: u64| {
        for factor in [2, 3, 5, 7] {
            while number.is_multiple_of(factor) {
                number /= factor;
            }
        }
        number == 1
    };
    let multiples = (2..=BLOCK).step_by(2).filter(|&multiple| smooth(multiple));
    let nearest = multiples.min_by_key(|multiple| (base * multiple).abs_diff(BLOCK)).expect("2 is even and smooth");
    (base * nearest) as usize
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
