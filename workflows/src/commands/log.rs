//! `sure log`

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use pipeline::graph::matches;
use pipeline::records::Step;
use pipeline::run::status;
use pipeline::store::{Store, log_name};
use pipeline::text::printable;

use crate::cli::MachineArgs;
use crate::commands::runs::{find, id_of};
use crate::opening::{Access, open_store};
use crate::problem::problem;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct LogArgs {
    /// A node, a pattern (`train[method=lora]`), or the beginning of a node's name
    pub(crate) node: String,
    /// The log of this run [default: the last one in which the node was executed]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) run: Option<i64>,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
    /// Only print where the log lies
    #[arg(long)]
    pub(crate) path: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// An execution, with its log.
struct Found {
    head: String,
    log: Option<PathBuf>,
}

pub(crate) fn log(args: &LogArgs) -> Result<ExitCode> {
    let store = open_store(&Settings::load(&args.machine, &[])?, Access::Read)?;
    if let Some(run) = args.run {
        find(&store, run)?;
    }
    let Some(found) = running(&store, args).map_or_else(|| ended(&store, args), |found| Ok(Some(found)))? else {
        let place = args.run.map_or_else(|| "this store".to_owned(), |run| format!("run {run}"));
        return Err(problem(
            format!("no node `{}` was executed in {place}", args.node),
            "`sure runs` lists runs, `sure runs N` the nodes of one",
        ));
    };
    let mut out = io::stdout().lock();
    if args.path {
        let log = found.log.with_context(|| format!("{}: the node wrote no log, or it was collected", found.head))?;
        writeln!(out, "{}", log.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", found.head)?;
    if let Some(log) = found.log {
        let bytes = fs::read(&log).with_context(|| format!("cannot read `{}`", log.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let first = args.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        for line in &lines[first..] {
            writeln!(out, "{}", printable(line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A node that runs at this moment.
fn running(store: &Store, args: &LogArgs) -> Option<Found> {
    status(store).into_iter().rev().filter(|status| args.run.is_none_or(|run| run == status.run)).find_map(|status| {
        let running = status.running.iter().find(|running| is_meant(&args.node, &status.workflow, &running.node))?;
        let log = log_of(store, status.run, &running.node);
        Some(Found { head: format!("run {}: {} runs now", status.run, running.node), log: Some(log).filter(|log| log.is_file()) })
    })
}

/// A node that a run tells of as executed.
fn ended(store: &Store, args: &LogArgs) -> Result<Option<Found>> {
    let runs = match args.run {
        Some(run) => vec![run],
        None => store.runs(usize::MAX >> 1)?.into_iter().map(|row| row.id).collect(),
    };
    for run in runs {
        let steps = store.steps(run)?;
        let executed = |step: &&Step| matches!(step.state.as_str(), "ran" | "source" | "failed" | "stopped") && step.attempts > 0;
        let is_wanted = |step: &&Step| {
            let (workflow, id) = step.node.split_once(':').unwrap_or(("", &step.node));
            is_meant(&args.node, workflow, id)
        };
        let Some(step) = steps.iter().filter(executed).find(is_wanted) else { continue };
        let message = step.message.as_deref().map(|text| format!("\n{text}")).unwrap_or_default();
        let head = format!("run {run}: {} {} in {:.2} s{message}", id_of(&step.node), step.state, step.secs);
        return Ok(Some(Found { head, log: step.log.clone().filter(|log| log.is_file()) }));
    }
    Ok(None)
}

fn is_meant(pattern: &str, workflow: &str, id: &str) -> bool {
    let whole = format!("{workflow}:{id}");
    matches(pattern, &whole) || id.starts_with(pattern) || whole.starts_with(pattern)
}

fn log_of(store: &Store, run: i64, id: &str) -> PathBuf {
    store.root().join("logs").join(run.to_string()).join(log_name(id))
}
