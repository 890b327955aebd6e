//! Where the ticks of an axis stand and what they say.

use crate::picture::{Anchor, Paint, Picture, Text, text_width};

/// Maps values to pixels, evenly or by their logarithm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Pixels of `low` and `high`.
    pub(super) span: (f32, f32),
}

/// A tick: its value and label.
type Tick = (f64, String);

impl Axis {
    /// From `low` to `high`, which are moved apart when equal.
    pub(super) fn linear(low: f64, high: f64, span: (f32, f32)) -> Self {
        let slack = if high - low > 1e-9 { 0.0 } else { 0.5 };
        Self { low: low - slack, high: high + slack, log: false, span }
    }
    /// From `low` to `high`, both above 0, widened by a seventh of the span at both ends and to at least a decade.
    pub(super) fn log(low: f64, high: f64, span: (f32, f32)) -> Self {
        let (low, high) = (low.max(1e-12).log10(), high.max(1e-12).log10());
        let margin = f64::max((high - low) / 7.0, (1.0 - (high - low)) / 2.0);
        Self { low: low - margin, high: high + margin, log: true, span }
    }
    /// The pixel of a value.
    pub(super) fn place(&self, value: f64) -> f32 {
        let value = if self.log { value.max(1e-12).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)) as f32;
        self.span.0 + share * (self.span.1 - self.span.0)
    }

    /// Round values, about `count` of them.
    pub(super) fn ticks(&self, count: usize) -> Vec<Tick> {
        if self.log {
            return self.log_ticks();
        }
        let step = nice_step((self.high - self.low) / count as f64);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((self.low / step - 1e-6).ceil() as i64, (self.high / step + 1e-6).floor() as i64);
        (first..=last).map(|k| (k as f64 * step, format!("{:.decimals$}", k as f64 * step))).collect()
    }

    /// Powers of ten, and their double and fivefold when few decades show.
    fn log_ticks(&self) -> Vec<Tick> {
        let factors: &[f64] = if self.high - self.low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        let values = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
        let within = values.filter(|value| (self.low..=self.high).contains(&value.log10()));
        let label = |value: f64| if value < 1.0 { format!("{value:.0e}") } else { short_count(value) };
        within.map(|value| (value, label(value))).collect()
    }

    /// Draws ticks, grid lines up to `top` and the title of an axis along the bottom at `y`.
    pub(super) fn draw_below(&self, picture: &mut Picture, y: f32, top: f32, title: &str) {
        for (value, label) in self.ticks(8) {
            let x = self.place(value);
            picture.line([(x, top), (x, y)], 1.0, Paint::Grid);
            picture.text(Text::new(x, y + 18.0, super::LABEL, label).paint(Paint::Muted).anchor(Anchor::Middle));
        }
        picture.line([(self.span.0, y), (self.span.1, y)], 1.2, Paint::Muted);
        let middle = f32::midpoint(self.span.0, self.span.1);
        picture.text(Text::new(middle, y + 40.0, super::LABEL + 1.0, title).anchor(Anchor::Middle));
    }

    /// Draws ticks, grid lines up to `right` and the title of an axis along the left at `x`.
    pub(super) fn draw_left(&self, picture: &mut Picture, x: f32, right: f32, title: &str) {
        let ticks = self.ticks(6);
        let widest = ticks.iter().map(|(_, label)| text_width(label, super::LABEL)).fold(0.0, f32::max);
        for (value, label) in ticks {
            let y = self.place(value);
            picture.line([(x, y), (right, y)], 1.0, Paint::Grid);
            picture.text(Text::new(x - 8.0, y + 4.0, super::LABEL, label).paint(Paint::Muted).anchor(Anchor::End));
        }
        let middle = f32::midpoint(self.span.0, self.span.1);
        let title = Text::new(x - widest - 22.0, middle, super::LABEL + 1.0, title);
        picture.text(title.anchor(Anchor::Middle).turn(-90.0));
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not far below `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-12).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.75).unwrap_or(10.0);
    factor * power
}

/// `1500` as `1.5 k`, `2e6` as `2 M`.
pub(crate) fn short_count(count: f64) -> String {
    let units = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    let (unit, name) = units.into_iter().find(|(unit, _)| count >= *unit * 0.9995).unwrap_or((1.0, ""));
    let scaled = count / unit;
    let decimals = if scaled >= 99.95 || name.is_empty() {
        0
    } else if scaled >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(axis: Axis, labels: &[&str]) {
        assert_eq!(axis.ticks(6).into_iter().map(|tick| tick.1).collect::<Vec<_>>(), labels);
    }

    #[test]
    fn ticks_are_round() {
        check(Axis::linear(0.0, 100.0, (0.0, 1.0)), &["0", "20", "40", "60", "80", "100"]);
        check(Axis::linear(97.9, 99.4, (0.0, 1.0)), &["98.0", "98.2", "98.4", "98.6", "98.8", "99.0", "99.2", "99.4"]);
        check(Axis::log(1e3, 1e7, (0.0, 1.0)), &["1 k", "10 k", "100 k", "1 M", "10 M"]);
        check(Axis::log(5e5, 5e5, (0.0, 1.0)), &["200 k", "500 k", "1 M"]);
        check(Axis::log(1e-4, 1e-3, (0.0, 1.0)), &["1e-4", "2e-4", "5e-4", "1e-3"]);
    }

    #[test]
    fn values_land_between_the_ends() {
        let axis = Axis::linear(0.0, 10.0, (100.0, 0.0));
        assert!((axis.place(2.5) - 75.0).abs() < 1e-3);
        let one = Axis::linear(3.0, 3.0, (0.0, 100.0));
        assert!((one.place(3.0) - 50.0).abs() < 1e-3, "equal ends leave the value in the middle");
    }

    #[test]
    fn counts_are_short() {
        let check = |count: f64, expected: &str| assert_eq!(short_count(count), expected);
        check(0.0, "0");
        check(999.0, "999");
        check(1536.0, "1.54 k");
        check(999_990.0, "1 M");
        check(94_400_000.0, "94.4 M");
        check(316_000_000.0, "316 M");
    }
}
