//! Distances between synthesised and recorded speech: spectra, pitch, voicing, duration, and how much a spectrum moves.
//!
//! Works on features, not on audio: log mel spectrograms, and tracks of fundamental frequency with one value per frame (0 where
//! unvoiced). Recordings of different lengths are compared along a warping path.
//!
//! Sources: Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment"; Sakoe and Chiba 1978, "Dynamic
//! programming algorithm optimization for spoken word recognition", for the path; Toda, Black and Tokuda 2007, "Voice conversion based
//! on maximum-likelihood estimation of spectral parameter trajectory", for global variance.

use std::f64::consts::{LN_10, PI, SQRT_2};

/// Cepstral coefficients that are compared: 1 to 12. Coefficient 0 is the level.
pub const NUM_COEFFICIENTS: usize = 12;
/// Share by which a frequency must be off to count as a gross error.
const GROSS: f64 = 0.2;

/// Returns the cepstra of a log mel spectrogram, coefficients 0 to `count - 1` of each frame:
/// `c_m = 2 / bands * sum_k L_k cos(pi m (k + 1/2) / bands)`.
///
/// With this factor a distance is the rms difference of two smoothed spectra and does not grow with the number of bands.
pub fn cepstra(log_mel: &[Vec<f64>], count: usize) -> Vec<Vec<f64>> {
    let Some(bands) = log_mel.first().map(Vec::len) else { return Vec::new() };
    let cosine = |m: usize, k: usize| 2.0 / bands as f64 * (PI * m as f64 * (k as f64 + 0.5) / bands as f64).cos();
    let basis: Vec<Vec<f64>> = (0..count).map(|m| (0..bands).map(|k| cosine(m, k)).collect()).collect();
    let frame =
        |frame: &Vec<f64>| basis.iter().map(|row| row.iter().zip(frame).map(|(weight, log)| weight * log).sum()).collect();
    log_mel.iter().map(frame).collect()
}

/// Warping path between two sequences.
#[derive(Debug, Clone, PartialEq)]
pub struct WarpingPath {
    /// Pairs of frames, from the first ones to the last ones; each step moves on in one sequence or in both.
    pub pairs: Vec<(usize, usize)>,
    /// Sum of the distances of all pairs.
    pub cost: f64,
}

/// Returns the path of least cost between sequences of vectors, by Euclidean distance; none where one of them is empty.
/// Of equal ways the diagonal is taken, then the step in `b`.
pub fn warp(a: &[&[f64]], b: &[&[f64]]) -> Option<WarpingPath> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let mut cost = vec![f64::INFINITY; a.len() * b.len()];
    let at = |i: usize, j: usize| i * b.len() + j;
    for i in 0..a.len() {
        for j in 0..b.len() {
            let before = match (i, j) {
                (0, 0) => 0.0,
                (0, _) => cost[at(0, j - 1)],
                (_, 0) => cost[at(i - 1, 0)],
                _ => cost[at(i - 1, j - 1)].min(cost[at(i, j - 1)]).min(cost[at(i - 1, j)]),
            };
            cost[at(i, j)] = before + euclidean(a[i], b[j]);
        }
    }
    let (mut i, mut j) = (a.len() - 1, b.len() - 1);
    let mut pairs = vec![(i, j)];
    while (i, j) != (0, 0) {
        (i, j) = match (i, j) {
            (0, _) => (0, j - 1),
            (_, 0) => (i - 1, 0),
            _ => {
                let (both, in_b, in_a) = (cost[at(i - 1, j - 1)], cost[at(i, j - 1)], cost[at(i - 1, j)]);
                if both <= in_b && both <= in_a {
                    (i - 1, j - 1)
                } else if in_b <= in_a {
                    (i, j - 1)
                } else {
                    (i - 1, j)
                }
            }
        };
        pairs.push((i, j));
    }
    pairs.reverse();
    Some(WarpingPath { pairs, cost: cost[a.len() * b.len() - 1] })
}

fn without_level(frames: &[Vec<f64>]) -> Vec<&[f64]> {
    frames.iter().map(|frame| frame.get(1..).unwrap_or_default()).collect()
}

fn euclidean(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// Returns the path between two sequences of cepstra and their mel-cepstral distortion in dB, coefficient 0 left out: the mean over the
/// pairs of the path of `10 / ln 10 * sqrt(2 * sum of squared differences)`. None where one of them is empty.
pub fn distortion(a: &[Vec<f64>], b: &[Vec<f64>]) -> Option<(WarpingPath, f64)> {
    let path = warp(&without_level(a), &without_level(b))?;
    let distortion = 10.0 / LN_10 * SQRT_2 * path.cost / path.pairs.len() as f64;
    Some((path, distortion))
}

/// Differences of two pitch tracks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PitchError {
    /// Pairs of frames.
    pub frames: usize,
    /// Pairs of which one is voiced and the other is not.
    pub voicing_errors: usize,
    /// Pairs that are both voiced.
    pub voiced: usize,
    /// Voiced pairs that are more than a fifth apart.
    pub gross_errors: usize,
    /// Sum of the squared differences of voiced pairs, in cents.
    pub squared_cents: f64,
    /// Sum of the squared differences of voiced pairs, in Hz.
    pub squared_hz: f64,
}

