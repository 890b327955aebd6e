//! Places stages at points: which nodes there are, and what each reads.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Map;

use super::axes::{Axes, Pair};
use super::points::{Numbers, Points, Wanted, each_point, is_dropped};
use super::reference::Reference;
use super::stages::{Stage, Stages};
use super::terms::Scope;
use crate::mistake::Mistake;
use crate::registry::Placed;
use crate::stage::Arity;

/// No workflow has more nodes; one that seems to has a slip in its matrix.
pub(super) const MAX_NODES: usize = 20_000_000;
/// No workflow has more edges.
pub(super) const MAX_EDGES: usize = 100_000_000;

/// A stage at a point: one node, or one for each partition.
pub(super) struct StagePoint {
    pub(super) stage: u32,
    pub(super) point: u32,
    /// The stage with its parameters; none after a mistake.
    pub(super) placed: Option<Arc<dyn Placed>>,
    pub(super) reads: Rc<[Read]>,
    /// Where its needs are in [`Expansion::needs`].
    pub(super) needs: Range<u32>,
    /// Which of its partitions are needed, when it has some.
    pub(super) asked: Asked,
}

/// The partitions that are needed of a stage point: those between the lowest and the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) first: u32,
    pub(super) end: u32,
}

impl Asked {
    pub(super) const NONE: Self = Self { first: u32::MAX, end: 0 };
    pub(super) const ALL: Self = Self { first: 0, end: u32::MAX };

    pub(super) fn only(first: u32, last: u32) -> Self {
        Self { first, end: last.saturating_add(1) }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), end: self.end.max(other.end) }
    }
}

/// A reference of an input, or `each` (no slot), as it stands at some points.
pub(super) struct Read {
    pub(super) slot: Option<Arc<str>>,
    pub(super) source: usize,
    pub(super) part: Option<Arc<str>>,
    pub(super) at: Range<usize>,
    /// Beside the axes of the source: the value that is pinned.
    pinned: Vec<Option<u32>>,
}

/// One artifact that a stage point reads: which reference names it, where it is made, and its values of the gathered axes.
pub(super) struct Need {
    pub(super) read: u32,
    pub(super) stage_point: u32,
    pub(super) gathered: u32,
}

/// Values of a stage by point.
type PerPoint<T> = Numbers<Vec<Pair>, T>;

