//! The points of a matrix: every combination of values that a build meets, kept once and known by a number.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::axes::{Axes, Pair};
use super::point::Point;

/// Points by number. Pairs are in order of their axes.
pub(super) struct Points {
    numbers: Numbers<Rc<[Pair]>, u32>,
    list: Vec<Known>,
}

/// A map whose keys are numbers of our own making. The hasher of the standard library, made for keys that someone could choose
/// so that they collide, took a seventh of the time of a build.
pub(super) type Numbers<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

struct Known {
    pairs: Rc<[Pair]>,
    /// As nodes show it: the axes of the matrix only. A setting has one value for all nodes.
    of_matrix: Option<Point>,
    /// As edges show it: all axes, so that a gathered input says where it comes from.
    whole: Option<Point>,
}

impl Points {
    /// The point without any axis.
    pub(super) const NOWHERE: u32 = 0;

    pub(super) fn new() -> Self {
        let mut points = Self { numbers: Numbers::default(), list: vec![] };
        points.number(&[]);
        points
    }

    pub(super) fn number(&mut self, pairs: &[Pair]) -> u32 {
        if let Some(number) = self.numbers.get(pairs) {
            return *number;
        }
        let number = self.list.len() as u32;
        let pairs: Rc<[Pair]> = pairs.into();
        self.list.push(Known { pairs: Rc::clone(&pairs), of_matrix: None, whole: None });
        self.numbers.insert(pairs, number);
        number
    }

    pub(super) fn get(&self, number: u32) -> &Rc<[Pair]> {
        &self.list[number as usize].pairs
    }

    /// A point as nodes show it.
    pub(super) fn of_matrix(&mut self, number: u32, axes: &Axes<'_>) -> Point {
        let known = &mut self.list[number as usize];
        let is_shown = |pair: &&Pair| axes.list[pair.0 as usize].spec.matrix;
        known.of_matrix.get_or_insert_with(|| known.pairs.iter().filter(is_shown).map(|pair| axes.text(*pair)).collect()).clone()
    }

    /// A point as edges show it.
    pub(super) fn whole(&mut self, number: u32, axes: &Axes<'_>) -> Point {
        let known = &mut self.list[number as usize];
        let same = known.of_matrix.as_ref().filter(|point| point.iter().len() == known.pairs.len());
        let text = || known.pairs.iter().map(|pair| axes.text(*pair)).collect();
        known.whole.get_or_insert_with(|| same.cloned().unwrap_or_else(text)).clone()
    }
}

/// Which values of an axis are meant.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// This one, whether the matrix has it or not.
    One(u32),
    /// All that the matrix has.
    All,
    /// Those of the matrix that are listed here.
    Some(Vec<u32>),
}

/// Goes through the combinations of some axes that the matrix has and that are meant: its lines combined less `exclude`, then
/// those of `include`. `wanted` stands beside `axes`. Stops with the number of combinations where these are more than `limit`.
pub(super) fn each_point(
    axes: &Axes<'_>,
    of: &[u32],
    wanted: &[Wanted],
    limit: usize,
    visit: &mut dyn FnMut(&[Pair]),
) -> Result<(), u128> {
    let line = |number: u32, wanted: &Wanted| -> Vec<u32> {
        let line = &axes.list[number as usize];
        match wanted {
            // At a value that only `include` names, the matrix has nothing but what `include` says.
            Wanted::One(value) => Some(*value).filter(|value| line.is_listed(*value)).into_iter().collect(),
            Wanted::All => (0..line.num_wanted).collect(),
            Wanted::Some(values) => values.iter().copied().filter(|value| *value < line.num_wanted).collect(),
        }
    };
    let lines: Vec<Vec<u32>> = of.iter().zip(wanted).map(|(axis, wanted)| line(*axis, wanted)).collect();
    let excluded: Vec<&[Pair]> = axes.excluded.iter().map(Vec::as_slice).filter(|pairs| names_only(pairs, of)).collect();
    let is_excluded = |point: &[Pair]| excluded.iter().any(|pairs| pairs.iter().all(|pair| point.contains(pair)));
    combine(of, &lines, limit, &mut |point| {
        if !is_excluded(point) {
            visit(point);
        }
    })?;
    let mut seen: HashSet<Vec<Pair>> = HashSet::new();
    for combination in &axes.included {
        let named = |axis: u32| combination.iter().find(|pair| pair.0 == axis).map(|pair| pair.1);
        if !of.iter().any(|axis| named(*axis).is_some()) {
            continue;
        }
        let meant = |value: &u32, wanted: &Wanted| match wanted {
            Wanted::One(one) => one == value,
            Wanted::All => true,
            Wanted::Some(values) => values.contains(value),
        };
        let at = |((axis, wanted), line): ((&u32, &Wanted), &Vec<u32>)| match named(*axis) {
            Some(value) => Some(value).filter(|value| meant(value, wanted)).into_iter().collect(),
            None => line.clone(),
        };
        let narrowed: Vec<Vec<u32>> = of.iter().zip(wanted).zip(&lines).map(at).collect();
        combine(of, &narrowed, limit, &mut |point| {
            let in_lines = point.iter().zip(&lines).all(|(pair, line)| line.contains(&pair.1));
            if (!in_lines || is_excluded(point)) && seen.insert(point.to_vec()) {
                visit(point);
            }
        })?;
    }
    Ok(())
}

/// True if a point is one that `exclude` drops and `include` does not bring back.
pub(super) fn is_dropped(axes: &Axes<'_>, point: &[Pair]) -> bool {
    let of: Vec<u32> = point.iter().map(|pair| pair.0).collect();
    let has = |pairs: &[Pair]| pairs.iter().all(|pair| point.contains(pair));
    let brings_back = |pairs: &Vec<Pair>| {
        let mut shared = pairs.iter().filter(|pair| of.contains(&pair.0)).peekable();
        shared.peek().is_some() && shared.all(|pair| point.contains(pair))
    };
    axes.excluded.iter().any(|pairs| has(pairs)) && !axes.included.iter().any(brings_back)
}

fn names_only(pairs: &[Pair], axes: &[u32]) -> bool {
    pairs.iter().all(|pair| axes.contains(&pair.0))
}

/// All combinations of one value of each line, the last axis changing fastest.
fn combine(axes: &[u32], lines: &[Vec<u32>], limit: usize, visit: &mut dyn FnMut(&[Pair])) -> Result<(), u128> {
    let count = lines.iter().fold(1_u128, |count, line| count.saturating_mul(line.len() as u128));
    if count == 0 {
        return Ok(());
    }
    if count > limit as u128 {
        return Err(count);
    }
    let mut places = vec![0; lines.len()];
    let mut point: Vec<Pair> = axes.iter().zip(lines).map(|(axis, line)| (*axis, line[0])).collect();
    loop {
        visit(&point);
        // Counts up as an odometer does: the last wheel that is not at its end turns, those after it begin again.
        let Some(wheel) = (0..lines.len()).rev().find(|wheel| places[*wheel] + 1 < lines[*wheel].len()) else { return Ok(()) };
        places[wheel] += 1;
        places[wheel + 1..].fill(0);
        for at in wheel..lines.len() {
            point[at].1 = lines[at][places[at]];
        }
    }
}
