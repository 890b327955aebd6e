//! The stage trait, and everything that the body of a stage may see.
//!
//! A stage is its parameters (a plain serde struct that implements [`Stage`]) plus a body, a function
//! `fn(&Parameters, &Job) -> Result<(), StageError>`. The two are apart so that a program can know, check, plan and
//! explain a stage whose body lives in another executable.

mod error;
mod spare;
mod spread;
mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::source::{SourceNeed, Tree};

pub use error::{StageError, catch_panic, chain};
pub use spare::{Borrowed, Spare};
pub(crate) use tools::asked_for_tool;
pub use tools::{FoundTool, Tool, Tools};

/// One kind of step: its identity and its parameters, and nothing else.
///
/// Every field that serde writes enters the fingerprint, so a parameter that cannot change the output does not belong here.
pub trait Stage: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The name that workflow files use, for example `text.count`. Stable: it enters fingerprints.
    const KIND: &'static str;
    /// Raised by hand when the same inputs would now give different bytes.
    const VERSION: u32;
    /// One line for people.
    const ABOUT: &'static str;

    /// The inputs it takes.
    fn slots() -> Vec<Slot>;

    /// External programs that the body may call; it gets them from [`Job::tool`]. The manifest of a result that asked for one
    /// contains their versions, so another version, or a program that was missing and is installed now, gives another result.
    fn tools() -> Vec<Tool> {
        Vec::new()
    }

    /// Mistakes that the types cannot catch, as pairs of parameter and sentence.
    fn check(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The trees of files outside the store that it reads. A stage that names any is a *source*: it is brought up to date
    /// while planning, because all that follows depends on what it finds.
    fn sources(&self) -> Vec<SourceNeed> {
        Vec::new()
    }

    /// Further values that the output depends on, by name: for example the version of a numeric library.
    fn environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Resources that it occupies while it runs.
    fn demand(&self) -> Demand {
        Demand::default()
    }

    /// Number of further attempts after a failure that may pass: see [`StageError::is_transient`].
    fn retries(&self) -> u32 {
        0
    }

    /// Files and folders that the body always writes, relative to the artifact. A body that ends well without one of them has
    /// failed. The folders of its parts need not be named (see [`Stage::partitions`]).
    fn outputs(&self) -> Vec<String>;

    /// Number of parts of the output (folders `parts/00000`, `parts/00001`, ...), which the body always writes. None for an output
    /// without parts.
    fn partitions(&self) -> Option<u32> {
        None
    }
}

/// A named input of a stage kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The name that workflow files use.
    pub name: &'static str,
    /// How many artifacts it takes.
    pub arity: Arity,
    /// One line for people.
    pub about: &'static str,
}

/// How many artifacts a slot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// None or one.
    Optional,
    /// One or more, in order of matrix point and partition.
    Many,
    /// Any number, in the same order.
    Any,
}

impl Arity {
    /// True if a workflow may leave the slot empty.
    pub fn may_be_empty(self) -> bool {
        matches!(self, Self::Optional | Self::Any)
    }
}

impl Slot {
    /// A slot for exactly one artifact.
    pub fn one(name: &'static str, about: &'static str) -> Self {
        Self { name, arity: Arity::One, about }
    }
    /// A slot that may stay empty.
    pub fn optional(name: &'static str, about: &'static str) -> Self {
        Self { name, arity: Arity::Optional, about }
    }
    /// A slot for one or more artifacts.
    pub fn many(name: &'static str, about: &'static str) -> Self {
        Self { name, arity: Arity::Many, about }
    }
    /// A slot for any number of artifacts.
    pub fn any(name: &'static str, about: &'static str) -> Self {
        Self { name, arity: Arity::Any, about }
    }
}

/// Resources that a node occupies while it runs. They never enter a fingerprint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Slots of the `cpu` pool.
    pub cpu: CpuDemand,
    /// Use of a device of the `gpu` pool.
    pub gpu: GpuDemand,
    /// Memory it may fill, in MiB; 0 when that does not matter.
    #[serde(default)]
    pub memory_mib: u64,
    /// Devices that a body can compute on side by side: GPUs where the pool has any, else as many times its CPU threads. `None`: it
    /// knows one only.
    #[serde(default)]
    pub devices: Option<usize>,
}

/// See [`Demand::cpu`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuDemand {
    /// One thread.
    #[default]
    One,
    /// Every thread of the pool. A node that gets a GPU takes one slot only.
    All,
    /// So many threads, also beside a GPU; all of the pool where it has fewer.
    Threads(usize),
}

/// See [`Demand::gpu`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GpuDemand {
    /// Never uses one.
    #[default]
    Never,
    /// Uses one when the pool has any.
    Prefer,
}

