//! Renders the SVG of a picture as PNG or PDF.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

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

pub(super) fn pdf(picture: &Picture) -> Vec<u8> {
    let (conversion, page) = (svg2pdf::ConversionOptions::default(), svg2pdf::PageOptions::default());
    svg2pdf::to_pdf(&tree(picture), conversion, page).expect("a picture has neither images nor filters that could fail")
}
