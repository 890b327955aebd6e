//! The picture of a training curve.

use serde_json::Value;

use super::axis::Axis;
use super::{LABEL, TITLE, heading};
use crate::metric::Metric;
use crate::picture::{Anchor, Paint, Picture, Text, text_width};

/// A named line: pairs of step and value.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws the curve of a `training.json`: losses on the left, shares such as accuracy and rates of errors on the right.
///
/// The curve is a list of objects with a `step` and any numbers; those with `loss` in their name go left, `dev_` with the name of a
/// metric that people read in percent goes right, anything else (the learning rate) is not drawn. Returns none when there is
/// nothing to draw. The best step is marked when the file names one.
pub fn training_curve(title: &str, training: &Value) -> Option<Picture> {
    let curve = training.get("curve")?.as_array()?;
    let losses = lines(curve, |name| name.contains("loss"), 1.0);
    let percent = Metric::ALL.into_iter().filter(|metric| metric.is_percent()).map(|metric| format!("dev_{}", metric.name()));
    let percent: Vec<String> = percent.chain(["dev_exact_match".to_owned()]).collect();
    let shares = lines(curve, |name| percent.iter().any(|known| known == name), 100.0);
    let panels: Vec<(&str, Vec<Line>)> =
        [("loss", losses), ("score (%)", shares)].into_iter().filter(|(_, lines)| !lines.is_empty()).collect();
    if panels.is_empty() {
        return None;
    }
    let best = training.get("best_step").and_then(Value::as_f64);
    let width = 24.0 + 440.0 * panels.len() as f32;
    let mut picture = Picture::new(width, 320.0, title);
    heading(&mut picture, (24.0, 30.0), TITLE, title, width - 48.0);
    for (at, (unit, lines)) in panels.iter().enumerate() {
        panel(&mut picture, 440.0 * at as f32, unit, lines, best);
    }
    Some(picture)
}

fn lines(curve: &[Value], wanted: impl Fn(&str) -> bool, scale: f64) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for entry in curve.iter().filter_map(Value::as_object) {
        let Some(step) = entry.get("step").and_then(Value::as_f64) else { continue };
        for (name, value) in entry.iter().filter(|(name, _)| wanted(name)) {
            let Some(value) = value.as_f64().filter(|value| value.is_finite()) else { continue };
            let point = (step, value * scale);
            match lines.iter_mut().find(|line| line.name == *name) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { name: name.clone(), points: vec![point] }),
            }
        }
    }
    lines
}

fn panel(picture: &mut Picture, offset: f32, unit: &str, lines: &[Line], best: Option<f64>) {
    let (left, right, top, bottom) = (offset + 76.0, offset + 440.0, 84.0, 256.0);
    let all = || lines.iter().flat_map(|line| &line.points);
    let last = all().map(|point| point.0).fold(1.0, f64::max);
    let (low, high) = if unit == "loss" {
        (0.0, all().map(|point| point.1).fold(0.0, f64::max) * 1.05)
    } else {
        // Rates of errors may pass 100 percent while nothing is learned; what matters lies below.
        let (least, most) = all().fold((f64::MAX, 0.0), |ends: (f64, f64), point| (ends.0.min(point.1), ends.1.max(point.1)));
        let room = ((most - least) * 0.08).max(0.5);
        ((least.min(100.0) - room).max(0.0), (most + room).min(if most > 100.0 { 120.0 } else { 100.0 }))
    };
    let x = Axis::linear(0.0, last, (left, right));
    let y = Axis::linear(low, high, (bottom, top));
    y.draw_left(picture, left, right, unit);
    x.draw_below(picture, bottom, top, "step");
    if let Some(best) = best.filter(|step| (0.0..=last).contains(step)) {
        picture.line([(x.place(best), top), (x.place(best), bottom)], 1.4, Paint::Muted);
        let text = Text::new(x.place(best), top - 5.0, LABEL - 1.0, "best");
        picture.text(text.paint(Paint::Muted).anchor(Anchor::Middle));
    }
    let mut legend = left;
    for (k, line) in lines.iter().enumerate() {
        let points: Vec<(f32, f32)> =
            line.points.iter().map(|&(step, value)| (x.place(step), y.place(value.min(high)))).collect();
        if points.len() < 60 {
            for &point in &points {
                picture.circle(point, 2.6, Paint::Series(k), "");
            }
        }
        picture.series(points, 1.8, k);
        let name = line.name.replace('_', " ");
        picture.series([(legend, 56.0), (legend + 18.0, 56.0)], 2.2, k);
        picture.text(Text::new(legend + 23.0, 60.0, LABEL, &name));
        legend += text_width(&name, LABEL) * 1.1 + 39.0;
    }
}
