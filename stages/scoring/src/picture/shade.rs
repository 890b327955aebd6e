//! Colours of spectrograms.

use resvg::tiny_skia::PremultipliedColorU8;

/// Colours from silent to loud.
const COLOURS: [[f64; 3]; 5] =
    [[8.0, 8.0, 28.0], [66.0, 22.0, 104.0], [152.0, 44.0, 100.0], [228.0, 96.0, 56.0], [250.0, 224.0, 140.0]];

pub(crate) fn opaque([red, green, blue]: [u8; 3]) -> PremultipliedColorU8 {
    PremultipliedColorU8::from_rgba(red, green, blue, 255).expect("no channel exceeds the opacity")
}

/// Colour of a share of loudness: 0 is silent, 1 loud; what is no number is silent.
pub(crate) fn shade(share: f64) -> PremultipliedColorU8 {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let place = share * (COLOURS.len() - 1) as f64;
    let (below, part) = ((place.floor() as usize).min(COLOURS.len() - 2), place);
    let mix = |channel: usize| {
        let (a, b) = (COLOURS[below][channel], COLOURS[below + 1][channel]);
        (a + (b - a) * (part - below as f64)).round() as u8
    };
    opaque([mix(0), mix(1), mix(2)])
}
