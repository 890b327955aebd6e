//! In which order nodes can be made, and the cycles for which there is none.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::ops::Range;

use petgraph::Direction;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::Node;
use crate::mistake::Mistake;
use crate::spec::Spec;

/// Every node after all it depends on; among those that could come next, the one with the lowest number. None when there is a
/// cycle.
pub(super) fn reading_order(graph: &DiGraph<Node, ()>) -> Option<Vec<NodeIndex>> {
    // Files mostly name a stage after those it reads: then the nodes stand in order already.
    if graph.raw_edges().iter().all(|edge| edge.source() < edge.target()) {
        return Some(graph.node_indices().collect());
    }
    let mut waiting = vec![0_u32; graph.node_count()];
    graph.raw_edges().iter().for_each(|edge| waiting[edge.target().index()] += 1);
    let mut next: BinaryHeap<Reverse<NodeIndex>> =
        graph.node_indices().filter(|node| waiting[node.index()] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some(Reverse(node)) = next.pop() {
        order.push(node);
        for consumer in graph.neighbors(node) {
            waiting[consumer.index()] -= 1;
            if waiting[consumer.index()] == 0 {
                next.push(Reverse(consumer));
            }
        }
    }
    (order.len() == graph.node_count()).then_some(order)
}

/// Drops from an order what no wanted node needs, down to single partitions.
pub(super) fn only_needed(graph: &DiGraph<Node, ()>, order: &mut Vec<NodeIndex>, wanted: impl Fn(&Node) -> bool) {
    let mut needed = vec![false; graph.node_count()];
    for node in order.iter().rev() {
        needed[node.index()] |= wanted(&graph[*node]);
        if needed[node.index()] {
            graph.neighbors_directed(*node, Direction::Incoming).for_each(|producer| needed[producer.index()] = true);
        }
    }
    order.retain(|node| needed[node.index()]);
}

/// Every cycle as `a -> b -> a`, at the place of its first stage; one that recurs at several points or partitions once.
pub(super) fn cycles(graph: &DiGraph<Node, ()>, spec: &Spec) -> Vec<Mistake> {
    let places: HashMap<&str, &Range<usize>> = spec.stages.iter().map(|stage| (&*stage.name.value, &stage.name.at)).collect();
    let place = |node: &NodeIndex| places[&*graph[*node].stage];
    let mut seen = BTreeSet::new();
    let mut found = vec![];
    // Not `tarjan_scc`, which recurses: a long cycle would overflow the stack.
    for nodes in kosaraju_scc(graph).into_iter().rev() {
        let first = nodes.iter().copied().min_by_key(|node| (place(node).start, *node)).expect("components are not empty");
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
