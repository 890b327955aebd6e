//! A three-stage text workflow: list the books of a folder in parts, count their words part by part, add the counts up.
//!
//! ```sh
//! cargo run -p pipeline --example words -- FOLDER_WITH_TXT_FILES STORE
//! ```
//! Run it again and nothing runs; edit one book and one part runs, then the sum.
#![allow(clippy::print_stdout, reason = "a program")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline::event::{Event, Outcome, Progress};
use pipeline::graph::{Settings, build};
use pipeline::registry::Registry;
use pipeline::run::{Machine, Options, Runner};
use pipeline::schedule::Pools;
use pipeline::source::SourceNeed;
use pipeline::spec::parse;
use pipeline::store::Store;
use pipeline::{Job, Places, Slot, Stage, StageError, Stop};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const WORKFLOW: &str = r#"
[workflow]
name = "words"
[settings]
partitions = 4
[stages.books]
run = "text.list"
partitions = "{partitions}"
[stages.count]
run = "text.count"
each = "books"
inputs.books = "books"
[stages.sum]
run = "text.sum"
inputs.counts = "count/counts.json"
"#;

/// Lists the books of a folder.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct List {
    /// Into how many parts.
    partitions: u32,
}

impl Stage for List {
    const KIND: &'static str = "text.list";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "lists the books of a folder";
    fn slots() -> Vec<Slot> {
        vec![]
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
    fn sources(&self) -> Vec<SourceNeed> {
        vec![SourceNeed {
            place: "books".into(),
            wants: Box::new(|path| Path::new(path).extension().is_some_and(|end| end == "txt")),
        }]
    }
    fn partitions(&self) -> Option<u32> {
        Some(self.partitions)
    }
}

fn list(stage: &List, job: &Job) -> Result<(), StageError> {
    for part in 0..stage.partitions {
        let folder = job.out.join(format!("parts/{part:05}"));
        fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        let mine = |path: &&str| path.bytes().map(u32::from).sum::<u32>() % stage.partitions == part;
        let lines = job.sources["books"].files.iter().map(|file| (file.path.as_str(), file.digest));
        let lines = lines.filter(|(path, _)| mine(path)).map(|(path, digest)| format!("{digest} {path}\n"));
        fs::write(folder.join("books.txt"), lines.collect::<Vec<_>>().concat()).map_err(StageError::io("write", &folder))?;
    }
    Ok(())
}

/// Counts the words of one part.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Count {}

impl Stage for Count {
    const KIND: &'static str = "text.count";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "counts the words of some books";
    fn slots() -> Vec<Slot> {
        vec![Slot::one("books", "a part of a list of books")]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["counts.json".to_owned()]
    }
}

fn count(_: &Count, job: &Job) -> Result<(), StageError> {
    let list = job.inputs.one("books").join("books.txt");
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in fs::read_to_string(&list).map_err(StageError::io("read", &list))?.lines() {
        let path = job.places.get("books")?.join(line.split_once(' ').map_or("", |(_, path)| path));
        let text = fs::read_to_string(&path).map_err(StageError::io("read", &path))?;
        text.split_whitespace().for_each(|word| *counts.entry(word.to_lowercase()).or_default() += 1);
    }
    let json = serde_json::to_vec(&counts).map_err(StageError::failed)?;
    fs::write(job.out.join("counts.json"), json).map_err(StageError::io("write", &job.out))
}

/// Adds counts up.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sum {}

impl Stage for Sum {
    const KIND: &'static str = "text.sum";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "adds word counts up";
    fn slots() -> Vec<Slot> {
        vec![Slot::many("counts", "word counts")]
    }
    fn outputs(&self) -> Vec<String> {
        vec!["words.txt".to_owned()]
    }
}

fn sum(_: &Sum, job: &Job) -> Result<(), StageError> {
    let mut total: BTreeMap<String, u64> = BTreeMap::new();
    for input in job.inputs.many("counts") {
        let text = fs::read(&input.path).map_err(StageError::io("read", &input.path))?;
        let counts: BTreeMap<String, u64> = serde_json::from_slice(&text).map_err(StageError::failed)?;
        for (word, count) in counts {
            *total.entry(word).or_default() += count;
        }
    }
    let lines: Vec<String> = total.iter().map(|(word, count)| format!("{count} {word}\n")).collect();
    fs::write(job.out.join("words.txt"), lines.concat()).map_err(StageError::io("write", &job.out))
}

struct Console;

impl Progress for Console {
    fn event(&self, event: &Event) {
        if let Event::NodeFinished { node, outcome, secs } = event {
            match outcome {
                Outcome::Ran { path, .. } => println!("{node}: {secs:.3} s -> {}", path.display()),
                other => println!("{node}: {other:?}"),
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [books, store] = folders.as_slice() else { return Err("usage: words FOLDER STORE".into()) };
    let registry = Registry::default().here::<List>(list).here::<Count>(count).here::<Sum>(sum);
    let workflow = build(&parse("words", WORKFLOW)?, &registry, &Settings::new(), &[])?;
    let store = Store::open(store)?;
    let places = Places([("books".to_owned(), books.clone())].into());
    let machine = Machine { places, pools: Pools { cpu: 2, ..Pools::default() }, ..Machine::default() };
    let runner =
        Runner { workflow: &workflow, store: &store, machine: &machine, progress: Arc::new(Console), stop: Stop::default() };
    let survey = runner.survey()?;
    let options = Options::default();
    let plan = runner.plan(&survey, &options.forced)?;
    let (reuse, run, maybe) = plan.counts();
    println!("{reuse} reused, {run} to run, {maybe} to run if an input changes");
    runner.run(&options)?;
    Ok(())
}
