//! Paints a picture into pixels.

use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint as Brush, Path, PathBuilder, Pixmap, Rect, Shader, Stroke, Transform};

use super::{Anchor, Mark, Paint, Picture, Text, Weight, font};

pub(super) fn write(picture: &Picture, scale: f32) -> Vec<u8> {
    let side = |length: f32| (length * scale).ceil().clamp(1.0, 16_384.0) as u32;
    let mut canvas = Pixmap::new(side(picture.width), side(picture.height)).expect("sides are from 1 to 16384 pixels");
    let place = Transform::from_scale(scale, scale);
    for mark in &picture.marks {
        paint(&mut canvas, mark, place);
    }
    encode(canvas).expect("pixels in memory always encode")
}

/// With the fastest compression: the usual one took longer than all of the painting, for files of few kilobytes.
fn encode(canvas: Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, canvas.width(), canvas.height());
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.take_demultiplied())?;
    writer.finish()?;
    Ok(file)
}

fn paint(canvas: &mut Pixmap, mark: &Mark, place: Transform) {
    match mark {
        Mark::Rect { x, y, width, height, fill, opacity, .. } => {
            if let Some(rect) = Rect::from_xywh(*x, *y, *width, *height) {
                fill_path(canvas, &PathBuilder::from_rect(rect), &brush(*fill, *opacity), place);
            }
        }
        Mark::Line { points, width, stroke } => {
            let mut builder = PathBuilder::new();
            for (at, &(x, y)) in points.iter().enumerate() {
                if at == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
            }
            stroke_path(canvas, builder.finish(), *width, *stroke, place);
        }
        Mark::Circle { x, y, radius, fill, .. } => {
            if let Some(path) = PathBuilder::from_circle(*x, *y, *radius) {
                fill_path(canvas, &path, &brush(*fill, 1.0), place);
            }
        }
        Mark::Text(text) => paint_text(canvas, text, place),
    }
}

fn paint_text(canvas: &mut Pixmap, text: &Text, place: Transform) {
    let Some(outline) = font::outline(&text.content, text.size) else { return };
    let width = font::text_width(&text.content, text.size);
    let shift = match text.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -width / 2.0,
        Anchor::End => -width,
    };
    let place = place.pre_translate(text.x, text.y).pre_concat(Transform::from_rotate(text.turn)).pre_translate(shift, 0.0);
    fill_path(canvas, &outline, &brush(text.paint, 1.0), place);
    // The typeface is a light one: a thin stroke brings it to the weight asked for.
    let extra = match text.weight {
        Weight::Regular => 0.016,
        Weight::Bold => 0.065,
    };
    stroke_path(canvas, Some(outline), text.size * extra, text.paint, place);
}

fn fill_path(canvas: &mut Pixmap, path: &Path, brush: &Brush, place: Transform) {
    canvas.fill_path(path, brush, FillRule::Winding, place, None);
}

fn stroke_path(canvas: &mut Pixmap, path: Option<Path>, width: f32, stroke: Paint, place: Transform) {
    let Some(path) = path else { return };
    let shape = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
    canvas.stroke_path(&path, &brush(stroke, 1.0), &shape, place, None);
}

fn brush(paint: Paint, opacity: f32) -> Brush<'static> {
    let [_, red, green, blue] = paint.light().to_be_bytes();
    let alpha = (opacity.clamp(0.0, 1.0) * 255.0).round() as u8;
    Brush { shader: Shader::SolidColor(Color::from_rgba8(red, green, blue, alpha)), ..Brush::default() }
}
