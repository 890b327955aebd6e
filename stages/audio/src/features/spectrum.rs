//! Short-time spectra and their inverse. In double precision and by one algorithm on every processor, so that results do not depend on the host.

use std::f64::consts::PI;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlannerScalar};

/// Spectra of frames of one length.
pub(crate) struct Spectrum {
    fft: Arc<dyn Fft<f64>>,
    frame: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl Spectrum {
    /// For transforms of `n_fft` samples.
    pub(crate) fn new(n_fft: usize) -> Self {
        // Not the planner that looks for the processor's vector instructions: they round in another order.
        let fft = FftPlannerScalar::new().plan_fft_forward(n_fft);
        let scratch = vec![Complex::default(); fft.get_inplace_scratch_len()];
        Self { fft, frame: vec![Complex::default(); n_fft], scratch }
    }

    /// The power of each of the `n_fft / 2 + 1` bins. `samples` fill the frame from its start; what is left of it is 0.
    pub(crate) fn power(&mut self, samples: impl Iterator<Item = f64>, power: &mut [f64]) {
        self.frame.fill(Complex::default());
        for (place, sample) in self.frame.iter_mut().zip(samples) {
            place.re = sample;
        }
        self.fft.process_with_scratch(&mut self.frame, &mut self.scratch);
        for (place, bin) in power.iter_mut().zip(&self.frame) {
            *place = bin.norm_sqr();
        }
    }
}

/// Autocorrelations of frames of one length.
pub(crate) struct Autocorrelation {
    fft: Arc<dyn Fft<f64>>,
    buffer: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    lags: Vec<f64>,
}

impl Autocorrelation {
    /// For frames of `length` samples.
    pub(crate) fn new(length: usize) -> Self {
        let size = (2 * length).next_power_of_two();
        let fft = FftPlannerScalar::new().plan_fft_forward(size);
        let scratch = vec![Complex::default(); fft.get_inplace_scratch_len()];
        Self { fft, buffer: vec![Complex::default(); size], scratch, lags: Vec::new() }
    }

    /// Returns the sums of products of `frame` with itself, moved by 0 to `num_lags - 1` samples.
    pub(crate) fn of(&mut self, frame: &[f64], num_lags: usize) -> &[f64] {
        self.buffer.fill(Complex::default());
        for (place, &sample) in self.buffer.iter_mut().zip(frame) {
            place.re = sample;
        }
        self.fft.process_with_scratch(&mut self.buffer, &mut self.scratch);
        for bin in &mut self.buffer {
            *bin = Complex::new(bin.norm_sqr(), 0.0);
        }
        // Powers are real and even, so that the transform forward is the one back, times the size.
        self.fft.process_with_scratch(&mut self.buffer, &mut self.scratch);
        let size = self.buffer.len() as f64;
        self.lags.clear();
        self.lags.extend(self.buffer[..num_lags].iter().map(|bin| bin.re / size));
        &self.lags
    }
}

/// Short-time transform of whole signals and back: frames centred on their samples, the signal mirrored at its ends, a raised cosine
/// as window. The inverse divides by the sum of the squared windows, so that a signal comes back as it was.
pub(crate) struct ShortTime {
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    scratch: Vec<Complex<f64>>,
    hop: usize,
    /// The window, in the middle of the transform.
    window: Vec<f64>,
}

impl ShortTime {
    /// `win_length` is at most `n_fft`.
    pub(crate) fn new(n_fft: usize, hop: usize, win_length: usize) -> Self {
        let mut planner = FftPlannerScalar::new();
        let (forward, inverse) = (planner.plan_fft_forward(n_fft), planner.plan_fft_inverse(n_fft));
        let scratch = forward.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len());
        let margin = (n_fft - win_length) / 2;
        let mut window = vec![0.0; n_fft];
        window[margin..margin + win_length].copy_from_slice(&hann(win_length, win_length));
        Self { forward, inverse, scratch: vec![Complex::default(); scratch], hop, window }
    }

    /// Spectra of a signal, `n_fft / 2 + 1` bins for each of `1 + len / hop` frames.
    pub(crate) fn forward(&mut self, samples: &[f64]) -> Vec<Vec<Complex<f64>>> {
        let n_fft = self.window.len();
        let mut buffer = vec![Complex::default(); n_fft];
        let mut frame = |at: usize| {
            let start = (at * self.hop) as i64 - (n_fft / 2) as i64;
            for ((place, weight), at) in buffer.iter_mut().zip(&self.window).zip(start..) {
                *place = Complex::new(samples[mirrored(at, samples.len())] * weight, 0.0);
            }
            self.forward.process_with_scratch(&mut buffer, &mut self.scratch);
            buffer[..=n_fft / 2].to_vec()
        };
        (0..=samples.len() / self.hop).map(&mut frame).collect()
    }

    /// The signal of `(frames - 1) * hop` samples whose spectra come closest to these.
    pub(crate) fn inverse(&mut self, spectra: &[Vec<Complex<f64>>]) -> Vec<f64> {
        let n_fft = self.window.len();
        let length = n_fft + self.hop * spectra.len().saturating_sub(1);
        let (mut sum, mut weights) = (vec![0.0; length], vec![0.0; length]);
        let mut buffer = vec![Complex::default(); n_fft];
        for (bins, start) in spectra.iter().zip((0..).step_by(self.hop)) {
            buffer[..=n_fft / 2].copy_from_slice(bins);
            // A real signal: the upper half is the lower one mirrored, and the two bins without a partner are real.
            buffer[0].im = 0.0;
            buffer[n_fft / 2].im = 0.0;
            for at in 1..n_fft / 2 {
                buffer[n_fft - at] = bins[at].conj();
            }
            self.inverse.process_with_scratch(&mut buffer, &mut self.scratch);
            for ((place, weight), (value, window)) in
                sum[start..].iter_mut().zip(&mut weights[start..]).zip(buffer.iter().zip(&self.window))
            {
                *place += value.re / n_fft as f64 * window;
                *weight += window * window;
            }
        }
        let kept = n_fft / 2..length - n_fft / 2;
        sum[kept.clone()]
            .iter()
            .zip(&weights[kept])
            .map(|(sum, weight)| if *weight > 1e-11 { sum / weight } else { 0.0 })
            .collect()
    }
}

/// The sample at `at` of a signal that goes on mirrored at both ends, its end samples not repeated.
pub(crate) fn mirrored(at: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    if last <= 0 {
        return 0;
    }
    let folded = at.rem_euclid(2 * last);
    (if folded > last { 2 * last - folded } else { folded }) as usize
}

/// A raised cosine over `length` samples whose period is `period`: `length - 1` for a symmetric one, `length` for a periodic one.
pub(crate) fn hann(length: usize, period: usize) -> Vec<f64> {
    (0..length).map(|at| 0.5 - 0.5 * (2.0 * PI * at as f64 / period as f64).cos()).collect()
}
