//! The list of commands, and the arguments that several of them share. Each command has its own arguments in its file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

#[cfg(feature = "cache")]
use crate::commands::cache::CacheCommand;
use crate::commands::compare::CompareArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::corpus::CorpusArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::errors::ErrorsArgs;
use crate::commands::fetch::FetchArgs;
use crate::commands::graph::GraphArgs;
use crate::commands::history::HistoryArgs;
use crate::commands::init::InitArgs;
use crate::commands::list::ListArgs;
use crate::commands::lock::LockArgs;
use crate::commands::log::LogArgs;
use crate::commands::methods::MethodsArgs;
use crate::commands::node::NodeArgs;
use crate::commands::path::PathArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::predict::PredictArgs;
use crate::commands::prepare::PrepareArgs;
use crate::commands::push::PushArgs;
use crate::commands::rebuild::RebuildArgs;
use crate::commands::results::ResultsArgs;
use crate::commands::run::RunArgs;
use crate::commands::runs::RunsArgs;
use crate::commands::say::SayArgs;
use crate::commands::schedule::ScheduleArgs;
use crate::commands::serve_stage::ServeStageArgs;
use crate::commands::store::StoreCommand;
use crate::commands::synth::SynthArgs;
use crate::commands::why::WhyArgs;

/// Runs speech benchmarks as reproducible workflows.
///
/// A workflow is a graph of cached stages: recordings become Parquet shards, trained adapters, scores and a table of results.
/// Running it again does only what changed since.
#[derive(Parser)]
#[command(name = "sure", version = VERSION, max_term_width = 110, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Version with the commit that was built: `0.1.0 (5c5606e12ab3)`.
pub(crate) const VERSION: &str = env!("SURE_VERSION");

const FIRST_STEPS: &str = "\
First steps:
  sure doctor                                      check this machine
  sure list                                        list the workflows
  sure synth speech_commands corpus                make a small corpus to try
  sure plan keyword_spotting --corpus speech_commands=corpus     show what would run, and why
  sure run keyword_spotting --corpus speech_commands=corpus      run it
  sure why train                                   explain why a node runs, or ran
  sure errors score                                show what each model got wrong
  sure init mine --table FOLDER                    start from your own recordings

`sure.toml`, in this folder or one above, names corpus folders, the store and GPUs; `sure doctor` shows the one in use.

Exit codes: 0 success; 1 a node failed, or a check found something; 2 wrong arguments or unreadable input; 130 stopped by a signal.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a workflow: only nodes that must run, and reuse the rest
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
    /// Show the size of the store, remove old artifacts, or verify them
    #[command(subcommand)]
    Store(StoreCommand),
    /// Examine the shared cache, upload results to it, or remove results from it
    #[cfg(feature = "cache")]
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print the JSON Schema of workflow files, for editors
    Schema,
    /// Show the table of a workflow's last run, with times, speed and memory
    Results(ResultsArgs),
    /// Show the errors of a model: the worst utterances, reference above hypothesis, and the confusions
    Errors(ErrorsArgs),
    /// Compare two methods on the same utterances: is the difference more than chance?
    Compare(CompareArgs),
    /// Rebuild a table as a rebuild file says, compare it with its history, and tell who wants to know
    Rebuild(RebuildArgs),
    /// Show what starts a rebuild on time (systemd, cron, Slurm, GitHub, GitLab), install it, or check it
    Schedule(ScheduleArgs),
    /// Show the history of a rebuild file, write its site, or accept present values as the baseline
    History(HistoryArgs),
    /// Write down everything that goes into a rebuild, for `sure rebuild --locked` on another machine
    Lock(LockArgs),
    /// Write a workflow file for your own recordings
    Init(InitArgs),
    /// Speak a text with a trained voice
    Say(SayArgs),
    /// Answer recordings with a trained model: classes with probabilities, texts, slots, or how alike voices are
    Predict(PredictArgs),
    /// Upload a trained model to the Hugging Face Hub: lists its files, and uploads them with --upload
    Push(PushArgs),
    /// Print the folder of a node's last result
    Path(PathArgs),
    /// Print completions for a shell, or the manual page
    Completions(CompletionsArgs),
    /// List workflows, stage kinds and corpora, or describe one of them
    List(ListArgs),
    /// Count the parameters that each method trains, for each task
    Methods(MethodsArgs),
    /// Download checkpoints from the Hugging Face Hub into its cache on this machine
    Fetch(FetchArgs),
    /// Check this machine: worker, libtorch, GPUs, cores, store, corpora; and say how to get what is missing
    Doctor(DoctorArgs),
    /// Make a small synthetic corpus in the layout of a real one
    Synth(SynthArgs),
    /// Convert a corpus, or a table of your own recordings, to Parquet shards with statistics
    Prepare(PrepareArgs),
    /// List the corpora that can be read, or check whether a copy of one is complete
    Corpus(CorpusArgs),
    /// Run one element of a wave: what a job on a cluster calls
    #[command(hide = true)]
    Node(NodeArgs),
    /// Serve one request to run a stage of this program
    #[command(hide = true)]
    ServeStage(ServeStageArgs),
}

