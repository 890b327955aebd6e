//! The picture of how methods learn.

use serde_json::Value;

use super::area::{Area, Sample, distinct, legend, legend_height, tiles};
use super::axis::Axis;
use super::{COLUMN, LABEL, Layout, heading};
use crate::metric::Metric;
use crate::picture::{Paint, Picture};

/// The runs of a task on a corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePanel {
    /// Stands above it.
    pub title: String,
    /// Metric on the dev set.
    pub metric: Metric,
    /// Horizontal axis.
    pub along: Along,
    /// One per run.
    pub curves: Vec<Curve>,
}

/// Horizontal axis of a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Along {
    /// Steps of the training, from 0.
    Steps,
    /// Values of a parameter with this name; by their logarithm where the largest is many times the smallest.
    Values(String),
}

/// Factor between the ends of an axis from which it is logarithmic.
const MANY_TIMES: f64 = 8.0;

impl Along {
    fn name(&self) -> &str {
        match self {
            Self::Steps => "step",
            Self::Values(name) => name,
        }
    }

    fn axis(&self, values: impl Iterator<Item = f64> + Clone, span: (f32, f32)) -> Axis {
        let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
        match self {
            Self::Steps => Axis::linear(0.0, high.max(1.0), span),
            Self::Values(_) if low > 0.0 && high >= MANY_TIMES * low => Axis::log(low, high, span),
            Self::Values(_) if low.is_finite() => {
                let room = 0.05 * (high - low);
                Axis::linear(low - room, high + room, span)
            }
            Self::Values(_) => Axis::linear(0.0, 1.0, span),
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Name next to the colour: the method. Runs of several seeds share it.
    pub label: String,
    /// Steps or values of a parameter, and ratios.
    pub points: Vec<(f64, f64)>,
}

/// Returns the curve of a metric on the dev set in a `training.json`, where it is called `dev_` and the metric's name; none
/// when there is no such number.
pub fn dev_curve(training: &Value, metric: Metric) -> Option<Vec<(f64, f64)>> {
    let name = format!("dev_{}", metric.name());
    let point = |entry: &Value| {
        // Older trainings have another name for the accuracy of intents.
        let other = || entry.get("dev_exact_match").filter(|_| metric == Metric::Accuracy);
        let value = entry.get(&name).or_else(other).and_then(Value::as_f64).filter(|value| value.is_finite());
        Some((entry.get("step").and_then(Value::as_f64)?, value?))
    };
    let points: Vec<_> = training.get("curve")?.as_array()?.iter().filter_map(point).collect();
    (!points.is_empty()).then_some(points)
}

/// Mean and range over the runs of a label, by step.
#[derive(Debug, Clone, PartialEq)]
struct Band {
    /// Step, mean, least and greatest value.
    points: Vec<(f64, f64, f64, f64)>,
}

/// Gathers the runs of one label. A step that not all runs have, because one ended early, has the mean of those that do.
fn band<'a>(curves: impl Iterator<Item = &'a Curve>) -> Band {
    let mut steps: Vec<(f64, Vec<f64>)> = Vec::new();
    for &(step, value) in curves.flat_map(|curve| &curve.points) {
        match steps.iter_mut().find(|known| known.0.total_cmp(&step).is_eq()) {
            Some(known) => known.1.push(value),
            None => steps.push((step, vec![value])),
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let point = |(step, values): (f64, Vec<f64>)| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (least, greatest) = (values.iter().copied().fold(mean, f64::min), values.iter().copied().fold(mean, f64::max));
        (step, mean, least, greatest)
    };
    Band { points: steps.into_iter().map(point).collect() }
}

/// Draws a panel per task and corpus. It has a line per method: the mean over seeds, in a band from the least to the greatest value.
/// Methods differ in colour and in dashes.
pub fn learning_curves(title: &str, panels: &[CurvePanel], layout: Layout) -> Picture {
    let size = if layout == Layout::Page { (460.0, 300.0) } else { (COLUMN, 240.0) };
    let (places, (width, height)) = tiles(panels.len(), layout.per_line(), size);
    let labels = distinct(panels.iter().flat_map(|panel| panel.curves.iter().map(|curve| &curve.label)));
    let head = if layout == Layout::Page { 48.0 } else { 16.0 };
    let top = head + legend_height(&labels, width - 48.0);
    let mut picture = Picture::new(width, top + height, title);
    layout.title(&mut picture, title, width);
    legend(&mut picture, &labels, (24.0, head + 8.0), width - 48.0, Sample::Line);
    for (panel, (x, y)) in panels.iter().zip(places) {
        let area = Area { left: x, top: top + y, right: x + size.0, bottom: top + y + size.1 };
        draw(&mut picture, panel, &labels, &area);
    }
    picture
}

/// Ends of an axis that the values fill: a tenth of room on either side, within what the metric can be. Rates of errors above 1 are
/// left out while anything lies below, because nothing is learned there.
fn ends(metric: Metric, values: impl Iterator<Item = f64>) -> (f64, f64) {
    let most = if metric.is_percent() { 1.0 } else { f64::MAX };
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if !low.is_finite() {
        return (0.0, 1.0);
    }
    if low < most {
        high = high.min(most);
    }
    let room = ((high - low) * 0.1).max(if metric.is_percent() { 0.005 } else { 1e-3 });
    let least = if metric == Metric::Matthews { -1.0 } else { 0.0 };
    ((low - room).max(least), if high > most { high + room } else { (high + room).min(most) })
}

fn draw(picture: &mut Picture, panel: &CurvePanel, labels: &[String], area: &Area) {
    let (left, right, top, bottom) = (area.left + 78.0, area.right - 24.0, area.top + 34.0, area.bottom - 58.0);
    heading(picture, (left, top - 12.0), LABEL + 2.0, &panel.title, right - left);
    let scale = panel.metric.scale();
    let all = || panel.curves.iter().flat_map(|curve| &curve.points);
    let (low, high) = ends(panel.metric, all().map(|point| point.1));
    let x = panel.along.axis(all().map(|point| point.0), (left, right));
    let y = Axis::linear(low * scale, high * scale, (bottom, top));
    y.draw_left(picture, left, right, &panel.metric.title_with_unit());
    x.draw_below(picture, bottom, top, &panel.along.name().replace('_', " "));
    let place = |step: f64, value: f64| (x.place(step), y.place(value.clamp(low, high) * scale));
    let own = distinct(panel.curves.iter().map(|curve| &curve.label));
    let bands: Vec<(usize, Band)> = own
        .iter()
        .map(|label| {
            let k = labels.iter().position(|known| known == label).unwrap_or(0);
            (k, band(panel.curves.iter().filter(|curve| curve.label == *label)))
        })
        .collect();
    for (k, band) in &bands {
        let upper = band.points.iter().map(|&(step, _, _, greatest)| place(step, greatest));
        let lower = band.points.iter().rev().map(|&(step, _, least, _)| place(step, least));
        if band.points.iter().any(|point| point.3 > point.2) {
            picture.area(upper.chain(lower).collect::<Vec<_>>(), Paint::Series(*k), 0.14);
        }
    }
    for (k, band) in &bands {
        let points: Vec<(f32, f32)> = band.points.iter().map(|&(step, mean, ..)| place(step, mean)).collect();
        if points.len() < 40 {
            for &point in &points {
                picture.circle(point, 2.2, Paint::Series(*k), "");
            }
        }
        picture.series(points, 1.8, *k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_mean_in_a_band() {
        let curve = |points: &[(f64, f64)]| Curve { label: "lora".to_owned(), points: points.to_vec() };
        let found = band([curve(&[(5.0, 0.25), (10.0, 0.5)]), curve(&[(5.0, 0.75)])].iter());
        assert_eq!(found.points, [(5.0, 0.5, 0.25, 0.75), (10.0, 0.5, 0.5, 0.5)]);
    }

    #[test]
    fn values_far_apart_are_placed_by_their_logarithm() {
        let place =
            |values: &[f64], value: f64| Along::Values("rank".to_owned()).axis(values.iter().copied(), (0.0, 100.0)).place(value);
        assert!((place(&[1e-4, 1e-3, 1e-2], 1e-3) - 50.0).abs() < 1e-3);
        assert!((place(&[4.0, 8.0], 6.0) - 50.0).abs() < 1e-3);
        assert!((Along::Steps.axis([10.0, 40.0].into_iter(), (0.0, 100.0)).place(20.0) - 50.0).abs() < 1e-3);
    }

    #[test]
    fn curves_fill_their_axis() {
        let check = |metric, values: &[f64], expected: (f64, f64)| {
            let found = ends(metric, values.iter().copied());
            assert!(
                (found.0 - expected.0).abs() < 1e-9 && (found.1 - expected.1).abs() < 1e-9,
                "{found:?}, expected {expected:?}"
            );
        };
        check(Metric::Accuracy, &[0.9, 0.95], (0.895, 0.955));
        check(Metric::Accuracy, &[0.5, 1.0], (0.45, 1.0));
        check(Metric::Wer, &[7.0, 0.5, 0.2], (0.12, 1.0));
        check(Metric::Wer, &[3.0, 2.0], (1.9, 3.1));
        check(Metric::Accuracy, &[], (0.0, 1.0));
    }

    #[test]
    fn a_curve_is_found_by_the_metrics_name() {
        let training =
            serde_json::json!({"curve": [{"step": 5, "dev_wer": 0.5, "dev_loss": 1.0}, {"step": 10, "dev_wer": null}]});
        assert_eq!(dev_curve(&training, Metric::Wer), Some(vec![(5.0, 0.5)]));
        assert_eq!(dev_curve(&training, Metric::Per), None);
        assert_eq!(dev_curve(&Value::Null, Metric::Wer), None);
    }
}
