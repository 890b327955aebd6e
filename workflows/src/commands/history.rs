//! `sure history`: values, verdicts and causes of a rebuild file's history; its site; and accepting present values as the baseline.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use pipeline::mistake::suggest;
use rebuild::event::word;
use rebuild::history::{Baseline, History};
use rebuild::record::{Cell, Ended, NamedCause};
use serde_json::Value;

use crate::commands::rebuild::{cell_json, history_problem, now, read_file, variable, write_site_to};
use crate::problem::problem;

#[derive(Args)]
pub(crate) struct HistoryArgs {
    /// The rebuild file
    file: PathBuf,
    #[command(subcommand)]
    change: Option<Change>,
    /// A cell: words of its name, such as `keyword_spotting lora` [default: all, in short]
    cell: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the site into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "json")]
    site: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Change {
    /// Make present values the baseline, and end their alarms
    Accept {
        /// Cells whose names have all these words [default: all cells]
        cell: Vec<String>,
        /// Reason, for the history
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

/// Results of a cell that are shown.
const SHOWN: usize = 20;

pub(crate) fn history(args: &HistoryArgs) -> Result<ExitCode> {
    let (file, _) = read_file(&args.file)?;
    if let Some(Change::Accept { cell, why }) = &args.change {
        return accept(&file, cell, why);
    }
    let history = History::read(&file.history).map_err(history_problem)?;
    history.check_owner(&file).map_err(history_problem)?;
    if let Some(folder) = &args.site {
        let count = write_site_to(&file, &history, folder)?;
        println!("{count} files written, in {}", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(last) = history.log.ended().rev().find(|ended| ended.outcome.is_end()) else {
        let hint = format!("`sure rebuild {}` does one", args.file.display());
        return Err(problem(format!("no rebuild has ended in `{}`", file.history.display()), hint));
    };
    let mut out = io::stdout().lock();
    if args.cell.is_empty() {
        if args.json {
            let all: Vec<Value> = last.cells.iter().map(|(key, cell)| cell_json(key, last, cell)).collect();
            writeln!(out, "{}", Value::from(all))?;
            return Ok(ExitCode::SUCCESS);
        }
        return summary(&mut out, &history, last);
    }
    let keys = matching(last, &args.cell.join(" "))?;
    for key in keys {
        let results: Vec<(&Ended, &Cell)> = history.log.distinct(&key);
        if args.json {
            for (ended, cell) in results {
                writeln!(out, "{}", cell_json(&key, ended, cell))?;
            }
            continue;
        }
        writeln!(out, "{key}")?;
        if let Some(baseline) = history.baselines.get(&key) {
            writeln!(out, "  baseline: {} ({}, by {})", baseline.rebuild, baseline.why, baseline.by)?;
        }
        for (ended, cell) in results.iter().rev().take(SHOWN) {
            writeln!(out, "  {}  {}", ended.begun.short(), line(cell))?;
        }
        if results.len() > SHOWN {
            writeln!(out, "  and {} older ones", results.len() - SHOWN)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `93.45 ± 1.63  worse  library: libtorch 2.11 -> 2.12`
fn line(cell: &Cell) -> String {
    let causes: Vec<String> = cell.causes.iter().map(NamedCause::print).collect();
    let alarm = if cell.alarm { "  ALARM" } else { "" };
    let text = format!("{:>16}  {}{alarm}  {}", cell.print(), word(cell.last.verdict), causes.join("; "));
    text.trim_end().to_owned()
}

fn summary(out: &mut impl Write, history: &History, last: &Ended) -> Result<ExitCode> {
    writeln!(out, "rebuild {} of {} UTC, {}", last.id, last.begun.short(), last.outcome.title())?;
    let width = last.cells.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    for (key, cell) in &last.cells {
        let metric = cell.metric.map_or_else(String::new, scoring::Metric::title_with_unit);
        writeln!(out, "{key:<width$}  {metric:<18} {}", line(cell))?;
    }
    let newest = history.log.ended().next_back();
    for (key, alarm) in newest.iter().flat_map(|ended| &ended.open) {
        writeln!(out, "open alarm since {}: {key}", alarm.since)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Cells whose names have all words of a pattern.
fn matching(last: &Ended, pattern: &str) -> Result<Vec<String>> {
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let has = |key: &&String| words.iter().all(|word| key.split(' ').any(|part| part == *word));
    let found: Vec<String> = last.cells.keys().filter(has).cloned().collect();
    if found.is_empty() {
        let parts: Vec<&str> = last.cells.keys().flat_map(|key| key.split(' ')).collect();
        let wrong = words.iter().find(|word| !parts.contains(word)).unwrap_or(&pattern);
        return Err(problem(format!("no cell `{pattern}` in the last rebuild"), suggest(wrong, parts)));
    }
    Ok(found)
}

fn accept(file: &rebuild::file::RebuildFile, words: &[String], why: &str) -> Result<ExitCode> {
    let now = now()?;
    let Some(lock) = History::lock(&file.history).map_err(history_problem)? else {
        return Err(problem("a rebuild is going on", "accept its values when it has ended"));
    };
    let mut history = History::read(&file.history).map_err(history_problem)?;
    history.check_owner(file).map_err(history_problem)?;
    let Some(last) = history.log.ended().rev().find(|ended| ended.outcome.is_end() && !ended.fresh) else {
        return Err(problem("no rebuild has ended yet", "there is nothing to accept"));
    };
    let all = || last.cells.keys().cloned().collect();
    let mut keys: Vec<String> = if words.is_empty() { all() } else { matching(last, &words.join(" "))? };
    keys.retain(|key| !last.cells[key].values.is_empty());
    let by = ["USER", "LOGNAME"].into_iter().find_map(variable).unwrap_or_else(|| "unknown".to_owned());
    let (id, mut baselines): (String, BTreeMap<String, Baseline>) = (last.id.clone(), history.baselines.clone());
    for key in &keys {
        let baseline = Baseline { rebuild: id.clone(), since: now, by: by.clone(), why: why.to_owned() };
        baselines.insert(key.clone(), baseline);
        println!("{key}: baseline is rebuild {id}");
    }
    history.set_baselines(&lock, baselines).map_err(history_problem)?;
    Ok(ExitCode::SUCCESS)
}
