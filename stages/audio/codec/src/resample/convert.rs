//! Converts blocks by fast Fourier transforms: overlap-add, with a filter that lets pass what both rates can hold.
//!
//! rubato's `Fft` with its filter, and two blocks at once: one is the real and the other the imaginary part of a complex
//! transform, and a filter with real taps keeps them apart. So there is nothing to take apart after a transform of real samples,
//! which is a third of rubato's time. A test compares the two.

use std::f64::consts::{PI, TAU};
use std::fmt;
use std::sync::Arc;

use multiversion::multiversion;
use rubato::{WindowFunction, calculate_cutoff};
use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

/// Converts blocks of one length to blocks of another.
pub(super) struct Converter {
    /// Samples of a block that goes in, and of one that comes out.
    lens: (usize, usize),
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    /// Spectrum of the filter, from 0 Hz up to what both rates can hold.
    filter: Vec<Complex32>,
    input: Vec<Complex32>,
    spectrum: Vec<Complex32>,
    narrowed: Vec<Complex32>,
    output: Vec<Complex32>,
    scratch: Vec<Complex32>,
    /// Sum that the last block adds to the next.
    overlap: Vec<f32>,
}

impl fmt::Debug for Converter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converter").field("lens", &self.lens).finish_non_exhaustive()
    }
}

impl Converter {
    /// Both lengths are even.
    pub(super) fn new(num_in: usize, num_out: usize) -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(2 * num_in), planner.plan_fft_inverse(2 * num_out));
        let scratch_len = forward.get_outofplace_scratch_len().max(inverse.get_outofplace_scratch_len());
        let zeros = |len| vec![Complex32::default(); len];
        let mut taps: Vec<Complex32> = taps(num_in, num_out).into_iter().map(|tap| Complex32::new(tap, 0.0)).collect();
        taps.resize(2 * num_in, Complex32::default());
        forward.process(&mut taps);
        taps.truncate(num_in.min(num_out));
        Self {
            lens: (num_in, num_out),
            forward,
            inverse,
            filter: taps,
            input: zeros(2 * num_in),
            spectrum: zeros(2 * num_in),
            narrowed: zeros(2 * num_out),
            output: zeros(2 * num_out),
            scratch: zeros(scratch_len),
            overlap: vec![0.0; num_out],
        }
    }

    /// Samples that [`Converter::convert`] takes, and gives.
    pub(super) fn lens(&self) -> (usize, usize) {
        (2 * self.lens.0, 2 * self.lens.1)
    }

    /// By how many samples what comes out is late: the middle of the filter.
    pub(super) fn late(&self) -> usize {
        self.lens.1 / 2
    }

    /// Forgets the blocks before.
    pub(super) fn reset(&mut self) {
        self.overlap.fill(0.0);
    }

    /// Takes two blocks and adds two blocks to `output`.
    pub(super) fn convert(&mut self, samples: &[f32], output: &mut Vec<f32>) {
        let (num_in, num_out) = self.lens;
        let (first, second) = samples.split_at(num_in);
        for (both, (&first, &second)) in self.input.iter_mut().zip(first.iter().zip(second)) {
            *both = Complex32::new(first, second);
        }
        self.input[num_in..].fill(Complex32::default()); // the transform leaves something of its own there
        self.forward.process_outofplace_with_scratch(&mut self.input, &mut self.spectrum, &mut self.scratch);

        let held = self.filter.len();
        self.narrowed[held..=2 * num_out - held].fill(Complex32::default());
        filter(&self.spectrum, &self.filter, &mut self.narrowed);
        self.inverse.process_outofplace_with_scratch(&mut self.narrowed, &mut self.output, &mut self.scratch);

        let (now, tail) = self.output.split_at(num_out);
        let start = output.len();
        output.resize(start + 2 * num_out, 0.0);
        let (first, second) = output[start..].split_at_mut(num_out);
        take_apart(now, tail, &mut self.overlap, first, second);
    }
}

