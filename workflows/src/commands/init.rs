//! `sure init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::library;
use crate::problem::problem;

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Name of the workflow; the file is NAME.toml
    pub(crate) name: String,
    /// Folder with the table of your recordings: table.csv with a column `path`, and `label`, `speaker` or `text`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) table: PathBuf,
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
    let spec = library::find(preset(&args.task).0)?;
    let takes_tables =
        spec.axes.iter().any(|axis| axis.name.value == "corpus" && axis.choices.iter().any(|choice| choice == "table"));
    if !takes_tables {
        let able = library::all()?.into_iter().filter(|spec| {
            spec.axes.iter().any(|axis| axis.name.value == "corpus" && axis.choices.iter().any(|choice| choice == "table"))
        });
        let able: Vec<String> = able.map(|spec| format!("`{}`", spec.name)).collect();
        return Err(problem(format!("`{}` reads no tables", args.task), format!("take one of {}", able.join(", "))));
    }
    if !args.name.chars().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-')) || args.name.is_empty() {
        return Err(problem(format!("`{}` is no name of a workflow", args.name), "use letters, digits, `_` and `-`"));
    }
    if !args.table.is_dir() {
        let hint = "it should contain table.csv (or .tsv, .jsonl, .parquet) with a column `path`";
        return Err(problem(format!("no folder `{}`", args.table.display()), hint));
    }
    let file = format!("{}.toml", args.name);
    write_new(Path::new(&file), &workflow(args))?;
    println!("wrote {file}");
    let settings = Path::new("sure.toml");
    if settings.exists() {
        println!("sure.toml exists: add {} below `[corpora]`", corpus_line(args));
        if let Some(place) = &args.checkpoint {
            println!("and `checkpoint = {place:?}` below `[checkpoints]`");
        }
    } else {
        write_new(settings, &machine(args))?;
        println!("wrote sure.toml");
    }
    println!("next: sure plan {file}; sure run {file}");
    Ok(ExitCode::SUCCESS)
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
fn workflow(args: &InitArgs) -> String {
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
    let score = if is_own {
        format!("[stages.score]\nname = \"{name}\"                      # of the task, in tables and on pages\n")
    } else {
        String::new()
    };
    format!(
        "# sure plan {name}.toml    what would run, and why\n\
         # sure run {name}.toml     run it; again after a change: only what the change concerns\n\
         [workflow]\n\
         name = \"{name}\"\n\
         about = \"{title}, of the recordings in table.csv\"\n\
         include = {include}\n\
         [settings]\n\
         corpus = \"table\"                     # the folder is below [corpora] in sure.toml\n\
         encoder_corpus = \"table\"\n\
         [matrix]\n\
         {encoder}method = [\"head_only\", \"lora\", \"finetune\"]   # also bottleneck, prefix, convadapter, ia3, bitfit, adalora, vera\n\
         seed = [1, 2, 3]\n\
         {score}[stages.table]\n\
         title = \"{title}\"\n"
    )
}

fn corpus_line(args: &InitArgs) -> String {
    format!("table = {:?}", args.table.display().to_string())
}

/// Returns the text of `sure.toml`.
fn machine(args: &InitArgs) -> String {
    let checkpoints = args.checkpoint.as_ref().map(|place| format!("[checkpoints]\ncheckpoint = {place:?}\n"));
    format!(
        "# Folders of this machine. Nothing of it changes a result.\n[corpora]\n{}\n{}",
        corpus_line(args),
        checkpoints.unwrap_or_default()
    )
}
