//! Rectangles on a picture: frames of panels, and places for labels.

use crate::picture::{Paint, Picture, Text, text_width};

use super::LABEL;

/// A rectangle on the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f32,
    pub(super) top: f32,
    pub(super) right: f32,
    pub(super) bottom: f32,
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

/// The place beside a point that hides least of what is there; of equal ones the nearest, and of these the first, right of the
/// point.
pub(super) fn place_label(point: (f32, f32), width: f32, taken: &[Area], frame: &Area) -> Area {
    const HEIGHT: f32 = 18.0;
    let (x, y) = point;
    let mut best: Option<(f32, Area)> = None;
    for distance in [11.0, 24.0, 38.0, 56.0, 78.0, 104.0, 134.0] {
        let sides = [x + distance, x - distance - width];
        let rows = [-0.5, -1.25, 0.25, -2.0, 1.0, -2.75, 1.75, -3.5, 2.5, -4.25, 3.25].map(|row| y + row * HEIGHT);
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

/// From a label to its point, when the label stands so far away that a line must join them.
pub(super) fn leader(point: (f32, f32), label: &Area) -> Option<[(f32, f32); 2]> {
    const NEAR: f32 = 30.0;
    let end = (point.0.clamp(label.left, label.right), point.1.clamp(label.top, label.bottom));
    let (dx, dy) = (end.0 - point.0, end.1 - point.1);
    (dx.hypot(dy) > NEAR).then_some([point, end])
}

/// Panels side by side, so many to a line: where each begins, and the size of all.
pub(super) fn tiles(count: usize, per_line: usize, size: (f32, f32)) -> (Vec<(f32, f32)>, (f32, f32)) {
    let columns = count.clamp(1, per_line);
    let place = |at: usize| ((at % columns) as f32 * size.0, (at / columns) as f32 * size.1);
    let lines = count.max(1).div_ceil(columns);
    ((0..count).map(place).collect(), (columns as f32 * size.0, lines as f32 * size.1))
}

/// Sample of a colour next to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    Dot,
    Line,
}

/// Draws names with samples, in lines of at most `width`; returns the height they take.
pub(super) fn legend(picture: &mut Picture, names: &[String], at: (f32, f32), width: f32, sample: Sample) -> f32 {
    const LINE: f32 = 20.0;
    let indent = if sample == Sample::Line { 8.0 } else { 0.0 };
    let (left, mut y) = (at.0 + indent, at.1);
    let mut x = left;
    for (k, name) in names.iter().enumerate() {
        let step = text_width(name, LABEL + 1.0) * 1.1 + 34.0 + indent;
        if x > left && x + step > at.0 + width {
            (x, y) = (left, y + LINE);
        }
        match sample {
            Sample::Dot => picture.circle((x + 5.0, y), 5.0, Paint::Series(k), ""),
            Sample::Line => picture.series([(x - 8.0, y), (x + 12.0, y)], 2.2, k),
        }
        picture.text(Text::new(x + 16.0, y + 4.0, LABEL + 1.0, name));
        x += step;
    }
    if names.is_empty() { 0.0 } else { y - at.1 + LINE }
}

/// Height of a [`legend`].
pub(super) fn legend_height(names: &[String], width: f32) -> f32 {
    legend(&mut Picture::new(1.0, 1.0, ""), names, (0.0, 0.0), width, Sample::Line)
}

/// Each of several names once, in order of appearance.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for name in names {
        if !known.contains(name) {
            known.push(name.clone());
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fill_lines() {
        let (places, size) = tiles(4, 3, (10.0, 5.0));
        assert_eq!(places, [(0.0, 0.0), (10.0, 0.0), (20.0, 0.0), (0.0, 5.0)]);
        assert_eq!(size, (30.0, 10.0));
        assert_eq!(tiles(1, 3, (10.0, 5.0)).1, (10.0, 5.0));
        assert_eq!(tiles(0, 3, (10.0, 5.0)).1, (10.0, 5.0));
    }

    #[test]
    fn a_label_stays_off_what_is_there() {
        let frame = Area { left: 0.0, top: 0.0, right: 200.0, bottom: 100.0 };
        let first = place_label((100.0, 50.0), 40.0, &[], &frame);
        assert!(first.left > 100.0);
        let second = place_label((100.0, 50.0), 40.0, &[first], &frame);
        assert!(second.overlap(&first) <= 0.0);
        assert!(place_label((195.0, 50.0), 40.0, &[], &frame).right <= 200.0);
    }

    #[test]
    fn labels_of_crowded_points_keep_off_points_intervals_and_each_other() {
        // Six methods of a keyword task as they stood in a picture; the bars are as long as their scores are unsure.
        let frame = Area { left: 80.0, top: 4.0, right: 874.0, bottom: 420.0 };
        let points = [(768.0, 100.0), (336.0, 170.0), (262.0, 225.0), (335.0, 170.0), (213.0, 170.0), (164.0, 225.0)];
        let widths = [58.0, 76.0, 36.0, 28.0, 84.0, 70.0];
        let mut taken: Vec<Area> = Vec::new();
        for (x, y) in points {
            taken.push(Area { left: x - 5.0, top: y - 90.0, right: x + 5.0, bottom: y + 110.0 });
            taken.push(Area { left: x - 6.0, top: y - 6.0, right: x + 6.0, bottom: y + 6.0 });
        }
        for (point, width) in points.into_iter().zip(widths) {
            let label = place_label(point, width, &taken, &frame);
            let hidden: f32 = taken.iter().map(|other| label.overlap(other)).sum();
            assert!(hidden <= 0.0 && label.overlap(&frame) >= label.size() - 0.5, "{point:?}: {label:?}");
            taken.push(label);
        }
    }

    #[test]
    fn only_a_label_that_stands_far_away_has_a_line() {
        let label = |left: f32| Area { left, top: 41.0, right: left + 40.0, bottom: 59.0 };
        assert!(leader((100.0, 50.0), &label(111.0)).is_none());
        assert_eq!(leader((100.0, 50.0), &label(160.0)), Some([(100.0, 50.0), (160.0, 50.0)]));
    }
}
