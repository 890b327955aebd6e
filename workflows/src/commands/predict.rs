//! `sure predict`: a trained model answers recordings. Lists the recordings and finds the model; the worker program does the rest.

pub(crate) mod model;
mod recordings;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use neural_spec::predict::FFMPEG;
use neural_spec::{Decoding, Predict};
use pipeline::executor::{Call, Executor, WorkerProcess};
use pipeline::protocol::{InputRefs, Site};
use pipeline::registry::Registry;
use pipeline::stage::chain;
use pipeline::{JobProgress, Places, Spare, Stage, StageError, Stop, Tool};
use scoring::answers::AnswerFormat;
use serde_json::Value;

use crate::cli::Place;
use crate::commands::run::{STOPPED, listen_for_signals};
use crate::commands::tables::ColumnArgs;
use crate::console::{Bars, end_bars, say};
use crate::problem::problem;
use crate::settings::Settings;
use crate::stages::worker_program;
use model::Found;

#[derive(Args)]
pub(crate) struct PredictArgs {
    /// A node that trains, such as `train[method=lora]` or `mine:train[method=lora,seed=1]`; or a folder: an adapter, or a checkpoint
    /// with a head
    model: String,
    /// Recordings, folders of recordings, or tables of them
    #[arg(required = true, value_name = "FILE|FOLDER|TABLE")]
    inputs: Vec<PathBuf>,
    /// File of the answers: .csv, .jsonl or .parquet [default: CSV on standard output]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compare each voice with that of this recording (x-vectors); several: with their mean
    #[arg(long, value_name = "RECORDING")]
    similar_to: Vec<PathBuf>,
    /// Texts that a beam search follows at once [default: as the node was evaluated; greedy for a folder]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    beam: Option<u32>,
    /// Language model of words for the beam search, in the ARPA format
    #[arg(long, value_name = "FILE", requires = "beam")]
    language_model: Option<PathBuf>,
    /// Weight of the language model
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, requires = "language_model")]
    lm_weight: f64,
    /// Added to the score of the beam search for each word
    #[arg(long, value_name = "SCORE", default_value_t = 0.0, requires = "beam", allow_negative_numbers = true)]
    word_bonus: f64,
    /// Longest recording, in seconds; memory grows with its square
    #[arg(long, value_name = "SECS", default_value_t = 120.0)]
    max_secs: f64,
    /// Most seconds of audio in a batch
    #[arg(long, value_name = "SECS", default_value_t = 32.0)]
    batch_secs: f64,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Print nothing but errors and answers
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn predict(args: &PredictArgs) -> Result<ExitCode> {
    answer(args).map_err(|error| {
        let is_full = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
        };
        if error.chain().any(is_full) { problem(format!("{error:#}"), NO_ROOM) } else { error }
    })
}

/// Hint for a full disk.
const NO_ROOM: &str = "make room, or name a file on another disk with --out";

