//! `sure cache`

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use cache::{Cache, CacheError, Forget, Key};
use clap::{Args, Subcommand};
use pipeline::Stop;
use pipeline::shared::{Offer, SharedResult};
use pipeline::store::gc::Amount;
use serde_json::json;

use crate::cli::{MachineArgs, duration};
use crate::commands::run::{KEPT, listen_for_signals};
use crate::commands::store::bytes;
use crate::console::say;
use crate::opening::{Access, open_store};
use crate::problem::problem;
use crate::settings::Settings;
use crate::sharing::with;

#[derive(Subcommand)]
pub(crate) enum CacheCommand {
    /// Try what a run may ask of the cache: reading, writing, conditions, keys
    Check(OnlyMachine),
    /// Upload results that wait, or with --all those of the last run of each workflow
    Push(PushArgs),
    /// Remove results of a writer or of a time; with --yes
    Forget(ForgetArgs),
    /// Remove what has not been used for a long time; with --yes
    Gc(GcArgs),
    /// Show the size of the cache
    Du(DuArgs),
    /// Make the key with which this user signs what is uploaded, and print its public half
    Key(KeyArgs),
}

#[derive(Args)]
pub(crate) struct OnlyMachine {
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct PushArgs {
    /// Upload also what the last run of each workflow ended with, whatever it cost to make
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct ForgetArgs {
    /// Results of this writer
    #[arg(long, value_name = "NAME", required_unless_present = "since")]
    writer: Option<String>,
    /// Results that were uploaded within this time: `2h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    since: Option<Duration>,
    /// Remove them, not only count them
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct GcArgs {
    /// Remove results that no run has used for this time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90d")]
    unused: Duration,
    /// Remove it, not only count it
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct DuArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct KeyArgs {
    /// Name of the writer, as readers see it
    name: String,
    /// File of the key [default: ~/.config/sure/cache.key]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn cache(command: &CacheCommand) -> Result<ExitCode> {
    match command {
        CacheCommand::Check(args) => check(&args.machine),
        CacheCommand::Push(args) => push(args),
        CacheCommand::Forget(args) => forget(args),
        CacheCommand::Gc(args) => gc(args),
        CacheCommand::Du(args) => du(args),
        CacheCommand::Key(args) => key(args),
    }
}

fn open(machine: &MachineArgs) -> Result<(Cache, Settings)> {
    let settings = Settings::load(machine, &[])?;
    let opened = with::open(&settings);
    let hint = "add `[cache]` with `url = \"s3://bucket/prefix\"` to sure.toml (`docs/cache.md`)";
    let opened = opened.ok_or_else(|| problem("no cache is set", hint))?;
    Ok((opened.map_err(with_hint)?, settings))
}

fn with_hint(error: CacheError) -> anyhow::Error {
    match &error {
        CacheError::Access { .. } => problem(error.to_string(), "`sure cache check` tries everything and says what is wrong"),
        CacheError::Newer { .. } => problem(error.to_string(), "a newer version of this program wrote it: use that version"),
        _ => error.into(),
    }
}

fn check(machine: &MachineArgs) -> Result<ExitCode> {
    let (cache, _) = open(machine)?;
    let mut out = io::stdout().lock();
    let mut all_good = true;
    for finding in cache.check() {
        let mark = if finding.good { "ok " } else { "BAD" };
        writeln!(out, "{mark} {:<11} {}", finding.what, finding.text)?;
        if let Some(hint) = finding.hint {
            writeln!(out, "    {hint}")?;
        }
        all_good &= finding.good;
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn push(args: &PushArgs) -> Result<ExitCode> {
    let (cache, settings) = open(&args.machine)?;
    if settings.cache.as_ref().is_some_and(|cache| !cache.write) {
        return Err(problem("this machine may not write to the cache", "add `write = true` to `[cache]` in sure.toml"));
    }
    let stop = Stop::default();
    listen_for_signals(&stop, KEPT)?;
    if args.all {
        let kept = offer_all(&cache, &settings)?;
        if kept > 0 {
            say!("{kept} results stay on this machine: they contain recordings (`recordings = true` of [cache] uploads them)");
        }
    }
    let counts = cache.push(&stop, |left| say!("{left} to upload"));
    if counts.blocked > 0 {
        say!("{}", with::blocked(counts.blocked));
    }
    let damaged = if counts.damaged > 0 { format!(", {} damaged objects put again", counts.damaged) } else { String::new() };
    let failed = match counts.failed {
        0 => String::new(),
        count => format!(", {count} could not be read or packed: is the disk full? `sure store verify` looks for damage"),
    };
    writeln!(io::stdout().lock(), "{} uploaded, {} wait{damaged}{failed}", counts.uploaded, counts.waiting)?;
    Ok(if counts.waiting + counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Offers what the last run of each workflow ended with. Returns the number of results that may not be uploaded.
fn offer_all(cache: &Cache, settings: &Settings) -> Result<usize> {
    let store = open_store(settings, Access::Write)?;
    let (mut workflows, mut results) = (BTreeSet::new(), BTreeSet::new());
    for run in store.runs(usize::MAX >> 1)? {
        let members = store.members(run.id)?;
        if !members.is_empty() && workflows.insert(run.workflow) {
            results.extend(members.into_iter().map(|member| member.result));
        }
    }
    let mut kept = 0;
    for id in results {
        let Some(record) = store.result(id)? else { continue };
        let is_source = record.manifest.0.keys().any(|name| name.starts_with("input.source "));
        if is_source || !store.has(record.artifact) {
            continue;
        }
        let files = store.listing(record.artifact)?;
        let fingerprint = record.manifest.fingerprint();
        let (manifest, artifact, provenance) = (record.manifest, record.artifact, record.provenance);
        let result = SharedResult { manifest, artifact, files, provenance };
        kept += usize::from(!cache.offer_anyway(Offer { fingerprint, result }));
    }
    Ok(kept)
}

/// `3 traces, 1.2 MB`
fn show(amount: Amount, what: &str) -> String {
    format!("{} {what}, {}", amount.count, bytes(amount.bytes))
}

fn forget(args: &ForgetArgs) -> Result<ExitCode> {
    let (cache, _) = open(&args.machine)?;
    let choice = Forget { writer: args.writer.clone(), within: args.since };
    let amount = cache.forget(&choice, args.yes).map_err(with_hint)?;
    let end =
        if args.yes { "removed; `sure cache gc` removes their bytes" } else { "would go; nothing is removed without --yes" };
    writeln!(io::stdout().lock(), "{} {end}", show(amount, "results"))?;
    Ok(ExitCode::SUCCESS)
}

fn gc(args: &GcArgs) -> Result<ExitCode> {
    let (cache, _) = open(&args.machine)?;
    let collected = cache.collect(args.unused, args.yes).map_err(with_hint)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({"collected": collected, "removed": args.yes}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let end = if args.yes { "removed" } else { "would go; nothing is removed without --yes" };
    writeln!(out, "{}; {} {end}", show(collected.traces, "results"), show(collected.bytes, "objects"))?;
    if collected.later.count > 0 {
        writeln!(out, "{} belong to no result; a collection in a week removes them", show(collected.later, "objects"))?;
    }
    writeln!(out, "{} stay", show(collected.kept, "results"))?;
    Ok(ExitCode::SUCCESS)
}

fn du(args: &DuArgs) -> Result<ExitCode> {
    let (cache, _) = open(&args.machine)?;
    let usage = cache.usage().map_err(with_hint)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&usage)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (kind, amount) in &usage.kinds {
        writeln!(out, "{:>10}  {:>7} objects  {kind}", bytes(amount.bytes), amount.count)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn key(args: &KeyArgs) -> Result<ExitCode> {
    let no_home = || problem("no home folder is known", "name a file: `--out FILE`");
    let path = args.out.clone().or_else(Key::file).ok_or_else(no_home)?;
    let public = Key::create(&args.name, &path).map_err(with_hint)?;
    say!("wrote the secret key to {}; it signs what this user uploads", path.display());
    if args.out.is_some() {
        say!("another machine reads it from ~/.config/sure/cache.key, or its content from $SURE_CACHE_KEY");
    }
    say!("readers need this line in `[cache]` of their sure.toml:");
    writeln!(io::stdout().lock(), "trusted = [\"{public}\"]")?;
    Ok(ExitCode::SUCCESS)
}
