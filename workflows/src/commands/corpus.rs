//! `sure corpus`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use datasets::check::{Report, check};
use datasets::{Corpus, Protocol, Split};
use pipeline::mistake::suggest;
use pipeline::source::{Listing, UNREADABLE, scan};
use serde_json::json;

use super::tables;
use crate::cli::MachineArgs;
use crate::console::tell;
use crate::problem::problem;
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct CorpusArgs {
    #[command(subcommand)]
    pub(crate) command: CorpusCommand,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, and clap makes it")]
pub(crate) enum CorpusCommand {
    /// List the corpora that can be read, with protocols and published sizes
    List(CorpusListArgs),
    /// Hold a copy of a corpus against what is published: counts, hours, missing and extra files, known defects, duplicates and
    /// speakers across splits. Exit code 0: complete; 1: not complete; 2: cannot be read
    Check(CorpusCheckArgs),
}

#[derive(Args)]
pub(crate) struct CorpusListArgs {
    /// Only this one
    pub(crate) corpus: Option<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct CorpusCheckArgs {
    /// The corpus, by the name of its reader
    pub(crate) corpus: String,
    /// The folder that holds it [default: that of `[corpora]` in sure.toml]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
    /// How the corpus is split and labelled [default: the first that `sure corpus list NAME` names]
    #[arg(long)]
    pub(crate) protocol: Option<String>,
    /// A table of `table` that has a name of its own, below the folder; may be given for each split
    #[arg(long = "table", value_name = "FILE")]
    pub(crate) tables: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) columns: tables::ColumnArgs,
    /// Do not read the recordings: duplicates by content are not found
    #[arg(long)]
    pub(crate) quick: bool,
    /// Show every name, not the first ten of each finding
    #[arg(long, conflicts_with = "json")]
    pub(crate) all: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

pub(crate) fn corpus(args: &CorpusArgs) -> Result<ExitCode> {
    match &args.command {
        CorpusCommand::List(args) => list(args),
        CorpusCommand::Check(args) => check_copy(args),
    }
}

/// The reader of a name.
pub(crate) fn find(name: &str) -> Result<&'static dyn Corpus> {
    datasets::find(name).ok_or_else(|| {
        let hint = suggest(name, datasets::ALL.iter().map(|corpus| corpus.name()));
        let hint = if hint.ends_with('?') { format!("{hint} `sure corpus list` shows all") } else { hint };
        problem(format!("no reader for a corpus `{name}`"), hint)
    })
}

fn list(args: &CorpusListArgs) -> Result<ExitCode> {
    let corpora: Vec<&'static dyn Corpus> = match &args.corpus {
        Some(name) => vec![find(name)?],
        None => datasets::ALL.to_vec(),
    };
    if args.json {
        let shown: Vec<_> = corpora.iter().map(|corpus| as_json(*corpus)).collect();
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    for corpus in corpora {
        tell!("{}: {}", corpus.name(), corpus.about());
        tell!("  licence: {}", corpus.licence());
        for (protocol, at) in corpus.protocols().iter().zip(0..) {
            let first = if at == 0 { " (the default)" } else { "" };
            tell!("  {:<22} {}{first}", protocol.name, protocol.about);
            if let Some([train, dev, test]) = protocol.expected {
                tell!("  {:<22} as published {train} train, {dev} dev, {test} test", "");
            }
        }
        if corpus.name() == "table" && args.corpus.is_some() {
            tables::describe();
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(corpus: &dyn Corpus) -> serde_json::Value {
    let protocol = |protocol: &Protocol| json!({"name": protocol.name, "about": protocol.about, "labels": protocol.labels, "expected": protocol.expected});
    json!({
        "name": corpus.name(),
        "about": corpus.about(),
        "licence": corpus.licence(),
        "protocols": corpus.protocols().iter().map(protocol).collect::<Vec<_>>(),
    })
}

fn check_copy(args: &CorpusCheckArgs) -> Result<ExitCode> {
    let corpus = find(&args.corpus)?;
    let protocol = corpus.protocol(args.protocol.as_deref())?;
    let settings = Settings::load(&args.machine, &[])?;
    let root = match &args.root {
        Some(root) => root.clone(),
        None => settings.place(&format!("corpora.{}", corpus.name()))?.ok_or_else(|| {
            let hint = format!("give `--root FOLDER`, or add `{0} = \"FOLDER\"` to `[corpora]` in sure.toml", corpus.name());
            problem(format!("where is `{}` on this machine?", corpus.name()), hint)
        })?,
    };
    let named = tables::named(corpus, &root, &args.tables, &args.columns)?;
    let corpus: &dyn Corpus = named.as_ref().map_or(corpus, |tables| tables);
    let contents = if args.quick { None } else { Some(hashed(corpus, protocol, &root)?) };
    let tree = contents.as_ref().map(Listing::tree);
    // Files that may not be read have one digest together, and are no copies of each other.
    let known = |path: &str| Some(tree.as_ref()?.find(path)?.digest).filter(|digest| *digest != UNREADABLE);
    let digest = |path: &str| known(path).map(|digest| digest.to_string());
    let report = check(corpus, protocol, &root, &digest)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&report, args.all, contents.is_some());
    }
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The digests of all recordings. Where nothing of the corpus is, the reader says it better.
fn hashed(corpus: &dyn Corpus, protocol: &'static Protocol, root: &Path) -> Result<Listing> {
    let scratch = Scratch::new()?;
    if !root.is_dir() {
        corpus.list(root, protocol)?;
    }
    let root = root.canonicalize().with_context(|| format!("cannot open `{}`", root.display()))?;
    let (listing, _) = scan(&root, &|path: &str| corpus.wants(protocol, path), &scratch.0.join("stat"))?;
    Ok(listing)
}

/// A folder that goes with us.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("sure-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a temporary folder that stays is no loss
    }
}

fn show(report: &Report, all: bool, compared: bool) {
    print!("{}", if all { report.in_full() } else { report.to_string() });
    if !compared {
        tell!("(contents were not compared: --quick)");
    }
    let unknown: u64 = report.splits.iter().map(|split| split.unknown_lengths).sum();
    if unknown > 0 {
        let total: u64 = Split::ALL.iter().map(|split| report.splits[*split as usize].utterances).sum();
        tell!("hours leave out {unknown} of {total} recordings, whose headers do not say how long they are");
    }
}
