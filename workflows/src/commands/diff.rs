//! `sure diff`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pipeline::compare::{Comparison, Difference, compare};
use pipeline::records::RunRow;
use pipeline::store::Store;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::MachineArgs;
use crate::commands::plan::describe_change;
use crate::commands::runs::find;
use crate::commands::why::describe_file;
use crate::opening::{Access, Request, open_store};
use crate::problem::problem;
use crate::settings::Settings;

/// Nodes, files and scores named before the rest is only counted.
const SHOWN: usize = 12;

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// A run's number (see `sure runs`)
    old: i64,
    /// The run to compare it with
    new: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// A number of a score that is another one now.
#[derive(Debug, Serialize)]
struct Score {
    node: String,
    name: String,
    old: Option<f64>,
    new: Option<f64>,
}

pub(crate) fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let store = open_store(&Settings::load(&args.machine, &[])?, Access::Read)?;
    let (old, new) = (find(&store, args.old)?, find(&store, args.new)?);
    for run in [&old, &new] {
        let id = run.id;
        if run.shortened {
            let hint = "`sure store gc --keep-runs N` keeps the nodes of the last N runs of a workflow";
            return Err(problem(format!("the nodes of run {id} were forgotten by `sure store gc`"), hint));
        }
        if run.outcome.is_none() {
            return Err(problem(
                format!("run {id} has not ended: it goes on, or was killed"),
                "`sure runs` shows runs that ended",
            ));
        }
    }
    let comparison = compare(&store, old.id, new.id)?;
    let settings = settings(&old, &new);
    let scores: Vec<Score> = comparison.differ.iter().flat_map(|node| scores(&store, node)).collect();
    let mut out = io::stdout().lock();
    if args.json {
        let mut all = serde_json::to_value(&comparison)?;
        all["settings"] = json!(settings);
        all["scores"] = serde_json::to_value(&scores)?;
        writeln!(out, "{all}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, (old, new)) in &settings {
        writeln!(out, "setting {name}: {} -> {}", old.join(","), new.join(","))?;
    }
    print_nodes(&mut out, &comparison)?;
    if !scores.is_empty() {
        writeln!(out, "scores:")?;
        list(&mut out, &scores, |score| {
            let number = |value: Option<f64>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value}"));
            let by = score.old.zip(score.new).map(|(old, new)| format!(" ({:+})", round(new - old))).unwrap_or_default();
            format!("{} {}: {} -> {}{by}", score.node, score.name, number(score.old), number(score.new))
        })?;
    }
    let Comparison { same, gone, new, differ } = &comparison;
    let (gone, new, differ) = (gone.len(), new.len(), differ.len());
    writeln!(out, "{same} nodes are the same, {differ} differ, {gone} are gone, {new} are new")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what went in otherwise, and what only one run has.
fn print_nodes(out: &mut impl Write, comparison: &Comparison) -> io::Result<()> {
    let causes: Vec<&Difference> = comparison.differ.iter().filter(|node| node.is_cause()).collect();
    for node in causes.iter().take(SHOWN) {
        writeln!(out, "{}", node.node)?;
        for change in &node.changes {
            writeln!(out, "  - {}", describe_change(change))?;
        }
        for file in node.files.iter().take(SHOWN) {
            writeln!(out, "    {}", describe_file(file))?;
        }
        more(out, node.files.len())?;
    }
    more(out, causes.len())?;
    let follow: Vec<&Difference> = comparison.differ.iter().filter(|node| !node.is_cause()).collect();
    if !follow.is_empty() {
        writeln!(out, "made from other inputs:")?;
        list(out, &follow, |node| if node.old == node.now { format!("{} (same result)", node.node) } else { node.node.clone() })?;
    }
    for (title, nodes) in [("gone:", &comparison.gone), ("new:", &comparison.new)] {
        if !nodes.is_empty() {
            writeln!(out, "{title}")?;
            list(out, nodes, Clone::clone)?;
        }
    }
    Ok(())
}

fn list<T>(out: &mut impl Write, all: &[T], show: impl Fn(&T) -> String) -> io::Result<()> {
    for one in all.iter().take(SHOWN) {
        writeln!(out, "  {}", show(one))?;
    }
    more(out, all.len())
}

fn more(out: &mut impl Write, count: usize) -> io::Result<()> {
    if count > SHOWN { writeln!(out, "  and {} more", count - SHOWN) } else { Ok(()) }
}

/// Without the noise of binary fractions.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The settings that differ, with their values.
fn settings(old: &RunRow, new: &RunRow) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let read = |row: &RunRow| serde_json::from_str::<Request>(&row.request).unwrap_or_default().set; // of another version: none
    let (old, new) = (read(old), read(new));
    let value = |set: &BTreeMap<String, Vec<String>>, name: &String| {
        set.get(name).cloned().unwrap_or_else(|| vec!["(as in the file)".to_owned()])
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).collect();
    names.into_iter().map(|name| (name.clone(), (value(&old, name), value(&new, name)))).collect()
}

/// The numbers of a score that differ; nothing for other kinds of stages.
fn scores(store: &Store, node: &Difference) -> Vec<Score> {
    if !node.kind.starts_with("score.") {
        return vec![];
    }
    let (old, new) = (numbers(&store.path(node.old)), numbers(&store.path(node.now)));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let compared = |name: &String| Score {
        node: node.node.clone(),
        name: name.clone(),
        old: old.get(name).copied(),
        new: new.get(name).copied(),
    };
    names.into_iter().map(compared).filter(|score| score.old.map(f64::to_bits) != score.new.map(f64::to_bits)).collect()
}

/// The metrics of `scores.json`.
fn numbers(artifact: &Path) -> BTreeMap<String, f64> {
    let text = fs::read(artifact.join("scores.json")).unwrap_or_default(); // collected: nothing to compare
    let scores: Value = serde_json::from_slice(&text).unwrap_or_default();
    let metrics = scores["metrics"].as_object().into_iter().flatten();
    metrics.filter_map(|(name, metric)| Some((name.clone(), metric["value"].as_f64()?))).collect()
}
