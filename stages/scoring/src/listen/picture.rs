//! Pictures of spectrograms and alignments.

use resvg::tiny_skia::{Pixmap, PremultipliedColorU8};

use super::read::Frames;
use crate::picture::{Anchor, Paint, Picture, Text, opaque, shade};

/// Logarithms of bands that have the first and the last colour.
pub(super) const MEL_RANGE: [f64; 2] = [-11.5, 2.0];
/// Pitch at the lower and the upper edge, in Hz.
pub(super) const PITCH_RANGE: [f64; 2] = [50.0, 600.0];
/// Pixels of a frame and of a band.
const CELL: usize = 2;
/// Most frames of a picture; a longer spectrogram is cut.
const MOST_FRAMES: usize = 4000;
/// Colour of the pitch.
const PITCH: [u8; 3] = [120, 240, 255];

/// PNG of a spectrogram, low bands below, with its pitch.
pub(super) fn spectrogram(frames: &Frames) -> Vec<u8> {
    let bands = frames.mel.first().map_or(1, Vec::len);
    let count = frames.mel.len().clamp(1, MOST_FRAMES);
    let (width, height) = (count * CELL, bands * CELL);
    let mut pixels = Pixmap::new(width as u32, height as u32).expect("a picture has pixels");
    let row = |y: usize| bands - 1 - y / CELL;
    let image = pixels.pixels_mut();
    for (at, pixel) in image.iter_mut().enumerate() {
        let (x, y) = (at % width, at / width);
        let value = frames.mel.get(x / CELL).and_then(|frame| frame.get(row(y))).copied();
        *pixel = colour(value.map_or(MEL_RANGE[0], f64::from));
    }
    for (at, &hz) in frames.f0.iter().take(count).enumerate() {
        if hz <= 0.0 {
            continue;
        }
        let place = ((f64::from(hz) / PITCH_RANGE[0]).ln() / (PITCH_RANGE[1] / PITCH_RANGE[0]).ln()).clamp(0.0, 1.0);
        let y = ((1.0 - place) * (height - 1) as f64).round() as usize;
        for x in at * CELL..(at + 1) * CELL {
            for y in [y, (y + 1).min(height - 1)] {
                image[y * width + x] = opaque(PITCH);
            }
        }
    }
    pixels.encode_png().expect("pixels in memory always encode")
}

fn colour(log: f64) -> PremultipliedColorU8 {
    shade((log - MEL_RANGE[0]) / (MEL_RANGE[1] - MEL_RANGE[0]))
}

/// Frames by symbols: a bar for each symbol.
pub(super) fn alignment(title: &str, symbols: &[String], durations: &[u32]) -> Picture {
    const LINE: f32 = 13.0;
    const LEFT: f32 = 34.0;
    const FRAME: f32 = 2.0;
    let frames: u32 = durations.iter().sum();
    let (width, height) = (LEFT + FRAME * frames.clamp(1, MOST_FRAMES as u32) as f32, LINE * symbols.len().max(1) as f32);
    let mut picture = Picture::new(width, height, title);
    let mut start = 0;
    for (line, (symbol, &frames)) in symbols.iter().zip(durations).enumerate() {
        // The first symbol is the lowest, as in pictures of attention.
        let y = height - LINE * (line + 1) as f32;
        picture.text(Text::new(LEFT - 4.0, y + LINE - 3.0, 10.0, symbol).anchor(Anchor::End).paint(Paint::Muted));
        let at = (LEFT + FRAME * start as f32, y + 1.0);
        picture.rect(at, (FRAME * frames as f32, LINE - 2.0), Paint::Series(0), 1.0, format!("{symbol}: {frames} frames"));
        start += frames;
    }
    picture
}

#[cfg(test)]
mod tests {
    use resvg::tiny_skia::PremultipliedColorU8;

    use super::*;

    fn at(png: &[u8], x: u32, y: u32) -> PremultipliedColorU8 {
        Pixmap::decode_png(png).unwrap().pixel(x, y).unwrap()
    }

    #[test]
    fn low_bands_are_below_and_the_pitch_is_a_line() {
        let frames = Frames { mel: vec![vec![2.0, -11.5, -11.5]; 3], f0: vec![0.0, 600.0, 0.0] };
        let png = spectrogram(&frames);
        let (loud, silent) = (colour(2.0), colour(-11.5));
        assert_eq!([at(&png, 0, 5), at(&png, 0, 0)], [loud, silent]);
        assert_eq!([at(&png, 2, 0), at(&png, 4, 0)], [opaque(PITCH), silent]);
        assert_eq!((colour(f64::NAN), colour(99.0)), (silent, loud));
        assert_ne!(loud, silent);
        let empty = spectrogram(&Frames { mel: Vec::new(), f0: Vec::new() });
        assert_eq!(&empty[1..4], b"PNG");
    }

    #[test]
    fn bars_follow_each_other() {
        let picture = alignment("a", &["sil".to_owned(), "AA".to_owned()], &[3, 5]);
        let svg = picture.svg();
        assert!(svg.contains("sil: 3 frames") && svg.contains("AA: 5 frames"), "{svg}");
        assert!(svg.contains(r#"x="34""#) && svg.contains(r#"x="40""#), "{svg}");
    }
}
