//! The commands and their options.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use audio::wav::SAMPLE_RATES;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::compare::CompareArgs;
use crate::commands::errors::ErrorsArgs;
use crate::commands::results::ResultsArgs;
use crate::commands::{diff::DiffArgs, store::StoreCommand};

/// Runs speech benchmarks as reproducible workflows.
///
/// A workflow is a graph of cached stages: recordings become Parquet shards, trained adapters, scores and a table of results.
/// Running it again does only what changed since.
#[derive(Parser)]
#[command(name = "sure", version, max_term_width = 110, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Sample rates of clips, in Hz.
const RATES: RangeInclusive<i64> = *SAMPLE_RATES.start() as i64..=*SAMPLE_RATES.end() as i64;

const FIRST_STEPS: &str = "\
First steps:
  sure doctor                                      what this machine has and lacks
  sure list                                        the workflows there are
  sure synth speech_commands corpus                make a small corpus to try things on
  sure plan keyword_spotting --corpus speech_commands=corpus     what would run, and why
  sure run keyword_spotting --corpus speech_commands=corpus      run it
  sure why train                                   why a node runs, or ran
  sure errors score                                what each model got wrong

Settings of this machine (corpus folders, store, GPUs) belong into `sure.toml`; `sure doctor` shows the one in use.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Bring a workflow up to date: run what must run, reuse the rest
    Run(RunArgs),
    /// Show what `run` would do, node by node, and why
    Plan(PlanArgs),
    /// Explain why a node runs, or why it last ran, down to the parameter or file that changed
    Why(WhyArgs),
    /// Draw a workflow as DOT, SVG or Mermaid
    Graph(GraphArgs),
    /// List earlier runs, newest first, or the nodes of one
    Runs(RunsArgs),
    /// Compare two runs: settings, parameters, inputs and scores
    Diff(DiffArgs),
    /// Show the log of a node's last execution
    Log(LogArgs),
    /// See what the store holds, free room in it, check it
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print the JSON Schema of workflow files, for editors
    Schema,
    /// Show the table of a workflow's last run again, and how long its nodes took
    Results(ResultsArgs),
    /// Show what a model got wrong: the worst utterances with reference and hypothesis, and what was taken for what
    Errors(ErrorsArgs),
    /// Compare two methods on the same utterances: is the difference more than chance?
    Compare(CompareArgs),
    /// List workflows, stage kinds and corpora, or describe one of them
    List(ListArgs),
    /// Show how many parameters each method trains, task by task, and what share of the encoder that is
    Methods(MethodsArgs),
    /// Download checkpoints from the Hugging Face Hub into its cache on this machine
    Fetch(FetchArgs),
    /// Show what this machine has: worker, libtorch, GPUs, cores, store, corpora; and how to get what is missing
    Doctor(DoctorArgs),
    /// Make a small synthetic corpus in the layout of a real one
    Synth(SynthArgs),
    /// Turn a corpus, or a table of your own recordings, into Parquet shards that Python opens, with statistics
    Prepare(PrepareArgs),
    /// List the corpora that can be read, or check whether a copy of one is complete
    Corpus(CorpusArgs),
}

