//! `sure init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use datasets::table::{Table, Tables};
use datasets::{Corpus, CorpusError, Listing, Split};
use hub::Pinned;
use pipeline::spec::Spec;
use serde_json::Value;

use crate::cli::MachineArgs;
use crate::commands::tables::ColumnArgs;
use crate::console::{say, tell};
use crate::library;
use crate::problem::problem;
use crate::settings::Settings;
use crate::sure_toml::PINNED;

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Name of the workflow; the file is NAME.toml
    pub(crate) name: String,
    /// Folder with the table of your recordings, or the table itself: table.csv with a column `path`, and `label`, `speaker` or `text`
    #[arg(long, value_name = "FOLDER|FILE")]
    pub(crate) table: PathBuf,
    #[command(flatten)]
    pub(crate) columns: ColumnArgs,
    /// Target: `label` (the column of that name, whatever it says), `labels` (the same column, with any number of labels: `dog;rain`),
    /// `text`, or a task of the benchmark that reads tables: `speaker`, `emotion`, `phoneme_recognition`, ...
    #[arg(long, default_value = "label")]
    pub(crate) task: String,
    /// Folder of a pretrained encoder, or `hub:ORGANISATION/NAME@COMMIT` [default: a small encoder, trained on your table]
    #[arg(long, value_name = "FOLDER|hub:NAME")]
    pub(crate) checkpoint: Option<String>,
}

/// Kinds of tasks of one's own, with the shipped workflows whose targets and metrics are theirs.
const OWN: [(&str, &str); 3] = [("label", "keyword_spotting"), ("labels", "tagging"), ("text", "speech_recognition")];

/// The shipped workflow to start from, and true if the task is one's own, with a name of its own.
fn preset(task: &str) -> (&str, bool) {
    OWN.iter().find(|(kind, _)| *kind == task).map_or((task, false), |(_, preset)| (preset, true))
}

/// Writes a workflow file, and `sure.toml` where there is none.
pub(crate) fn init(args: &InitArgs) -> Result<ExitCode> {
    let task = preset(&args.task).0;
    require_task(&args.task, &library::find(task)?)?;
    if !args.name.chars().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-')) || args.name.is_empty() {
        return Err(problem(format!("`{}` is no name of a workflow", args.name), "use letters, digits, `_` and `-`"));
    }
    let recordings = Recordings::read(args)?;
    recordings.require(task, args.checkpoint.is_some())?;
    if let Some(place) = &args.checkpoint {
        if place.starts_with(hub::SCHEME) {
            place.parse::<Pinned>().map_err(|error| problem(format!("--checkpoint {place}: {error}"), PINNED))?;
        } else if !Path::new(place).is_dir() {
            let hint = "give the folder of an encoder as Hugging Face publishes it, or `hub:ORGANISATION/NAME@COMMIT`";
            return Err(problem(format!("--checkpoint {place}: no such folder"), hint));
        }
    }
    let file = format!("{}.toml", args.name);
    write_new(Path::new(&file), &workflow(args, &recordings)?)?;
    recordings.describe(task);
    println!("wrote {file}");
    let settings = Settings::load(&MachineArgs::default(), &[])?;
    let options = if settings.file.is_some() {
        add_to(&settings, args, &recordings.folder)
    } else {
        write_new(Path::new("sure.toml"), &machine(args, &recordings.folder))?;
        println!("wrote sure.toml");
        String::new()
    };
    println!("next: sure plan {file}{options}; sure run {file}{options}");
    Ok(ExitCode::SUCCESS)
}

/// Says what an existing `sure.toml` lacks. Returns the options that a command needs where it names other folders.
fn add_to(settings: &Settings, args: &InitArgs, folder: &Path) -> String {
    let file = settings.file.clone().unwrap_or_default();
    let is_here = file.parent().map(Path::canonicalize).is_some_and(|parent| parent.ok() == std::env::current_dir().ok());
    let name = file.display();
    let written = folder.display().to_string();
    let place = |place: &str| settings.machine.places.0.get(place);
    let mut options = String::new();
    match place("corpora.table") {
        None => println!("add table = {:?} below `[corpora]` of {name}", if is_here { written } else { full(folder) }),
        Some(other) if full(other) != full(folder) => {
            println!("note: `table` of {name} is another folder: {}", other.display());
            options = format!(" --corpus table={written:?}");
        }
        Some(_) => {}
    }
    let Some(checkpoint) = &args.checkpoint else { return options };
    let pinned = checkpoint.parse::<Pinned>().ok();
    let wanted = full(&pinned.as_ref().map_or_else(|| checkpoint.into(), Pinned::folder));
    match place("checkpoints.checkpoint") {
        None => {
            let written = if is_here || pinned.is_some() { checkpoint } else { &wanted };
            println!("add checkpoint = {written:?} below `[checkpoints]` of {name}");
        }
        Some(other) if full(other) != wanted => {
            println!("note: `checkpoint` of {name} is another folder: {}", other.display());
            println!("      give {checkpoint} another name there, and write that name into {}.toml", args.name);
        }
        Some(_) => {}
    }
    options
}

