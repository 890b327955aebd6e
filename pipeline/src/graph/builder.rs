//! Expands a description into nodes and edges, collecting mistakes on the way.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::{Map, Value};

use super::names::{Reference, Suffix, matches};
use super::terms::{braced, like, mentioned, references, resolve, show, strings, texts};
use super::{Edge, Node, Point, Settings, part_folder};
use crate::mistake::Mistake;
use crate::registry::{Kind, Registry};
use crate::spec::{Located, Spec, StageSpec, Term};
use crate::stage::Arity;

/// A stage at a point.
type Spot = (usize, Point);

/// The work in progress.
pub(super) struct Builder<'a> {
    spec: &'a Spec,
    registry: &'a Registry,
    pub(super) mistakes: Vec<Mistake>,
    /// The values of each axis that are wanted.
    pub(super) active: HashMap<String, Vec<Value>>,
    stages: HashMap<&'a str, usize>,
    kinds: Vec<Option<Arc<Kind>>>,
    names: Vec<Arc<str>>,
    /// The axes each stage varies over.
    axes: Vec<BTreeSet<String>>,
    pub(super) graph: DiGraph<Node, ()>,
    /// The nodes of each stage at each point, by partition.
    spots: HashMap<Spot, Vec<NodeIndex>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(spec: &'a Spec, registry: &'a Registry) -> Self {
        Self {
            spec,
            registry,
            mistakes: spec.mistakes.clone(),
            active: spec.axes.iter().map(|axis| (axis.name.value.clone(), axis.values.clone())).collect(),
            stages: spec.stages.iter().enumerate().map(|(index, stage)| (stage.name.value.as_str(), index)).collect(),
            kinds: vec![],
            names: spec.stages.iter().map(|stage| Arc::from(stage.name.value.as_str())).collect(),
            axes: vec![],
            graph: DiGraph::new(),
            spots: HashMap::new(),
        }
    }

    /// Takes over `--set`.
    pub(super) fn apply(&mut self, settings: &Settings) {
        for (name, wanted) in settings {
            let Some(axis) = self.spec.axes.iter().find(|axis| axis.name.value == *name) else {
                let known = self.spec.axes.iter().map(|axis| axis.name.value.as_str());
                self.mistakes.push(Mistake::unknown(&(0..0), "setting in --set:", name, known));
                continue;
            };
            if !axis.matrix && wanted.len() > 1 {
                let text = format!("--set {name}: a setting takes one value, not {}", wanted.len());
                self.mistakes.push(Mistake::new(&axis.name.at, text).with_hint("several values belong into `[matrix]`"));
                continue;
            }
            let sample = axis.values.first().cloned().unwrap_or_default();
            let values: Vec<Value> = wanted.iter().map(|text| like(&sample, text)).collect();
            for value in values.iter().filter(|value| !axis.choices.is_empty() && !axis.choices.contains(value)) {
                let choices = texts(&axis.choices);
                let known = choices.iter().map(String::as_str);
                self.mistakes.push(Mistake::unknown(&axis.name.at, &format!("value of `{name}`"), &show(value), known));
            }
            self.active.insert(name.clone(), values);
        }
    }

    /// Checks every name that does not depend on the matrix.
    pub(super) fn check_names(&mut self) {
        for stage in &self.spec.stages {
            let kind = self.registry.get(&stage.run.value);
            if kind.is_none() && !stage.run.value.is_empty() {
                let known = self.registry.kinds().map(|kind| kind.name);
                self.mistakes.push(Mistake::unknown(&stage.run.at, "stage kind", &stage.run.value, known));
            }
            self.kinds.push(kind.cloned().map(Arc::new));
            for name in stage.gather.iter().filter(|name| !self.active.contains_key(&name.value)) {
                let known = self.active.keys().map(String::as_str);
                self.mistakes.push(Mistake::unknown(&name.at, "setting or matrix line", &name.value, known));
            }
            if let Some(each) = stage.each.as_ref().filter(|each| !self.stages.contains_key(each.value.as_str())) {
                let mistake = Mistake::unknown(&each.at, "stage", &each.value, self.stages.keys().copied());
                self.mistakes.push(mistake);
            }
            for (_, term) in stage.params.iter().chain(&stage.inputs) {
                self.check_braces(stage, term);
            }
            for (_, term) in &stage.inputs {
                self.check_references(term);
            }
            let Some(kind) = kind else { continue };
            for (slot, _) in &stage.inputs {
                if !kind.slots.iter().any(|known| known.name == slot.value) {
                    let known = kind.slots.iter().map(|slot| slot.name);
                    self.mistakes.push(Mistake::unknown(&slot.at, &format!("input of `{}`", kind.name), &slot.value, known));
                }
            }
            let missing = |slot: &&crate::Slot| {
                slot.arity != Arity::Optional && !stage.inputs.iter().any(|(name, _)| name.value == slot.name)
            };
            for slot in kind.slots.iter().filter(missing) {
                let text = format!("`stages.{}` lacks `inputs.{}`", stage.name.value, slot.name);
                self.mistakes.push(Mistake::new(&stage.name.at, text).with_hint(format!("{}: {}", slot.name, slot.about)));
            }
        }
    }

    /// Checks the names in `{axis}` and `by = "axis"`: they must be known, and have one value here.
    fn check_braces(&mut self, stage: &StageSpec, term: &Located<Term>) {
        let mut names = vec![];
        match &term.value {
            Term::Scalar(Value::String(text)) => names.extend(braced(text).map(|name| (name, &term.at))),
            Term::Scalar(_) => {}
            Term::List(items) => items.iter().for_each(|item| self.check_braces(stage, item)),
            Term::Table(pairs) => {
                if let Some(by) = term.value.get("by") {
                    names.extend(by.value.as_str().map(|name| (name, &by.at)));
                }
                for (_, item) in pairs {
                    self.check_braces(stage, item);
                }
            }
        }
        for (name, at) in names {
            if !self.active.contains_key(name) {
                let known = self.active.keys().map(String::as_str);
                self.mistakes.push(Mistake::unknown(at, "setting or matrix line", name, known));
            } else if stage.gather.iter().any(|gathered| gathered.value == *name) {
                let text = format!("`stages.{}` gathers `{name}`, so that has no single value here", stage.name.value);
                self.mistakes.push(Mistake::new(at, text));
            }
        }
    }

    fn check_references(&mut self, term: &Located<Term>) {
        for text in references(term) {
            match Reference::parse(&text.value) {
                Err(message) => self.mistakes.push(Mistake::new(&text.at, format!("`{}`: {message}", text.value))),
                Ok(reference) => {
                    if !self.stages.contains_key(reference.stage) {
                        let mistake = Mistake::unknown(&text.at, "stage", reference.stage, self.stages.keys().copied());
                        self.mistakes.push(mistake);
                    }
                    for (axis, value) in &reference.pinned {
                        let mistake = self.check_pin(axis, value, &text.at);
                        self.mistakes.extend(mistake);
                    }
                }
            }
        }
    }

    /// A pinned value need not be among the wanted ones, but the file must know it.
    fn check_pin(&self, name: &str, value: &str, at: &Range<usize>) -> Option<Mistake> {
        let Some(axis) = self.spec.axes.iter().find(|axis| axis.name.value == name) else {
            return Some(Mistake::unknown(at, "setting or matrix line", name, self.active.keys().map(String::as_str)));
        };
        let known: Vec<String> =
            [&axis.values, &axis.choices, &self.active[name]].into_iter().flat_map(|list| texts(list)).collect();
        let is_known = value.starts_with('{') || known.iter().any(|known| known == value);
        (!is_known).then(|| Mistake::unknown(at, &format!("value of `{name}`"), value, known.iter().map(String::as_str)))
    }

    /// Finds over which axes each stage varies: those it mentions and those of its inputs, less those it gathers or pins.
    pub(super) fn find_axes(&mut self) {
        let known: BTreeSet<String> = self.active.keys().cloned().collect();
        let own = |stage: &StageSpec| {
            let mut axes = BTreeSet::new();
            let terms = stage.params.iter().chain(&stage.inputs).map(|(_, term)| term);
            terms.for_each(|term| mentioned(&term.value, &known, &mut axes));
            axes
        };
        self.axes = self.spec.stages.iter().map(own).collect();
        let sources: Vec<Vec<(usize, BTreeSet<String>)>> = self.spec.stages.iter().map(|stage| self.upstream(stage)).collect();
        let mut consumers = vec![vec![]; sources.len()];
        for (index, sources) in sources.iter().enumerate() {
            for (source, _) in sources {
                consumers[*source].push(index);
            }
        }
        let mut todo: VecDeque<usize> = (0..sources.len()).collect();
        while let Some(index) = todo.pop_front() {
            let mut axes = self.axes[index].clone();
            for (source, pinned) in &sources[index] {
                axes.extend(self.axes[*source].difference(pinned).cloned());
            }
            axes.retain(|axis| !self.spec.stages[index].gather.iter().any(|name| name.value == *axis));
            if axes != self.axes[index] {
                self.axes[index] = axes;
                todo.extend(&consumers[index]);
            }
        }
    }

    fn upstream(&self, stage: &StageSpec) -> Vec<(usize, BTreeSet<String>)> {
        let mut found = vec![];
        for text in stage.inputs.iter().flat_map(|(_, term)| references(term)) {
            let Ok(reference) = Reference::parse(&text.value) else { continue };
            let Some(source) = self.stages.get(reference.stage) else { continue };
            found.push((*source, reference.pinned.iter().map(|(axis, _)| (*axis).to_owned()).collect()));
        }
        let each = stage.each.iter().filter_map(|each| self.stages.get(each.value.as_str()));
        found.extend(each.map(|each| (*each, BTreeSet::new())));
        found
    }

    /// Makes the wanted nodes and all they depend on.
    pub(super) fn expand(&mut self, targets: &[String]) {
        let mut todo: VecDeque<Spot> = VecDeque::new();
        for (index, is_final) in self.finals().into_iter().enumerate() {
            for point in self.points(&self.axes[index], &Point::new()) {
                let id = format!("{}{}", self.spec.stages[index].name.value, Suffix(&point, None));
                let wanted = |target: &String| matches(target.split('#').next().unwrap_or_default(), &id);
                if targets.is_empty() && is_final || targets.iter().any(wanted) {
                    todo.push_back((index, point));
                }
            }
        }
        // First every spot with its nodes, then the edges between them.
        let mut edges = vec![];
        while let Some(spot) = todo.pop_front() {
            if self.spots.contains_key(&spot) {
                continue;
            }
            let needs = self.needs(&spot);
            todo.extend(needs.iter().map(|need| need.spot.clone()));
            self.make_nodes(&spot);
            edges.push((spot, needs));
        }
        self.split_parts();
        for (spot, needs) in edges {
            self.connect(&spot, &needs);
        }
    }

    /// The stages that no other stage mentions: what a workflow is for. The others are made where they are needed.
    fn finals(&self) -> Vec<bool> {
        let sources = |index: usize| self.upstream(&self.spec.stages[index]).into_iter().map(|(source, _)| source);
        let mut finals = vec![true; self.spec.stages.len()];
        for index in 0..finals.len() {
            sources(index).filter(|source| *source != index).for_each(|source| finals[source] = false);
        }
        let mut todo: Vec<usize> = (0..finals.len()).filter(|index| finals[*index]).collect();
        let mut reached = vec![false; finals.len()];
        for index in 0..finals.len() {
            while let Some(at) = todo.pop() {
                if !std::mem::replace(&mut reached[at], true) {
                    todo.extend(sources(at));
                }
            }
            if !reached[index] {
                finals[index] = true; // part of a circle, or used by one only: wanted, so that the graph shows it
                todo.push(index);
            }
        }
        finals
    }

    /// All combinations of values of some axes, those of `fixed` held.
    fn points(&self, axes: &BTreeSet<String>, fixed: &Point) -> Vec<Point> {
        let mut points = vec![Point::new()];
        for axis in axes {
            let values = fixed.get(axis).map_or_else(|| texts(&self.active[axis]), |value| vec![value.clone()]);
            let with = |point: &Point, value: &String| {
                let mut point = point.clone();
                point.insert(axis.clone(), value.clone());
                point
            };
            points = points.iter().flat_map(|point| values.iter().map(move |value| with(point, value))).collect();
        }
        points
    }

    /// What a stage reads at a point.
    fn needs(&mut self, spot: &Spot) -> Vec<Need> {
        let (index, point) = spot;
        let stage = &self.spec.stages[*index];
        let mut needs = vec![];
        let each = stage.each.as_ref().map(|each| (None, Located { value: each.value.clone(), at: each.at.clone() }));
        let mut wanted: Vec<(Option<String>, Located<String>)> = each.into_iter().collect();
        for (slot, term) in &stage.inputs {
            match resolve(&term.value, &term.at, point, self.spec) {
                Ok(value) => wanted.extend(strings(&value, &term.at).into_iter().map(|text| (Some(slot.value.clone()), text))),
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
        for (slot, text) in wanted {
            let Ok(reference) = Reference::parse(&text.value) else { continue };
            let Some(source) = self.stages.get(reference.stage).copied() else { continue };
            let mut fixed: Point = point.clone();
            fixed.extend(reference.pinned.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())));
            for found in self.points(&self.axes[source], &fixed) {
                let gathered = found.iter().filter(|(axis, _)| !fixed.contains_key(*axis));
                let gathered = gathered.map(|(axis, value)| (axis.clone(), value.clone())).collect();
                let need = Need {
                    slot: slot.clone(),
                    spot: (source, found),
                    gathered,
                    part: reference.part.map(str::to_owned),
                    at: text.at.clone(),
                };
                needs.push(need);
            }
        }
        needs
    }

    /// Makes the node of a stage at a point, unpartitioned at first.
    fn make_nodes(&mut self, spot: &Spot) {
        let (index, point) = spot;
        let stage = &self.spec.stages[*index];
        self.spots.insert(spot.clone(), vec![]);
        let Some(kind) = self.kinds[*index].clone() else { return };
        let mut params = Map::new();
        let before = self.mistakes.len();
        for (name, term) in &stage.params {
            match resolve(&term.value, &term.at, point, self.spec) {
                Ok(value) => _ = params.insert(name.value.clone(), value),
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
        if self.mistakes.len() > before {
            return;
        }
        match kind.place(params) {
            Ok(placed) => {
                let node = Node {
                    id: format!("{}{}", stage.name.value, Suffix(point, None)),
                    stage: Arc::clone(&self.names[*index]),
                    kind,
                    point: point.clone(),
                    partition: None,
                    placed,
                    inputs: vec![],
                };
                self.spots.insert(spot.clone(), vec![self.graph.add_node(node)]);
            }
            Err(wrong) => {
                for mistake in wrong {
                    let param =
                        |name: &String| stage.params.iter().find(|(key, _)| key.value == *name).map(|(key, _)| key.at.clone());
                    let at = mistake.param.as_ref().and_then(param).unwrap_or_else(|| stage.name.at.clone());
                    self.mistakes.push(Mistake { message: mistake.message, hint: mistake.hint, at });
                }
            }
        }
    }

    /// Gives every stage with `each` one node per part.
    fn split_parts(&mut self) {
        let mut spots: Vec<Spot> =
            self.spots.keys().filter(|(index, _)| self.spec.stages[*index].each.is_some()).cloned().collect();
        spots.sort();
        for spot in spots {
            let Some(first) = self.spots[&spot].first().copied() else { continue };
            let stage = &self.spec.stages[spot.0];
            let Some(root) = self.root_node(&spot) else { continue }; // reported already
            let Some(count) = self.graph[root].placed.partitions() else {
                let each = stage.each.as_ref().expect("only stages with `each` come here");
                let text = format!("`each = \"{}\"`: that stage is not partitioned", each.value);
                self.mistakes.push(Mistake::new(&each.at, text).with_hint("its kind should take a parameter `partitions`"));
                continue;
            };
            let mut nodes = vec![];
            for partition in 0..count {
                let model = &self.graph[first];
                let node = Node {
                    id: format!("{}{}", stage.name.value, Suffix(&model.point, Some(partition))),
                    stage: Arc::clone(&model.stage),
                    kind: Arc::clone(&model.kind),
                    point: model.point.clone(),
                    partition: Some(partition),
                    placed: Arc::clone(&model.placed),
                    inputs: vec![],
                };
                if partition == 0 {
                    self.graph[first] = node;
                    nodes.push(first);
                } else {
                    nodes.push(self.graph.add_node(node));
                }
            }
            self.spots.insert(spot, nodes);
        }
    }

    /// The stage whose output is split, for a stage with `each`: `each` may name another stage with `each`.
    fn root(&self, index: usize) -> Option<usize> {
        let mut at = index;
        for _ in 0..=self.spec.stages.len() {
            match &self.spec.stages[at].each {
                None => return Some(at),
                Some(each) => at = *self.stages.get(each.value.as_str())?,
            }
        }
        None // `each` runs in a circle; the cycle is reported from the graph
    }

    fn root_node(&self, spot: &Spot) -> Option<NodeIndex> {
        let root = self.root(spot.0)?;
        let point =
            spot.1.iter().filter(|(axis, _)| self.axes[root].contains(*axis)).map(|(a, v)| (a.clone(), v.clone())).collect();
        self.spots.get(&(root, point))?.first().copied()
    }

    fn connect(&mut self, spot: &Spot, needs: &[Need]) {
        let consumers = self.spots[spot].clone();
        let each = self.spec.stages[spot.0].each.is_some();
        let root = self.root(spot.0);
        for (partition, consumer) in consumers.iter().enumerate() {
            let mut joined = HashSet::new();
            let mut inputs = vec![];
            for need in needs {
                let Some(producers) = self.spots.get(&need.spot) else { continue };
                let split = self.spec.stages[need.spot.0].each.is_some();
                let same_root = each && self.root(need.spot.0) == root;
                let read = if split && same_root { partition..(partition + 1).min(producers.len()) } else { 0..producers.len() };
                for number in read {
                    let producer = producers[number];
                    if joined.insert(producer) {
                        self.graph.add_edge(producer, *consumer, ());
                    }
                    let Some(input) = &need.slot else { continue };
                    let own_part = same_root && !split && need.part.is_none();
                    let part = if own_part { Some(part_folder(partition as u32)) } else { need.part.clone() };
                    let shown = (split && !same_root).then_some(number as u32);
                    inputs.push(Edge {
                        slot: input.clone(),
                        from: producer,
                        part,
                        point: need.gathered.clone(),
                        partition: shown,
                    });
                }
            }
            self.graph[*consumer].inputs = inputs;
            self.check_arity(spot.0, *consumer, needs);
        }
    }

    fn check_arity(&mut self, stage: usize, node: NodeIndex, needs: &[Need]) {
        let kind = Arc::clone(&self.graph[node].kind);
        for slot in kind.slots.iter().filter(|slot| slot.arity != Arity::Many) {
            let count = self.graph[node].inputs.iter().filter(|edge| edge.slot == slot.name).count();
            if count > 1 {
                let at = needs.iter().find(|need| need.slot.as_deref() == Some(slot.name)).map_or(0..0, |need| need.at.clone());
                let text =
                    format!("`inputs.{}` of `{}` takes one artifact, not {count}", slot.name, self.spec.stages[stage].name.value);
                self.mistakes.push(Mistake::new(&at, text));
            }
        }
    }
}

/// An input, or the partitioned stage of `each` (no slot).
struct Need {
    slot: Option<String>,
    spot: Spot,
    gathered: Point,
    part: Option<String>,
    at: Range<usize>,
}
