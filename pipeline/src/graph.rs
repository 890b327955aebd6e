//! From a description and the known stage kinds to the DAG of nodes, with every mistake reported at once. No I/O.
//!
//! The way there: `axes` holds the values in force, `stages` finds over which of them each stage varies, `expand` places
//! stages at points and finds what each reads, `nodes` makes nodes and edges of that, `order` says in which order they can be
//! made. Axes, values and points are small numbers until the nodes are made.

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::limits::Limits;
use crate::mistake::{Mistake, Mistakes};
use crate::registry::{Kind, Placed, Registry};
use crate::spec::Spec;

mod axes;
mod check;
mod expand;
mod nodes;
mod order;
mod pattern;
mod point;
mod points;
mod reference;
mod stages;
mod targets;
mod terms;

pub use pattern::matches;
pub use point::Point;

/// A workflow that cannot be wrong in form: all names resolved, no cycle.
#[derive(Debug)]
pub struct Workflow {
    /// Name of the workflow.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Nodes; an edge leads from a producer to a consumer.
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
    /// Name of the stage in the workflow.
    pub stage: Arc<str>,
    /// Stage kind.
    pub kind: Arc<Kind>,
    /// Point of the matrix. Settings are no part of it: they have one value for all nodes.
    pub point: Point,
    /// Partition, of a stage with `each`.
    pub partition: Option<u32>,
    /// The stage itself.
    pub placed: Arc<dyn Placed>,
    /// Inputs that the node reads.
    pub inputs: Vec<Edge>,
    /// How it may run.
    pub limits: Limits,
}

/// An input of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The slot it fills.
    pub slot: Arc<str>,
    /// The node that makes it.
    pub from: NodeIndex,
    /// The part of the artifact that is meant; all of it when none.
    pub part: Option<Arc<str>>,
    /// The values of the gathered axes, settings included.
    pub point: Point,
    /// The partition, where several are gathered.
    pub partition: Option<u32>,
}

impl Edge {
    /// The name of this input in a [`crate::manifest::Manifest`].
    pub fn field(&self) -> String {
        let partition = self.partition.map_or_else(String::new, |number| format!("#{number}"));
        format!("{}{}{partition}", self.slot, self.point)
    }
}

/// A change of a setting or of the matrix: `--set seed=1,2`.
pub type Settings = BTreeMap<String, Vec<String>>;

/// The folder of a partition inside an artifact.
pub fn part_folder(partition: u32) -> String {
    format!("parts/{partition:05}")
}

/// Builds the DAG. `targets` are patterns over nodes (see [`matches()`]); with none, the stages that no other one uses are
/// wanted, at every point of the matrix. Only what the targets need is made, but all of the file is checked.
///
/// # Errors
/// Every mistake at once: unknown names, wrong parameters, unfilled inputs, cycles. Mistakes in `settings` alone, when there are any:
/// others may follow from them.
pub fn build(spec: &Spec, registry: &Registry, settings: &Settings, targets: &[String]) -> Result<Workflow, Mistakes> {
    let mut mistakes = spec.mistakes.clone();
    let mut axes = axes::Axes::new(spec, settings, &mut mistakes);
    if !axes.wrong_settings.is_empty() {
        return Err(Mistakes::new(&spec.sources, std::mem::take(&mut axes.wrong_settings)));
    }
    let stages = stages::Stages::new(spec, registry, &axes);
    check::Check { axes: &axes, stages: &stages, registry, mistakes: &mut mistakes }.all(&spec.derived);
    let wants_all = targets.is_empty();
    let targets = targets::read(targets, &spec.name, &axes, &mut mistakes);

    let mut expansion = expand::Expansion::new(&axes, &stages);
    let mut pointless = vec![];
    if wants_all {
        for (number, stage) in stages.finals() {
            let before = expansion.stage_points.len();
            expansion.want(number, &vec![points::Wanted::All; stage.axes.len()], expand::Asked::ALL);
            if expansion.stage_points.len() == before {
                let text = format!("`stages.{}`: the matrix leaves no point for it", stage.name);
                pointless.push(Mistake::new(&stage.spec.name.at, text));
            }
        }
    }
    for target in &targets {
        for (number, stage) in stages.list.iter().enumerate() {
            if let Some(wanted) = target.wanted(stage, &axes) {
                expansion.want(number, &wanted, target.partitions());
            }
        }
    }
    let graph = if expansion.close() { nodes::graph_of(&mut expansion) } else { DiGraph::new() };
    if !wants_all {
        expansion.check_rest();
    }
    mistakes.append(&mut expansion.mistakes);
    let order = order::reading_order(&graph);
    if order.is_none() {
        mistakes.extend(order::cycles(&graph, spec));
    }
    if mistakes.is_empty() {
        mistakes.append(&mut pointless); // of a line that is wrong already, this is no news
        let lost = targets.iter().filter(|target| !graph.node_weights().any(|node| target.matches(node)));
        mistakes.extend(lost.map(|target| target.unknown(&stages, &axes)));
    }
    let Some(mut order) = order.filter(|_| mistakes.is_empty()) else {
        return Err(Mistakes::new(&spec.sources, mistakes));
    };
    if !wants_all {
        order::only_needed(&graph, &mut order, |node| targets.iter().any(|target| target.matches(node)));
    }
    let axes = spec.axes.iter().filter_map(|axis| axes.get(&axis.name.value)).map(axes::Axis::in_force).collect();
    Ok(Workflow { name: spec.name.clone(), about: spec.about.clone(), graph, order, axes })
}

impl Workflow {
    /// The nodes that a pattern names (see [`matches()`]), in order.
    pub fn find(&self, pattern: &str) -> Vec<NodeIndex> {
        let Ok(pattern) = pattern::Pattern::parse(pattern) else { return vec![] };
        if pattern.workflow.is_some_and(|name| name != self.name) {
            return vec![];
        }
        self.order.iter().copied().filter(|node| pattern.matches(&self.graph[*node])).collect()
    }
}
