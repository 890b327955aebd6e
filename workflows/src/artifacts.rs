//! Artifacts of nodes, as of when they last ran or were reused.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Result;
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use pipeline::Digest;
use pipeline::graph::Workflow;
use pipeline::mistake::suggest;
use pipeline::store::Store;

use crate::cli::Place;
use crate::commands::runs::id_of;
use crate::opening::Opening;
use crate::problem::problem;
use crate::sharing::bring;

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
/// made from, else that of the nearest one made from it. A value of the matrix stands for the nodes that score it: `lora` for
/// `score[method=lora]`. `what` names the file's content in messages.
pub(crate) fn find(pattern: &str, place: &Place, file: &str, what: &str) -> Result<Vec<Left>> {
    let (opening, pattern) = Opening::of_node(pattern, place)?;
    let mut nodes = opening.workflow.find(&pattern);
    if nodes.is_empty() {
        nodes = with_value(&opening.workflow, &pattern);
    }
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

/// Nodes that score, at points of the matrix that have a value.
fn with_value(workflow: &Workflow, value: &str) -> Vec<NodeIndex> {
    let has = |index: &NodeIndex| {
        let node = &workflow.graph[*index];
        node.kind.name.starts_with(SCORES) && node.point.iter().any(|(_, of_axis)| of_axis == value)
    };
    workflow.order.iter().copied().filter(has).collect()
}

/// Prefix of the kinds of stages that score.
const SCORES: &str = "score.";

/// Artifacts of the nodes of a run that score, as of that run; sorted by node. Those that were removed from the store are left out.
pub(crate) fn scored(store: &Store, run: i64) -> Result<Vec<Left>> {
    of_run(store, run, SCORES)
}

/// Artifacts of the nodes of a run whose kind begins so.
pub(crate) fn of_run(store: &Store, run: i64, kind: &str) -> Result<Vec<Left>> {
    let mut found = vec![];
    for member in store.members(run)? {
        let Some(result) = store.result(member.result)? else { continue };
        let is_of_kind = result.manifest.0.get("stage").is_some_and(|stage| stage.starts_with(kind));
        if is_of_kind && store.has(result.artifact) {
            let node = id_of(&member.node).to_owned();
            let seed = pairs(&node).find_map(|pair| pair.strip_prefix("seed=")).map(str::to_owned);
            found.push(Left { node, seed, folder: store.path(result.artifact) });
        }
    }
    found.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(found)
}

/// `method=lora` and `seed=1` of `score[method=lora,seed=1]`.
fn pairs(node: &str) -> impl Iterator<Item = &str> {
    let inside = node.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(inside, _)| inside);
    inside.split(',').filter(|pair| !pair.is_empty())
}

/// True if a pattern means a node of an earlier run: its stage, its stage with some of its values, or a value alone.
pub(crate) fn means(pattern: &str, node: &str) -> bool {
    let stage = |text: &str| text.split(['[', '#']).next().unwrap_or_default().to_owned();
    let is_value = pairs(node).any(|pair| pair.split_once('=').is_some_and(|(_, value)| value == pattern));
    is_value || (stage(pattern) == stage(node) && pairs(pattern).all(|wanted| pairs(node).any(|pair| pair == wanted)))
}

/// The node without its seed, by which results of several seeds belong together.
pub(crate) fn without_seed(node: &str) -> String {
    let stage = node.split('[').next().unwrap_or(node);
    let others: Vec<&str> = pairs(node).filter(|pair| !pair.starts_with("seed=")).collect();
    if others.is_empty() { stage.to_owned() } else { format!("{stage}[{}]", others.join(",")) }
}

/// Looks at the node, then upstream, then downstream, each time for the nearest: several where a table gathers them.
fn nearest(opening: &Opening, node: NodeIndex, file: &str) -> Result<Vec<Left>> {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let (mut level, mut visited) = (vec![node], HashSet::from([node]));
        while !level.is_empty() {
            let mut found = vec![];
            for index in &level {
                if let Some(folder) = last_with(opening, *index, file)? {
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

/// Path of the last artifact of a node, when it still exists. One that was left in the shared cache is downloaded.
pub(crate) fn last(opening: &Opening, node: NodeIndex) -> Result<Option<PathBuf>> {
    let Some(artifact) = last_digest(opening, node)? else { return Ok(None) };
    let exists = opening.store.has(artifact) || bring(opening, artifact)?;
    Ok(exists.then(|| opening.store.path(artifact)))
}

/// Path of the last artifact of a node, when it still exists and has a file.
pub(crate) fn last_with(opening: &Opening, node: NodeIndex, file: &str) -> Result<Option<PathBuf>> {
    let Some(artifact) = last_digest(opening, node)? else { return Ok(None) };
    let store = &opening.store;
    if store.is_left(artifact) && !store.listing(artifact)?.iter().any(|known| known.path == file) {
        return Ok(None);
    }
    Ok(last(opening, node)?.filter(|folder| folder.join(file).is_file()))
}

fn last_digest(opening: &Opening, node: NodeIndex) -> Result<Option<Digest>> {
    let key = format!("{}:{}", opening.workflow.name, opening.workflow.graph[node].id);
    let Some((result, _)) = opening.store.latest(&key)? else { return Ok(None) };
    Ok(opening.store.result(result)?.map(|result| result.artifact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_earlier_runs_are_named_by_stage_by_values_or_by_one_value() {
        let node = "score[method=lora,seed=1]";
        for pattern in ["score", "score[method=lora]", "score[seed=1,method=lora]", "lora", "1"] {
            assert!(means(pattern, node), "{pattern}");
        }
        for pattern in ["scor", "score[method=prefix]", "score[rank=1]", "prefix", "method", ""] {
            assert!(!means(pattern, node), "{pattern}");
        }
        assert_eq!(without_seed(node), "score[method=lora]");
        assert_eq!((without_seed("score[seed=1]"), without_seed("score")), ("score".to_owned(), "score".to_owned()));
    }
}
