//! `sure prepare`: a corpus becomes a folder of shards, without a workflow file.
//!
//! ```text
//! OUT/train-00000-of-00004.parquet ...     the shards and nothing else: `pandas.read_parquet(OUT)` reads all of them
//! OUT.about/README.md index.html *.png     description of the corpus, as text and as a page
//! OUT.about/statistics.json                hours, lengths, classes
//! OUT.about/rejects.parquet skipped.jsonl  recordings that gave no row; files and rows that the reader left out, and why
//! OUT.about/clips/train-00000-of-00004.clips   position of every clip in its shard
//! OUT.about/.sure                          the store: all files are links into it, so nothing is stored twice
//! ```

mod publish;

use std::fmt::Write;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use audio::report::Report;
use audio::wav::SAMPLE_RATES;
use clap::Args;
use datasets::table::ColumnNames;
use pipeline::Stop;
use pipeline::event::Progress;
use pipeline::plan_cache;
use pipeline::run::Options;
use pipeline::source::RecentScans;
use pipeline::store::Store;
use pipeline::store::gc::Keep;
use serde::{Deserialize, Serialize};

use crate::cli::{MachineArgs, Place, Target};
use crate::commands::corpus::find;
use crate::commands::run::{KEPT, STOPPED, listen_for_signals};
use crate::commands::tables::{ColumnArgs, in_corpus};
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
    /// A table of `table`: CSV, TSV, JSON lines or Parquet, below --root; may be given for each split
    #[arg(long = "table", value_name = "FILE")]
    pub(crate) tables: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) columns: ColumnArgs,
    /// Sample rate of the clips, in Hz
    #[arg(long, default_value_t = 16_000, value_name = "HZ", value_parser = clap::value_parser!(u32).range(RATES))]
    pub(crate) rate: u32,
    /// How the clips are written
    #[arg(long, default_value = "wav", value_parser = ["wav", "flac"])]
    pub(crate) format: String,
    /// Shards of each split; a changed recording rebuilds one [default: one for each 64 MB of recordings]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) shards: Option<u32>,
    /// Largest share of the corpus's recordings that may be broken, and that may be missing, 0 to 1; more are an error
    #[arg(long, default_value_t = 0.01, value_name = "SHARE", value_parser = share)]
    pub(crate) max_rejects: f64,
    /// Accept a copy that lacks recordings or has an empty split
    #[arg(long)]
    pub(crate) allow_incomplete: bool,
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
    let columns = args.columns.names(corpus)?;
    let out = folder_for(&args.out)?;
    let about = about(&out);
    let store = about.join(".sure");
    let made = Made { corpus: corpus.name().to_owned(), root: args.root.canonicalize()? };
    require_same(&out, &about, &made)?;
    fs::create_dir_all(&store).with_context(|| format!("cannot create `{}`", store.display()))?;
    let workflow = about.join(WORKFLOW);
    let shards = match args.shards.or_else(|| shards_of(&workflow)) {
        Some(shards) => shards,
        None => shards_for(bytes_of(&args.root, &|path| corpus.wants(protocol, path))),
    };
    write_if_other(&workflow, &workflow_text(args, &tables, &columns, protocol.name, shards)?)?;
    write_if_other(&about.join(MADE), &serde_json::to_string(&made)?)?;

    let machine = MachineArgs { store: Some(store), jobs: args.jobs, local: true, ..MachineArgs::default() };
    let root = args.root.display().to_string();
    let place = Place { corpus: vec![(corpus.name().to_owned(), root)], machine, ..Place::default() };
    let target = Target { workflow: workflow.display().to_string(), place, ..Target::default() };
    let asking = Asking::new(&target, Access::Write)?;
    let stop = Stop::default();
    listen_for_signals(&stop, KEPT)?;
    let progress: Arc<dyn Progress> = console::pick_hours(args.quiet, args.json);

    publish::set_edited_aside(&asking.store)?;
    let request = serde_json::to_string(&asking.request)?;
    let (machine, mut scans) = (&asking.settings.machine, RecentScans::default());
    let still = plan_cache::run_if_up_to_date(
        &asking.question(),
        (&request, None),
        &asking.store,
        &asking.registry,
        machine,
        &*progress,
        &mut scans,
    )?;
    if still.is_some() && publish::again(&out, &about, &asking.store)? {
        drop(progress);
        check_rejects(args, &about.join(publish::STATISTICS))?;
        return tell(args, &out);
    }
    let opening = asking.open()?;
    let runner = opening.runner(Arc::clone(&progress), stop);
    let options = Options { keep_going: true, request, scans, ..Options::default() };
    let summary = runner.run(&options).map_err(with_hint)?;
    drop(progress);
    if !summary.complete {
        return Ok(if summary.stopped { ExitCode::from(STOPPED) } else { ExitCode::FAILURE });
    }
    check_rejects(args, &publish::statistics(&opening.workflow, &summary, &opening.store))?;
    publish::publish(&out, &about, &opening.workflow, &summary, &opening.store, shards)?;
    plan_cache::keep(&opening.question, &opening.workflow, &summary.survey, &summary, &opening.store)?;
    forget_older(&opening.store)?;
    tell(args, &out)
}

/// Folder next to the shards for everything else: polars takes every file in a folder for a part of the table.
fn about(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".about");
    out.with_file_name(name)
}

/// Workflow of a folder, relative to [`about`]. By this file a folder of an earlier run is known.
const WORKFLOW: &str = ".sure/prepare.toml";
/// Corpus and root of a folder, relative to [`about`].
const MADE: &str = ".sure/made.json";

