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
    let pdf = svg2pdf::to_pdf(&tree(picture), conversion, page);
    let mut pdf = pdf.expect("a picture has neither images nor filters that could fail");
    sort_resources(&mut pdf);
    pdf
}

/// Sorts neighbouring lines that name resources: svg2pdf lists them in the order of a hash map, which differs from call to call. The
/// order means nothing, and no other byte moves.
fn sort_resources(pdf: &mut [u8]) {
    let is_resource = |line: &[u8]| {
        let text = std::str::from_utf8(line).unwrap_or_default().trim();
        let words: Vec<&str> = text.split(' ').collect();
        matches!(words.as_slice(), [name, number, "0", "R"]
            if name.starts_with('/') && name.ends_with(|last: char| last.is_ascii_digit()) && number.parse::<u32>().is_ok())
    };
    let mut begin = 0;
    while begin < pdf.len() {
        let (mut end, mut lines) = (begin, vec![]);
        while let Some(length) = pdf[end..].iter().position(|byte| *byte == b'\n')
            && is_resource(&pdf[end..end + length])
        {
            lines.push(pdf[end..=end + length].to_vec());
            end += length + 1;
        }
        lines.sort_unstable();
        pdf[begin..end].copy_from_slice(&lines.concat());
        let rest = pdf[end..].iter().position(|byte| *byte == b'\n');
        begin = end + rest.map_or(pdf.len() - end, |length| length + 1);
    }
}