/// The work in progress.
pub(super) struct Expansion<'a> {
    pub(super) axes: &'a Axes<'a>,
    pub(super) stages: &'a Stages<'a>,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) points: Points,
    pub(super) stage_points: Vec<StagePoint>,
    pub(super) needs: Vec<Need>,
    numbers: Numbers<(u32, u32), u32>,
    /// Parameters and references are worked out once for all points that agree in the axes they depend on.
    placed: Vec<PerPoint<Option<Arc<dyn Placed>>>>,
    reads: Vec<PerPoint<Rc<[Read]>>>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(axes: &'a Axes<'a>, stages: &'a Stages<'a>) -> Self {
        let count = stages.list.len();
        Self {
            axes,
            stages,
            mistakes: vec![],
            points: Points::new(),
            stage_points: vec![],
            needs: vec![],
            numbers: Numbers::default(),
            placed: (0..count).map(|_| Numbers::default()).collect(),
            reads: (0..count).map(|_| Numbers::default()).collect(),
        }
    }

    /// Forgets what only finding further stage points would need, so that the nodes can have the memory.
    pub(super) fn forget(&mut self) {
        self.numbers = Numbers::default();
        self.reads.iter_mut().for_each(|reads| *reads = Numbers::default());
        self.placed.iter_mut().for_each(|placed| *placed = Numbers::default());
    }

    pub(super) fn stage_of(&self, stage_point: u32) -> &'a Stage<'a> {
        &self.stages.list[self.stage_points[stage_point as usize].stage as usize]
    }

    /// Asks for a stage at the points of the matrix that are meant; `wanted` stands beside its axes.
    pub(super) fn want(&mut self, stage: usize, wanted: &[Wanted], partitions: Asked) {
        let mut found = vec![];
        let points = &mut self.points;
        let of = &self.stages.list[stage].axes;
        let mut wanted = wanted.to_vec();
        self.stages.list[stage].narrow(&mut wanted);
        match each_point(self.axes, of, &wanted, MAX_NODES, &mut |point| found.push(points.number(point))) {
            Ok(()) => {
                for point in found {
                    let stage_point = self.stage_point(stage, point) as usize;
                    self.stage_points[stage_point].asked = self.stage_points[stage_point].asked.and(partitions);
                }
            }
            Err(count) => self.too_many(stage, count),
        }
    }

    fn too_many(&mut self, stage: usize, count: u128) {
        let name = &self.stages.list[stage].spec.name;
        let text = format!("`stages.{}` would have {count} nodes, and a workflow at most {MAX_NODES}", name.value);
        self.mistakes.push(Mistake::new(&name.at, text));
    }

    /// Adds all that the wanted stage points need. Returns false when that is too much.
    pub(super) fn close(&mut self) -> bool {
        let mut next = 0;
        while next < self.stage_points.len() {
            self.find_needs(next);
            next += 1;
            if self.stage_points.len() > MAX_NODES || self.needs.len() > MAX_EDGES {
                let text = format!("the workflow is larger than {MAX_NODES} nodes and {MAX_EDGES} edges");
                self.mistakes.push(Mistake::new(&(0..0), text));
                return false;
            }
        }
        self.stage_points.shrink_to_fit();
        self.needs.shrink_to_fit();
        true
    }

    fn stage_point(&mut self, stage: usize, point: u32) -> u32 {
        let (stage, next) = (stage as u32, self.stage_points.len() as u32);
        *self.numbers.entry((stage, point)).or_insert_with(|| {
            self.stage_points.push(StagePoint {
                stage,
                point,
                placed: None,
                reads: Rc::from([]),
                needs: 0..0,
                asked: Asked::NONE,
            });
            next
        })
    }

    /// Places a stage point and finds what it reads.
    fn find_needs(&mut self, number: usize) {
        let (stage, from) = (self.stage_points[number].stage as usize, self.stage_points[number].point);
        let point = Rc::clone(self.points.get(from));
        let placed = self.place(stage, &point);
        let reads = self.reads(stage, &point);
        let begin = self.needs.len() as u32;
        let mut empty = vec![];
        for (place, read) in (0..).zip(reads.iter()) {
            if !self.follow(place, read, from, &point, stage) {
                empty.push(read);
            }
        }
        for read in empty {
            let mut needs = self.needs[begin as usize..].iter();
            if !needs.any(|need| reads[need.read as usize].slot == read.slot) {
                let text = format!("`{}` gathers nothing here: the matrix has no such point", self.stages.list[stage].name);
                self.mistakes.push(Mistake::new(&read.at, text));
            }
        }
        let stage_point = &mut self.stage_points[number];
        (stage_point.placed, stage_point.reads, stage_point.needs) = (placed, reads, begin..self.needs.len() as u32);
    }

    /// Finds the stage points that a reference names from a point; false when it gathers, and there is none.
    fn follow(&mut self, place: u32, read: &Read, from: u32, point: &[Pair], consumer: usize) -> bool {
        let of = &self.stages.list[read.source].axes;
        let own = |axis: u32| point.binary_search_by_key(&axis, |pair| pair.0).ok().map(|place| point[place].1);
        let held: Vec<Option<u32>> = of.iter().zip(&read.pinned).map(|(axis, pinned)| pinned.or_else(|| own(*axis))).collect();
        if held.iter().all(Option::is_some) {
            let source: Vec<Pair> = of.iter().zip(&held).filter_map(|(axis, value)| Some((*axis, (*value)?))).collect();
            if !self.stages.list[read.source].is_at(&source) {
                let number = self.points.number(&source);
                let id = format!("{}{}", self.stages.list[read.source].name, self.points.of_matrix(number, self.axes));
                let text = format!("`{}` reads `{id}`, and that stage does not exist there", self.stages.list[consumer].name);
                self.mistakes.push(Mistake::new(&read.at, text));
                return true;
            }
            if read.pinned.iter().any(Option::is_some) && is_dropped(self.axes, &source) {
                let number = self.points.number(&source);
                let id = format!("{}{}", self.stages.list[read.source].name, self.points.of_matrix(number, self.axes));
                self.mistakes.push(Mistake::new(&read.at, format!("`{id}` is left out by `exclude` of `[matrix]`")));
                return true;
            }
            // Mostly a stage varies over the same axes as the one it reads: then the point is the same.
            let source = if *source == *point { from } else { self.points.number(&source) };
            let stage_point = self.stage_point(read.source, source);
            self.needs.push(Need { read: place, stage_point, gathered: Points::NOWHERE });
            return true;
        }
        let mut wanted: Vec<Wanted> = held.iter().map(|value| value.map_or(Wanted::All, Wanted::One)).collect();
        self.stages.list[read.source].narrow(&mut wanted);
        let mut found = vec![];
        let points = &mut self.points;
        let visited = each_point(self.axes, of, &wanted, MAX_NODES, &mut |source| {
            let gathered: Vec<Pair> =
                source.iter().zip(&held).filter(|(_, held)| held.is_none()).map(|(pair, _)| *pair).collect();
            let number = points.number(source);
            found.push((number, if *gathered == *source { number } else { points.number(&gathered) }));
        });
        if let Err(count) = visited {
            self.too_many(read.source, count);
            return true;
        }
        let some = !found.is_empty();
        for (source, gathered) in found {
            let stage_point = self.stage_point(read.source, source);
            self.needs.push(Need { read: place, stage_point, gathered });
        }
        some
    }

    /// Works out which partitions of each stage point are needed, from those that were asked for.
    pub(super) fn ask_upstream(&mut self) {
        let mut todo: Vec<u32> = (0..)
            .zip(&self.stage_points)
            .filter(|(_, stage_point)| stage_point.asked != Asked::NONE)
            .map(|(stage_point, _)| stage_point)
            .collect();
        while let Some(stage_point) = todo.pop() {
            let stage_point = &self.stage_points[stage_point as usize];
            let (asked, needs) = (stage_point.asked, stage_point.needs.start as usize..stage_point.needs.end as usize);
            let own = &self.stages.list[stage_point.stage as usize];
            for need in &self.needs[needs] {
                let source = &mut self.stage_points[need.stage_point as usize];
                let side_by_side = self.stages.list[source.stage as usize].is_beside(own);
                let more = source.asked.and(if side_by_side { asked } else { Asked::ALL });
                if more != source.asked {
                    source.asked = more;
                    todo.push(need.stage_point);
                }
            }
        }
    }

    /// The stage with its parameters at a point.
    fn place(&mut self, number: usize, point: &[Pair]) -> Option<Arc<dyn Placed>> {
        let stage = &self.stages.list[number];
        let key = on(&stage.param_axes, point);
        if let Some(placed) = self.placed[number].get(&key) {
            return placed.clone();
        }
        let placed = self.make_placed(stage, point);
        self.placed[number].insert(key, placed.clone());
        placed
    }

    fn make_placed(&mut self, stage: &Stage<'_>, point: &[Pair]) -> Option<Arc<dyn Placed>> {
        let kind = stage.kind.as_ref()?;
        let scope = Scope { axes: self.axes, point, constants: &[] };
        let mut params = Map::new();
        let mut complete = true;
        for (name, term) in &stage.spec.params {
            match scope.resolve(term, &mut self.mistakes) {
                Ok(Some(value)) => _ = params.insert(name.value.clone(), value),
                Ok(None) => {} // left out
                Err(()) => complete = false,
            }
        }
        if !complete {
            return None;
        }
        let wrong = match kind.place(params) {
            Ok(placed) => {
                if stage.spec.limits.devices.is_some() && placed.demand().devices.is_none() {
                    let text = format!("`limits.devices`: a node of `{}` computes on one device", kind.name);
                    self.mistakes.push(Mistake::new(&stage.spec.name.at, text).with_hint("leave it out"));
                }
                return Some(placed);
            }
            Err(wrong) => wrong,
        };
        for mistake in wrong {
            let given = |name: &String| stage.spec.params.iter().find(|(key, _)| key.value == *name).map(|(key, _)| &key.at);
            let at = mistake.param.as_ref().and_then(given).unwrap_or(&stage.spec.name.at).clone();
            let message = match mistake.param {
                Some(param) if !mistake.message.contains(&param) => format!("`{param}`: {}", mistake.message),
                _ => mistake.message,
            };
            self.mistakes.push(Mistake { message, hint: mistake.hint, at });
        }
        None
    }

    /// Returns the references that a stage reads at a point.
    fn reads(&mut self, number: usize, point: &[Pair]) -> Rc<[Read]> {
        let stage = &self.stages.list[number];
        let key = on(&stage.input_axes, point);
        if let Some(reads) = self.reads[number].get(&key) {
            return Rc::clone(reads);
        }
        let reads = self.make_reads(stage, point);
        self.reads[number].insert(key, Rc::clone(&reads));
        reads
    }

    fn make_reads(&mut self, stage: &Stage<'_>, point: &[Pair]) -> Rc<[Read]> {
        let scope = Scope { axes: self.axes, point, constants: &[] };
        let mut reads = vec![];
        if let Some(each) = &stage.spec.each {
            reads.extend(self.read(None, &each.value, &each.at));
        }
        for (slot, term) in &stage.spec.inputs {
            let Some(texts) = scope.references(term, &mut self.mistakes) else { continue };
            self.check_arity(stage, &slot.value, texts.len(), &term.at);
            let slot: Arc<str> = slot.value.as_str().into();
            for (text, at) in texts {
                reads.extend(self.read(Some(&slot), &text, at));
            }
        }
        reads.into()
    }

    /// Checks the number of artifacts of a slot.
    pub(super) fn check_arity(&mut self, stage: &Stage<'_>, slot: &str, count: usize, at: &Range<usize>) {
        let Some(slot) = stage.kind.as_ref().and_then(|kind| kind.slots.iter().find(|known| known.name == slot)) else { return };
        let wanted = match slot.arity {
            Arity::One if count != 1 => "one artifact",
            Arity::Optional if count > 1 => "one artifact",
            Arity::Many if count == 0 => "one artifact or more",
            _ => return,
        };
        let found = if count == 0 { "none".to_owned() } else { count.to_string() };
        let text = format!("`inputs.{}` of `{}` takes {wanted}, not {found}", slot.name, stage.name);
        self.mistakes.push(Mistake::new(at, text));
    }

    /// A reference with its names looked up; what cannot be is reported with the names.
    fn read(&mut self, slot: Option<&Arc<str>>, text: &str, at: &Range<usize>) -> Option<Read> {
        let reference = Reference::parse(text).ok()?;
        let source = self.stages.number(reference.stage)?;
        let of = &self.stages.list[source].axes;
        let mut pinned = vec![None; of.len()];
        for (name, value) in &reference.pinned {
            let axis = self.axes.get(name)?;
            let number = match axis.find(value, at) {
                Ok(number) if axis.spec.matrix || number < axis.num_wanted => number,
                Err(mistake) if axis.spec.matrix => {
                    self.mistakes.push(mistake);
                    return None;
                }
                _ => {
                    let force = axis.values.first().map_or("", |known| &known.text);
                    let text = format!("`{text}`: `{name}` is a setting, and its value here is `{force}`");
                    let hint = format!("`--set {name}={value}`, or a line `{name} = [...]` in `[matrix]`");
                    self.mistakes.push(Mistake::new(at, text).with_hint(hint));
                    return None;
                }
            };
            let place = self.axes.number(name).and_then(|axis| of.binary_search(&axis).ok());
            if let Some(place) = place {
                pinned[place] = Some(number);
            }
        }
        Some(Read { slot: slot.cloned(), source, part: reference.part.map(Arc::from), at: at.clone(), pinned })
    }

    /// Checks what no target reaches: each stage along each of its axes, through the first values of a long one.
    pub(super) fn check_rest(&mut self) {
        const SAMPLE: usize = 64;
        let stages = self.stages;
        for (number, stage) in stages.list.iter().enumerate() {
            let lines: Vec<usize> = stage.axes.iter().map(|axis| self.axes.list[*axis as usize].num_wanted as usize).collect();
            if lines.contains(&0) {
                continue; // reported with the axis
            }
            let first: Vec<Pair> = stage.axes.iter().map(|axis| (*axis, 0)).collect();
            for (place, line) in lines.iter().enumerate() {
                for value in 1..(*line).min(SAMPLE) {
                    let mut point = first.clone();
                    point[place].1 = value as u32;
                    self.check_at(number, &point);
                }
            }
            self.check_at(number, &first);
        }
    }

    fn check_at(&mut self, stage: usize, point: &[Pair]) {
        if is_dropped(self.axes, point) || !self.stages.list[stage].is_at(point) {
            return;
        }
        self.place(stage, point);
        self.reads(stage, point);
        if self.stages.list[stage].spec.each.is_some() {
            self.partitions(stage, point);
        }
    }

    /// Into how many nodes `each` splits a stage at a point; none after a mistake.
    pub(super) fn partitions(&mut self, number: usize, point: &[Pair]) -> Option<u32> {
        let stage = &self.stages.list[number];
        let (each, root) = (stage.spec.each.as_ref()?, stage.root?);
        let of = &self.stages.list[root].axes;
        let at = on(of, point);
        if at.len() < of.len() {
            let lost = of.iter().find(|axis| at.iter().all(|pair| pair.0 != **axis));
            let lost = lost.map_or("", |axis| &self.axes.list[*axis as usize].name);
            let text = format!("`each = \"{}\"`: that stage varies over `{lost}`, which is gathered here", each.value);
            self.mistakes.push(Mistake::new(&each.at, text));
            return None;
        }
        let count = self.place(root, &at)?.partitions();
        if count.is_none() {
            let text = format!("`each = \"{}\"`: that stage is not partitioned", each.value);
            self.mistakes.push(Mistake::new(&each.at, text).with_hint("its kind should take a parameter `partitions`"));
        }
        count
    }
}

/// The values of some axes at a point, as far as it has them.
fn on(axes: &[u32], point: &[Pair]) -> Vec<Pair> {
    point.iter().copied().filter(|pair| axes.contains(&pair.0)).collect()
}
