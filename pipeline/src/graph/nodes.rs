//! From placed stages to nodes and edges.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};

use super::expand::{Asked, Expansion, MAX_EDGES, MAX_NODES, Need};
use super::{Edge, Node, part_folder};
use crate::mistake::Mistake;

/// The nodes of a finished expansion, in reading order: stage by stage as in the file, point by point, part by part.
pub(super) struct Nodes<'e, 'a> {
    expansion: &'e mut Expansion<'a>,
    graph: DiGraph<Node, ()>,
    /// The nodes of each stage point, by partition, and the first partition that has one.
    of_stage_point: Vec<(Range<u32>, u32)>,
    /// The folders of partitions, shared by all edges.
    folders: Vec<Arc<str>>,
    /// The consumer to which each node was joined last, so that two inputs from one node make one edge of the graph.
    joined: Vec<Option<NodeIndex>>,
    num_inputs: usize,
}

/// Makes the graph; mistakes are left in the expansion.
pub(super) fn graph_of(expansion: &mut Expansion<'_>) -> DiGraph<Node, ()> {
    expansion.ask_upstream();
    let mut order: Vec<u32> = (0..expansion.stage_points.len() as u32).collect();
    order.sort_by_key(|stage_point| {
        let stage_point = &expansion.stage_points[*stage_point as usize];
        (stage_point.stage, expansion.points.get(stage_point.point))
    });
    let parts: Vec<Parts> = order.iter().map(|stage_point| parts(expansion, *stage_point as usize)).collect();
    let total: usize = parts.iter().map(|parts| parts.count() as usize).sum();
    if total > MAX_NODES {
        let largest = order.iter().zip(&parts).max_by_key(|(_, parts)| parts.count()).map(|(stage_point, _)| *stage_point);
        let at = largest.map_or(0..0, |stage_point| expansion.stage_of(stage_point).spec.name.at.clone());
        let text = format!("the workflow would have {total} nodes, most of them here, and can have at most {MAX_NODES}");
        expansion.mistakes.push(Mistake::new(&at, text));
        return DiGraph::new();
    }
    expansion.forget();
    let stage_points = expansion.stage_points.len();
    let mut nodes = Nodes {
        graph: DiGraph::with_capacity(total, expansion.needs.len()),
        of_stage_point: vec![(0..0, 0); stage_points],
        folders: vec![],
        joined: vec![None; total],
        num_inputs: 0,
        expansion,
    };
    for (stage_point, parts) in order.iter().zip(parts) {
        nodes.add(*stage_point as usize, parts);
    }
    for stage_point in order {
        nodes.connect(stage_point as usize);
        if nodes.num_inputs > MAX_EDGES {
            let text = format!("the nodes of the workflow would read more than {MAX_EDGES} artifacts");
            nodes.expansion.mistakes.push(Mistake::new(&(0..0), text));
            break;
        }
    }
    nodes.graph
}

/// Nodes made of one stage at one point.
#[derive(Clone, Copy)]
enum Parts {
    /// No node, after a mistake.
    Lost,
    /// One node.
    Whole,
    /// One node for each part from a first one to an end.
    Split(u32, u32),
}

impl Parts {
    fn count(self) -> u32 {
        match self {
            Self::Lost => 0,
            Self::Whole => 1,
            Self::Split(first, end) => end - first,
        }
    }
}

fn parts(expansion: &mut Expansion<'_>, stage_point: usize) -> Parts {
    let (stage, point) = (expansion.stage_points[stage_point].stage as usize, expansion.stage_points[stage_point].point);
    match (&expansion.stage_points[stage_point].placed, &expansion.stages.list[stage].spec.each) {
        (None, _) => Parts::Lost,
        (Some(_), None) => Parts::Whole,
        (Some(_), Some(_)) => {
            let Asked { first, end } = expansion.stage_points[stage_point].asked;
            let point = Rc::clone(expansion.points.get(point));
            // After a mistake one node stands for all, so that a cycle through it still shows.
            let split = |count: u32| Parts::Split(first.min(count), end.min(count).max(first.min(count)));
            expansion.partitions(stage, &point).map_or(Parts::Whole, split)
        }
    }
}