/// Everything the body of a stage may see. It reads no store, console, clock, environment, network or global generator.
#[derive(Debug)]
pub struct Job {
    /// The artifacts, by slot.
    pub inputs: Inputs,
    /// The outside trees of a source stage, by place, with the hash of every file.
    pub sources: BTreeMap<String, Arc<Tree>>,
    /// Folders of places outside the store on this machine (`corpora.fsdd` -> folder).
    pub places: Places,
    /// The part of the partitioned input this node works on.
    pub partition: Option<u32>,
    /// An empty folder of this attempt's own. What lies in it at the end becomes the artifact.
    pub out: PathBuf,
    /// A folder that outlives a killed attempt, for the same fingerprint only. Deleted once the node has finished. Most
    /// bodies need none, so it is not there before [`Job::resume()`] makes it.
    pub resume: PathBuf,
    /// Threads the body may use, on each of its devices.
    pub threads: usize,
    /// Threads it may borrow beyond those. A body in a worker has none.
    pub spare: Spare,
    /// Index of the GPU it may use.
    pub gpu: Option<u32>,
    /// Further devices (see [`Demand::devices`]), on each of which it may start one process: the index of the GPU, or `None` for the CPU.
    pub others: Vec<Option<u32>>,
    /// External programs of this machine; see [`Job::tool`].
    pub tools: Tools,
    /// Listener for progress.
    pub progress: Box<dyn JobProgress>,
    /// Set when the run is to end early.
    pub stop: Stop,
}

impl Job {
    /// The folder that outlives a killed attempt; made when it is not there.
    ///
    /// # Errors
    /// [`StageError::Io`]
    pub fn resume(&self) -> Result<&Path, StageError> {
        std::fs::create_dir_all(&self.resume).map_err(StageError::io("create", &self.resume))?;
        Ok(&self.resume)
    }

    /// Returns an external program, `None` when this machine lacks it. The answer becomes part of what the result depends on, so
    /// a body asks only when it is about to call the program.
    ///
    /// # Panics
    /// When [`Stage::tools`] does not name the program.
    pub fn tool(&self, name: &str) -> Option<&Path> {
        let found = self.tools.get(name).expect("a body asks only for programs that its stage names");
        self.progress.fact(&tools::fact(name), true.into());
        found.path.as_deref()
    }
}

/// Takes the progress of one node.
pub trait JobProgress: Send + Sync + std::fmt::Debug {
    /// `done` of `total` units (`"files"`, `"steps"`); `total` 0 when not known. `note` is free text such as the current loss.
    fn tick(&self, done: u64, total: u64, unit: &str, note: &str);
    /// A line worth keeping in the log and showing once.
    fn note(&self, line: &str);
    /// A number about this execution, for the run's record and never for the output: `peak_memory_mib`, `audio_secs`.
    fn fact(&self, name: &str, value: serde_json::Value);
}

/// Drops everything; for tests and examples.
#[derive(Debug)]
pub struct Silent;

impl JobProgress for Silent {
    fn tick(&self, _: u64, _: u64, _: &str, _: &str) {}
    fn note(&self, _: &str) {}
    fn fact(&self, _: &str, _: serde_json::Value) {}
}

/// A request to end early, shared by everyone who may make or must notice it. It may come with a deadline, at which it is as
/// if someone had asked.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Stop {
    /// Returns this request with a deadline; of several deadlines, the earliest counts.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |earlier| earlier.min(deadline));
        Self { asked: Arc::clone(&self.asked), deadline: Some(deadline) }
    }
    /// Asks for the end.
    pub fn request(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
    /// True if the end was asked for or the deadline has passed.
    pub fn requested(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.expired()
    }
    /// True if the deadline has passed.
    pub fn expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Artifacts that a node reads, by slot name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inputs(pub BTreeMap<String, Vec<Input>>);

/// One artifact, or one file or folder of it, as an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The file or folder.
    pub path: PathBuf,
    /// The matrix point of the node that made it: axis -> value.
    pub point: BTreeMap<String, String>,
    /// The partition it is.
    pub partition: Option<u32>,
}

impl Inputs {
    /// The path in a slot of arity one.
    ///
    /// # Panics
    /// When the slot was not declared with [`Arity::One`]: the graph guarantees it is filled.
    pub fn one(&self, slot: &str) -> &Path {
        self.optional(slot).expect("the graph fills every slot of arity one")
    }
    /// The path in an optional slot.
    pub fn optional(&self, slot: &str) -> Option<&Path> {
        self.many(slot).first().map(|input| input.path.as_path())
    }
    /// All artifacts of a slot, in order of matrix point and partition.
    pub fn many(&self, slot: &str) -> &[Input] {
        self.0.get(slot).map_or(&[], Vec::as_slice)
    }
}

/// Folders of places outside the store on this machine: `corpora.fsdd` -> folder. Never part of a fingerprint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places(pub BTreeMap<String, PathBuf>);

impl Places {
    /// The folder of a place.
    ///
    /// # Errors
    /// [`StageError::NoPlace`] when this machine's settings do not name it.
    pub fn get(&self, place: &str) -> Result<&Path, StageError> {
        let path = self.0.get(place).ok_or_else(|| StageError::NoPlace { place: place.to_owned() })?;
        Ok(path)
    }
}
