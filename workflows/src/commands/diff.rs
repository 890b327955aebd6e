//! `sure diff`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pipeline::compare::{Comparison, Difference, compare};
use pipeline::records::RunRow;
use pipeline::store::Store;
use scoring::evidence::{Evidence, FILE_NAME, read};
use scoring::significance::{self, Units, print_p};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::MachineArgs;
use crate::commands::compare::shown;
use crate::commands::plan::describe_change;
use crate::commands::runs::find;
use crate::commands::why::describe_file;
use crate::console::{fit_stdout, tell_to};
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
        tell_to!(out, "setting {name}: {} -> {}", old.join(","), new.join(","))?;
    }
    print_nodes(&mut out, &comparison)?;
    print_scores(&mut out, &store, &comparison)?;
    let Comparison { same, gone, new, differ } = &comparison;
    let (gone, new, differ) = (gone.len(), new.len(), differ.len());
    writeln!(out, "{same} nodes are the same, {differ} differ, {gone} are gone, {new} are new")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what went in otherwise, and what only one run has.
fn print_nodes(out: &mut impl Write, comparison: &Comparison) -> io::Result<()> {
    let causes: Vec<&Difference> = comparison.differ.iter().filter(|node| node.is_cause()).collect();
    for node in causes.iter().take(SHOWN) {
        tell_to!(out, "{}", node.node)?;
        for change in &node.changes {
            tell_to!(out, "  - {}", describe_change(change))?;
        }
        for file in node.files.iter().take(SHOWN) {
            tell_to!(out, "    {}", describe_file(file))?;
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
        tell_to!(out, "  {}", show(one))?;
    }
    more(out, all.len())
}

fn more(out: &mut impl Write, count: usize) -> io::Result<()> {
    if count > SHOWN { writeln!(out, "  and {} more", count - SHOWN) } else { Ok(()) }
}

/// Prints a table of the scores that differ: node, metric, both values, their difference, and the paired test over utterances.
fn print_scores(out: &mut impl Write, store: &Store, comparison: &Comparison) -> Result<()> {
    let mut rows = vec![["scores", "", "old", "new", "change", ""].map(str::to_owned)];
    let mut left_out = 0;
    for node in comparison.differ.iter().filter(|node| node.kind.starts_with(SCORES) && node.old != node.now) {
        let folders = [store.path(node.old), store.path(node.now)];
        let Ok([old, new]) = evidence(&folders) else { continue }; // collected: nothing to compare
        let (before, after) = (old.values(), new.values());
        for metric in shown(&folders[1], &old.metrics(), &new.metrics()) {
            let (before, after) = (before[&metric], after[&metric]);
            if before.total_cmp(&after).is_eq() {
                continue;
            }
            if rows.len() > SHOWN {
                left_out += 1;
                continue;
            }
            let p = significance::compare(&[(&old, &new)], metric, Units::Utterance, ROUNDS, 0, None);
            let p = p.map_or_else(|error| error.to_string(), |paired| print_p(paired.p));
            let change = format!("{:+.*}", metric.decimals(), metric.scale() * (after - before));
            rows.push([node.node.clone(), metric.title_with_unit(), metric.print(before), metric.print(after), change, p]);
        }
    }
    if rows.len() < 2 {
        return Ok(());
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let [node, metric, old, new, change] = [width(0), width(1), width(2), width(3), width(4)];
    for row in &rows {
        let line = format!(
            "{:<node$}  {:<metric$}  {:>old$}  {:>new$}  {:>change$}  {}",
            row[0], row[1], row[2], row[3], row[4], row[5]
        );
        writeln!(out, "{}", fit_stdout(&line))?;
    }
    if left_out > 0 {
        writeln!(out, "and {left_out} more")?;
    }
    let note = "p: over utterances alone, not corrected for several comparisons; another seed may differ as much";
    writeln!(out, "{}", fit_stdout(note))?;
    Ok(())
}

/// Evidence of both scores.
fn evidence(folders: &[PathBuf; 2]) -> Result<[Evidence; 2]> {
    let [old, new] = folders.each_ref().map(|folder| read(&folder.join(FILE_NAME)));
    Ok([old?, new?])
}

/// Prefix of the kinds of stages that score.
const SCORES: &str = "score.";
/// Rounds of the paired tests.
const ROUNDS: u32 = 10_000;

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
    if !node.kind.starts_with(SCORES) {
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
