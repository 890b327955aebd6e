//! The picture of accuracy against trainable parameters.

use super::axis::Axis;
use super::{LABEL, TITLE};
use crate::picture::{Anchor, Paint, Picture, Text, shorten, text_width};
use crate::significance::Interval;

/// One method on one corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPoint {
    /// What its colour stands for: the corpus.
    pub group: String,
    /// What it is called: the method.
    pub label: String,
    /// Trainable parameters, above 0.
    pub parameters: f64,
    /// From 0 to 1.
    pub accuracy: f64,
    /// The bar through it, from 0 to 1.
    pub interval: Interval,
}

const WIDTH: f32 = 880.0;
const HEIGHT: f32 = 540.0;
const RADIUS: f32 = 6.0;
/// Pixels between the points of two corpora with the same number of parameters.
const ASIDE: f32 = 14.0;

/// Draws one labelled point per method with its confidence interval; one colour per corpus, in order of appearance.
/// Points of several corpora stand a few pixels beside their place, so that their bars do not hide each other.
///
/// Points without trainable parameters have no place on a logarithmic axis and must be left out by the caller.
pub fn accuracy_vs_parameters(title: &str, points: &[ScatterPoint]) -> Picture {
    let mut picture = Picture::new(WIDTH, HEIGHT, title);
    picture.text(Text::new(24.0, 32.0, TITLE, shorten(title, TITLE, WIDTH - 64.0)).bold());
    let groups = distinct(points);
    let top = if groups.len() > 1 { 84.0 } else { 60.0 };
    let (left, right, bottom) = (82.0, WIDTH - 28.0, HEIGHT - 66.0);

    let least = points.iter().map(|point| point.parameters).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|point| point.parameters).fold(1.0, f64::max);
    let x = Axis::log(if least.is_finite() { least } else { 1e3 }, if points.is_empty() { 1e7 } else { most }, (left, right));
    let y = accuracy_axis(points, (bottom, top));
    y.draw_left(&mut picture, left, right, "accuracy (%)");
    x.draw_below(&mut picture, bottom, top, "trainable parameters");
    if points.is_empty() {
        let middle = (f32::midpoint(left, right), f32::midpoint(top, bottom));
        let text = Text::new(middle.0, middle.1, LABEL + 2.0, "no run states its trainable parameters");
        picture.text(text.paint(Paint::Muted).anchor(Anchor::Middle));
        return picture;
    }
    legend(&mut picture, &groups, left);

    // Corpora stand side by side: a method has about as many parameters on each, and its bars would hide each other.
    let aside = |point: &ScatterPoint| (group_of(&groups, point) as f32 - (groups.len() - 1) as f32 / 2.0) * ASIDE;
    let at = |point: &ScatterPoint| (x.place(point.parameters) + aside(point), y.place(100.0 * point.accuracy));
    let mut taken: Vec<Area> = Vec::new();
    for point in points {
        let (px, low, high) = (at(point).0, y.place(100.0 * point.interval.low), y.place(100.0 * point.interval.high));
        let paint = Paint::Series(group_of(&groups, point));
        picture.line([(px, low), (px, high)], 1.6, paint);
        for end in [low, high] {
            picture.line([(px - 5.0, end), (px + 5.0, end)], 1.6, paint);
        }
        taken.push(Area { left: px - 5.0, top: high, right: px + 5.0, bottom: low });
    }
    for point in points {
        let (px, py) = at(point);
        let tip = format!("{}, {}: {:.2} %", point.group, point.label, 100.0 * point.accuracy);
        picture.circle((px, py), RADIUS, Paint::Series(group_of(&groups, point)), tip);
        taken.push(Area { left: px - RADIUS, top: py - RADIUS, right: px + RADIUS, bottom: py + RADIUS });
    }
    let frame = Area { left: left + 2.0, top: top - 8.0, right: right + 22.0, bottom: bottom - 2.0 };
    for point in points {
        let label = shorten(&point.label, LABEL + 1.0, 200.0);
        let area = place_label(at(point), text_width(&label, LABEL + 1.0) * 1.06, &taken, &frame);
        let paint = if groups.len() > 1 { Paint::Series(group_of(&groups, point)) } else { Paint::Ink };
        picture.text(Text::new(area.left, area.bottom - 4.0, LABEL + 1.0, label).paint(paint));
        taken.push(area);
    }
    picture
}

/// In percent, with room above and below the bars, but not below 0 nor far above 100.
fn accuracy_axis(points: &[ScatterPoint], span: (f32, f32)) -> Axis {
    let low = points.iter().map(|point| 100.0 * point.interval.low.min(point.accuracy)).fold(100.0, f64::min);
    let high = points.iter().map(|point| 100.0 * point.interval.high.max(point.accuracy)).fold(0.0, f64::max);
    if points.is_empty() {
        return Axis::linear(0.0, 100.0, span);
    }
    let margin = f64::max((high - low) * 0.12, 0.5);
    Axis::linear((low - margin).max(0.0), (high + margin).min(100.0 + margin * 0.2), span)
}

fn distinct(points: &[ScatterPoint]) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for point in points {
        if !groups.contains(&point.group.as_str()) {
            groups.push(&point.group);
        }
    }
    groups
}

fn group_of(groups: &[&str], point: &ScatterPoint) -> usize {
    groups.iter().position(|group| *group == point.group).unwrap_or(0)
}

fn legend(picture: &mut Picture, groups: &[&str], left: f32) {
    if groups.len() < 2 {
        return;
    }
    let mut x = left;
    for (k, group) in groups.iter().enumerate() {
        picture.circle((x + 5.0, 56.0), 5.0, Paint::Series(k), "");
        picture.text(Text::new(x + 16.0, 60.0, LABEL + 1.0, *group));
        x += text_width(group, LABEL + 1.0) * 1.1 + 40.0;
    }
}

/// A rectangle on the picture.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

impl Area {
    fn overlap(&self, other: &Self) -> f32 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }
    fn size(&self) -> f32 {
        (self.right - self.left) * (self.bottom - self.top)
    }
}

/// The place beside a point that hides least of what is there; of equal ones the first, right of the point.
fn place_label(point: (f32, f32), width: f32, taken: &[Area], frame: &Area) -> Area {
    const HEIGHT: f32 = 18.0;
    let (x, y) = point;
    let mut best: Option<(f32, Area)> = None;
    for distance in [11.0, 24.0, 38.0] {
        let sides = [x + distance, x - distance - width];
        let rows = [-0.5, -1.25, 0.25, -2.0, 1.0, -2.75, 1.75].map(|row| y + row * HEIGHT);
        let around = sides.into_iter().flat_map(|left| rows.into_iter().map(move |top| (left, top)));
        let over_or_under = [(x - width / 2.0, y - distance - HEIGHT), (x - width / 2.0, y + distance)];
        for (left, top) in around.chain(over_or_under) {
            let area = Area { left, top, right: left + width, bottom: top + HEIGHT };
            let outside = area.size() - area.overlap(frame);
            let hidden: f32 = taken.iter().map(|other| area.overlap(other)).sum::<f32>() + 4.0 * outside;
            if best.is_none_or(|(least, _)| hidden < least - 0.01) {
                best = Some((hidden, area));
            }
        }
    }
    best.map_or(*frame, |(_, area)| area)
}
