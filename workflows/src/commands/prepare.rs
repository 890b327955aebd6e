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
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use audio::wav::SAMPLE_RATES;
use clap::Args;
use pipeline::Stop;
use pipeline::event::Progress;
use pipeline::plan_cache;
use pipeline::run::Options;
use pipeline::source::RecentScans;
use pipeline::store::Store;
use pipeline::store::gc::Keep;

use crate::cli::{MachineArgs, Place, Target};
use crate::commands::corpus::find;
use crate::commands::run::{STOPPED, listen_for_signals};
use crate::commands::tables::in_corpus;
use crate::console;
use crate::opening::{Access, Asking, with_hint};
use crate::problem::problem;

/// Sample rates of clips, in Hz.
const RATES: RangeInclusive<i64> = *SAMPLE_RATES.start() as i64..=*SAMPLE_RATES.end() as i64;

#[derive(Args)]
pub(crate) struct PrepareArgs {
    /// The corpus, by the name of its reader (`sure corpus list`); `table` for recordings of your own
    pub(crate) corpus: String,
    /// The folder that holds the corpus
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: PathBuf,
    /// The folder to make the shards in, new or made by this command; what is up to date there is left alone
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// How the corpus is split and labelled [default: the first that `sure corpus list NAME` names]
    #[arg(long)]
    pub(crate) protocol: Option<String>,
    /// A table of `table`: CSV, TSV, JSON lines or Parquet with a column `path`, below --root; may be given for each split
    #[arg(long = "table", value_name = "FILE")]
    pub(crate) tables: Vec<PathBuf>,
    /// Sample rate of the clips, in Hz
    #[arg(long, default_value_t = 16_000, value_name = "HZ", value_parser = clap::value_parser!(u32).range(RATES))]
    pub(crate) rate: u32,
    /// How the clips are written
    #[arg(long, default_value = "wav", value_parser = ["wav", "flac"])]
    pub(crate) format: String,
    /// Shards of each split; a changed recording rebuilds one
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) shards: u32,
    /// The largest share of recordings that may turn out broken, 0 to 1; more of them are an error
    #[arg(long, default_value_t = 0.01, value_name = "SHARE", value_parser = share)]
    pub(crate) max_rejects: f64,
    /// How many threads work at once [default: number of cores]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Print nothing but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print events as JSON lines on standard output instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `0.01`
fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a share of 0 to 1, such as 0.01".to_owned())
}

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
    let asking = Asking::new(&target, Access::Write)?;
    let stop = Stop::default();
    listen_for_signals(&stop)?;
    let progress: Arc<dyn Progress> = console::pick_hours(args.quiet, args.json);

    let request = serde_json::to_string(&asking.request)?;
    let (machine, mut scans) = (&asking.settings.machine, RecentScans::default());
    let still = plan_cache::run_if_up_to_date(
        &asking.question(),
        &request,
        None,
        &asking.store,
        &asking.registry,
        machine,
        &*progress,
        &mut scans,
    )?;
    if still.is_some() && publish::again(&out, &asking.store)? {
        drop(progress);
        return tell(args, &out);
    }
    let opening = asking.open()?;
    let session = opening.session(Arc::clone(&progress), stop);
    let options = Options { keep_going: true, request, scans, ..Options::default() };
    let summary = session.run(&options).map_err(with_hint)?;
    drop(progress);
    if !summary.complete {
        return Ok(if summary.stopped { ExitCode::from(STOPPED) } else { ExitCode::FAILURE });
    }
    publish::publish(&out, &opening.workflow, &summary, &opening.store, args.shards)?;
    plan_cache::keep(&opening.question, &opening.workflow, &summary.survey, &summary, &opening.store)?;
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