/// Path in full, as text.
fn full(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Errors: the workflow of the task reads no tables, or has no encoder.
fn require_task(asked: &str, spec: &Spec) -> Result<()> {
    let takes_tables = |spec: &Spec| {
        spec.axes.iter().any(|axis| axis.name.value == "corpus" && axis.choices.iter().any(|choice| choice == "table"))
    };
    let has_encoder = |spec: &Spec| spec.axes.iter().any(|axis| axis.name.value == "encoder_corpus");
    if takes_tables(spec) && has_encoder(spec) {
        return Ok(());
    }
    let able = library::all()?.into_iter().filter(|spec| takes_tables(spec) && has_encoder(spec));
    let able: Vec<String> = able.map(|spec| format!("`{}`", spec.name)).collect();
    let able = format!("take one of {}", able.join(", "));
    Err(if takes_tables(spec) {
        let hint = format!("`sure list {asked} --source` shows how it reads a table; for `sure init`, {able}");
        problem(format!("`{asked}` adapts no encoder"), hint)
    } else {
        problem(format!("`{asked}` reads no tables"), able)
    })
}

/// A folder of recordings, with their table.
struct Recordings {
    folder: PathBuf,
    reader: Tables,
    listing: Listing,
}

impl Recordings {
    /// Reads the table that the command line names.
    ///
    /// Errors: no such folder or table; a table that cannot be understood.
    fn read(args: &InitArgs) -> Result<Self> {
        let (table, columns) = (&args.table, args.columns.names(&Table)?);
        let (folder, tables) = if table.is_file() {
            let folder = table.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = table.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (folder.to_owned(), vec![name])
        } else if table.is_dir() {
            (table.clone(), vec![])
        } else {
            let hint = "it should contain table.csv (or .tsv, .jsonl, .parquet) with a column `path`";
            return Err(problem(format!("no folder `{}`", table.display()), hint));
        };
        let reader = Tables { tables, columns };
        let listing = reader.list(&folder, &Table.protocols()[0]).map_err(|error| match error {
            CorpusError::Missing { .. } => {
                let hint = "write table.csv there, with a column `path`. If every class has a folder of its own, this does it there: \
                            (echo path,label; for f in */*.wav; do echo \"$f,${f%%/*}\"; done) > table.csv";
                problem(format!("no table in `{}`", folder.display()), hint)
            }
            error => error.into(),
        })?;
        Ok(Self { folder, reader, listing })
    }

    /// Errors: the table lacks the column that the task learns, or the one that the small encoder learns.
    fn require(&self, task: &str, has_encoder: bool) -> Result<()> {
        let has_text = self.listing.utterances.iter().any(|utterance| utterance.annotation.transcript.is_some());
        let (is_there, what, option) = match task {
            "speaker" => (self.listing.classes.get("speaker").is_some_and(|all| !all.is_empty()), "speakers", "speaker"),
            "speech_recognition" | "phoneme_recognition" => (has_text, "transcripts", "text"),
            _ => (!self.listing.labels.is_empty(), "labels", "label"),
        };
        let found = self.listing.notes.join("; ");
        if !is_there {
            let hint = format!("name it: --{option} COLUMN, or `{option}` in the head of the table. {found}");
            return Err(problem(format!("no column of {what} in the table of `{}`", self.folder.display()), hint));
        }
        if !has_encoder && !has_text && task != "speaker" {
            let hint = format!(
                "name a pretrained encoder: --checkpoint FOLDER. Without one, a small encoder learns to spell transcripts: --text \
                 COLUMN names them, also a column of labels that are the words said (--label COLUMN --text COLUMN). {found}"
            );
            return Err(problem(format!("no encoder, and no transcripts in the table of `{}`", self.folder.display()), hint));
        }
        Ok(())
    }

    /// Prints columns, splits and classes, and what is doubtful.
    fn describe(&self, task: &str) {
        let Listing { notes, warnings, labels, classes, .. } = &self.listing;
        for note in notes {
            tell!("{note}");
        }
        let [train, dev, test] = Split::ALL.map(|split| self.listing.count(split));
        let shown = if labels.len() > 10 { format!("{}, ...", labels[..10].join(", ")) } else { labels.join(", ") };
        let count = |number: usize| format!("{number} label{}", if number == 1 { "" } else { "s" });
        let found = if labels.is_empty() { String::new() } else { format!("; {}: {shown}", count(labels.len())) };
        tell!("{train} train, {dev} dev, {test} test{found}");
        if let Some(first) = self.listing.skipped.first() {
            say!("warning: left out: {}, the first: {}: {}", self.listing.skipped.len(), first.path, first.reason);
        }
        for warning in warnings {
            say!("warning: {warning}");
        }
        let all = if task == "speaker" { classes.get("speaker") } else { Some(labels) };
        if let Some([only]) = all.map(Vec::as_slice).filter(|_| ["keyword_spotting", "emotion", "speaker"].contains(&task)) {
            say!("warning: every row is `{only}`, so there is nothing to tell apart, and the workflow will fail");
        }
        for split in Split::ALL.into_iter().filter(|split| self.listing.count(*split) == 0) {
            say!("warning: the {split} set is empty, and the workflow will fail: add a column `split`, or more rows or speakers");
        }
    }
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = match file {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(problem(format!("`{}` exists", path.display()), "choose another name, or remove the file"));
        }
        Err(error) => Err(error),
        Ok(mut file) => file.write_all(text.as_bytes()),
    };
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

/// Returns the text of the workflow file.
fn workflow(args: &InitArgs, recordings: &Recordings) -> Result<String> {
    let InitArgs { name, task, .. } = args;
    let (task, is_own) = preset(task);
    let title = name.replace(['_', '-'], " ");
    let (include, encoder) = match &args.checkpoint {
        Some(_) => (
            format!("[\"{task}\", \"checkpoint\"]   # `checkpoint`: hyper-parameters for pretrained encoders"),
            "checkpoint = [\"checkpoint\"]          # names below [checkpoints] in sure.toml; several are compared\n",
        ),
        None => (format!("[\"{task}\"]   # `sure list {task} --source` shows all that can be changed"), ""),
    };
    let learned = if task == "speaker" {
        "encoder_learns = \"voices\"            # the small encoder tells the speakers of `voices_corpus` apart\nvoices_corpus = \"table\"\n"
    } else {
        "encoder_corpus = \"table\"\n"
    };
    let named = named(&recordings.reader, if task == "speaker" { "voices_manifest" } else { "encoder_manifest" })?;
    let score = if is_own {
        format!(
            "[stages.targets]\nname = \"{name}\"                      # of the task, in model cards\n\
             [stages.score]\nname = \"{name}\"                      # of the task, in tables and on pages\n"
        )
    } else {
        String::new()
    };
    Ok(format!(
        "# sure plan {name}.toml    what would run, and why\n\
         # sure run {name}.toml     run it; again after a change: only what the change concerns\n\
         [workflow]\n\
         name = \"{name}\"\n\
         about = \"{title}, of the recordings in {table}\"\n\
         include = {include}\n\
         [settings]\n\
         corpus = \"table\"                     # the folder is below [corpora] in sure.toml\n\
         {learned}\
         [matrix]\n\
         {encoder}method = [\"head_only\", \"lora\", \"finetune\"]   # also bottleneck, prefix, convadapter, ia3, bitfit, adalora, vera\n\
         seed = [1, 2, 3]\n\
         {named}{score}[stages.table]\n\
         title = \"{title}\"\n",
        table = recordings.reader.tables.first().map_or("table.csv", String::as_str),
    ))
}

/// Returns the lines that name tables and columns, for the stages that read the table: that of the task and that of the encoder.
fn named(reader: &Tables, of_encoder: &str) -> Result<String> {
    let mut lines = Vec::new();
    if !reader.tables.is_empty() {
        lines.push(format!("tables = {}\n", serde_json::to_string(&reader.tables)?));
    }
    if let Value::Object(columns) = serde_json::to_value(&reader.columns)? {
        lines.extend(columns.iter().map(|(column, value)| format!("columns.{column} = {value}\n")));
    }
    let lines = lines.concat();
    Ok(if lines.is_empty() { lines } else { format!("[stages.manifest]\n{lines}[stages.{of_encoder}]\n{lines}") })
}

/// Returns the text of `sure.toml`.
fn machine(args: &InitArgs, folder: &Path) -> String {
    let checkpoints = args.checkpoint.as_ref().map(|place| format!("[checkpoints]\ncheckpoint = {place:?}\n"));
    format!(
        "# Folders of this machine. Nothing of it changes a result.\n[corpora]\ntable = {:?}\n{}",
        folder.display().to_string(),
        checkpoints.unwrap_or_default()
    )
}
