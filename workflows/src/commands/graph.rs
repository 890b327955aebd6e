//! `sure graph`

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use pipeline::Stop;
use pipeline::draw::{DrawNode, DrawState, Drawing};
use pipeline::event::Deaf;
use pipeline::graph::Workflow;
use pipeline::plan::{Plan, Verdict};

use crate::cli::{Form, GraphArgs};
use crate::opening::{Opening, survey};

pub(crate) fn graph(args: &GraphArgs) -> Result<ExitCode> {
    let opening = Opening::new(&args.target)?;
    let session = opening.session(Arc::new(Deaf), Stop::default());
    // A drawing needs no corpus: without one, the states are left out.
    let plan = match survey(&session) {
        Ok(survey) => Some(session.plan(&survey, &HashSet::new())?),
        Err(_) => None,
    };
    let (nodes, edges) = fold(&opening.workflow, plan.as_ref(), args.partitions);
    let drawing = Drawing { title: &opening.workflow.name, nodes: &nodes, edges: &edges };
    let text = match args.format {
        Form::Dot => drawing.dot(),
        Form::Svg => drawing.svg(),
        Form::Mermaid => drawing.mermaid(),
    };
    match &args.output {
        None => print!("{text}"),
        Some(path) => fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One box per node, or one for all partitions of a stage at a point.
fn fold(workflow: &Workflow, plan: Option<&Plan>, partitions: bool) -> (Vec<DrawNode>, Vec<(usize, usize)>) {
    let verdicts: BTreeMap<_, _> =
        plan.iter().flat_map(|plan| plan.verdicts.iter().map(|(node, verdict)| (*node, verdict))).collect();
    let mut boxes: Vec<DrawNode> = vec![];
    let mut counts: Vec<usize> = vec![];
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut place = BTreeMap::new();
    for index in &workflow.order {
        let node = &workflow.graph[*index];
        let name = if partitions { node.id.clone() } else { node.id.split('#').next().unwrap_or_default().to_owned() };
        let state = verdicts.get(index).map_or(DrawState::Plain, |verdict| match verdict {
            Verdict::Reuse { .. } => DrawState::Reuse,
            Verdict::Run(_) => DrawState::Run,
            Verdict::RunIf(_) => DrawState::Maybe,
        });
        let at = *names.entry(name.clone()).or_insert_with(|| {
            let mut lines = vec![node.stage.to_string()];
            lines.extend(node.point.iter().map(|(axis, value)| format!("{axis} = {value}")));
            boxes.push(DrawNode { id: name, lines, state });
            counts.push(0);
            boxes.len() - 1
        });
        counts[at] += 1;
        boxes[at].state = [DrawState::Run, DrawState::Maybe, DrawState::Reuse]
            .into_iter()
            .find(|s| [state, boxes[at].state].contains(s))
            .unwrap_or(state);
        place.insert(*index, at);
    }
    for (node, count) in boxes.iter_mut().zip(&counts).filter(|(_, count)| **count > 1) {
        node.lines.push(format!("{count} partitions"));
    }
    let ends = workflow.graph.edge_indices().filter_map(|edge| workflow.graph.edge_endpoints(edge));
    let edges: std::collections::BTreeSet<(usize, usize)> =
        ends.filter_map(|(from, to)| Some((*place.get(&from)?, *place.get(&to)?))).filter(|(from, to)| from != to).collect();
    (boxes, edges.into_iter().collect())
}
