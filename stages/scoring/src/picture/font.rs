//! The one typeface: Ubuntu Light, compiled in. Gives widths for layout and outlines for drawing.

use std::sync::LazyLock;

use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(epaint_default_fonts::UBUNTU_LIGHT, 0).expect("the font compiled in is whole"));

/// Pixels per unit of the font at a height of type.
fn scale(size: f32) -> f32 {
    size / f32::from(FACE.units_per_em())
}

/// The glyph of a character; that for "not in this font" when it has none.
fn glyph(c: char) -> GlyphId {
    FACE.glyph_index(c).unwrap_or(GlyphId(0))
}

fn advance(c: char) -> f32 {
    f32::from(FACE.glyph_hor_advance(glyph(c)).unwrap_or(0))
}

/// Width of a text in pixels. A browser may set it in another font, so leave a tenth more room.
pub(crate) fn text_width(text: &str, size: f32) -> f32 {
    text.chars().map(advance).sum::<f32>() * scale(size)
}

/// The text, or as much of its start as fits into `width` pixels with an ellipsis after it.
pub(crate) fn shorten(text: &str, size: f32, width: f32) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut short = text.to_owned();
    while short.pop().is_some() && text_width(&short, size) + text_width("…", size) > width {}
    short.push('…');
    short
}

/// The outline of a text whose baseline starts at the origin; none when it leaves no ink.
pub(super) fn outline(text: &str, size: f32) -> Option<Path> {
    let mut pen = Pen { builder: PathBuilder::new(), scale: scale(size), x: 0.0 };
    for c in text.chars() {
        FACE.outline_glyph(glyph(c), &mut pen);
        pen.x += advance(c) * pen.scale;
    }
    pen.builder.finish()
}

/// Moves outlines from units of the font (y up) to pixels (y down).
struct Pen {
    builder: PathBuilder,
    scale: f32,
    x: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.move_to(x, y);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.line_to(x, y);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.builder.quad_to(x1, y1, x, y);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.builder.cubic_to(x1, y1, x2, y2, x, y);
    }
    fn close(&mut self) {
        self.builder.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_stays_and_a_long_one_ends_in_an_ellipsis() {
        assert_eq!(shorten("yes", 12.0, 100.0), "yes");
        let short = shorten("a very long label indeed", 12.0, 60.0);
        assert!(short.ends_with('…') && text_width(&short, 12.0) <= 60.0, "{short}");
    }
}
