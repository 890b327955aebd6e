//! The picture of scores against trainable parameters.

use super::area::{Area, Sample, distinct, leader, legend, legend_height, place_label, tiles};
use super::axis::Axis;
use super::{COLUMN, LABEL, Layout, heading};
use crate::metric::Metric;
use crate::picture::{Anchor, Paint, Picture, Text, shorten, text_width};
use crate::significance::Interval;

/// The methods of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPanel {
    /// Stands above it where there are several.
    pub title: String,
    /// Metric of the vertical axis.
    pub metric: Metric,
    /// Points.
    pub points: Vec<ScatterPoint>,
}

/// One method on one corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPoint {
    /// Name next to the colour: the corpus.
    pub group: String,
    /// Name next to the point: the method.
    pub label: String,
    /// Trainable parameters, above 0.
    pub parameters: f64,
    /// A ratio, not percent.
    pub value: f64,
    /// The bar through it.
    pub interval: Option<Interval>,
}

/// Size of the only panel, and of one of several.
const ALONE: (f32, f32) = (880.0, 480.0);
const ONE_OF_SEVERAL: (f32, f32) = (460.0, 340.0);
const RADIUS: f32 = 6.0;
/// Pixels between the points of two corpora with the same number of parameters.
const ASIDE: f32 = 14.0;

/// Draws a panel per task, in it a labelled point per method with its confidence interval; one colour per corpus, in order of
/// appearance. Points of several corpora stand a few pixels beside their place, so that their bars do not hide each other.
///
/// Points without trainable parameters have no place on a logarithmic axis and must be left out by the caller.
pub fn score_vs_parameters(title: &str, panels: &[ScatterPanel], layout: Layout) -> Picture {
    let size = match layout {
        Layout::Column => (COLUMN, 260.0),
        Layout::Page if panels.len() > 1 => ONE_OF_SEVERAL,
        Layout::Page => ALONE,
    };
    let (places, (width, height)) = tiles(panels.len(), layout.per_line(), size);
    let groups = distinct(panels.iter().flat_map(|panel| panel.points.iter().map(|point| &point.group)));
    let named = if groups.len() > 1 { groups.as_slice() } else { &[] };
    let head = if layout == Layout::Page { 48.0 } else { 16.0 };
    let top = head + legend_height(named, width - 48.0);
    let mut picture = Picture::new(width, top + height, title);
    layout.title(&mut picture, title, width);
    legend(&mut picture, named, (24.0, head + 8.0), width - 48.0, Sample::Dot);
    for (panel, (x, y)) in panels.iter().zip(places) {
        let area = Area { left: x, top: top + y, right: x + size.0, bottom: top + y + size.1 };
        draw(&mut picture, panel, &groups, &area, panels.len() > 1);
    }
    if panels.is_empty() {
        picture.text(Text::new(24.0, top + 40.0, LABEL + 2.0, "there are no scores").paint(Paint::Muted));
    }
    picture
}

fn draw(picture: &mut Picture, panel: &ScatterPanel, groups: &[String], area: &Area, titled: bool) {
    let points = &panel.points;
    let head = if titled { 34.0 } else { 12.0 };
    let (left, right, top, bottom) = (area.left + 78.0, area.right - 24.0, area.top + head, area.bottom - 58.0);
    if titled {
        let title = if panel.title.is_empty() { panel.metric.title() } else { &panel.title };
        heading(picture, (left, top - 12.0), LABEL + 2.0, title, right - left);
    }
    let least = points.iter().map(|point| point.parameters).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|point| point.parameters).fold(1.0, f64::max);
    let x = Axis::log(if least.is_finite() { least } else { 1e3 }, if points.is_empty() { 1e7 } else { most }, (left, right));
    let scale = panel.metric.scale();
    let y = score_axis(panel, (bottom, top));
    y.draw_left(picture, left, right, &panel.metric.title_with_unit());
    x.draw_below(picture, bottom, top, "trainable parameters");
    if points.is_empty() {
        let middle = (f32::midpoint(left, right), f32::midpoint(top, bottom));
        let text = Text::new(middle.0, middle.1, LABEL + 2.0, "no run states its trainable parameters");
        picture.text(text.paint(Paint::Muted).anchor(Anchor::Middle));
        return;
    }

    // Corpora stand side by side: a method has about as many parameters on each, and its bars would hide each other.
    let present = distinct(points.iter().map(|point| &point.group));
    let aside = |point: &ScatterPoint| {
        let place = present.iter().position(|group| *group == point.group).unwrap_or(0);
        (place as f32 - (present.len() - 1) as f32 / 2.0) * ASIDE
    };
    let paint = |point: &ScatterPoint| Paint::Series(groups.iter().position(|group| *group == point.group).unwrap_or(0));
    let at = |point: &ScatterPoint| (x.place(point.parameters) + aside(point), y.place(scale * point.value));
    let mut taken: Vec<Area> = Vec::new();
    for point in points {
        let Some(interval) = point.interval else { continue };
        let (px, low, high) = (at(point).0, y.place(scale * interval.low), y.place(scale * interval.high));
        picture.line([(px, low), (px, high)], 1.6, paint(point));
        for end in [low, high] {
            picture.line([(px - 5.0, end), (px + 5.0, end)], 1.6, paint(point));
        }
        taken.push(Area { left: px - 5.0, top: high, right: px + 5.0, bottom: low });
    }
    for point in points {
        let (px, py) = at(point);
        let tip = format!("{}, {}: {} {}", point.group, point.label, panel.metric, panel.metric.print(point.value));
        picture.circle((px, py), RADIUS, paint(point), tip);
        taken.push(Area { left: px - RADIUS, top: py - RADIUS, right: px + RADIUS, bottom: py + RADIUS });
    }
    let frame = Area { left: left + 2.0, top: top - 8.0, right: right + 18.0, bottom: bottom - 2.0 };
    for point in points {
        let label = shorten(&point.label, LABEL + 1.0, 200.0);
        let area = place_label(at(point), text_width(&label, LABEL + 1.0) * 1.06, &taken, &frame);
        if let Some(line) = leader(at(point), &area) {
            picture.line(line, 0.8, Paint::Muted);
        }
        let paint = if groups.len() > 1 { paint(point) } else { Paint::Ink };
        picture.text(Text::new(area.left, area.bottom - 4.0, LABEL + 1.0, label).paint(paint));
        taken.push(area);
    }
}

/// With room above and below the bars; a share stays from 0 to 100.
fn score_axis(panel: &ScatterPanel, span: (f32, f32)) -> Axis {
    let (metric, scale) = (panel.metric, panel.metric.scale());
    let ends = |point: &ScatterPoint| {
        let interval = point.interval.unwrap_or(Interval { low: point.value, high: point.value });
        [interval.low.min(point.value) * scale, interval.high.max(point.value) * scale]
    };
    let all = || panel.points.iter().flat_map(ends);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    if !(low.is_finite() && high.is_finite()) {
        return Axis::linear(0.0, scale, span);
    }
    let margin = f64::max((high - low) * 0.12, 0.005 * scale);
    let low = if metric == Metric::Matthews { low - margin } else { (low - margin).max(0.0) };
    // A rate of errors may pass 100 percent; a share of right answers may not.
    let highest = if metric.direction() == crate::metric::Direction::HigherIsBetter { scale + margin * 0.2 } else { f64::MAX };
    Axis::linear(low, (high + margin).min(highest), span)
}
