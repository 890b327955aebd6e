//! Pictures of the site: small SVG that takes its colours from the style sheet.

use std::fmt::Write;

use scoring::Metric;

use crate::time::Utc;

/// A result in the plot of a cell.
pub(super) struct Dot {
    pub(super) at: Utc,
    pub(super) values: Vec<f64>,
    pub(super) is_alarm: bool,
}

impl Dot {
    pub(super) fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Line of the last results of a cell, without axes.
pub(super) fn spark(means: &[f64]) -> String {
    if means.len() < 2 {
        return String::new();
    }
    let (low, high) = ends(means.iter().copied());
    let step = 80.0 / (means.len() - 1) as f64;
    let mut path = String::new();
    for (at, mean) in means.iter().enumerate() {
        let y = if high > low { 16.0 - 14.0 * (mean - low) / (high - low) } else { 9.0 };
        let _ = write!(path, "{}{} {}", if at == 0 { "M" } else { "L" }, tenth(2.0 + step * at as f64), tenth(y)); // a text takes all
    }
    format!("<svg class=\"spark\" viewBox=\"0 0 84 18\" aria-hidden=\"true\"><path class=\"mean\" d=\"{path}\"/></svg>")
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// Plot of a cell: seeds, mean, baseline, levels between steps, alarms.
pub(super) fn plot(metric: Metric, dots: &[Dot], baseline: Option<f64>, steps: &[usize]) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 260.0;
    let (left, right, top, bottom) = (64.0, WIDTH - 16.0, 14.0, HEIGHT - 34.0);
    if dots.is_empty() {
        return String::new();
    }
    let all = dots.iter().flat_map(|dot| dot.values.iter().copied()).chain(baseline);
    let (mut low, mut high) = ends(all);
    let room = ((high - low) * 0.08).max(if metric.is_percent() { 0.002 } else { 0.01 });
    (low, high) = (low - room, high + room);
    let (first, last) = (dots[0].at.0, dots[dots.len() - 1].at.0);
    let x = |at: Utc| {
        if last > first {
            left + (right - left) * (at.0 - first) as f64 / (last - first) as f64
        } else {
            f64::midpoint(left, right)
        }
    };
    let y = |value: f64| bottom - (bottom - top) * (value - low) / (high - low);
    let place = |at: Utc, value: f64| format!("{} {}", tenth(x(at)), tenth(y(value)));
    let mut out = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\"><title>{} over time</title>",
        metric.title_with_unit()
    );
    let (mut grid, mut labels) = (String::new(), String::new());
    for value in ticks(low * metric.scale(), high * metric.scale()) {
        let at = tenth(y(value / metric.scale()));
        let _ = write!(grid, "M{left} {at}H{right}");
        let _ = write!(labels, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", left - 8.0, at + 4.0, number(value));
    }
    let day = |at: Utc| at.short()[..10].to_owned();
    let _ = write!(labels, "<text x=\"{}\" y=\"{}\">{}</text>", left, HEIGHT - 10.0, day(dots[0].at));
    if last > first {
        let _ = write!(
            labels,
            "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            HEIGHT - 10.0,
            day(dots[dots.len() - 1].at)
        );
    }
    let _ = write!(out, "<path class=\"grid\" d=\"{grid}\"/>{labels}");
    if let Some(value) = baseline {
        let _ = write!(out, "<path class=\"base\" d=\"M{left} {}H{right}\"/>", tenth(y(value)));
    }
    let seeds: String =
        dots.iter().flat_map(|dot| dot.values.iter().map(|value| format!("M{}h0", place(dot.at, *value)))).collect();
    let _ = write!(out, "<path class=\"dots\" d=\"{seeds}\"/>");
    let bounds: Vec<usize> = [0].into_iter().chain(steps.iter().copied()).chain([dots.len()]).collect();
    if !steps.is_empty() {
        let level = |pair: &[usize]| {
            let part = &dots[pair[0]..pair[1]];
            let mean = part.iter().map(Dot::mean).sum::<f64>() / part.len() as f64;
            format!("M{}H{}", place(part[0].at, mean), tenth(x(part[part.len() - 1].at)))
        };
        let _ = write!(out, "<path class=\"steps\" d=\"{}\"/>", bounds.windows(2).map(level).collect::<String>());
    }
    let line: Vec<String> = dots.iter().map(|dot| place(dot.at, dot.mean())).collect();
    let line = if line.len() == 1 { format!("M{}h0", line[0]) } else { format!("M{}", line.join("L")) };
    let _ = write!(out, "<path class=\"mean\" d=\"{line}\"/>");
    let alarms: Vec<String> =
        dots.iter().filter(|dot| dot.is_alarm).map(|dot| format!("M{}h0", place(dot.at, dot.mean()))).collect();
    let alarms = alarms.concat();
    if !alarms.is_empty() {
        let _ = write!(out, "<path class=\"bad\" d=\"{alarms}\"/>");
    }
    out + "</svg>"
}

/// Round values between two ends.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    if !(rough.is_finite() && rough > 0.0) {
        return vec![];
    }
    let unit = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * unit).find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..first + 8).map(|number| number as f64 * step).take_while(|value| *value <= high).collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Badge of a task: its name and its state.
pub(super) fn badge(name: &str, state: &str, is_bad: bool) -> String {
    let width = |text: &str| 10.0 + 6.6 * text.chars().count() as f64;
    let (left, right) = (width(name), width(state));
    let colour = if is_bad { "#b3261e" } else { "#1b7a3d" };
    let (all, middle) = (tenth(left + right), tenth(left + right / 2.0));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\"><title>{name}: {state}</title>\
         <rect width=\"{all}\" height=\"20\" rx=\"3\" fill=\"#3d444d\"/><rect x=\"{0}\" width=\"{1}\" height=\"20\" rx=\"3\" fill=\"{colour}\"/>\
         <g fill=\"#fff\" font-family=\"Verdana,sans-serif\" font-size=\"11\" text-anchor=\"middle\"><text x=\"{2}\" y=\"14\">{name}</text>\
         <text x=\"{middle}\" y=\"14\">{state}</text></g></svg>\n",
        tenth(left),
        tenth(right),
        tenth(left / 2.0)
    )
}
