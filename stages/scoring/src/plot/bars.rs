//! Bars: how often each of many values occurs, in several groups.

use super::axis::Axis;
use super::{LABEL, TITLE, heading};
use crate::picture::{Anchor, Paint, Picture, Text, shorten, text_width};

const WIDTH: f32 = 880.0;
const HEIGHT: f32 = 380.0;
/// More classes than this are too many to be read.
const MOST_CLASSES: usize = 40;

/// Counts of one group, by a colour of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name next to the colour.
    pub name: String,
    /// Value -> count: for a histogram the left end of a bar, for classes their number.
    pub counts: Vec<(f64, u64)>,
}

/// Draws a histogram with bars of `bar` width, the groups on top of each other.
pub fn histogram(title: &str, axis: &str, bar: f64, series: &[Series]) -> Picture {
    let mut picture = Picture::new(WIDTH, HEIGHT, title);
    let (left, right, top, bottom) = frame(&mut picture, title, series, 66.0);
    let all = || series.iter().flat_map(|group| &group.counts);
    let last = all().map(|(value, _)| value + bar).fold(bar, f64::max);
    let mut sums: Vec<(f64, u64)> = Vec::new();
    for &(value, count) in all() {
        match sums.iter_mut().find(|(known, _)| (known - value).abs() < bar / 2.0) {
            Some((_, sum)) => *sum += count,
            None => sums.push((value, count)),
        }
    }
    let most = sums.iter().map(|(_, sum)| *sum).max().unwrap_or(1).max(1);
    let (x, y) = (Axis::linear(0.0, last, (left, right)), Axis::linear(0.0, most as f64 * 1.05, (bottom, top)));
    y.draw_left(&mut picture, left, right, "utterances");
    x.draw_below(&mut picture, bottom, top, axis);
    let mut heights: Vec<(f64, u64)> = sums.iter().map(|(value, _)| (*value, 0)).collect();
    for (number, group) in series.iter().enumerate() {
        for &(value, count) in &group.counts {
            let Some((_, below)) = heights.iter_mut().find(|(known, _)| (known - value).abs() < bar / 2.0) else { continue };
            let (from, to) = (y.place(*below as f64), y.place((*below + count) as f64));
            let (start, end) = (x.place(value), x.place(value + bar));
            let tip = format!("{}: {count} of {value:.1} to {:.1} s", group.name, value + bar);
            picture.rect((start + 0.5, to), ((end - start - 1.0).max(0.6), from - to), Paint::Series(number), 1.0, tip);
            *below += count;
        }
    }
    picture
}

/// Draws the counts of classes as lying bars, the groups one after the other in each. The rarest are left out of very many.
pub fn classes(title: &str, names: &[String], series: &[Series]) -> Picture {
    let total = |class: usize| {
        series
            .iter()
            .flat_map(|group| &group.counts)
            .filter(|(at, _)| *at as usize == class)
            .map(|(_, count)| *count)
            .sum::<u64>()
    };
    let mut order: Vec<usize> = (0..names.len()).collect();
    if names.len() > MOST_CLASSES {
        order.sort_by_key(|class| (std::cmp::Reverse(total(*class)), *class));
        order.truncate(MOST_CLASSES);
    }
    let row = 20.0;
    let height = 118.0 + row * order.len() as f32;
    let mut picture = Picture::new(WIDTH, height, title);
    let widest = names.iter().map(|name| text_width(name, LABEL)).fold(0.0, f32::max).min(240.0);
    let (_, right, top, _) = frame(&mut picture, title, series, 66.0);
    let (left, bottom) = (widest + 40.0, top + row * order.len() as f32);
    let most = order.iter().map(|class| total(*class)).max().unwrap_or(1).max(1);
    let x = Axis::linear(0.0, most as f64 * 1.02, (left, right));
    x.draw_below(&mut picture, bottom, top, "utterances");
    for (place, &class) in order.iter().enumerate() {
        let y = top + row * place as f32;
        let name = shorten(&names[class], LABEL, 240.0);
        picture.text(Text::new(left - 8.0, y + 14.0, LABEL, name).anchor(Anchor::End));
        let mut from = 0;
        for (number, group) in series.iter().enumerate() {
            let count: u64 = group.counts.iter().filter(|(at, _)| *at as usize == class).map(|(_, count)| *count).sum();
            let (start, end) = (x.place(from as f64), x.place((from + count) as f64));
            let tip = format!("{}, {}: {count}", names[class], group.name);
            picture.rect((start, y + 3.0), (end - start, row - 6.0), Paint::Series(number), 1.0, tip);
            from += count;
        }
    }
    picture
}

/// Title and legend; gives left, right, top and bottom of what is to be drawn in.
fn frame(picture: &mut Picture, title: &str, series: &[Series], below: f32) -> (f32, f32, f32, f32) {
    heading(picture, (24.0, 32.0), TITLE, title, WIDTH - 64.0);
    let mut x = 82.0;
    for (number, group) in series.iter().enumerate() {
        picture.rect((x, 48.0), (12.0, 12.0), Paint::Series(number), 1.0, "");
        picture.text(Text::new(x + 18.0, 58.0, LABEL, group.name.clone()).paint(Paint::Muted));
        x += 18.0 + text_width(&group.name, LABEL) * 1.06 + 22.0;
    }
    (82.0, WIDTH - 28.0, 76.0, HEIGHT - below)
}
