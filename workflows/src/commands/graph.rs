//! `sure graph`

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::draw::{DrawNode, DrawState, Drawing};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use petgraph::graph::NodeIndex;
use pipeline::Stop;
use pipeline::event::Deaf;
use pipeline::graph::Workflow;
use pipeline::plan::{Plan, Verdict};

use crate::cli::Target;
use crate::opening::{Access, Opening};

#[derive(Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Form of the drawing
    #[arg(long, value_enum, default_value_t = Form::Dot)]
    pub(crate) format: Form,
    /// File to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Draw every partition, not one box for all of them
    #[arg(long)]
    pub(crate) partitions: bool,
    /// Draw one box for each stage, whatever its matrix [default: when there would be more than 60 boxes]
    #[arg(long, conflicts_with = "partitions")]
    pub(crate) stages: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Dot,
    Svg,
    Mermaid,
}

pub(crate) fn graph(args: &GraphArgs) -> Result<ExitCode> {
    let mut opening = Opening::new(&args.target, Access::Read)?;
    // A drawing needs no corpus: without one, the states of what depends on it are left out.
    let survey = opening.survey()?;
    let runner = opening.runner(Arc::new(Deaf), Stop::default());
    let plan = runner.plan(&survey, &HashSet::new())?;
    let failed = failed(&opening)?;
    let states = States { plan: &plan, failed: &failed };
    let by = |grain: Grain| fold(&opening.workflow, &states, grain);
    let (nodes, edges) = match () {
        () if args.partitions => by(Grain::Node),
        () if args.stages => by(Grain::Stage),
        () => Some(by(Grain::Point)).filter(|(boxes, _)| boxes.len() <= MOST_BOXES).unwrap_or_else(|| by(Grain::Stage)),
    };
    let drawing = Drawing { title: &opening.workflow.name, nodes: &nodes, edges: &edges };
    let text = match args.format {
        Form::Dot => drawing.dot(),
        Form::Svg => drawing.svg(),
        Form::Mermaid => drawing.mermaid(),
    };
    match &args.output {
        None => io::stdout().write_all(text.as_bytes())?,
        Some(path) => fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// With more boxes than this, one stands for a whole stage unless asked otherwise.
const MOST_BOXES: usize = 60;

/// Meaning of one box.
#[derive(Clone, Copy, PartialEq)]
enum Grain {
    Node,
    /// All partitions of a stage at a point.
    Point,
    Stage,
}

/// Plan of the nodes, and those that failed.
struct States<'a> {
    plan: &'a Plan,
    /// Nodes that failed in the last run, `workflow:node`.
    failed: &'a HashSet<String>,
}

impl States<'_> {
    fn of(&self, workflow: &Workflow) -> BTreeMap<NodeIndex, DrawState> {
        let state = |(node, verdict): &(NodeIndex, Verdict)| {
            let state = match verdict {
                Verdict::Reuse { .. } => DrawState::Reuse,
                _ if self.failed.contains(&workflow.key(&workflow.graph[*node])) => DrawState::Failed,
                Verdict::Run(_) => DrawState::Run,
                Verdict::RunIf(_) => DrawState::Maybe,
                Verdict::Blocked { .. } => DrawState::Plain,
            };
            (*node, state)
        };
        self.plan.verdicts.iter().map(state).collect()
    }
}

/// The nodes that failed in the last run of this workflow.
fn failed(opening: &Opening) -> Result<HashSet<String>> {
    let last = opening.store.runs(usize::MAX >> 1)?.into_iter().find(|row| row.workflow == opening.workflow.name);
    let Some(last) = last.filter(|row| row.outcome.is_some()) else { return Ok(HashSet::new()) };
    let steps = opening.store.steps(last.id)?;
    Ok(steps.into_iter().filter(|step| step.state == "failed").map(|step| step.node).collect())
}

/// The state of a box is that of the node which needs most attention.
const BY_ATTENTION: [DrawState; 4] = [DrawState::Failed, DrawState::Run, DrawState::Maybe, DrawState::Reuse];

fn fold(workflow: &Workflow, states: &States<'_>, grain: Grain) -> (Vec<DrawNode>, Vec<(usize, usize)>) {
    let states = states.of(workflow);
    let mut boxes: Vec<DrawNode> = vec![];
    let mut counts: Vec<usize> = vec![];
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut place = BTreeMap::new();
    for index in &workflow.order {
        let node = &workflow.graph[*index];
        let name = match grain {
            Grain::Node => node.id.clone(),
            Grain::Point => node.id.split('#').next().unwrap_or_default().to_owned(),
            Grain::Stage => node.stage.to_string(),
        };
        let state = states.get(index).copied().unwrap_or(DrawState::Plain);
        let at = *names.entry(name.clone()).or_insert_with(|| {
            let mut lines = vec![node.stage.to_string()];
            if grain != Grain::Stage {
                lines.extend(node.point.iter().map(|(axis, value)| format!("{axis} = {value}")));
            }
            lines.extend(node.partition.filter(|_| grain == Grain::Node).map(|number| format!("partition {number}")));
            boxes.push(DrawNode { id: name, lines, state });
            counts.push(0);
            boxes.len() - 1
        });
        counts[at] += 1;
        let both = [state, boxes[at].state];
        boxes[at].state = BY_ATTENTION.into_iter().find(|state| both.contains(state)).unwrap_or(state);
        place.insert(*index, at);
    }
    let many = if grain == Grain::Stage { "nodes" } else { "partitions" };
    for (node, count) in boxes.iter_mut().zip(&counts).filter(|(_, count)| **count > 1) {
        node.lines.push(format!("{count} {many}"));
    }
    let ends = workflow.graph.edge_indices().filter_map(|edge| workflow.graph.edge_endpoints(edge));
    let edges: BTreeSet<(usize, usize)> =
        ends.filter_map(|(from, to)| Some((*place.get(&from)?, *place.get(&to)?))).filter(|(from, to)| from != to).collect();
    (boxes, edges.into_iter().collect())
}
