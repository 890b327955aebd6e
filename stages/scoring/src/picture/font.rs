//! The one typeface: Ubuntu Light, compiled in. Gives widths for layout, and the font database for PNG and PDF.

use std::sync::{Arc, LazyLock};

use resvg::usvg::fontdb::Database;
use ttf_parser::{Face, GlyphId};

/// Family of the typeface, as its file names it.
pub(super) const FAMILY: &str = "Ubuntu";

static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(epaint_default_fonts::UBUNTU_LIGHT, 0).expect("the font compiled in is whole"));

static DATABASE: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut database = Database::new();
    database.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    database.set_serif_family(FAMILY); // what a text falls back to
    Arc::new(database)
});

/// Returns the fonts of PNG and PDF files: the typeface, and none of the machine's.
pub(super) fn database() -> Arc<Database> {
    DATABASE.clone()
}

fn advance(c: char) -> f32 {
    let glyph = FACE.glyph_index(c).unwrap_or(GlyphId(0));
    f32::from(FACE.glyph_hor_advance(glyph).unwrap_or(0))
}

/// Width of a text in pixels. A browser may set it in another font, so leave a tenth more room.
pub(crate) fn text_width(text: &str, size: f32) -> f32 {
    text.chars().map(advance).sum::<f32>() * size / f32::from(FACE.units_per_em())
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
