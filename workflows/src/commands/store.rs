//! `sure store`

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use pipeline::Stop;
use pipeline::event::Deaf;
use pipeline::plan::Verdict;
use pipeline::records::{ResultId, RunRow};
use pipeline::store::Store;
use pipeline::store::gc::{Amount, Damage, Keep, Removable};
use serde_json::json;

use crate::cli::{MachineArgs, Place, duration};
use crate::commands::runs::id_of;
use crate::console::say;
use crate::opening::{Access, Opening, open_store, with_hint};
use crate::problem::problem;
use crate::settings::Settings;

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Show what takes room: artifacts by stage, and everything else
    Du(DuArgs),
    /// Free room: show what nothing wants any more, and with --yes remove it
    Gc(GcArgs),
    /// Read every artifact and compare it with its digest; what is damaged is set aside and made again by the next run
    Verify(VerifyArgs),
}

#[derive(Args)]
pub(crate) struct DuArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Kept are: artifacts that the last runs ended with, that the workflows as they are now would reuse, that the results of any project
/// link to, and young ones.
#[derive(Args)]
pub(crate) struct GcArgs {
    /// Keep what the last N runs of each workflow in each project ended with
    #[arg(long, value_name = "N", default_value_t = 3)]
    keep_runs: usize,
    /// Keep what was made or used within this time: `12h`, `30d`
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1d")]
    older_than: Duration,
    /// Remove only until the artifacts take no more than this, the longest unused first: `500M`, `20G`
    #[arg(long, value_name = "SIZE", value_parser = rebuild::file::size)]
    max_size: Option<u64>,
    /// Do not look what the workflows as they are now would reuse
    #[arg(long)]
    forget_workflows: bool,
    /// Remove it, not only show it
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Only look: leave what is damaged in its place
    #[arg(long)]
    look: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(crate) fn store(command: &StoreCommand) -> Result<ExitCode> {
    match command {
        StoreCommand::Du(args) => du(args),
        StoreCommand::Gc(args) => gc(args),
        StoreCommand::Verify(args) => verify(args),
    }
}

/// Opens the store. Errors: there is none, and none of these commands has a reason to begin one.
fn open(machine: &MachineArgs, access: Access) -> Result<Store> {
    let settings = Settings::load(machine, &[])?;
    if !settings.store.is_dir() {
        let message = format!("no store at `{}`", settings.store.display());
        return Err(problem(message, "the first `sure run` begins one; --store names another"));
    }
    open_store(&settings, access)
}

fn du(args: &DuArgs) -> Result<ExitCode> {
    let store = open(&args.machine, Access::Read)?;
    let usage = store.usage()?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&usage)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut stages: Vec<(&str, Amount)> = usage.stages.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
    stages.push(("(made by nothing that is remembered)", usage.unknown));
    stages.retain(|(_, amount)| amount.count > 0);
    stages.sort_by_key(|(name, amount)| (std::cmp::Reverse(amount.bytes), *name));
    for (name, amount) in stages {
        writeln!(out, "{:>10}  {:>7} artifacts  {name}", bytes(amount.bytes), amount.count)?;
    }
    for (name, amount) in &usage.others {
        writeln!(out, "{:>10}  {:>7} files      {name}", bytes(amount.bytes), amount.count)?;
    }
    let all = usage.artifacts.bytes + usage.others.values().map(|amount| amount.bytes).sum::<u64>();
    writeln!(out, "{:>10}  in all, in {}", bytes(all), store.root().display())?;
    Ok(ExitCode::SUCCESS)
}

