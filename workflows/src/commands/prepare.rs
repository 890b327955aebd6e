//! `sure prepare`: a corpus becomes a folder of shards, without a workflow file.
//!
//! ```text
//! OUT/train-00000-of-00016.parquet ...     the shards, and `.clips` beside each: where every clip lies in it
//! OUT/README.md                            what it is; by its head `datasets.load_dataset(OUT)` knows the splits
//! OUT/statistics.json rejects.parquet      hours, lengths, classes; recordings that gave no row
//! OUT/skipped.jsonl                        files and rows that the reader left out, and why; only when there are any
//! OUT/index.html *.png                     the same as a page
//! OUT/.sure                                the store: what lies in OUT are links to it, so nothing is there twice
//! ```

mod publish;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use pipeline::Stop;
use pipeline::event::Progress;
use pipeline::memo;
use pipeline::run::Options;
use pipeline::source::Looked;
use pipeline::store::Store;
use pipeline::store::house::Keep;

use crate::cli::{MachineArgs, Place, PrepareArgs, Target};
use crate::commands::corpus::find;
use crate::commands::run::{STOPPED, listen_for_signals};
use crate::commands::tables::in_corpus;
use crate::console;
use crate::opening::{Asking, with_hint};
use crate::problem::problem;

pub(crate) fn prepare(args: &PrepareArgs) -> Result<ExitCode> {
    let corpus = find(&args.corpus)?;
    let protocol = corpus.protocol(args.protocol.as_deref())?;
    if !args.root.is_dir() {
        let hint = format!("--root names the folder that holds `{}`: {}", corpus.name(), corpus.about());
        return Err(problem(format!("no folder `{}`", args.root.display()), hint));
    }
    let tables = in_corpus(corpus, &args.root, &args.tables)?;
    let out = folder_for(&args.out)?;
    let store = out.join(".sure");
    fs::create_dir_all(&store).with_context(|| format!("cannot create `{}`", store.display()))?;
    let workflow = out.join(WORKFLOW);
    write_if_other(&workflow, &workflow_text(args, &tables, protocol.name)?)?;

    let machine = MachineArgs { store: Some(store), jobs: args.jobs, ..MachineArgs::default() };
    let root = args.root.display().to_string();
    let place = Place { corpus: vec![(corpus.name().to_owned(), root)], machine, ..Place::default() };
    let target = Target { workflow: workflow.display().to_string(), place, ..Target::default() };
    let asking = Asking::new(&target)?;
    let stop = Stop::default();
    listen_for_signals(&stop)?;
    let progress: Arc<dyn Progress> = console::pick_hours(args.quiet, args.json);

    let request = serde_json::to_string(&asking.request)?;
    let (machine, mut looked) = (&asking.settings.machine, Looked::default());
    let still =
        memo::stand_still(&asking.question(), &request, &asking.store, &asking.registry, machine, &*progress, &mut looked)?;
    if still.is_some() && publish::again(&out, &asking.store)? {
        drop(progress);
        return tell(args, &out);
    }
    let opening = asking.open()?;
    let session = opening.session(Arc::clone(&progress), stop);
    let options = Options { keep_going: true, request, looked, ..Options::default() };
    let summary = session.run(&options).map_err(with_hint)?;
    drop(progress);
    if !summary.complete {
        return Ok(if summary.stopped { ExitCode::from(STOPPED) } else { ExitCode::FAILURE });
    }
    publish::publish(&out, &opening.workflow, &summary, &opening.store, args.shards)?;
    memo::keep(&opening.question, &opening.workflow, &summary.survey, &summary, &opening.store)?;
    forget_older(&opening.store)?;
    tell(args, &out)
}

/// The workflow of a folder, relative to it: by that an earlier run is known.
const WORKFLOW: &str = ".sure/prepare.toml";

/// The folder of the shards, by its full path; made when it is not there. One that holds anything else is left alone: a README
/// of its own would be lost.
fn folder_for(out: &Path) -> Result<PathBuf> {
    if out.exists() && !out.is_dir() {
        return Err(problem(format!("`{}` is not a folder", out.display()), "--out names the folder to make the shards in"));
    }
    fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let entries = fs::read_dir(out).with_context(|| format!("cannot list `{}`", out.display()))?.flatten();
    let is_visible = |name: &std::ffi::OsStr| !name.to_string_lossy().starts_with('.');
    let other = entries.map(|entry| entry.file_name()).filter(|name| is_visible(name)).min();
    if let Some(other) = other.filter(|_| !out.join(WORKFLOW).is_file()) {
        let message = format!("`{}` holds `{}`, which `sure prepare` did not make", out.display(), other.to_string_lossy());
        return Err(problem(message, "--out should name a new or empty folder, or one of an earlier `sure prepare`"));
    }
    out.canonicalize().with_context(|| format!("cannot open `{}`", out.display()))
}

/// The workflow as a file: so that `sure why` and `sure log` find it again.
fn workflow_text(args: &PrepareArgs, tables: &[String], protocol: &str) -> Result<String> {
    let tables = if tables.is_empty() { String::new() } else { format!("tables = {}\n", serde_json::to_string(tables)?) };
    Ok(format!(
        include_str!("prepare/workflow.toml"),
        corpus = serde_json::to_string(&args.corpus)?,
        protocol = serde_json::to_string(protocol)?,
        tables = tables,
        shards = args.shards,
        rate = args.rate,
        format = serde_json::to_string(&args.format)?,
        // A share of 1 is a whole number in Rust's words and a fraction in TOML's.
        max_rejects = format_args!("{:?}", args.max_rejects),
    ))
}

fn write_if_other(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).ok().as_deref() == Some(text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Removes what earlier runs made and this one does not use: nothing of audio should take its room twice.
fn forget_older(store: &Store) -> Result<()> {
    let victims = store.collectable(&Keep { last_runs: 1, ..Keep::default() })?;
    if !victims.is_empty() {
        store.collect(&victims, 20)?;
    }
    Ok(())
}

fn tell(args: &PrepareArgs, out: &Path) -> Result<ExitCode> {
    if !args.quiet && !args.json {
        let shown = std::env::current_dir().ok().and_then(|here| out.strip_prefix(here).ok().map(Path::to_owned));
        println!("{}", publish::sentence(out, shown.as_deref().unwrap_or(out))?);
    }
    Ok(ExitCode::SUCCESS)
}
