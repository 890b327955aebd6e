//! Picture of a clip: its waveform above its spectrogram.

use resvg::tiny_skia::{Pixmap, PremultipliedColorU8};
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use crate::picture::shade;

/// Columns of a second, as far as [`WIDTH`] allows.
const COLUMNS_PER_SEC: f64 = 120.0;
/// Least and most columns.
const WIDTH: [usize; 2] = [60, 480];
/// Rows of the waveform, a gap, and rows of the spectrogram.
const HEIGHTS: [usize; 3] = [32, 2, 80];
/// Length of a frame of the spectrogram, in seconds.
const FRAME_SECS: f64 = 0.025;
/// Power below the loudest that has the first colour, in dB.
const RANGE_DB: f64 = 70.0;
/// Colour of the waveform, readable on a light and on a dark page.
const WAVE: [u8; 3] = [74, 137, 196];

/// PNG of a clip; none of an empty one.
pub(super) fn picture(samples: &[f32], rate: u32) -> Option<Vec<u8>> {
    if samples.is_empty() || rate == 0 {
        return None;
    }
    let secs = samples.len() as f64 / f64::from(rate);
    let width = ((secs * COLUMNS_PER_SEC) as usize).clamp(WIDTH[0], WIDTH[1]);
    let [wave, gap, bands] = HEIGHTS;
    let mut pixels = Pixmap::new(width as u32, (wave + gap + bands) as u32)?;
    let image = pixels.pixels_mut();
    let loudest = samples.iter().fold(1e-6_f32, |loudest, sample| loudest.max(sample.abs()));
    let blue = PremultipliedColorU8::from_rgba(WAVE[0], WAVE[1], WAVE[2], 255)?;
    for column in 0..width {
        let (from, to) = (column * samples.len() / width, ((column + 1) * samples.len()).div_ceil(width));
        let part = &samples[from..to.clamp(from + 1, samples.len())];
        let (low, high) = part.iter().fold((0.0_f32, 0.0_f32), |(low, high), sample| (low.min(*sample), high.max(*sample)));
        let row = |value: f32| ((0.5 - 0.5 * value / loudest) * (wave - 1) as f32).round() as usize;
        for y in row(high)..=row(low) {
            image[y * width + column] = blue;
        }
    }
    let columns = powers(samples, rate, width, bands);
    let top = columns.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    for (x, column) in columns.iter().enumerate() {
        for (band, power) in column.iter().enumerate() {
            let y = wave + gap + bands - 1 - band;
            image[y * width + x] = shade(1.0 + (power - top) / RANGE_DB);
        }
    }
    pixels.encode_png().ok()
}

/// Power in dB of each band of each column, low bands first: a Hann window around the middle of the column.
fn powers(samples: &[f32], rate: u32, columns: usize, bands: usize) -> Vec<Vec<f64>> {
    let size = ((f64::from(rate) * FRAME_SECS) as usize).max(2 * bands).next_power_of_two();
    let fft = FftPlanner::<f32>::new().plan_fft_forward(size);
    let window: Vec<f32> = (0..size).map(|at| 0.5 - 0.5 * (2.0 * std::f32::consts::PI * at as f32 / size as f32).cos()).collect();
    let column = |column: usize| {
        let middle = (2 * column + 1) * samples.len() / (2 * columns);
        let sample = |at: usize| (middle + at).checked_sub(size / 2).and_then(|at| samples.get(at)).copied().unwrap_or(0.0);
        let mut frame: Vec<Complex<f32>> =
            window.iter().enumerate().map(|(at, weight)| Complex::new(weight * sample(at), 0.0)).collect();
        fft.process(&mut frame);
        let power = |band: usize| {
            let (from, to) = (band * size / 2 / bands, ((band + 1) * size / 2).div_ceil(bands));
            let strongest = frame[from..to].iter().map(|value| f64::from(value.norm_sqr())).fold(0.0, f64::max);
            10.0 * (strongest + 1e-9).log10()
        };
        (0..bands).map(power).collect()
    };
    (0..columns).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_a_line_at_its_frequency_and_silence_has_no_wave() {
        let tone = |at: usize| if at < 8000 { (2.0 * std::f32::consts::PI * 2000.0 * at as f32 / 16_000.0).sin() } else { 0.0 };
        let samples: Vec<f32> = (0..16_000).map(tone).collect();
        let png = Pixmap::decode_png(&picture(&samples, 16_000).unwrap()).unwrap();
        assert_eq!((png.width(), png.height()), (120, 114));
        let rows = |x: u32| (34..114).map(|y| png.pixel(x, y).unwrap()).collect::<Vec<_>>();
        let loudest = shade(1.0);
        let lit: Vec<usize> = rows(30).iter().enumerate().filter(|(_, pixel)| **pixel == loudest).map(|(row, _)| row).collect();
        // 2 of 8 kHz: a quarter from below, of 80 rows.
        assert!(lit.iter().all(|row| (58..=60).contains(row)) && !lit.is_empty(), "{lit:?}");
        assert!(rows(100).iter().all(|pixel| *pixel == shade(0.0)));
        let wave = |x: u32| (0..32).filter(|y| png.pixel(x, *y).unwrap().alpha() > 0).count();
        assert_eq!((wave(30), wave(100)), (32, 1));
    }

    #[test]
    fn short_and_silent_clips_have_a_picture_and_empty_ones_none() {
        assert!(picture(&[0.0], 16_000).is_some() && picture(&[0.1; 50], 8000).is_some());
        assert!(picture(&[], 16_000).is_none());
    }
}