fn answer(args: &PredictArgs) -> Result<ExitCode> {
    let format = match &args.out {
        None => AnswerFormat::Csv,
        Some(path) => AnswerFormat::of(path).ok_or_else(|| {
            problem(format!("--out {}: no such format", path.display()), "name a file that ends in .csv, .jsonl or .parquet")
        })?,
    };
    let Found { mut places, decoding, settings } = model::find(&args.model, &args.place)?;
    if let Some(path) = &args.language_model {
        places.insert("language_model".to_owned(), full(path)?);
    }
    let beam = args.beam.map(|width| Decoding::Beam { width, lm_weight: args.lm_weight, word_bonus: args.word_bonus });
    let params = Predict { batch_secs: args.batch_secs, max_secs: args.max_secs, format, decoding: beam.or(decoding) };

    let stop = Stop::default();
    listen_for_signals(&stop, "nothing is written")?;
    let scratch = Scratch::new(args.out.as_deref())?;
    let (list, similar) = (scratch.0.join("list.jsonl"), scratch.0.join("similar.jsonl"));
    recordings::write_list(&list, &args.inputs, &args.columns, &stop)?;
    places.insert("list".to_owned(), list);
    if !args.similar_to.is_empty() {
        recordings::write_list(&similar, &args.similar_to, &ColumnArgs::default(), &stop)?;
        places.insert("similar_to".to_owned(), similar);
    }
    let bar = Bar::new(args.quiet);
    let ended = ask(&params, Places(places), &settings, &scratch.0, &bar, stop);
    bar.drawn.finish_and_clear();
    end_bars();
    match ended {
        Ok(()) => {}
        Err(StageError::Stopped) => return Ok(ExitCode::from(STOPPED)),
        Err(error) => return Err(with_hint(&error)),
    }
    deliver(&scratch.0.join("out").join(params.file_name()), args.out.as_deref())?;
    let left_out = bar.left_out.load(Ordering::Relaxed);
    Ok(if left_out == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Has the worker answer.
fn ask(params: &Predict, places: Places, settings: &Settings, scratch: &Path, bar: &Bar, stop: Stop) -> Result<(), StageError> {
    let registry = Registry::default().in_worker::<Predict>(worker_program(&settings.worker));
    let kind = registry.get(Predict::KIND).expect("it was just added");
    let given = serde_json::to_value(params).expect("parameters are plain data");
    let Value::Object(given) = given else { unreachable!("a struct is an object") };
    let placed = kind.place(given).map_err(|mistakes| {
        let texts: Vec<String> =
            mistakes.into_iter().map(|mistake| format!("{} {}", mistake.param.unwrap_or_default(), mistake.message)).collect();
        StageError::failed(texts.join("; "))
    })?;
    let out = scratch.join("out");
    fs::create_dir(&out).map_err(StageError::io("create", &out))?;
    let tools = settings.machine.toolbox.located(&[Tool { name: FFMPEG, version_argument: "-version" }]);
    let log = scratch.join("log");
    let site = Site {
        places,
        tools,
        out,
        threads: settings.machine.pools.cpu.max(1),
        gpu: settings.machine.pools.gpus.first().copied(),
        ..Site::default()
    };
    let call = Call {
        kind,
        placed: &*placed,
        inputs: &InputRefs::default(),
        sources: std::collections::BTreeMap::new(),
        partition: None,
        site,
        spare: Spare::default(),
        progress: Box::new(bar.clone()),
        stop,
        log: &log,
        grace: Duration::from_secs(10),
    };
    let worker = kind.worker.as_ref().expect("it is in a worker");
    WorkerProcess(worker).execute(call).inspect_err(|_| {
        let words = fs::read_to_string(&log).unwrap_or_default();
        words.lines().rev().take(5).collect::<Vec<_>>().iter().rev().for_each(|line| say!("{line}"));
    })
}

/// Puts the answers where they are wanted.
fn deliver(answers: &Path, out: Option<&Path>) -> Result<()> {
    match out {
        Some(path) => fs::rename(answers, path).with_context(|| format!("cannot write `{}`", path.display())),
        None => {
            let mut file = fs::File::open(answers).with_context(|| format!("cannot read `{}`", answers.display()))?;
            let mut stdout = io::stdout().lock();
            io::copy(&mut file, &mut stdout).context("cannot write the answers to standard output")?;
            Ok(stdout.flush()?)
        }
    }
}

/// An error of the worker, with its hint.
fn with_hint(error: &StageError) -> anyhow::Error {
    let text = chain(error).join(": ");
    match error.hint() {
        Some(hint) => problem(text, hint),
        None if text.contains("No space left") => problem(text, NO_ROOM),
        None => anyhow::anyhow!("{text}"),
    }
}

fn full(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("no file `{}`", path.display()))
}

/// A folder that is removed at the end, next to the file that is to be written: what is finished there is renamed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(out: Option<&Path>) -> Result<Self> {
        let name = format!(".sure-predict.{}", std::process::id());
        let folder = match out {
            None => std::env::temp_dir().join(name),
            Some(out) if out.is_dir() => {
                return Err(problem(format!("`{}` is a folder", out.display()), "--out names a file"));
            }
            Some(out) => {
                let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                if !parent.is_dir() {
                    let hint = "make it first, or name a file in another folder";
                    return Err(problem(format!("--out {}: no folder `{}`", out.display(), parent.display()), hint));
                }
                parent.join(name)
            }
        };
        if let Err(error) = fs::create_dir(&folder) {
            let at = folder.parent().unwrap_or(Path::new("."));
            return Err(anyhow::Error::new(error).context(format!("cannot write to the folder `{}`", at.display())));
        }
        let full = folder.canonicalize().with_context(|| format!("cannot open `{}`", folder.display()))?;
        Ok(Self(full))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what stays there does no harm
    }
}

/// A bar on a terminal, and notes everywhere.
#[derive(Debug, Clone)]
struct Bar {
    drawn: ProgressBar,
    /// What it is drawn on, if it is.
    _on: Option<Arc<Bars>>,
    /// Recordings without an answer.
    left_out: Arc<AtomicU64>,
}

impl Bar {
    fn new(quiet: bool) -> Self {
        let bars = (!quiet && io::stderr().is_terminal()).then(|| Arc::new(Bars::new()));
        let bar = bars.as_ref().map_or_else(ProgressBar::hidden, |bars| bars.add(ProgressBar::new(0)));
        let style = ProgressStyle::with_template("[{bar:30}] {pos} of {len} {msg}, {eta} left").expect("a constant");
        bar.set_style(style.progress_chars("=> "));
        Self { drawn: bar, _on: bars, left_out: Arc::default() }
    }
}

impl JobProgress for Bar {
    fn tick(&self, done: u64, total: u64, unit: &str, _: &str) {
        self.drawn.set_length(total);
        self.drawn.set_message(unit.to_owned());
        self.drawn.set_position(done);
    }
    fn note(&self, line: &str) {
        say!("{line}");
    }
    fn fact(&self, name: &str, value: Value) {
        if name == "left_out" {
            self.left_out.store(value.as_u64().unwrap_or_default(), Ordering::Relaxed);
        }
    }
}