fn gc(args: &GcArgs) -> Result<ExitCode> {
    let store = open(&args.machine, if args.yes { Access::Write } else { Access::Read })?;
    let wanted = if args.forget_workflows { HashSet::new() } else { reached(&store, &args.machine)? };
    let keep = Keep { last_runs: args.keep_runs, younger_than: args.older_than, wanted, max_bytes: args.max_size };
    let victims = store.collectable(&keep)?;
    let freed = if args.yes { store.collect(&victims, args.keep_runs)? } else { Amount::default() };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({"artifacts": victims, "freed": freed}))?;
        return Ok(ExitCode::SUCCESS);
    }
    show_victims(&mut out, &victims)?;
    let total = victims.iter().map(|victim| victim.bytes).sum();
    let (count, total) = (victims.len(), bytes(total));
    if args.yes {
        writeln!(out, "removed {} artifacts, {}", freed.count, bytes(freed.bytes))?;
    } else if count == 0 {
        writeln!(out, "nothing to remove")?;
    } else {
        writeln!(out, "{count} artifacts, {total}, would go; nothing is removed without --yes")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// By stage, the largest first.
fn show_victims(out: &mut impl Write, victims: &[Removable]) -> io::Result<()> {
    let mut stages: std::collections::BTreeMap<&str, (usize, u64)> = std::collections::BTreeMap::new();
    for victim in victims {
        let node = victim.node.as_deref().unwrap_or("(made by nothing that is remembered)");
        let stage = stages.entry(node.split(['[', '#']).next().unwrap_or(node)).or_default();
        *stage = (stage.0 + 1, stage.1 + victim.bytes);
    }
    let mut stages: Vec<_> = stages.into_iter().collect();
    stages.sort_by_key(|(name, (_, size))| (std::cmp::Reverse(*size), *name));
    for (name, (count, size)) in stages {
        writeln!(out, "{:>10}  {count:>7} artifacts  {name}", bytes(size))?;
    }
    Ok(())
}

/// Removes what nothing needs, as `sure store gc --yes` does. Nothing happens while the artifacts take no more than `most`.
pub(crate) fn collect(machine: &MachineArgs, keep_runs: usize, most: Option<u64>) -> Result<Amount> {
    let store = open(machine, Access::Write)?;
    if most.is_some_and(|most| store.usage().is_ok_and(|usage| usage.artifacts.bytes <= most)) {
        return Ok(Amount::default());
    }
    let keep = Keep { last_runs: keep_runs, younger_than: Duration::ZERO, wanted: reached(&store, machine)?, max_bytes: most };
    let victims = store.collectable(&keep)?;
    Ok(store.collect(&victims, keep_runs)?)
}

/// Results that each workflow of this project would reuse as it is now, set as it was in its last run. For one that cannot be planned
/// any more, and for those of other projects, only their last runs and the links to their results count.
fn reached(store: &Store, machine: &MachineArgs) -> Result<HashSet<ResultId>> {
    let project = Settings::load(machine, &[])?.project();
    let mut wanted = HashSet::new();
    let mut seen = HashSet::new();
    for row in store.runs(usize::MAX >> 1)? {
        let is_ours = row.project.as_ref().is_none_or(|of| *of == project);
        if is_ours && seen.insert(row.workflow.clone()) {
            match reached_by(&row, machine) {
                Ok(results) => wanted.extend(results),
                Err(error) => say!(
                    "note: {} cannot be planned as it was in run {}, so only its last runs count: {error}",
                    row.workflow,
                    row.id
                ),
            }
        }
    }
    Ok(wanted)
}

fn reached_by(row: &RunRow, machine: &MachineArgs) -> Result<Vec<ResultId>> {
    let place = Place { machine: machine.clone(), ..Place::default() };
    let mut opening = Opening::as_in(row, &place)?;
    let survey = opening.survey()?.complete().map_err(with_hint)?;
    let plan = opening.runner(Arc::new(Deaf), Stop::default()).plan(&survey, &HashSet::new())?;
    let mut results = vec![];
    for (_, verdict) in &plan.verdicts {
        if let Verdict::Reuse { fingerprint, .. } = verdict {
            results.extend(opening.store.result_of(*fingerprint)?);
        }
    }
    Ok(results)
}

fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let store = open(&args.machine, if args.look { Access::Read } else { Access::Write })?;
    let total = store.usage()?.artifacts;
    let bar = if io::stderr().is_terminal() && !args.json { ProgressBar::new(total.bytes) } else { ProgressBar::hidden() };
    let template = "verifying [{bar:30}] {bytes}/{total_bytes}  {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("a constant of this file").progress_chars("=> "));
    let damages = store.verify(args.look, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({"artifacts": total, "damaged": damages}))?;
    } else {
        for Damage { artifact, node, what } in &damages {
            let node = node.as_deref().map_or("an artifact of no known node", id_of);
            writeln!(out, "{node}: {what} ({})", store.path(*artifact).display())?;
        }
        writeln!(out, "{} artifacts, {}: {} damaged", total.count, bytes(total.bytes), damages.len())?;
        if !damages.is_empty() && !args.look {
            writeln!(out, "what is damaged lies in {} now; the next run makes it again", store.root().join("aside").display())?;
        }
    }
    Ok(if damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const UNITS: [(&str, u64); 4] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];

/// `1.5 GB`
pub(crate) fn bytes(number: u64) -> String {
    let unit = UNITS.iter().find(|(_, size)| number >= *size);
    unit.map_or_else(|| format!("{number} B"), |(name, size)| format!("{:.1} {name}", number as f64 / *size as f64))
}

#[cfg(test)]
mod tests {
    use rebuild::file::size;

    use super::bytes;

    #[test]
    fn sizes_are_read_and_shown_in_powers_of_a_thousand() {
        for (text, expected) in
            [("0", 0), ("1000", 1000), ("500M", 500_000_000), ("20 GB", 20_000_000_000), ("1.5t", 1_500_000_000_000)]
        {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "-1", "5X", "1e400"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!([999, 1000, 1_550_000, 20_000_000_000].map(bytes), ["999 B", "1.0 kB", "1.6 MB", "20.0 GB"]);
    }
}
