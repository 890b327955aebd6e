//! `sure runs`

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use pipeline::records::{RunRow, Step};
use pipeline::run::{status, timeline};
use pipeline::store::Store;
use rebuild::time::Utc;
use scoring::score::read_scores;
use serde_json::{Value, json};

use crate::artifacts::{Left, scored};
use crate::cli::MachineArgs;
use crate::console::tell_to;
use crate::opening::{Access, Request, open_store};
use crate::problem::problem;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct RunsArgs {
    /// A run's number, to see its nodes
    pub(crate) run: Option<i64>,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// Write a timeline of that run for `chrome://tracing` or Perfetto
    #[arg(long, value_name = "FILE", requires = "run")]
    pub(crate) timeline: Option<PathBuf>,
    /// Show the scores of each run
    #[arg(long)]
    pub(crate) scores: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

pub(crate) fn runs(args: &RunsArgs) -> Result<ExitCode> {
    let store = open_store(&Settings::load(&args.machine, &[])?, Access::Read)?;
    let living: HashSet<i64> = status(&store).into_iter().map(|status| status.run).collect();
    let mut out = io::stdout().lock();
    if let Some(number) = args.run {
        let row = find(&store, number)?;
        let steps = store.steps(number)?;
        if let Some(path) = &args.timeline {
            write_timeline(path, &steps)?;
        }
        if args.json {
            let mut run = to_json(&row, &living);
            run["steps"] = serde_json::to_value(&steps)?;
            run["nodes"] = serde_json::to_value(store.members(number)?)?;
            if args.scores {
                run["scores"] = scores_to_json(&store, number)?;
            }
            writeln!(out, "{run}")?;
            return Ok(ExitCode::SUCCESS);
        }
        tell_to!(out, "{}", line(&row, &living))?;
        if args.scores {
            print_scores(&mut out, &store, number)?;
        }
        for step in &steps {
            let told = step.message.as_deref().or(step.why.as_deref());
            let told = told.map(|text| format!("  {text}")).unwrap_or_default();
            tell_to!(out, "{:>8}  {:>9.2} s  {}{told}", step.state, step.secs, id_of(&step.node))?;
        }
        if row.shortened {
            writeln!(out, "its nodes were forgotten by `sure store gc`")?;
        }
        let others = store
            .members(number)?
            .len()
            .saturating_sub(steps.iter().filter(|step| matches!(step.state.as_str(), "ran" | "source")).count());
        if others > 0 {
            writeln!(out, "{others} {} as before", if others == 1 { "node is" } else { "nodes are" })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = store.runs(args.limit)?;
    if args.json {
        let mut all = vec![];
        for row in &rows {
            let mut run = to_json(row, &living);
            if args.scores {
                run["scores"] = scores_to_json(&store, row.id)?;
            }
            all.push(run);
        }
        writeln!(out, "{}", Value::from(all))?;
    } else {
        for row in &rows {
            tell_to!(out, "{}", line(row, &living))?;
            if args.scores {
                print_scores(&mut out, &store, row.id)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line for each node of a run that scores: what methods are compared by, with its interval.
fn print_scores(out: &mut impl Write, store: &Store, run: i64) -> Result<()> {
    for Left { node, folder, .. } in scored(store, run)? {
        let scores = read_scores(&folder)?;
        let metric = scores.primary;
        let interval = scores
            .interval(metric)
            .map(|interval| format!("  {} to {}", metric.print(interval.low), metric.print(interval.high)));
        let value = metric.print(scores.value(metric));
        tell_to!(out, "{:>7}{} {value}{}  {node}", "", metric.title_with_unit(), interval.unwrap_or_default())?;
    }
    Ok(())
}

/// Metrics of each node of a run that scores.
pub(crate) fn scores_to_json(store: &Store, run: i64) -> Result<Value> {
    let mut all = vec![];
    for Left { node, folder, .. } in scored(store, run)? {
        let scores = read_scores(&folder)?;
        all.push(json!({
            "node": node, "task": scores.task, "corpus": scores.corpus, "primary": scores.primary, "metrics": scores.metrics,
            "chance": scores.chance, "utterances": scores.utterances, "parameters": scores.parameters,
        }));
    }
    Ok(all.into())
}

/// A run of the record by its number.
pub(crate) fn find(store: &Store, number: i64) -> Result<RunRow> {
    store.run(number)?.ok_or_else(|| problem(format!("no run {number} in this store"), "`sure runs` lists them"))
}

/// The node's id of `workflow:node`.
pub(crate) fn id_of(node: &str) -> &str {
    node.split_once(':').map_or(node, |(_, id)| id)
}

/// Writes a Chrome trace.
pub(crate) fn write_timeline(path: &Path, steps: &[Step]) -> Result<()> {
    fs::write(path, serde_json::to_vec(&timeline(steps))?).with_context(|| format!("cannot write `{}`", path.display()))
}

fn outcome<'a>(row: &'a RunRow, living: &HashSet<i64>) -> &'a str {
    match &row.outcome {
        Some(outcome) => outcome,
        None if living.contains(&row.id) => "running",
        None => "unfinished",
    }
}

fn line(row: &RunRow, living: &HashSet<i64>) -> String {
    let request: Request = serde_json::from_str(&row.request).unwrap_or_default(); // of another version: shown without its settings
    let set = request.set.iter().map(|(name, values)| format!("{name}={}", values.join(",")));
    let asked: Vec<String> = request.targets.iter().cloned().chain(set).collect();
    let took = row.ended_ms.map(|end| format!("{:.2} s", (end - row.started_ms) as f64 / 1e3)).unwrap_or_default();
    let text = format!(
        "{:>5}  {}  {:<10}  {took:>10}  {} {}",
        row.id,
        utc(row.started_ms),
        outcome(row, living),
        row.workflow,
        asked.join(" ")
    );
    text.trim_end().to_owned()
}

fn to_json(row: &RunRow, living: &HashSet<i64>) -> Value {
    let request: Value = serde_json::from_str(&row.request).unwrap_or_default();
    json!({
        "run": row.id, "workflow": row.workflow, "host": row.host, "started_ms": row.started_ms, "ended_ms": row.ended_ms,
        "outcome": outcome(row, living), "request": request,
    })
}

/// `2024-02-29 12:00:00Z`
fn utc(millis: i64) -> String {
    Utc(millis.div_euclid(1000)).to_string().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(951_825_599_999), "2000-02-29 11:59:59Z");
        assert_eq!(utc(1_709_208_000_000), "2024-02-29 12:00:00Z");
    }
}
