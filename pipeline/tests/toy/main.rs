//! The toy program: a worker and a driver for the tests of the engine, and a measurement of big graphs.
//!
//! ```sh
//! toy run                               # worker: one request on standard input
//! toy drive WORKFLOW STORE BOOKS LEDGER # bring a workflow up to date; prints one line per node that ended
//! toy bench NODES STORE                 # no-op time of a graph of that size
//! toy up WORKFLOW STORE BOOKS           # as `drive`, but as short as it gets: for measuring, as are those that follow
//! toy plan WORKFLOW STORE BOOKS
//! toy why WORKFLOW STORE BOOKS NODE
//! toy scan ROOT CACHE                   # look through a tree of files as a source stage does
//! ```
#![allow(clippy::print_stdout, reason = "a program")]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "small texts of our own making"
)]

mod copies;
mod far;
mod stages;
mod whole;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use pipeline::event::{Deaf, Event, Outcome, Progress};
use pipeline::graph::{Settings, Workflow, build};
use pipeline::run::{Machine, Options, Session};
use pipeline::schedule::Pools;
use pipeline::spec::parse;
use pipeline::store::Store;
use pipeline::{Places, Stop};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["run"] => return pipeline::worker::serve(&far::bodies()),
        ["drive", workflow, store, books, ledger] => drive(workflow, store, books, ledger),
        ["bench", nodes, store] => bench(nodes, store),
        ["up", workflow, store, books] => whole::with_peak(|| whole::up(workflow, store, books)),
        ["plan", workflow, store, books] => whole::with_peak(|| whole::plan(workflow, store, books)),
        ["why", workflow, store, books, node] => whole::with_peak(|| whole::why(workflow, store, books, node)),
        ["scan", root, cache] => whole::with_peak(|| whole::look_through(root, cache)),
        _ => Err("usage: toy run | drive WORKFLOW STORE BOOKS LEDGER | bench NODES STORE | up WORKFLOW STORE BOOKS | \
                  plan WORKFLOW STORE BOOKS | why WORKFLOW STORE BOOKS NODE | scan ROOT CACHE"
            .into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            println!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                println!("cause: {cause}");
                source = cause.source();
            }
            ExitCode::from(2)
        }
    }
}

struct Lines;

impl Progress for Lines {
    fn event(&self, event: &Event) {
        if let Event::NodeFinished { node, outcome, .. } = event {
            let word = match outcome {
                Outcome::Ran { .. } => "ran",
                Outcome::Reused => "reused",
                Outcome::Failed { .. } => "failed",
                Outcome::Stopped => "stopped",
                Outcome::Blocked { .. } => "blocked",
            };
            println!("{word} {node}");
        }
    }
}

fn graph(text: &str) -> Result<Workflow, Box<dyn Error>> {
    let worker = std::env::current_exe()?;
    Ok(build(&parse("toy.toml", text)?, &stages::registry(&worker), &Settings::new(), &[])?)
}

fn drive(workflow: &str, store: &str, books: &str, ledger: &str) -> Result<bool, Box<dyn Error>> {
    let workflow = graph(&std::fs::read_to_string(workflow)?)?;
    let store = Store::open(Path::new(store))?;
    let places = [("books", books), ("ledger", ledger)].map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
    let machine = Machine { places: Places(places.into()), pools: Pools { cpu: 2, gpus: vec![] }, host: String::new() };
    let session =
        Session { workflow: &workflow, store: &store, machine: &machine, progress: Arc::new(Lines), stop: Stop::default() };
    let survey = session.survey()?;
    let options = Options::default();
    let plan = session.plan(&survey, &options.forced)?;
    Ok(session.run(&survey, &plan, &options)?.complete)
}

/// N / 4 shards of 3 chained copies, and one that joins them: the graph of the figures in other engines' comparisons.
fn bench(nodes: &str, store: &str) -> Result<bool, Box<dyn Error>> {
    let shards: usize = nodes.parse::<usize>()? / 4;
    let values: Vec<String> = (0..shards).map(|shard| shard.to_string()).collect();
    let text = format!(
        "[workflow]\nname = \"bench\"\n[matrix]\nshard = [{}]\n[stages.a]\nrun = \"toy.text\"\ntext = \"text {{shard}}\"\n\
         [stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a/text.txt\"\n[stages.c]\nrun = \"toy.join\"\ninputs.texts = \"b\"\n\
         [stages.d]\nrun = \"toy.join\"\ninputs.texts = \"c\"\n\
         [stages.all]\nrun = \"toy.join\"\ngather = [\"shard\"]\ninputs.texts = \"d\"\n",
        values.join(", ")
    );
    for round in ["first", "second", "third"] {
        let begun = Instant::now();
        let workflow = graph(&text)?;
        let built = begun.elapsed().as_secs_f64();
        let store = Store::open(Path::new(store))?;
        let machine = Machine { places: Places::default(), pools: Pools { cpu: 2, gpus: vec![] }, host: String::new() };
        let session =
            Session { workflow: &workflow, store: &store, machine: &machine, progress: Arc::new(Deaf), stop: Stop::default() };
        let survey = session.survey()?;
        let opened = begun.elapsed().as_secs_f64();
        let options = Options::default();
        let plan = session.plan(&survey, &options.forced)?;
        let planned = begun.elapsed().as_secs_f64();
        let summary = session.run(&survey, &plan, &options)?;
        let ran = begun.elapsed().as_secs_f64();
        println!(
            "{round}: {} nodes, {} ran; build {:.1} ms, open {:.1} ms, plan {:.1} ms, run {:.1} ms, all {:.1} ms",
            workflow.order.len(),
            summary.steps.iter().filter(|step| step.state == "ran").count(),
            built * 1e3,
            (opened - built) * 1e3,
            (planned - opened) * 1e3,
            (ran - planned) * 1e3,
            ran * 1e3,
        );
    }
    Ok(true)
}
