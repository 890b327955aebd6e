//! Protocol between the engine and a process that runs the body of a stage: plain data, written as JSON.
//!
//! The engine writes one [`Request`]; the worker answers with [`Message`]s, first [`Message::Hello`] and last one that
//! [`Message::is_last`]. They travel in one of two ways:
//!
//! - **pipes**: the request is one line on the worker's standard input, each message one line on its standard output, and standard
//!   error is the log of the node. The line `stop` on standard input asks for an early end. When standard input closes, the client
//!   is gone and the worker exits at once.
//! - **files**, for a worker that outlives its client: the folder contains [`REQUEST_FILE`], the worker appends to
//!   [`MESSAGES_FILE`] and holds a lock on [`LOCK_FILE`] while it lives; a file [`STOP_FILE`] asks for an early end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::source::Tree;
use crate::stage::{Input, Inputs, Job, JobProgress, Places, Spare, StageError, Stop, Tools, chain};

/// Format number of requests and messages; a worker refuses requests of another format.
pub const FORMAT: u32 = 1;

/// File that contains the request.
pub const REQUEST_FILE: &str = "request.json";
/// File to which a worker appends its messages.
pub const MESSAGES_FILE: &str = "messages.jsonl";
/// File that asks a worker to stop.
pub const STOP_FILE: &str = "stop";
/// File that a worker locks while it lives.
pub const LOCK_FILE: &str = "lock";

/// Request to run the body of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// [`FORMAT`]
    pub format: u32,
    /// Stage kind.
    pub kind: String,
    /// Version of the stage kind that the plan expects.
    pub version: u32,
    /// See [`crate::Stage::environment`]: values that the plan expects.
    pub environment: BTreeMap<String, String>,
    /// Parameters of the stage.
    pub params: Value,
    /// Inputs by digest.
    pub inputs: InputRefs,
    /// See [`Job::sources`].
    pub sources: BTreeMap<String, Arc<Tree>>,
    /// See [`Job::partition`].
    pub partition: Option<u32>,
    /// Machine-dependent part.
    pub site: Site,
}

/// Machine-dependent part of a request: paths, and the resources that were granted. Nothing of it may change an output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Site {
    /// Folder of artifacts, in which inputs are found by digest.
    pub objects: PathBuf,
    /// See [`Job::places`].
    pub places: Places,
    /// See [`Job::tools`].
    pub tools: Tools,
    /// See [`Job::out`].
    pub out: PathBuf,
    /// See [`Job::resume`].
    pub resume: PathBuf,
    /// See [`Job::threads`].
    pub threads: usize,
    /// See [`Job::gpu`].
    pub gpu: Option<u32>,
    /// See [`Job::others`].
    #[serde(default)]
    pub others: Vec<Option<u32>>,
}

/// Inputs of a node, by slot: artifacts named by digest, so that every machine finds them in its own folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRefs(pub BTreeMap<String, Vec<InputRef>>);

/// Reference to an artifact, or to one file or folder of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRef {
    /// Digest of the artifact.
    pub artifact: Digest,
    /// File or folder of it; all of it when none.
    pub part: Option<Arc<str>>,
    /// See [`Input::point`].
    pub point: BTreeMap<String, String>,
    /// See [`Input::partition`].
    pub partition: Option<u32>,
}

impl InputRefs {
    /// Returns the inputs as paths below a folder of artifacts.
    pub fn resolve(&self, objects: &Path) -> Inputs {
        let input = |one: &InputRef| {
            let folder = one.artifact.folder_in(objects);
            let path = if let Some(part) = &one.part { folder.join(&**part) } else { folder };
            Input { path, point: one.point.clone(), partition: one.partition }
        };
        Inputs(self.0.iter().map(|(slot, list)| (slot.clone(), list.iter().map(input).collect())).collect())
    }