/// Workflow, targets and settings of a command.
#[derive(Args, Clone, Default)]
pub(crate) struct Target {
    /// A workflow by name (see `sure list`) or a workflow file; `WORKFLOW:TARGET` is a target of it
    pub(crate) workflow: String,
    /// Only these nodes and what they need: `train`, `train[method=lora]`, `shards#3`, `s*`
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Settings of the workflow and of the machine.
#[derive(Args, Clone, Default)]
pub(crate) struct Place {
    /// Change a setting, restrict the matrix, or set a parameter of a stage: `--set method=lora,bitfit --set train.patience=3`
    #[arg(long = "set", value_name = "NAME=VALUE[,VALUE]", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// Allow a sweep of more than 1000 points
    #[arg(long)]
    pub(crate) yes: bool,
    /// Stop every training of encoders, voices and vocoders after N updates, as a trial run; short for `--set *.train.max_steps=N`
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<u32>,
    /// Train on the first batches only, to check that a model can learn; short for `--set *.train.overfit_batch=true`
    #[arg(long)]
    pub(crate) overfit_batch: bool,
    /// Folder of a corpus: `--corpus fsdd=/data/fsdd`
    #[arg(long, value_name = "NAME=FOLDER", value_parser = pair)]
    pub(crate) corpus: Vec<(String, String)>,
    /// Encoder to adapt, with hyper-parameters for small corpora; in speech synthesis the folder of a published voice. A name below
    /// `[checkpoints]` in sure.toml, a folder, or `hub:ORGANISATION/NAME@COMMIT`; given several times, they are compared
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) checkpoint: Vec<String>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Paths and pools of this machine.
#[derive(Args, Clone, Default)]
pub(crate) struct MachineArgs {
    /// Settings of this machine [default: `sure.toml` in this folder or one above]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the store [default: `.sure` next to `sure.toml`, or in this folder]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) store: Option<PathBuf>,
    /// True for a command that runs everything on this machine, whatever cluster sure.toml names.
    #[arg(skip)]
    pub(crate) local: bool,
    /// Cores to use [default: all that this process may use]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
}

/// Nodes that are treated in another way than planned.
#[derive(Args, Clone, Default)]
pub(crate) struct Choice {
    /// Run these nodes even if nothing changed
    #[arg(long, value_name = "NODE")]
    pub(crate) force: Vec<String>,
    /// Run only these nodes, and use the others as they are
    #[arg(long, value_name = "NODE")]
    pub(crate) only: Vec<String>,
    /// Read every file of the corpora and checkpoints again, instead of trusting sizes and times
    #[arg(long)]
    pub(crate) rehash: bool,
}

/// `90s`, `30m`, `2h`, `7d`
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    pipeline::duration::parse(text).ok_or_else(|| "expected a time such as 90s, 30m, 2h or 7d".to_owned())
}

/// `name=value`
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() || value.is_empty() {
        return Err("expected NAME=VALUE, both not empty".to_owned());
    }
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
