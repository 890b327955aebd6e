//! The critical-difference diagram: mean ranks of methods over several tasks.
//!
//! Source: Demšar 2006, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, section 3.2.2 and figure 1.

use super::axis::Axis;
use super::{COLUMN, LABEL, Layout};
use crate::picture::{Anchor, Paint, Picture, Text, shorten, text_width};

/// Critical values of the two-sided Nemenyi test at 0.05, from two methods on: studentised range over the root of 2 (Demšar 2006,
/// table 5a).
const NEMENYI: [f64; 9] = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164];
/// Fewest tasks that are worth a diagram.
const FEWEST_TASKS: usize = 3;

/// Difference of mean ranks beyond which two of `methods` methods differ over `tasks` tasks; none outside the table of the test.
pub fn critical_difference(methods: usize, tasks: usize) -> Option<f64> {
    let critical = NEMENYI.get(methods.checked_sub(2)?)?;
    (tasks >= FEWEST_TASKS).then(|| critical * ((methods * (methods + 1)) as f64 / (6 * tasks) as f64).sqrt())
}

/// Draws methods by their mean rank, the best first, and a bar under those that the test does not tell apart. None for less than
/// three methods or tasks, and for more methods than the test has values for.
pub fn rank_diagram(title: &str, ranks: &[(String, f64)], tasks: usize, layout: Layout) -> Option<Picture> {
    const ROW: f32 = 22.0;
    const BAR: f32 = 9.0;
    let difference = critical_difference(ranks.len(), tasks).filter(|_| ranks.len() > 2)?;
    let mut ranks = ranks.to_vec();
    ranks.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    let bars = alike(&ranks.iter().map(|(_, rank)| *rank).collect::<Vec<_>>(), difference);

    let width = if layout == Layout::Page { 640.0 } else { COLUMN };
    let head = if layout == Layout::Page { 48.0 } else { 12.0 };
    let names = ranks.iter().map(|(name, _)| text_width(name, LABEL) * 1.1).fold(0.0, f32::max).min(150.0);
    let (left, right) = (24.0 + names + 14.0, width - 64.0);
    let top = head + 12.0;
    let bottom = top + ROW * ranks.len() as f32 + BAR * bars.len() as f32 + 8.0;
    let note = format!("Mean rank over {tasks} tasks, 1 is best. Bars: not told apart, critical difference {difference:.2}");
    let lines = wrapped(&note, width - 48.0);
    let mut picture = Picture::new(width, bottom + 44.0 + 16.0 * lines.len() as f32, title);
    layout.title(&mut picture, title, width);
    let axis = Axis::linear(1.0, ranks.len() as f64, (left, right));
    axis.draw_below(&mut picture, bottom, top, "");
    for (at, (name, rank)) in ranks.iter().enumerate() {
        let y = top + ROW * (at as f32 + 0.5);
        let name = shorten(name, LABEL, 150.0);
        picture.text(Text::new(left - 14.0, y + 4.0, LABEL, name.clone()).anchor(Anchor::End));
        picture.circle((axis.place(*rank), y), 4.5, Paint::Series(0), format!("{name}: mean rank {rank:.2}"));
        picture.text(Text::new(axis.place(*rank) + 9.0, y + 4.0, LABEL, format!("{rank:.2}")).paint(Paint::Muted));
    }
    for (at, [from, to]) in bars.iter().enumerate() {
        let y = top + ROW * ranks.len() as f32 + BAR * (at as f32 + 0.5);
        let ends = [axis.place(*from) - 3.0, axis.place(*to) + 3.0];
        picture.rect((ends[0], y - 2.0), (ends[1] - ends[0], 4.0), Paint::Ink, 1.0, format!("ranks {from:.2} to {to:.2}"));
    }
    for (at, line) in lines.iter().enumerate() {
        picture.text(Text::new(24.0, bottom + 46.0 + 16.0 * at as f32, LABEL, line).paint(Paint::Muted));
    }
    Some(picture)
}

/// First and last of the longest stretches of sorted ranks that are not wider than a difference.
fn alike(ranks: &[f64], difference: f64) -> Vec<[f64; 2]> {
    let mut bars: Vec<[usize; 2]> = Vec::new();
    for first in 0..ranks.len() {
        let last = ranks.iter().rposition(|rank| rank - ranks[first] < difference).unwrap_or(first);
        if last > first && bars.last().is_none_or(|[_, before]| last > *before) {
            bars.push([first, last]);
        }
    }
    bars.into_iter().map(|[first, last]| [ranks[first], ranks[last]]).collect()
}

/// Lines of a text that are not wider than `width`.
fn wrapped(text: &str, width: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), LABEL) * 1.1 <= width => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Demšar 2006, section 3.2.3: four classifiers on 14 data sets.
    #[test]
    fn the_critical_difference_is_that_of_the_paper() {
        assert!((critical_difference(4, 14).unwrap() - 1.25).abs() < 0.005);
        assert_eq!((critical_difference(4, 2), critical_difference(1, 9), critical_difference(11, 9)), (None, None, None));
    }

    #[test]
    fn bars_join_what_is_alike_and_none_is_part_of_another() {
        assert_eq!(alike(&[1.0, 1.5, 2.2, 3.9], 1.25), [[1.0, 2.2]]);
        assert_eq!(alike(&[1.0, 2.0, 3.0], 1.5), [[1.0, 2.0], [2.0, 3.0]]);
        assert_eq!(alike(&[1.0, 3.0], 1.5), [[0.0; 2]; 0]);
    }

    #[test]
    fn every_method_has_its_place() {
        let ranks: Vec<(String, f64)> =
            [("lora", 1.2), ("prefix", 2.9), ("finetune", 1.9)].map(|(name, rank)| (name.to_owned(), rank)).to_vec();
        for layout in [Layout::Page, Layout::Column] {
            let svg = rank_diagram("Ranks", &ranks, 7, layout).unwrap().svg();
            assert!(svg.contains("lora: mean rank 1.20") && svg.contains("ranks 1.20 to 1.90") && svg.contains("1.25"), "{svg}");
        }
        assert!(rank_diagram("Ranks", &ranks[..2], 7, Layout::Page).is_none());
    }
}