    /// Returns the artifacts and parts that are referred to, sorted, each once.
    pub(crate) fn artifacts(&self) -> Vec<(Digest, Option<Arc<str>>)> {
        let mut all: Vec<_> = self.0.values().flatten().map(|one| (one.artifact, one.part.clone())).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Site {
    /// Returns the job that a body takes.
    pub fn into_job(
        self,
        inputs: &InputRefs,
        sources: BTreeMap<String, Arc<Tree>>,
        partition: Option<u32>,
        spare: Spare,
        progress: Box<dyn JobProgress>,
        stop: Stop,
    ) -> Job {
        let Self { objects, places, tools, out, resume, threads, gpu, others } = self;
        let inputs = inputs.resolve(&objects);
        Job { inputs, sources, places, partition, out, resume, threads, spare, gpu, others, tools, progress, stop }
    }
}

/// Message of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Message {
    /// First message: identity of the worker.
    Hello(Hello),
    /// See [`JobProgress::tick`].
    Tick {
        /// Units done.
        done: u64,
        /// Units in all; 0 when not known.
        total: u64,
        /// Name of the unit.
        unit: String,
        /// Free text.
        note: String,
    },
    /// See [`JobProgress::note`].
    Note {
        /// Text of the note.
        line: String,
    },
    /// See [`JobProgress::fact`].
    Fact {
        /// Name of the fact.
        name: String,
        /// Value of the fact.
        value: Value,
    },
    /// The body ended well.
    Done,
    /// The body failed.
    Failed {
        /// Messages of the error and its causes, outermost first.
        chain: Vec<String>,
        /// Hint for the user.
        hint: Option<String>,
        /// See [`StageError::is_transient`].
        #[serde(default)]
        transient: bool,
    },
    /// The body ended early, as asked.
    Stopped,
    /// See [`StageError::SourceChanged`].
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
}

/// Identity of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`FORMAT`] of the worker.
    pub format: u32,
    /// Name and version of the program.
    pub program: String,
    /// Stage kinds that it can run, with their versions.
    pub kinds: BTreeMap<String, u32>,
    /// Libraries that results depend on (see [`crate::Stage::environment`]), with their versions.
    pub environment: BTreeMap<String, String>,
}

impl Hello {
    /// Compares with what a plan expects.
    ///
    /// # Errors
    /// [`Mismatch`] when the protocol, the version of the stage kind or a library differs.
    pub fn check(&self, kind: &str, version: u32, environment: &BTreeMap<String, String>) -> Result<(), Mismatch> {
        let mismatch = |problem: String| Err(Mismatch { program: self.program.clone(), problem });
        if self.format != FORMAT {
            return mismatch(format!("speaks version {} of the protocol, and `sure` version {FORMAT}", self.format));
        }
        match self.kinds.get(kind) {
            None => return mismatch(format!("has no stage kind `{kind}`")),
            Some(here) if *here != version => {
                return mismatch(format!("has version {here} of stage kind `{kind}`, and the plan expects version {version}"));
            }
            Some(_) => {}
        }
        for (name, here) in &self.environment {
            if let Some(planned) = environment.get(name).filter(|planned| *planned != here) {
                return mismatch(format!("has {name} {here}, and the plan expects {planned}"));
            }
        }
        Ok(())
    }
}

/// A worker of another version than the plan expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker `{program}` {problem}")]
pub struct Mismatch {
    program: String,
    problem: String,
}

/// Hint for [`Mismatch`] and for a worker without [`Message::Hello`].
pub(crate) const REBUILD: &str =
    "`sure` and its worker must come from one build: build both again, or correct `worker` in sure.toml";

impl Message {
    /// True for a message after which no other follows.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Hello(_) | Self::Tick { .. } | Self::Note { .. } | Self::Fact { .. })
    }

    /// Returns the last message for the end of a body.
    pub fn of_end(end: Result<(), StageError>) -> Self {
        match end {
            Ok(()) => Self::Done,
            Err(StageError::Stopped) => Self::Stopped,
            Err(StageError::SourceChanged { path }) => Self::SourceChanged { path },
            Err(error) => Self::Failed { chain: chain(&error), hint: error.hint(), transient: error.is_transient() },
        }
    }
}
