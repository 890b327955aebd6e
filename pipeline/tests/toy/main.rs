//! The toy program: a worker and a driver for the tests of the engine, and a measurement of big graphs.
//!
//! ```sh
//! toy run [FOLDER]                      # worker: one request on standard input, or in files
//! toy detach REQUEST FOLDER             # start a worker with files, and end
//! toy drive WORKFLOW STORE BOOKS LEDGER # bring a workflow up to date; prints one line per node that ended
//! toy bench NODES STORE                 # no-op time of a graph of that size
//! toy up WORKFLOW STORE BOOKS           # as `drive`, but as short as it gets: for measuring, as are those that follow
//! toy plan WORKFLOW STORE BOOKS
//! toy why WORKFLOW STORE BOOKS NODE
//! toy scan ROOT CACHE                   # look through a tree of files as a source stage does
//! toy build NODES [TARGET]              # time and memory of reading and building that graph
//! toy cluster WORKFLOW STORE BOOKS LEDGER FOLDER DELAY [SBATCH OPTION]   # as `drive`, on Slurm
//! toy node WAVE ELEMENT                 # element of a wave, on a compute node
//! toy schedule NODES                    # time to choose who starts, with all of so many nodes queued
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "small texts of our own making"
)]

mod cluster;
mod copies;
mod far;
mod stages;
mod whole;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pipeline::event::{Event, Outcome, Progress};
use pipeline::executor::Detached;
use pipeline::graph::{Settings, Workflow, build};
use pipeline::registry::WorkerProgram;
use pipeline::run::{Machine, Options, Runner};
use pipeline::schedule::{Pools, Schedule};
use pipeline::spec::parse;
use pipeline::store::Store;
use pipeline::store::disk::{Act, Watch};
use pipeline::worker::Worker;
use pipeline::{Places, Stop};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["run", folder @ ..] => {
            let worker = Worker { program: "toy 1.0", registry: &far::registry(), environment: vec![] };
            return worker.serve(folder.first().map(Path::new));
        }
        ["detach", request, folder] => detach(request, folder),
        ["drive", workflow, store, books, ledger] => drive(workflow, store, books, ledger),
        ["node", wave, element] => cluster::node(wave, element),
        ["cluster", workflow, store, books, ledger, folder, delay, extra @ ..] => {
            cluster::drive(&cluster::Place { workflow, store, books, ledger, folder, delay, extra })
        }
        ["bench", nodes, store] => bench(nodes, store),
        ["up", workflow, store, books] => whole::with_peak(|| whole::up(workflow, store, books)),
        ["plan", workflow, store, books] => whole::with_peak(|| whole::plan(workflow, store, books)),
        ["why", workflow, store, books, node] => whole::with_peak(|| whole::why(workflow, store, books, node)),
        ["scan", root, cache] => whole::with_peak(|| whole::look_through(root, cache)),
        ["build", nodes, targets @ ..] => measure_build(nodes, targets),
        ["schedule", nodes] => schedule(nodes),
        _ => {
            Err("usage: toy run | drive | bench | up | plan | why | scan | build | schedule ...; see the head of its source"
                .into())
        }
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

fn detach(request: &str, folder: &str) -> Result<bool, Box<dyn Error>> {
    let request = serde_json::from_str(&std::fs::read_to_string(request)?)?;
    Detached::start(&WorkerProgram::from(std::env::current_exe()?), &request, Path::new(folder))?;
    Ok(true)
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
                Outcome::Held { .. } => "held",
            };
            println!("{word} {node}");
        }
    }
}

fn graph(text: &str) -> Result<Workflow, Box<dyn Error>> {
    let worker = std::env::current_exe()?;
    Ok(build(&parse("toy.toml", text)?, &stages::registry(&worker), &Settings::new(), &[])?)
}

#[expect(clippy::disallowed_methods, reason = "a crash test tells this program by a variable where to stop")]
fn drive(workflow: &str, store: &str, books: &str, ledger: &str) -> Result<bool, Box<dyn Error>> {
    let workflow = graph(&std::fs::read_to_string(workflow)?)?;
    let store = match std::env::var("TOY_STOP_AT") {
        Ok(act) => Store::open_watched(Path::new(store), Arc::new(StopAt { act: act.parse()?, seen: AtomicUsize::new(0) }))?,
        Err(_) => Store::open(Path::new(store))?,
    };
    let places = [("books", books), ("ledger", ledger)].map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
    let machine = Machine { places: Places(places.into()), pools: Pools { cpu: 2, ..Pools::default() }, ..Machine::default() };
    let runner =
        Runner { workflow: &workflow, store: &store, machine: &machine, progress: Arc::new(Lines), stop: Stop::default() };
    Ok(runner.run(&Options::default())?.complete)
}

/// Ends this process as `kill -9` does, right before a change of the disk.
struct StopAt {
    act: usize,
    seen: AtomicUsize,
}