/// Of the spectrum what both rates can hold, filtered.
#[multiversion(targets("x86_64+avx2"))]
fn filter(spectrum: &[Complex32], filter: &[Complex32], narrowed: &mut [Complex32]) {
    for ((to, from), filter) in narrowed.iter_mut().zip(spectrum).zip(filter) {
        *to = from * filter;
    }
    // Frequencies below 0 lie at the end, the lowest last.
    let below = spectrum.iter().rev().zip(&filter[1..]);
    for (to, (from, filter)) in narrowed.iter_mut().rev().zip(below) {
        *to = from * filter.conj();
    }
}

/// Output of two blocks, with the sums that the blocks before them add.
#[multiversion(targets("x86_64+avx2"))]
fn take_apart(now: &[Complex32], tail: &[Complex32], overlap: &mut [f32], first: &mut [f32], second: &mut [f32]) {
    for ((((now, tail), overlap), first), second) in now.iter().zip(tail).zip(overlap).zip(first).zip(second) {
        *first = now.re + *overlap;
        *second = now.im + tail.re;
        *overlap = tail.im;
    }
}

/// A sinc under the square of a Blackman-Harris window, of gain 1 at 0 Hz; divided by the length of the transform, which
/// rustfft leaves to its caller. Where it begins to fall is rubato's rule for this window.
fn taps(num_in: usize, num_out: usize) -> Vec<f32> {
    let window = WindowFunction::BlackmanHarris2;
    let cutoff = f64::from(calculate_cutoff::<f32>(num_in.min(num_out), window)) * num_out.min(num_in) as f64 / num_in as f64;
    let tap = |n: usize| {
        let turn = TAU * n as f64 / num_in as f64;
        let window = 0.358_75 - 0.488_29 * turn.cos() + 0.141_28 * (2.0 * turn).cos() - 0.011_68 * (3.0 * turn).cos();
        let x = (n as f64 - (num_in / 2) as f64) * cutoff * PI;
        window * window * if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    let taps: Vec<f64> = (0..num_in).map(tap).collect();
    let whole = taps.iter().sum::<f64>() * (2 * num_in) as f64;
    taps.into_iter().map(|tap| (tap / whole) as f32).collect()
}

#[cfg(test)]
mod tests {
    use audioadapter_buffers::direct::SequentialSlice;
    use rubato::{FixedSync, Resampler};

    use super::*;

    #[test]
    fn the_result_is_that_of_rubato() {
        for (from, to, num_in, num_out) in
            [(48_000, 16_000, 1_536, 512), (44_100, 16_000, 1_764, 640), (8_000, 16_000, 1_536, 3_072)]
        {
            let mut ours = Converter::new(num_in, num_out);
            let mut theirs = rubato::Fft::<f32>::new(from, to, num_in, 1, FixedSync::Both).unwrap();
            assert_eq!(theirs.output_delay(), ours.late(), "{from}");
            let mut state = 1_u32;
            let noise: Vec<f32> = (0..8 * num_in)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Numerical Recipes' generator
                    f32::from((state >> 16) as i16) / 65_536.0
                })
                .collect();
            let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
            noise.chunks_exact(2 * num_in).for_each(|blocks| ours.convert(blocks, &mut of_ours));
            for block in noise.chunks_exact(num_in) {
                let mut output = vec![0.0; num_out];
                let input = SequentialSlice::new(block, 1, num_in).unwrap();
                theirs
                    .process_into_buffer(&input, &mut SequentialSlice::new_mut(&mut output, 1, num_out).unwrap(), None)
                    .unwrap();
                of_theirs.extend(output);
            }
            assert_eq!(of_ours.len(), of_theirs.len());
            let largest = of_ours.iter().zip(&of_theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < 2e-6, "{from} Hz: {largest}"); // a fifteenth of a step of 16 bits
        }
    }
}