/// Corpus that a folder was made from.
#[derive(PartialEq, Serialize, Deserialize)]
struct Made {
    corpus: String,
    root: PathBuf,
}

/// Errors: the folder was made from another corpus, or from another folder that is still there.
fn require_same(out: &Path, about: &Path, made: &Made) -> Result<()> {
    if !fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok(()); // Nothing was prepared yet: the run before failed.
    }
    let before = fs::read(about.join(MADE)).ok().and_then(|text| serde_json::from_slice::<Made>(&text).ok());
    let Some(before) = before.filter(|before| before != made) else { return Ok(()) };
    if before.corpus == made.corpus && !before.root.is_dir() {
        return Ok(()); // The corpus was moved.
    }
    let message = format!("`{}` contains the corpus `{}` of `{}`", out.display(), before.corpus, before.root.display());
    Err(problem(message, "--out should name a folder of its own for each corpus; remove this one if you no longer need it"))
}

/// Bytes of recordings in a shard, if their number is not given.
const SHARD_BYTES: u64 = 64 << 20;

/// Number of shards for recordings of a size.
fn shards_for(bytes: u64) -> u32 {
    bytes.div_ceil(SHARD_BYTES).clamp(1, 4_096) as u32
}

/// Number of shards that an earlier run chose, so that more recordings do not move all others.
fn shards_of(workflow: &Path) -> Option<u32> {
    let text = fs::read_to_string(workflow).ok()?;
    text.lines().find_map(|line| line.strip_prefix("partitions = ")?.trim().parse().ok())
}

/// Size of the files of a corpus. What cannot be read counts nothing: the run reports it.
fn bytes_of(root: &Path, wants: &dyn Fn(&str) -> bool) -> u64 {
    const DEEPEST: u32 = 16;
    let (mut bytes, mut folders) = (0, vec![(root.to_owned(), String::new(), 0)]);
    while let Some((folder, inner, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{inner}{name}");
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_dir() && depth < DEEPEST => folders.push((entry.path(), format!("{path}/"), depth + 1)),
                Ok(meta) if meta.is_file() && wants(&path) => bytes += meta.len(),
                _ => {}
            }
        }
    }
    bytes
}

/// Errors: more recordings of the whole corpus are broken than allowed.
fn check_rejects(args: &PrepareArgs, statistics: &Path) -> Result<()> {
    let Report { rejected, utterances, reasons, .. } = publish::read_statistics(statistics)?.shards;
    if rejected as f64 <= args.max_rejects * utterances as f64 {
        return Ok(());
    }
    let mut kinds: Vec<_> = reasons.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let kinds: Vec<_> = kinds.into_iter().take(3).map(|(reason, count)| format!("{count}: {reason}")).collect();
    let message = format!(
        "{rejected} of {utterances} recordings of the corpus are broken, more than the allowed share of {}; {}",
        args.max_rejects,
        kinds.join("; ")
    );
    let share = (rejected as f64 / utterances.max(1) as f64 * 1e3).ceil() / 1e3;
    Err(problem(message, format!("repair or remove these recordings, or accept the loss with `--max-rejects {share}`")))
}

/// Folder of the shards, by its full path; created if it is missing. A folder with other files is refused, so that none of them is
/// replaced.
fn folder_for(out: &Path) -> Result<PathBuf> {
    if out.exists() && !out.is_dir() {
        return Err(problem(format!("`{}` is not a folder", out.display()), "--out names the folder to make the shards in"));
    }
    fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let out = out.canonicalize().with_context(|| format!("cannot open `{}`", out.display()))?;
    if out.join(".sure").exists() {
        let message = format!(
            "`{}` was made by an earlier version of `sure prepare`, which kept other files with the shards",
            out.display()
        );
        return Err(problem(message, "remove the folder, or choose another --out"));
    }
    let entries = fs::read_dir(&out).with_context(|| format!("cannot list `{}`", out.display()))?.flatten();
    let is_known = about(&out).join(WORKFLOW).is_file();
    if let Some(other) = entries.map(|entry| entry.file_name()).min().filter(|_| !is_known) {
        let message = format!("`{}` contains `{}`, which `sure prepare` did not make", out.display(), other.to_string_lossy());
        return Err(problem(message, "--out should name a new or empty folder, or one of an earlier `sure prepare`"));
    }
    Ok(out)
}

/// Workflow as a file, so that `sure why` and `sure log` find it.
fn workflow_text(args: &PrepareArgs, tables: &[String], columns: &ColumnNames, protocol: &str, shards: u32) -> Result<String> {
    let mut more = String::new();
    if !tables.is_empty() {
        let _ = writeln!(more, "tables = {}", serde_json::to_string(tables)?); // writing to a string cannot fail
    }
    if let serde_json::Value::Object(columns) = serde_json::to_value(columns)? {
        for (name, value) in columns {
            let _ = writeln!(more, "columns.{name} = {value}");
        }
    }
    if !args.allow_incomplete {
        // A share of 1 is a whole number in Rust's words and a fraction in TOML's.
        let _ = writeln!(more, "max_missing_share = {:?}", args.max_rejects);
    }
    Ok(format!(
        include_str!("prepare/workflow.toml"),
        corpus = serde_json::to_string(&args.corpus)?,
        protocol = serde_json::to_string(protocol)?,
        more = more,
        shards = shards,
        rate = args.rate,
        format = serde_json::to_string(&args.format)?,
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
        let about = about(out);
        let shown = std::env::current_dir().ok().and_then(|here| about.strip_prefix(here).ok().map(Path::to_owned));
        println!("{}", publish::sentence(&about, shown.as_deref().unwrap_or(&about))?);
    }
    Ok(ExitCode::SUCCESS)
}
