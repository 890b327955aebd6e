//! Short-time spectra. In double precision and by one algorithm on every processor, so that results do not depend on the host.

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

/// A raised cosine over `length` samples whose period is `period`: `length - 1` for a symmetric one, `length` for a periodic one.
pub(crate) fn hann(length: usize, period: usize) -> Vec<f64> {
    (0..length).map(|at| 0.5 - 0.5 * (2.0 * PI * at as f64 / period as f64).cos()).collect()
}
