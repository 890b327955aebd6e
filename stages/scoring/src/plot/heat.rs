//! The picture of tasks by methods.

use super::{LABEL, Layout, TITLE};
use crate::metric::{Direction, Metric};
use crate::picture::{Anchor, Paint, Picture, Text, shorten, text_width};

/// A task on a corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatRow {
    /// Name of the row.
    pub name: String,
    /// Metric of the numbers.
    pub metric: Metric,
    /// One per method.
    pub cells: Vec<Option<HeatCell>>,
}

/// A method on it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatCell {
    /// Text of the cell.
    pub text: String,
    /// Value behind the colour.
    pub value: f64,
    /// True if no other cell of the row is better.
    pub best: bool,
    /// True if the best of the row is shown to be better than the runner-up.
    pub clear: bool,
}

const ROW: f32 = 34.0;

/// Draws a cell per task and method: its number, on a colour that goes from the worst of its row (pale) to the best. The best
/// stands in bold, with a mark when it is better than the next beyond chance.
pub fn heat_table(title: &str, methods: &[String], rows: &[HeatRow], layout: Layout) -> Picture {
    let width_of = |text: &str, size: f32| text_width(text, size) * 1.1;
    let names: Vec<String> = rows.iter().map(|row| shorten(&row.name, LABEL + 1.0, 300.0)).collect();
    let names_width = names.iter().map(|name| width_of(name, LABEL + 1.0)).fold(0.0, f32::max);
    let metrics_width = rows.iter().map(|row| width_of(row.metric.title(), LABEL) + 14.0).fold(0.0, f32::max);
    let cells = rows.iter().flat_map(|row| row.cells.iter().flatten()).map(|cell| width_of(&cell.text, LABEL + 1.0) + 34.0);
    let heads = methods.iter().map(|method| width_of(method, LABEL + 1.0) + 18.0);
    let column = cells.chain(heads).fold(72.0, f32::max).min(190.0);

    let head = if layout == Layout::Page { 48.0 } else { 16.0 };
    let (left, top) = (24.0 + names_width + 18.0 + metrics_width + 16.0, head + 36.0);
    let right = left + column * methods.len() as f32;
    let bottom = top + ROW * rows.len() as f32;
    let clear = rows.iter().any(|row| row.cells.iter().flatten().any(|cell| cell.clear));
    let note = if clear {
        "Colour: from the worst to the best of its row. Bold: the best; *: better than the runner-up, p < 0.05."
    } else {
        "Colour: from the worst to the best of its row. Bold: the best; none is shown to be better than the runner-up."
    };
    let width = right.max(24.0 + width_of(note, LABEL).max(width_of(title, TITLE))) + 24.0;
    let mut picture = Picture::new(width, bottom + 48.0, title);
    layout.title(&mut picture, title, width);
    for (at, method) in methods.iter().enumerate() {
        let middle = left + (at as f32 + 0.5) * column;
        let name = shorten(method, LABEL + 1.0, column - 8.0);
        picture.text(Text::new(middle, top - 12.0, LABEL + 1.0, name).anchor(Anchor::Middle));
    }
    for (at, (row, name)) in rows.iter().zip(&names).enumerate() {
        let y = top + at as f32 * ROW;
        picture.text(Text::new(24.0, y + ROW * 0.5 + 4.5, LABEL + 1.0, name));
        let kind = Text::new(left - 30.0, y + ROW * 0.5 + 4.0, LABEL, row.metric.title());
        picture.text(kind.paint(Paint::Muted).anchor(Anchor::End));
        arrow(&mut picture, (left - 20.0, y + ROW * 0.5), row.metric.direction());
        draw_row(&mut picture, row, (left, y), column);
    }
    picture.text(Text::new(24.0, bottom + 28.0, LABEL, note).paint(Paint::Muted));
    picture
}

/// Up for what should be high, down for what should be low; drawn, because the typeface has no arrows.
fn arrow(picture: &mut Picture, middle: (f32, f32), direction: Direction) {
    const HALF: f32 = 5.5;
    const TIP: f32 = 3.2;
    let (x, y) = middle;
    let sign = if direction == Direction::HigherIsBetter { -1.0 } else { 1.0 };
    let (start, end) = (y - sign * HALF, y + sign * HALF);
    picture.line([(x, start), (x, end)], 1.3, Paint::Muted);
    picture.line([(x - TIP, end - sign * TIP), (x, end), (x + TIP, end - sign * TIP)], 1.3, Paint::Muted);
}

fn draw_row(picture: &mut Picture, row: &HeatRow, at: (f32, f32), column: f32) {
    const GAP: f32 = 2.0;
    let values = || row.cells.iter().flatten().map(|cell| cell.value).filter(|value| value.is_finite());
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    for (k, cell) in row.cells.iter().enumerate() {
        let (x, y) = (at.0 + k as f32 * column, at.1);
        let middle = (x + column / 2.0, y + ROW * 0.5 + 4.5);
        let Some(cell) = cell else {
            picture.text(Text::new(middle.0, middle.1, LABEL + 1.0, "–").paint(Paint::Muted).anchor(Anchor::Middle));
            continue;
        };
        let share = if high > low { ((cell.value - low) / (high - low)) as f32 } else { 0.5 };
        let quality = if row.metric.direction() == Direction::HigherIsBetter { share } else { 1.0 - share };
        // Never so dark that ink on it is hard to read.
        let level = 0.06 + 0.44 * quality;
        let tip = format!("{}: {} {}", row.name, row.metric, cell.text);
        picture.rect((x + GAP / 2.0, y + GAP / 2.0), (column - GAP, ROW - GAP), Paint::Heat, level, tip);
        let text = if cell.best && cell.clear { format!("{} *", cell.text) } else { cell.text.clone() };
        let text = Text::new(middle.0, middle.1, LABEL + 1.0, text).anchor(Anchor::Middle);
        picture.text(if cell.best { text.bold() } else { text });
    }
}