impl PitchError {
    /// Compares pairs of frequencies in Hz, the real one first; 0 is unvoiced.
    pub fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut error = Self::default();
        for (real, found) in pairs {
            error.frames += 1;
            match (real > 0.0, found > 0.0) {
                (true, true) => {
                    error.voiced += 1;
                    error.squared_cents += (1200.0 * (found / real).log2()).powi(2);
                    error.squared_hz += (found - real).powi(2);
                    error.gross_errors += usize::from((found / real - 1.0).abs() > GROSS);
                }
                (false, false) => {}
                _ => error.voicing_errors += 1,
            }
        }
        error
    }

    /// Compares two tracks along a path. Frames behind the end of a track count as unvoiced.
    pub fn along(path: &WarpingPath, real: &[f32], found: &[f32]) -> Self {
        let value = |track: &[f32], at: usize| track.get(at).map_or(0.0, |&hz| f64::from(hz));
        Self::of(path.pairs.iter().map(|&(i, j)| (value(real, i), value(found, j))))
    }

    /// Root mean square error in cents; none without frames that are voiced in both.
    pub fn rmse_cents(&self) -> Option<f64> {
        (self.voiced > 0).then(|| (self.squared_cents / self.voiced as f64).sqrt())
    }

    /// Root mean square error in Hz; none without frames that are voiced in both.
    pub fn rmse_hz(&self) -> Option<f64> {
        (self.voiced > 0).then(|| (self.squared_hz / self.voiced as f64).sqrt())
    }

    /// Share of the frames whose voicing differs.
    pub fn voicing_error(&self) -> Option<f64> {
        (self.frames > 0).then(|| self.voicing_errors as f64 / self.frames as f64)
    }

    /// Share of gross errors among frames that are voiced in both.
    pub fn gross_error(&self) -> Option<f64> {
        (self.voiced > 0).then(|| self.gross_errors as f64 / self.voiced as f64)
    }
}

/// Relative error of a length: 0.1 for one that is a tenth too long. None for a real length of 0.
pub fn duration_error(real: usize, found: usize) -> Option<f64> {
    (real > 0).then(|| (found as f64 - real as f64) / real as f64)
}

/// Deviation over time of synthesised cepstra over that of real ones, averaged over coefficients 1 and up: below 1 where the
/// spectrum is smoother than speech is. None for less than two frames, or a real spectrum that does not move.
pub fn variance_ratio(real: &[Vec<f64>], found: &[Vec<f64>]) -> Option<f64> {
    let coefficients = 1..real.first()?.len().min(found.first()?.len());
    let mut ratios = Vec::new();
    for m in coefficients {
        ratios.push(deviation(found, m)? / deviation(real, m).filter(|deviation| *deviation > 0.0)?);
    }
    (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64)
}

fn deviation(frames: &[Vec<f64>], coefficient: usize) -> Option<f64> {
    if frames.len() < 2 {
        return None;
    }
    let mean = frames.iter().map(|frame| frame[coefficient]).sum::<f64>() / frames.len() as f64;
    let variance = frames.iter().map(|frame| (frame[coefficient] - mean).powi(2)).sum::<f64>() / frames.len() as f64;
    Some(variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spectrum_has_no_distance_from_itself_nor_from_a_louder_one() {
        let frames: Vec<Vec<f64>> = (0..9).map(|t| (0..16).map(|k| ((t * 3 + k * 5) % 7) as f64 / 3.0).collect()).collect();
        let louder: Vec<Vec<f64>> = frames.iter().map(|frame| frame.iter().map(|log| log + 2.0).collect()).collect();
        let (path, same) = distortion(&cepstra(&frames, 13), &cepstra(&louder, 13)).unwrap();
        assert!(same < 1e-9 && path.pairs == (0..9).map(|t| (t, t)).collect::<Vec<_>>());
        assert!((variance_ratio(&cepstra(&frames, 13), &cepstra(&louder, 13)).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_slower_copy_warps_onto_the_original() {
        let frames: Vec<Vec<f64>> = (0..5).map(|t| vec![0.0, f64::from(t), f64::from(t * t)]).collect();
        let slow: Vec<Vec<f64>> = frames.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect();
        let (path, distortion) = distortion(&frames, &slow).unwrap();
        assert_eq!((path.pairs.len(), distortion), (10, 0.0));
        assert_eq!(duration_error(5, 10), Some(1.0));
    }

    #[test]
    fn what_cannot_be_compared_has_no_distance() {
        assert!(cepstra(&[], 13).is_empty());
        assert!(distortion(&[], &[vec![0.0; 13]]).is_none());
        assert_eq!(variance_ratio(&[vec![0.0; 13]], &[vec![0.0; 13]]), None);
        assert_eq!(variance_ratio(&vec![vec![1.0; 13]; 5], &vec![vec![0.0; 13]; 5]), None);
        assert_eq!(duration_error(0, 5), None);
        let unvoiced = PitchError::of([(0.0, 0.0), (100.0, 0.0)]);
        assert_eq!((unvoiced.rmse_cents(), unvoiced.gross_error(), unvoiced.voicing_error()), (None, None, Some(0.5)));
        assert_eq!(PitchError::of([]).voicing_error(), None);
    }

    #[test]
    fn an_octave_is_1200_cents_and_gross() {
        let error = PitchError::of([(100.0, 200.0), (100.0, 100.0)]);
        assert_eq!(error.gross_error(), Some(0.5));
        assert!((error.rmse_cents().unwrap() - 1200.0 / SQRT_2).abs() < 1e-9);
        assert!((error.rmse_hz().unwrap() - 100.0 / SQRT_2).abs() < 1e-9);
    }
}