impl Nodes<'_, '_> {
    fn add(&mut self, number: usize, parts: Parts) {
        let stage_point = &self.expansion.stage_points[number];
        let stage = self.expansion.stage_of(number as u32);
        let (Some(kind), Some(placed)) = (&stage.kind, &stage_point.placed) else { return };
        let point = self.expansion.points.of_matrix(stage_point.point, self.expansion.axes);
        let (split, first_part) = if let Parts::Split(first, _) = parts { (true, first) } else { (false, 0) };
        let name = format!("{}{point}", stage.name);
        let first = self.graph.node_count() as u32;
        for partition in first_part..first_part + parts.count() {
            let node = Node {
                id: if split { format!("{name}#{partition}") } else { name.clone() },
                stage: Arc::clone(&stage.name),
                kind: Arc::clone(kind),
                point: point.clone(),
                partition: split.then_some(partition),
                placed: Arc::clone(placed),
                inputs: vec![],
                limits: stage.spec.limits,
            };
            self.graph.add_node(node);
        }
        self.of_stage_point[number] = (first..first + parts.count(), first_part);
    }

    fn connect(&mut self, number: usize) {
        let (consumers, first_part) = self.of_stage_point[number].clone();
        for (partition, consumer) in (first_part as usize..).zip(consumers) {
            let consumer = NodeIndex::new(consumer as usize);
            let needs = self.expansion.stage_points[number].needs.clone();
            let mut inputs = Vec::with_capacity(needs.len());
            for need in needs {
                self.join(number, need as usize, partition, consumer, &mut inputs);
            }
            self.check_arity(number, &inputs);
            self.num_inputs += inputs.len();
            self.graph[consumer].inputs = inputs;
        }
    }

    /// Joins one node to those of one need. Partitions of one root go side by side; elsewhere all are read.
    fn join(&mut self, number: usize, need: usize, partition: usize, consumer: NodeIndex, inputs: &mut Vec<Edge>) {
        let stage_point = &self.expansion.stage_points[number];
        let Need { read, stage_point: source, gathered } = self.expansion.needs[need];
        let read = &stage_point.reads[read as usize];
        let (producers, first_part) = self.of_stage_point[source as usize].clone();
        let (own, other) = (self.expansion.stage_of(number as u32), &self.expansion.stages.list[read.source]);
        let split = other.spec.each.is_some();
        let same_root = own.spec.each.is_some() && own.root == other.root;
        let producers = if other.is_beside(own) {
            let only = producers.start + (partition as u32).saturating_sub(first_part);
            only.min(producers.end)..(only + 1).min(producers.end)
        } else {
            producers
        };
        for (place, producer) in (0..).zip(producers) {
            let producer = NodeIndex::new(producer as usize);
            if self.joined[producer.index()].replace(consumer) != Some(consumer) {
                self.graph.add_edge(producer, consumer, ());
            }
            let Some(input) = &read.slot else { continue };
            let own_part = same_root && !split && read.part.is_none();
            let part = if own_part { Some(folder(&mut self.folders, partition)) } else { read.part.clone() };
            let point = self.expansion.points.whole(gathered, self.expansion.axes);
            let shown = (split && !same_root).then_some(place);
            inputs.push(Edge { slot: Arc::clone(input), from: producer, part, point, partition: shown });
        }
    }

    /// One reference may stand for several artifacts, at several points or partitions.
    fn check_arity(&mut self, number: usize, inputs: &[Edge]) {
        let stage_point = &self.expansion.stage_points[number];
        let (stage, reads) = (self.expansion.stage_of(number as u32), Rc::clone(&stage_point.reads));
        for read in reads.iter() {
            let Some(input) = &read.slot else { continue };
            let alone = reads.iter().filter(|other| other.slot.as_ref() == Some(input)).count() == 1;
            let count = inputs.iter().filter(|edge| edge.slot == *input).count();
            if alone && count > 1 {
                self.expansion.check_arity(stage, input, count, &read.at);
            }
        }
    }
}

fn folder(folders: &mut Vec<Arc<str>>, partition: usize) -> Arc<str> {
    for next in folders.len()..=partition {
        folders.push(part_folder(next as u32).into());
    }
    Arc::clone(&folders[partition])
}
