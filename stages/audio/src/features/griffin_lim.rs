//! Waveforms from mel spectrograms without a trained vocoder.
//!
//! Source: Griffin and Lim 1984, "Signal estimation from modified short-time Fourier transform"; with momentum, Perraudin, Balazs
//! and Sondergaard 2013, "A fast Griffin-Lim algorithm", equation 4. The phase starts at zero, so that results are reproducible.

use rustfft::num_complex::Complex;

use super::mel::MelSpectrogram;
use super::spectrum::ShortTime;

/// Least magnitude of a bin.
const FLOOR: f64 = 1e-8;

/// Inverts the mel spectrograms of one recipe.
pub struct GriffinLim {
    mel: MelSpectrogram,
    /// Pseudo-inverse of the bands: for each bin, the weight of each band.
    inverse: Vec<Vec<f64>>,
    transform: ShortTime,
}

impl GriffinLim {
    /// Prepares the pseudo-inverse of the bands.
    pub fn new(mel: &MelSpectrogram) -> Self {
        let transform = ShortTime::new(mel.n_fft, mel.hop_length, mel.win_length);
        Self { inverse: pseudo_inverse(&mel.basis()), mel: mel.clone(), transform }
    }

    /// Returns the magnitudes of a log mel spectrogram, `n_fft / 2 + 1` bins of each frame.
    pub fn magnitudes(&self, log_mel: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let frame = |bands: &Vec<f64>| {
            let bands: Vec<f64> = bands.iter().map(|&log| self.mel.linear(log)).collect();
            let bin = |weights: &Vec<f64>| weights.iter().zip(&bands).map(|(weight, band)| weight * band).sum::<f64>().max(FLOOR);
            self.inverse.iter().map(bin).collect()
        };
        log_mel.iter().map(frame).collect()
    }

    /// Returns `(frames - 1) * hop_length` samples whose magnitudes come close to these, after `iterations` steps from zero phase.
    /// `momentum` is 0 for the plain algorithm; 0.99 converges faster.
    pub fn invert(&mut self, magnitudes: &[Vec<f64>], iterations: usize, momentum: f64) -> Vec<f64> {
        if magnitudes.len() < 2 {
            return Vec::new();
        }
        let mut spectra: Vec<Vec<Complex<f64>>> =
            magnitudes.iter().map(|frame| frame.iter().map(|&size| Complex::new(size, 0.0)).collect()).collect();
        let mut before: Vec<Vec<Complex<f64>>> = spectra.iter().map(|frame| vec![Complex::default(); frame.len()]).collect();
        let inertia = momentum / (1.0 + momentum);
        for _ in 0..iterations {
            let samples = self.transform.inverse(&spectra);
            let consistent = self.transform.forward(&samples);
            for (((frame, consistent), before), sizes) in spectra.iter_mut().zip(&consistent).zip(&before).zip(magnitudes) {
                for (((bin, now), before), size) in frame.iter_mut().zip(consistent).zip(before).zip(sizes) {
                    let ahead = now - before * inertia;
                    *bin = ahead / ahead.norm().max(1e-16) * size;
                }
            }
            before = consistent;
        }
        self.transform.inverse(&spectra)
    }

    /// Returns the samples of a log mel spectrogram, in [-1, 1) if the level of the original was.
    pub fn samples(&mut self, log_mel: &[Vec<f64>], iterations: usize, momentum: f64) -> Vec<f64> {
        self.invert(&self.magnitudes(log_mel), iterations, momentum)
    }

    /// Distance of the magnitudes of `samples` from these, as a share of their norm.
    pub fn distance(&mut self, samples: &[f64], magnitudes: &[Vec<f64>]) -> f64 {
        let spectra = self.transform.forward(samples);
        let pairs = || spectra.iter().flatten().map(|bin| bin.norm()).zip(magnitudes.iter().flatten());
        let off: f64 = pairs().map(|(found, wanted)| (found - wanted).powi(2)).sum();
        (off / pairs().map(|(_, wanted)| wanted * wanted).sum::<f64>()).sqrt()
    }
}

/// Moore-Penrose inverse of the rows of `basis`, which are linearly independent but for rows of zeros: `B' (B B')^-1`.
fn pseudo_inverse(basis: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let kept: Vec<usize> = (0..basis.len()).filter(|&row| basis[row].iter().any(|&weight| weight > 0.0)).collect();
    // Cholesky factor of the products of the rows.
    let mut factor = vec![vec![0.0; kept.len()]; kept.len()];
    for i in 0..kept.len() {
        for j in 0..=i {
            let rest = dot(&basis[kept[i]], &basis[kept[j]]) - dot(&factor[i][..j], &factor[j][..j]);
            factor[i][j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / factor[j][j] };
        }
    }
    let bins = basis.first().map_or(0, Vec::len);
    let solve = |bin: usize| {
        let mut values: Vec<f64> = kept.iter().map(|&row| basis[row][bin]).collect();
        for i in 0..kept.len() {
            values[i] = (values[i] - dot(&factor[i][..i], &values[..i])) / factor[i][i];
        }
        for i in (0..kept.len()).rev() {
            let above: f64 = (i + 1..kept.len()).map(|k| factor[k][i] * values[k]).sum();
            values[i] = (values[i] - above) / factor[i][i];
        }
        let mut row = vec![0.0; basis.len()];
        for (&at, value) in kept.iter().zip(values) {
            row[at] = value;
        }
        row
    };
    (0..bins).map(solve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_times_their_inverse_is_one_and_empty_bands_are_left_out() {
        let basis = vec![vec![0.0, 1.0, 2.0, 0.0, 0.0], vec![0.0; 5], vec![0.0, 0.0, 1.0, 3.0, 0.5]];
        let inverse = pseudo_inverse(&basis);
        for (i, row) in basis.iter().enumerate() {
            for j in 0..3 {
                let product: f64 = row.iter().zip(&inverse).map(|(weight, bin)| weight * bin[j]).sum();
                let expected = if i == j && i != 1 { 1.0 } else { 0.0 };
                assert!((product - expected).abs() < 1e-12, "{i} {j}: {product}");
            }
        }
    }

    #[test]
    fn a_spectrogram_of_less_than_two_frames_has_no_samples() {
        let recipe = crate::features::mel::Recipe::Tacotron;
        let (sample_rate, n_fft, hop_length, win_length) = (8_000, 64, 16, 64);
        let (num_mel_bins, low_hz, high_hz) = (4, 0.0, 4_000.0);
        let mel = MelSpectrogram { sample_rate, n_fft, hop_length, win_length, num_mel_bins, low_hz, high_hz, recipe };
        let mut vocoder = GriffinLim::new(&mel);
        assert!(vocoder.samples(&[], 3, 0.99).is_empty());
        assert!(vocoder.samples(&[vec![0.0; 4]], 3, 0.99).is_empty());
        assert_eq!(vocoder.samples(&vec![vec![0.0; 4]; 5], 3, 0.99).len(), 64);
    }
}