impl Watch for StopAt {
    fn before(&self, _: &Act) -> std::io::Result<()> {
        if self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.act {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        Ok(())
    }
}

/// Independent nodes of four kinds of claims, all queued; then one after the other is started and done.
fn schedule(nodes: &str) -> Result<bool, Box<dyn Error>> {
    let count: usize = nodes.parse()?;
    let values: Vec<String> = (0..count / 4).map(|shard| shard.to_string()).collect();
    let stage = |name: &str, limits: &str| {
        format!("[stages.{name}]\nrun = \"toy.text\"\ntext = \"{name} {{shard}}\"\nlimits = {{ {limits} }}\n")
    };
    let text = format!(
        "[workflow]\nname = \"queue\"\n[matrix]\nshard = [{}]\n{}{}{}{}",
        values.join(", "),
        stage("a", ""),
        stage("b", "threads = 2"),
        stage("c", "memory_mib = 100"),
        stage("d", "threads = 8, memory_mib = 900"),
    );
    let workflow = graph(&text)?;
    let pools = Pools { cpu: 8, gpus: vec![], memory_mib: Some(1000) };
    let begun = Instant::now();
    let mut schedule = Schedule::new(&workflow, pools, |node| Some((node.index() % 97) as f64));
    while let Some(node) = schedule.next_ready() {
        schedule.queue(node);
    }
    let queued = begun.elapsed().as_secs_f64();
    let mut running = std::collections::VecDeque::new();
    let mut starts = 0;
    loop {
        while let Some((node, _)) = schedule.next_start() {
            starts += 1;
            running.push_back(node);
        }
        let Some(node) = running.pop_front() else { break };
        schedule.done(node);
    }
    let all = begun.elapsed().as_secs_f64();
    println!(
        "{starts} nodes: queued in {:.1} ms, {:.2} us for each start and end",
        queued * 1e3,
        (all - queued) * 1e6 / starts as f64
    );
    Ok(starts == workflow.order.len())
}

/// Keeps the moment at which the plan was there.
#[derive(Default)]
struct PlanClock(OnceLock<Instant>);

impl Progress for PlanClock {
    fn event(&self, event: &Event) {
        if matches!(event, Event::RunStarted { .. }) {
            self.0.get_or_init(Instant::now);
        }
    }
}

/// N / 4 shards of 3 chained copies, and one that joins them: the graph of the figures in other engines' comparisons.
fn shards(nodes: &str) -> Result<String, Box<dyn Error>> {
    let shards: usize = nodes.parse::<usize>()? / 4;
    let values: Vec<String> = (0..shards).map(|shard| shard.to_string()).collect();
    Ok(format!(
        "[workflow]\nname = \"bench\"\n[matrix]\nshard = [{}]\n[stages.a]\nrun = \"toy.text\"\ntext = \"text {{shard}}\"\n\
         [stages.b]\nrun = \"toy.join\"\ninputs.texts = \"a/text.txt\"\n[stages.c]\nrun = \"toy.join\"\ninputs.texts = \"b\"\n\
         [stages.d]\nrun = \"toy.join\"\ninputs.texts = \"c\"\n\
         [stages.all]\nrun = \"toy.join\"\ngather = [\"shard\"]\ninputs.texts = \"d\"\n",
        values.join(", ")
    ))
}

fn measure_build(nodes: &str, targets: &[&str]) -> Result<bool, Box<dyn Error>> {
    let (text, registry) = (shards(nodes)?, stages::registry(Path::new("toy")));
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let begun = Instant::now();
    let spec = parse("toy.toml", &text)?;
    let parsed = begun.elapsed().as_secs_f64();
    let workflow = build(&spec, &registry, &Settings::new(), &targets)?;
    let total = begun.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let (text, graph, count) = (parsed * 1e3, (total - parsed) * 1e3, workflow.order.len());
    println!("{count} nodes: parse {text:.1} ms, build {graph:.1} ms; {peak}");
    Ok(true)
}

fn bench(nodes: &str, store: &str) -> Result<bool, Box<dyn Error>> {
    let text = shards(nodes)?;
    for round in ["first", "second", "third"] {
        let begun = Instant::now();
        let workflow = graph(&text)?;
        let built = begun.elapsed().as_secs_f64();
        let store = Store::open(Path::new(store))?;
        let machine = Machine { places: Places::default(), pools: Pools { cpu: 2, ..Pools::default() }, ..Machine::default() };
        let clock = Arc::new(PlanClock::default());
        let runner =
            Runner { workflow: &workflow, store: &store, machine: &machine, progress: clock.clone(), stop: Stop::default() };
        let opened = begun.elapsed().as_secs_f64();
        let summary = runner.run(&Options::default())?;
        let planned = (clock.0.get().ok_or("the run told of no plan")?.duration_since(begun)).as_secs_f64();
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
