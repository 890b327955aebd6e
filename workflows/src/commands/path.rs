//! `sure path`

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pipeline::mistake::suggest;

use crate::artifacts;
use crate::cli::Place;
use crate::opening::Opening;
use crate::problem::problem;

#[derive(Args)]
pub(crate) struct PathArgs {
    /// A node, or a pattern over nodes: `train[method=lora]`, or `keyword_spotting:train`; without a workflow, that of the last run
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

pub(crate) fn path(args: &PathArgs) -> Result<ExitCode> {
    let (opening, pattern) = Opening::of_node(&args.node, &args.place)?;
    let workflow = &opening.workflow;
    let nodes = workflow.find(&pattern);
    if nodes.is_empty() {
        let known = workflow.order.iter().map(|node| &*workflow.graph[*node].stage);
        return Err(problem(format!("no node `{pattern}` in `{}`", workflow.name), suggest(&pattern, known)));
    }
    let mut missing = vec![];
    let mut out = io::stdout().lock();
    for node in nodes {
        match artifacts::last(&opening, node)? {
            Some(folder) => writeln!(out, "{}", folder.display())?,
            None => missing.push(workflow.graph[node].id.clone()),
        }
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let message = format!("the store has no artifact of `{}`", missing.join("`, `"));
    Err(problem(message, format!("`sure run {} {pattern}` makes it", opening.request.workflow)))
}
