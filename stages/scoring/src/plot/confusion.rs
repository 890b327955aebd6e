//! The picture of a confusion matrix.

use super::{BOLD, COLUMN, LABEL, Layout, TITLE};
use crate::classification::Confusion;
use crate::picture::{Anchor, Paint, Picture, Text, shorten, text_width};

/// Longest label in pixels; longer ones are cut.
const LONGEST: f32 = 120.0;
/// Cells from this edge on carry their count.
const ROOM_FOR_COUNTS: f32 = 24.0;

/// Draws the matrix: a row per right class, a column per answered class, each cell as dark as its share of the row.
///
/// The share is drawn by its square root, so that rare mistakes show; the bar beside it says so. Cells carry counts while
/// there is room (about 26 classes), and a browser shows them under the pointer in any case.
pub fn confusion_matrix(title: &str, labels: &[String], confusion: &Confusion, layout: Layout) -> Picture {
    let count = labels.len().max(1);
    let edge = if layout == Layout::Page { 620.0 } else { COLUMN };
    let cell = (edge / count as f32).clamp(17.0, 58.0);
    let edge = cell * count as f32;
    let size = if cell < 20.0 { LABEL - 1.0 } else { LABEL };
    let labels: Vec<String> = labels.iter().map(|label| shorten(label, size, LONGEST)).collect();
    let widest = labels.iter().map(|label| text_width(label, size)).fold(0.0, f32::max) * 1.1;

    let (left, top) = (widest + 62.0, if layout == Layout::Page { 64.0 } else { 30.0 });
    let slanted = widest > cell - 8.0;
    let below = if slanted { widest * 0.72 + 18.0 } else { 26.0 };
    let titled = if layout == Layout::Page { text_width(title, TITLE * BOLD) + 48.0 } else { 0.0 };
    let width = (left + edge + 96.0).max(titled);
    let mut picture = Picture::new(width, top + edge + below + 34.0, title);
    layout.title(&mut picture, title, width);

    cells(&mut picture, (left, top), cell, confusion, &labels);
    for (k, label) in labels.iter().enumerate() {
        let middle = (k as f32 + 0.5) * cell;
        picture.text(Text::new(left - 8.0, top + middle + 4.0, size, label).anchor(Anchor::End));
        let (x, y) = (left + middle, top + edge);
        picture.text(if slanted {
            Text::new(x + 4.0, y + 14.0, size, label).anchor(Anchor::End).turn(-45.0)
        } else {
            Text::new(x, y + 18.0, size, label).anchor(Anchor::Middle)
        });
    }
    let heading = |x, y, text| Text::new(x, y, LABEL + 1.0, text).paint(Paint::Muted).anchor(Anchor::Middle);
    picture.text(heading(left - widest - 30.0, top + edge / 2.0, "right class").turn(-90.0));
    picture.text(heading(left + edge / 2.0, top + edge + below + 16.0, "answered class"));
    colour_bar(&mut picture, ((left + edge).round() + 28.0, top), edge.min(260.0));
    picture
}

fn cells(picture: &mut Picture, corner: (f32, f32), cell: f32, confusion: &Confusion, labels: &[String]) {
    let (left, top) = corner;
    let edge = cell * labels.len() as f32;
    for (row, counts) in confusion.rows().iter().enumerate() {
        let total: u64 = counts.iter().sum();
        for (column, &count) in counts.iter().enumerate() {
            if count == 0 {
                continue;
            }
            let share = count as f32 / total as f32;
            let (x, y) = (left + column as f32 * cell, top + row as f32 * cell);
            let tip = format!("{} answered as {}: {count} of {total}", labels[row], labels[column]);
            picture.rect((x, y), (cell, cell), Paint::Heat, share.sqrt(), tip);
        }
    }
    for k in 0..=labels.len() {
        let at = k as f32 * cell;
        picture.line([(left + at, top), (left + at, top + edge)], 0.8, Paint::Grid);
        picture.line([(left, top + at), (left + edge, top + at)], 0.8, Paint::Grid);
    }
    if cell < ROOM_FOR_COUNTS {
        return;
    }
    for (row, counts) in confusion.rows().iter().enumerate() {
        let total: u64 = counts.iter().sum();
        for (column, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let text = count.to_string();
            let size = (LABEL + 1.0).min((cell - 6.0) / text_width(&text, 1.0));
            let (x, y) = (left + (column as f32 + 0.5) * cell, top + (row as f32 + 0.5) * cell);
            let dark = (count as f32 / total as f32).sqrt() > 0.5;
            let paint = if dark { Paint::OnFill } else { Paint::Ink };
            picture.text(Text::new(x, y + size * 0.36, size, text).paint(paint).anchor(Anchor::Middle));
        }
    }
}

/// From 0 at the bottom to 100 % of a row at the top.
fn colour_bar(picture: &mut Picture, at: (f32, f32), height: f32) {
    const STEP: f32 = 2.0;
    let (x, y) = at;
    // Whole pixels: the soft edges of neighbours would show as stripes.
    let steps = (height / STEP) as usize;
    let height = steps as f32 * STEP;
    for k in 0..steps {
        let level = (k as f32 + 0.5) / steps as f32;
        picture.rect((x, y + height - (k + 1) as f32 * STEP), (14.0, STEP), Paint::Heat, level, "");
    }
    let outline = [(x, y), (x + 14.0, y), (x + 14.0, y + height), (x, y + height), (x, y)];
    picture.line(outline, 0.8, Paint::Grid);
    for percent in [0.0_f32, 5.0, 25.0, 50.0, 100.0] {
        let level = y + height * (1.0 - (percent / 100.0).sqrt());
        picture.line([(x + 14.0, level), (x + 18.0, level)], 1.0, Paint::Muted);
        picture.text(Text::new(x + 22.0, level + 4.0, LABEL - 1.0, format!("{percent} %")).paint(Paint::Muted));
    }
    picture.text(Text::new(x + 7.0, y - 10.0, LABEL - 1.0, "of row").paint(Paint::Muted).anchor(Anchor::Middle));
}
