//! From a description and the known stage kinds to the DAG of nodes, with every mistake reported at once. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use petgraph::Direction;
use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::limits::Limits;
use crate::mistake::{Mistake, Mistakes};
use crate::registry::{Kind, Placed, Registry};
use crate::spec::Spec;

mod builder;
mod names;
mod terms;

use builder::Builder;
pub use names::matches;
use names::{Suffix, glob, split};
use terms::texts;

/// A matrix point: axis -> value as text.
pub type Point = BTreeMap<String, String>;

/// A workflow that cannot be wrong in form: all names resolved, no cycle.
#[derive(Debug)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Its nodes; an edge leads from a producer to a consumer.
    pub graph: DiGraph<Node, ()>,
    /// The wanted nodes, each after all it depends on.
    pub order: Vec<NodeIndex>,
    /// The settings and matrix values in force, for the record.
    pub axes: Vec<(String, Vec<String>)>,
}

/// A stage placed in a workflow, at one point of its matrix, on one partition.
#[derive(Debug)]
pub struct Node {
    /// `stage[axis=value,...]#partition`
    pub id: String,
    /// Its stage's name in the workflow.
    pub stage: Arc<str>,
    /// Its stage kind.
    pub kind: Arc<Kind>,
    /// Its matrix point.
    pub point: Point,
    /// Its partition.
    pub partition: Option<u32>,
    /// The stage itself.
    pub placed: Arc<dyn Placed>,
    /// What it reads.
    pub inputs: Vec<Edge>,
    /// How it may run.
    pub limits: Limits,
}

/// An input of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The slot it fills.
    pub slot: String,
    /// The node that makes it.
    pub from: NodeIndex,
    /// The part of the artifact that is meant; all of it when none.
    pub part: Option<String>,
    /// The values of the gathered axes.
    pub point: Point,
    /// The partition, where several are gathered.
    pub partition: Option<u32>,
}

impl Edge {
    /// The name of this input in a [`crate::manifest::Manifest`].
    pub fn field(&self) -> String {
        format!("{}{}", self.slot, Suffix(&self.point, self.partition))
    }
}

/// A change of a setting or of the matrix: `--set seed=1,2`.
pub type Settings = BTreeMap<String, Vec<String>>;

/// The folder of a partition inside an artifact.
pub fn part_folder(partition: u32) -> String {
    format!("parts/{partition:05}")
}

/// Builds the DAG. `targets` are patterns over node ids (see [`matches()`]); with none, the stages that no other one uses are
/// wanted, at every point of the matrix.
///
/// # Errors
/// Every mistake at once: unknown names, wrong parameters, unfilled inputs, cycles.
pub fn build(spec: &Spec, registry: &Registry, settings: &Settings, targets: &[String]) -> Result<Workflow, Mistakes> {
    let mut builder = Builder::new(spec, registry);
    builder.apply(settings);
    builder.check_names();
    builder.find_axes();
    builder.expand(targets);
    let Builder { graph, mut mistakes, active, .. } = builder;
    if toposort(&graph, None).is_err() {
        mistakes.extend(cycles(&graph, spec));
    }
    if mistakes.is_empty() {
        let lost = targets.iter().filter(|target| !graph.node_weights().any(|node| matches(target, &node.id)));
        let known = || spec.stages.iter().map(|stage| stage.name.value.as_str());
        mistakes.extend(lost.map(|target| unknown_target(target, known())));
    }
    if !mistakes.is_empty() {
        return Err(Mistakes::new(&spec.file, &spec.text, mistakes));
    }
    let order = only_needed(&graph, in_reading_order(&graph, spec), targets);
    let axes = spec.axes.iter().map(|axis| (axis.name.value.clone(), texts(&active[&axis.name.value]))).collect();
    Ok(Workflow { name: spec.name.clone(), about: spec.about.clone(), graph, order, axes })
}

/// A target that names no node: its stage may be right and its point or partition wrong.
fn unknown_target<'a>(target: &str, known: impl Iterator<Item = &'a str> + Clone) -> Mistake {
    let stage = split(target).0;
    if known.clone().any(|name| glob(stage, name)) {
        return Mistake::new(&(0..0), format!("target `{target}`: `{stage}` has no such point or partition"));
    }
    Mistake::unknown(&(0..0), "target", target, known)
}

