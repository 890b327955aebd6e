//! Artifacts of nodes, as of when they last ran or were reused.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Result;
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use pipeline::mistake::suggest;

use crate::cli::Place;
use crate::opening::Opening;
use crate::problem::problem;

/// An artifact with the node that it belongs to.
pub(crate) struct Left {
    /// The node.
    pub(crate) node: String,
    /// The value of the axis `seed`, when the node has one.
    pub(crate) seed: Option<String>,
    /// The artifact.
    pub(crate) folder: PathBuf,
}

/// Finds the artifacts that contain a file, for every node that a pattern names: its own, else that of the nearest node it was
/// made from, else that of the nearest one made from it. `what` names the file's content in messages.
pub(crate) fn find(pattern: &str, place: &Place, file: &str, what: &str) -> Result<Vec<Left>> {
    let (opening, pattern) = Opening::of_node(pattern, place)?;
    let nodes = opening.workflow.find(&pattern);
    if nodes.is_empty() {
        let known = opening.workflow.order.iter().map(|node| &*opening.workflow.graph[*node].stage);
        return Err(problem(format!("no node `{pattern}` in `{}`", opening.workflow.name), suggest(&pattern, known)));
    }
    let mut found: Vec<Left> = vec![];
    for node in nodes {
        for left in nearest(&opening, node, file)? {
            if !found.iter().any(|other| other.node == left.node) {
                found.push(left);
            }
        }
    }
    if found.is_empty() {
        let message = format!("`{pattern}` of `{}` has left no {what}, and neither has a node beside it", opening.workflow.name);
        return Err(problem(message, format!("`sure run {}` first; `sure plan {0}` shows its nodes", opening.workflow.name)));
    }
    Ok(found)
}

/// Looks at the node, then upstream, then downstream, each time for the nearest: several where a table gathers them.
fn nearest(opening: &Opening, node: NodeIndex, file: &str) -> Result<Vec<Left>> {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let (mut level, mut visited) = (vec![node], HashSet::from([node]));
        while !level.is_empty() {
            let mut found = vec![];
            for index in &level {
                if let Some(folder) = last(opening, *index)?.filter(|folder| folder.join(file).is_file()) {
                    let node = &opening.workflow.graph[*index];
                    let seed = node.point.get("seed").map(str::to_owned);
                    found.push(Left { node: node.id.clone(), seed, folder });
                }
            }
            if !found.is_empty() {
                found.sort_by(|a, b| a.node.cmp(&b.node));
                return Ok(found);
            }
            let beyond = level.iter().flat_map(|index| opening.workflow.graph.neighbors_directed(*index, direction));
            level = beyond.filter(|other| belongs(opening, node, *other, direction) && visited.insert(*other)).collect();
        }
    }
    Ok(vec![])
}

/// True if a node made from the other, or from which the other was made, belongs to the same model: it is at the same point of the
/// matrix, upstream as far as both have the axes.
fn belongs(opening: &Opening, node: NodeIndex, other: NodeIndex, direction: Direction) -> bool {
    let (node, other) = (&opening.workflow.graph[node].point, &opening.workflow.graph[other].point);
    match direction {
        Direction::Incoming => node.iter().all(|(axis, value)| other.get(axis).is_none_or(|theirs| theirs == value)),
        Direction::Outgoing => node == other,
    }
}

/// Path of the last artifact of a node, when it still exists.
pub(crate) fn last(opening: &Opening, node: NodeIndex) -> Result<Option<PathBuf>> {
    let key = format!("{}:{}", opening.workflow.name, opening.workflow.graph[node].id);
    let Some((result, _)) = opening.store.latest(&key)? else { return Ok(None) };
    let Some(result) = opening.store.result(result)? else { return Ok(None) };
    Ok(opening.store.has(result.artifact).then(|| opening.store.path(result.artifact)))
}
