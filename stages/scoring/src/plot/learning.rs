//! The picture of how methods learn.

use serde_json::Value;

use super::area::{Area, distinct, legend, legend_height, tiles};
use super::axis::Axis;
use super::{LABEL, TITLE};
use crate::metric::{Direction, Metric};
use crate::picture::{Paint, Picture, Text, shorten};

/// The runs of a task on a corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePanel {
    /// Stands above it.
    pub title: String,
    /// What was measured on the dev set.
    pub metric: Metric,
    /// One per run.
    pub curves: Vec<Curve>,
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What its colour stands for: the method. Runs of several seeds share it.
    pub label: String,
    /// Steps and ratios.
    pub points: Vec<(f64, f64)>,
}

/// The curve of a metric on the dev set in a `training.json`, where it is called `dev_` and the metric's name; none when
/// there is no such number.
pub fn dev_curve(training: &Value, metric: Metric) -> Option<Vec<(f64, f64)>> {
    let name = format!("dev_{}", metric.name());
    let point = |entry: &Value| {
        // Training calls the accuracy of intents by what it is.
        let other = || entry.get("dev_exact_match").filter(|_| metric == Metric::Accuracy);
        let value = entry.get(&name).or_else(other).and_then(Value::as_f64).filter(|value| value.is_finite());
        Some((entry.get("step").and_then(Value::as_f64)?, value?))
    };
    let points: Vec<_> = training.get("curve")?.as_array()?.iter().filter_map(point).collect();
    (!points.is_empty()).then_some(points)
}

/// Draws a panel per task and corpus, in it a line per run; one colour per method.
pub fn learning_curves(title: &str, panels: &[CurvePanel]) -> Picture {
    const SIZE: (f32, f32) = (460.0, 300.0);
    let (places, (width, height)) = tiles(panels.len(), 3, SIZE);
    let labels = distinct(panels.iter().flat_map(|panel| panel.curves.iter().map(|curve| &curve.label)));
    let top = 48.0 + legend_height(&labels, width - 48.0);
    let mut picture = Picture::new(width, top + height, title);
    picture.text(Text::new(24.0, 32.0, TITLE, shorten(title, TITLE, width - 48.0)).bold());
    legend(&mut picture, &labels, (24.0, 56.0), width - 48.0);
    for (panel, (x, y)) in panels.iter().zip(places) {
        let area = Area { left: x, top: top + y, right: x + SIZE.0, bottom: top + y + SIZE.1 };
        draw(&mut picture, panel, &labels, &area);
    }
    picture
}

fn draw(picture: &mut Picture, panel: &CurvePanel, labels: &[String], area: &Area) {
    let (left, right, top, bottom) = (area.left + 78.0, area.right - 24.0, area.top + 34.0, area.bottom - 58.0);
    picture.text(Text::new(left, top - 12.0, LABEL + 2.0, shorten(&panel.title, LABEL + 2.0, right - left)).bold());
    let scale = panel.metric.scale();
    let all = || panel.curves.iter().flat_map(|curve| &curve.points);
    let (last, high) = (all().map(|point| point.0).fold(1.0, f64::max), all().map(|point| point.1).fold(0.0, f64::max));
    // Error rates start anywhere, also far above 100 percent while nothing is learned: what matters lies below.
    let high = match panel.metric.direction() {
        Direction::HigherIsBetter => 1.0,
        Direction::LowerIsBetter if panel.metric.is_percent() => high.clamp(1e-3, 1.05),
        Direction::LowerIsBetter => high.max(1e-3),
    };
    let (x, y) = (Axis::linear(0.0, last, (left, right)), Axis::linear(0.0, high * scale, (bottom, top)));
    y.draw_left(picture, left, right, &panel.metric.title_with_unit());
    x.draw_below(picture, bottom, top, "step");
    for curve in &panel.curves {
        let paint = Paint::Series(labels.iter().position(|label| *label == curve.label).unwrap_or(0));
        let place = |&(step, value): &(f64, f64)| (x.place(step), y.place(value.clamp(0.0, high) * scale));
        let points: Vec<(f32, f32)> = curve.points.iter().map(place).collect();
        if points.len() < 40 {
            for &point in &points {
                picture.circle(point, 2.2, paint, "");
            }
        }
        picture.line(points, 1.8, paint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_found_by_the_metrics_name() {
        let training =
            serde_json::json!({"curve": [{"step": 5, "dev_wer": 0.5, "dev_loss": 1.0}, {"step": 10, "dev_wer": null}]});
        assert_eq!(dev_curve(&training, Metric::Wer), Some(vec![(5.0, 0.5)]));
        assert_eq!(dev_curve(&training, Metric::Per), None);
        assert_eq!(dev_curve(&Value::Null, Metric::Wer), None);
    }
}