#[derive(Args)]
pub(crate) struct FetchArgs {
    /// Names under `[checkpoints]` in sure.toml, or `hub:ORGANISATION/NAME@COMMIT` [default: all of the Hub's in sure.toml]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Which workflow, on what.
#[derive(Args, Clone, Default)]
pub(crate) struct Target {
    /// A workflow by name (see `sure list`) or a workflow file; `WORKFLOW:TARGET` is a target of it
    pub(crate) workflow: String,
    /// Only these nodes and what they need: `train`, `train[method=lora]`, `shards#3`, `s*`
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// How the workflow and the machine are set.
#[derive(Args, Clone, Default)]
pub(crate) struct Place {
    /// Change a setting, restrict the matrix, or set a parameter of a stage: `--set method=lora,bitfit --set train.patience=3`
    #[arg(long = "set", value_name = "NAME=VALUE[,VALUE]", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// End every training after so many updates, to see whether all works: short for `--set peft.train.max_steps=N`
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<u32>,
    /// Let every update of a training see the first one's batches, to see whether it can learn: `--set peft.train.overfit_batch=true`
    #[arg(long)]
    pub(crate) overfit_batch: bool,
    /// Where a corpus is on this machine: `--corpus fsdd=/data/fsdd`
    #[arg(long, value_name = "NAME=FOLDER", value_parser = pair)]
    pub(crate) corpus: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Where things are on this machine.
#[derive(Args, Clone, Default)]
pub(crate) struct MachineArgs {
    /// Settings of this machine [default: `sure.toml` here or in a folder above]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the store [default: `.sure` beside `sure.toml`, or here]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) store: Option<PathBuf>,
    /// Slots of the cpu pool [default: number of cores]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Go on with what does not depend on a failed node
    #[arg(long, short = 'k')]
    pub(crate) keep_going: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Only show the plan
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Stop cleanly after this time, as Ctrl-C does: `90s`, `30m`, `2h`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) time_limit: Option<Duration>,
    /// Write a timeline of the run for `chrome://tracing` or Perfetto
    #[arg(long, value_name = "FILE")]
    pub(crate) timeline: Option<PathBuf>,
    /// Print nothing but errors and results
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print events as JSON lines on standard output instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which nodes are treated otherwise than the plan says.
#[derive(Args, Clone, Default)]
pub(crate) struct Choice {
    /// Run these nodes even if nothing changed
    #[arg(long, value_name = "NODE")]
    pub(crate) force: Vec<String>,
    /// Let only these nodes run, and take all others as they are
    #[arg(long, value_name = "NODE")]
    pub(crate) only: Vec<String>,
}

#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// List reused nodes too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct WhyArgs {
    /// `train[method=lora]`, or `keyword_spotting:train[method=lora]`; without a workflow, that of the last run
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Explain what became of it in an earlier run (see `sure runs`)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) run: Option<i64>,
    /// Print the explanation as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Form of the drawing
    #[arg(long, value_enum, default_value_t = Form::Dot)]
    pub(crate) format: Form,
    /// File to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Draw every partition, not one box for all of them
    #[arg(long)]
    pub(crate) partitions: bool,
    /// Draw one box for each stage, whatever its matrix [default: when there would be more than 60 boxes]
    #[arg(long, conflicts_with = "partitions")]
    pub(crate) stages: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Dot,
    Svg,
    Mermaid,
}

#[derive(Args)]
pub(crate) struct RunsArgs {
    /// A run's number, to see its nodes
    pub(crate) run: Option<i64>,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: usize,
    /// Write a timeline of that run for `chrome://tracing` or Perfetto
    #[arg(long, value_name = "FILE", requires = "run")]
    pub(crate) timeline: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct LogArgs {
    /// A node, a pattern (`train[method=lora]`), or the beginning of a node's name
    pub(crate) node: String,
    /// The log of this run [default: the last one in which the node was executed]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) run: Option<i64>,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
    /// Only print where the log lies
    #[arg(long)]
    pub(crate) path: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// A workflow, stage kind or corpus to describe
    pub(crate) name: Option<String>,
}

#[derive(Args)]
pub(crate) struct MethodsArgs {
    /// Width of the transformer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) hidden: u32,
    /// Transformer layers
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) layers: u32,
    /// Inner width of the feed-forward blocks [default: four times the width of the transformer]
    #[arg(long, value_name = "N")]
    pub(crate) inner: Option<u32>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

#[derive(Args)]
pub(crate) struct SynthArgs {
    /// The corpus whose layout it has
    #[arg(value_parser = datasets::synthetic::MINIATURES)]
    pub(crate) corpus: String,
    /// The folder to make; it must not exist or be empty
    pub(crate) folder: PathBuf,
    /// Number of speakers, of `speech_commands` [default: 16]
    #[arg(long)]
    pub(crate) speakers: Option<u32>,
    /// Speakers besides those that every miniature of the corpus has, of all others [default: enough to learn from]
    #[arg(long, value_name = "N", conflicts_with = "speakers")]
    pub(crate) more_speakers: Option<u32>,
    /// How often each speaker says each thing [default: enough to learn from]
    #[arg(long)]
    pub(crate) takes: Option<u32>,
    /// With everything that is odd about real copies: damaged names, stray files, rows without recordings. The others have that
    /// always; `speech_commands` is clean without
    #[arg(long)]
    pub(crate) quirks: bool,
    /// Seed; the same seed gives the same bytes everywhere
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

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

#[derive(Args)]
pub(crate) struct CorpusArgs {
    #[command(subcommand)]
    pub(crate) command: CorpusCommand,
}

#[derive(Subcommand)]
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

/// `90s`, `30m`, `2h`, `7d`
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    pipeline::limits::duration(text).ok_or_else(|| "expected a time such as 90s, 30m, 2h or 7d".to_owned())
}

/// `0.01`
fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a share of 0 to 1, such as 0.01".to_owned())
}

/// `name=value`
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() || value.is_empty() {
        return Err("expected NAME=VALUE, both not empty".to_owned());
    }
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
