//! Renders the SVG of a picture as PNG or PDF.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, WriteOptions};

use super::{Picture, font, svg};

fn tree(picture: &Picture) -> Tree {
    let options = Options { fontdb: font::database(), ..Options::default() };
    Tree::from_str(&svg::write(picture, svg::Form::Print), &options).expect("what the writer of pictures writes is SVG")
}

pub(super) fn png(picture: &Picture, scale: f32) -> Vec<u8> {
    let tree = tree(picture);
    let side = |length: f32| (length * scale).ceil().clamp(1.0, 16_384.0) as u32;
    let size = (side(tree.size().width()), side(tree.size().height()));
    let mut pixels = Pixmap::new(size.0, size.1).expect("sides are from 1 to 16384 pixels");
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().expect("pixels in memory always encode")
}

/// SVG with outlines in place of texts.
pub(super) fn outlined(picture: &Picture) -> String {
    tree(picture).to_string(&WriteOptions::default())
}

/// PDF of a width in points.
pub(super) fn pdf(picture: &Picture, width: f32) -> Vec<u8> {
    const POINTS_PER_INCH: f32 = 72.0;
    let page = svg2pdf::PageOptions { dpi: POINTS_PER_INCH * picture.width / width };
    let conversion = svg2pdf::ConversionOptions::default();
    svg2pdf::to_pdf(&tree(picture), conversion, page).expect("a picture has neither images nor filters that could fail")
}
