//! The stages of a workflow before they are placed at points: names resolved, and over which axes each varies.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::axes::Axes;
use super::points::Wanted;
use super::reference::Reference;
use super::terms::{mentioned, references};
use crate::registry::{Kind, Registry};
use crate::spec::{Located, Pair, Spec, StageSpec};

/// In `gather`: every line of the matrix that the stage does not mention itself.
pub(super) const EVERY_LINE: &str = "*";

/// All stages, in the order of the file.
pub(super) struct Stages<'a> {
    pub(super) list: Vec<Stage<'a>>,
    numbers: HashMap<&'a str, usize>,
}

/// One stage.
pub(super) struct Stage<'a> {
    pub(super) spec: &'a StageSpec,
    pub(super) name: Arc<str>,
    /// Stage kind, when it is known.
    pub(super) kind: Option<Arc<Kind>>,
    /// The axes it varies over, in ascending order.
    pub(super) axes: Vec<u32>,
    /// Those of them that move its parameters.
    pub(super) param_axes: Vec<u32>,
    /// Those of them that decide what it reads, beside the point itself.
    pub(super) input_axes: Vec<u32>,
    /// The stage whose output is split, for a stage with `each`: `each` may name another stage with `each`. For others itself;
    /// none when `each` runs in a circle.
    pub(super) root: Option<usize>,
    /// Axes with the values at which the stage exists; it exists at all values of other axes.
    pub(super) only: Vec<(u32, Vec<u32>)>,
    /// The stages it mentions, each with the axes that are pinned.
    sources: Vec<(usize, BTreeSet<u32>)>,
}

impl Stage<'_> {
    /// Leaves out the values of the axes at which the stage does not exist; `wanted` is in the order of `self.axes`.
    pub(super) fn narrow(&self, wanted: &mut [Wanted]) {
        for (axis, values) in &self.only {
            let Ok(place) = self.axes.binary_search(axis) else { continue };
            let is_there = |value: &u32| values.contains(value);
            let narrowed = match &wanted[place] {
                Wanted::All => values.clone(),
                Wanted::One(value) if is_there(value) => continue,
                Wanted::One(_) => vec![],
                Wanted::Some(wanted) => wanted.iter().copied().filter(is_there).collect(),
            };
            wanted[place] = Wanted::Some(narrowed);
        }
    }

    /// True if the stage exists at a point.
    pub(super) fn is_at(&self, point: &[super::axes::Pair]) -> bool {
        self.only.iter().all(|(axis, values)| point.iter().all(|pair| pair.0 != *axis || values.contains(&pair.1)))
    }

    /// True if one is split as the other, so that a partition of one goes with the same partition of the other.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.spec.each.is_some() && other.spec.each.is_some() && self.root == other.root
    }
}