/// Every node after all it depends on; among those that could come next, the first in the file, at the first point.
fn in_reading_order(graph: &DiGraph<Node, ()>, spec: &Spec) -> Vec<NodeIndex> {
    let places: HashMap<&str, usize> =
        spec.stages.iter().enumerate().map(|(place, stage)| (stage.name.value.as_str(), place)).collect();
    let key = |node: NodeIndex| {
        let weight = &graph[node];
        (places[&*weight.stage], &weight.point, weight.partition, node)
    };
    let mut waiting: Vec<usize> =
        graph.node_indices().map(|node| graph.neighbors_directed(node, Direction::Incoming).count()).collect();
    let mut next: BTreeSet<_> = graph.node_indices().filter(|node| waiting[node.index()] == 0).map(key).collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some((.., node)) = next.pop_first() {
        order.push(node);
        for consumer in graph.neighbors(node) {
            waiting[consumer.index()] -= 1;
            if waiting[consumer.index()] == 0 {
                next.insert(key(consumer));
            }
        }
    }
    order
}

/// Drops what no target needs, down to single partitions.
fn only_needed(graph: &DiGraph<Node, ()>, mut order: Vec<NodeIndex>, targets: &[String]) -> Vec<NodeIndex> {
    if targets.is_empty() {
        return order;
    }
    let mut needed = vec![false; graph.node_count()];
    for node in order.iter().rev() {
        let wanted = targets.iter().any(|target| matches(target, &graph[*node].id));
        let used = graph.neighbors(*node).any(|consumer| needed[consumer.index()]);
        needed[node.index()] = wanted || used;
    }
    order.retain(|node| needed[node.index()]);
    order
}

impl Workflow {
    /// The nodes whose ids match a pattern (see [`matches()`]), in order.
    pub fn find(&self, pattern: &str) -> Vec<NodeIndex> {
        self.order.iter().copied().filter(|node| matches(pattern, &self.graph[*node].id)).collect()
    }
}

/// Every cycle as `a -> b -> a`, at the place of its first stage; one that recurs at several points or partitions once.
fn cycles(graph: &DiGraph<Node, ()>, spec: &Spec) -> Vec<Mistake> {
    let places: HashMap<&str, &Range<usize>> = spec.stages.iter().map(|stage| (&*stage.name.value, &stage.name.at)).collect();
    let place = |node: &NodeIndex| places[&*graph[*node].stage];
    let mut seen = BTreeSet::new();
    let mut found = vec![];
    // Not `tarjan_scc`, which recurses: a long cycle would overflow the stack.
    for nodes in kosaraju_scc(graph).into_iter().rev() {
        let first = nodes.iter().copied().min_by_key(|node| place(node).start).expect("components are not empty");
        let Some(cycle) = shortest_cycle(graph, first) else { continue };
        let stages: Vec<&str> = cycle.iter().map(|node| &*graph[*node].stage).collect();
        if seen.insert(stages) {
            let names: Vec<&str> = cycle.iter().map(|node| graph[*node].id.as_str()).collect();
            let text = format!("these stages wait for each other: {}", names.join(" -> "));
            found.push(Mistake::new(place(&first), text));
        }
    }
    found
}

/// The shortest way from a node back to itself, which stands at both ends.
fn shortest_cycle(graph: &DiGraph<Node, ()>, start: NodeIndex) -> Option<Vec<NodeIndex>> {
    let mut from: HashMap<NodeIndex, NodeIndex> = HashMap::new();
    let mut todo = VecDeque::from([start]);
    while let Some(at) = todo.pop_front() {
        for next in graph.neighbors(at) {
            if next == start {
                let mut path = vec![start, at];
                while let Some(before) = from.get(path.last().expect("a path is never empty")) {
                    path.push(*before);
                }
                path.reverse();
                return Some(path);
            }
            from.entry(next).or_insert_with(|| {
                todo.push_back(next);
                at
            });
        }
    }
    None
}