impl<'a> Stages<'a> {
    pub(super) fn new(spec: &'a Spec, registry: &Registry, axes: &Axes<'_>) -> Self {
        let numbers = (0..).zip(&spec.stages).map(|(number, stage)| (stage.name.value.as_str(), number)).collect();
        let mut stages = Self { list: Vec::with_capacity(spec.stages.len()), numbers };
        for stage in &spec.stages {
            let sources = stages.sources(stage, axes);
            stages.list.push(Stage {
                spec: stage,
                name: stage.name.value.as_str().into(),
                kind: registry.get(&stage.run.value).cloned(),
                axes: vec![],
                param_axes: moved_by(&stage.params, axes),
                input_axes: moved_by(&stage.inputs, axes),
                only: only(stage, axes),
                root: None,
                sources,
            });
        }
        stages.find_axes(axes);
        stages.find_roots();
        stages
    }

    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.list.iter().map(|stage| stage.spec.name.value.as_str())
    }

    fn sources(&self, stage: &StageSpec, axes: &Axes<'_>) -> Vec<(usize, BTreeSet<u32>)> {
        let mut found = vec![];
        for (text, _) in stage.inputs.iter().flat_map(|(_, term)| references(term)) {
            let Ok(reference) = Reference::parse(text) else { continue };
            let Some(source) = self.number(reference.stage) else { continue };
            found.push((source, reference.pinned.iter().filter_map(|(axis, _)| axes.number(axis)).collect()));
        }
        let each = stage.each.as_ref().and_then(|each| self.number(&each.value));
        found.extend(each.map(|each| (each, BTreeSet::new())));
        found
    }

    /// A stage varies over the axes it mentions and those of its inputs, less those it gathers or pins.
    fn find_axes(&mut self, axes: &Axes<'_>) {
        let own = |stage: &Stage<'_>| -> BTreeSet<u32> {
            let only = stage.only.iter().map(|(axis, _)| axis);
            stage.param_axes.iter().chain(&stage.input_axes).chain(only).copied().collect()
        };
        let mut found: Vec<BTreeSet<u32>> = self.list.iter().map(own).collect();
        let lines: BTreeSet<u32> = (0..).zip(&axes.list).filter(|(_, axis)| axis.spec.matrix).map(|(axis, _)| axis).collect();
        let gathered = |(stage, own): (&Stage<'_>, &BTreeSet<u32>)| -> BTreeSet<u32> {
            let named = |name: &str| match name {
                EVERY_LINE => lines.difference(own).copied().collect(),
                name => axes.number(name).into_iter().collect::<Vec<u32>>(),
            };
            stage.spec.gather.iter().flat_map(|name| named(&name.value)).collect()
        };
        let gathered: Vec<BTreeSet<u32>> = self.list.iter().zip(&found).map(gathered).collect();
        let mut consumers = vec![vec![]; found.len()];
        for (number, stage) in self.list.iter().enumerate() {
            for (source, _) in &stage.sources {
                consumers[*source].push(number);
            }
        }
        let mut todo: VecDeque<usize> = (0..found.len()).collect();
        while let Some(number) = todo.pop_front() {
            let mut wider = found[number].clone();
            for (source, pinned) in &self.list[number].sources {
                wider.extend(found[*source].difference(pinned).copied());
            }
            wider.retain(|axis| !gathered[number].contains(axis));
            if wider != found[number] {
                found[number] = wider;
                todo.extend(&consumers[number]);
            }
        }
        for (stage, found) in self.list.iter_mut().zip(found) {
            stage.param_axes.retain(|axis| found.contains(axis));
            stage.input_axes.retain(|axis| found.contains(axis));
            stage.axes = found.into_iter().collect();
        }
    }

    fn find_roots(&mut self) {
        let each = |stage: &Stage<'_>| stage.spec.each.as_ref().and_then(|each| self.number(&each.value));
        let next: Vec<Option<usize>> = self.list.iter().map(each).collect();
        let mut roots: Vec<Option<usize>> = vec![None; next.len()];
        let mut seen = vec![false; next.len()];
        for start in 0..next.len() {
            let mut path = vec![];
            let mut at = start;
            // Every stage is on one path only, so that a long chain of `each` costs no more than its length.
            let root = loop {
                if seen[at] {
                    break roots[at];
                }
                seen[at] = true;
                path.push(at);
                match (next[at], &self.list[at].spec.each) {
                    (Some(each), _) => at = each,
                    (None, Some(_)) => break None, // an unknown stage
                    (None, None) => break Some(at),
                }
            };
            for stage in path {
                roots[stage] = root;
            }
        }
        for (stage, root) in self.list.iter_mut().zip(roots) {
            stage.root = root;
        }
    }

    /// The stages that no other stage mentions: what a workflow is for. The others are made where they are needed.
    pub(super) fn finals(&self) -> impl Iterator<Item = (usize, &Stage<'a>)> {
        let sources = |number: usize| self.list[number].sources.iter().map(|(source, _)| *source);
        let mut finals = vec![true; self.list.len()];
        for number in 0..finals.len() {
            sources(number).filter(|source| *source != number).for_each(|source| finals[source] = false);
        }
        let mut todo: Vec<usize> = (0..finals.len()).filter(|number| finals[*number]).collect();
        let mut reached = vec![false; finals.len()];
        for number in 0..finals.len() {
            while let Some(at) = todo.pop() {
                if !std::mem::replace(&mut reached[at], true) {
                    todo.extend(sources(at));
                }
            }
            if !reached[number] {
                finals[number] = true; // part of a circle, or used by one only: wanted, so that the graph shows it
                todo.push(number);
            }
        }
        self.list.iter().enumerate().filter(move |(number, _)| finals[*number])
    }
}

/// Reads `only`. Values that do not occur here are left out.
fn only(stage: &StageSpec, axes: &Axes<'_>) -> Vec<(u32, Vec<u32>)> {
    let read = |(name, values): &(Located<String>, Vec<Located<String>>)| {
        let number = axes.number(&name.value)?;
        let axis = &axes.list[number as usize];
        Some((number, values.iter().filter_map(|value| axis.find(&value.value, &value.at).ok()).collect()))
    };
    stage.only.iter().filter_map(read).collect()
}

/// The axes that some terms mention.
fn moved_by(terms: &[Pair], axes: &Axes<'_>) -> Vec<u32> {
    let mut found = BTreeSet::new();
    for (_, term) in terms {
        mentioned(&term.value, axes, &mut found);
    }
    found.into_iter().collect()
}
