//! Running the body of a stage in a process of its own: the protocol, its server and its client.
//!
//! The client writes one [`Request`] as a JSON line to the worker's standard input and reads [`Message`]s, one JSON line each,
//! from its standard output; standard error goes to the node's log. Standard input stays open: the line `stop` asks for an
//! early end, and its closing means that the client is gone, at which the worker exits at once.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source::Tree;
use crate::stage::{Inputs, Job, JobProgress, Places, Spare, Stage, StageError, Stop};

mod client;

pub use client::call;

/// What a worker is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The stage kind.
    pub kind: String,
    /// Its parameters.
    pub params: Value,
    /// See [`Job::inputs`].
    pub inputs: Inputs,
    /// See [`Job::sources`].
    pub sources: BTreeMap<String, Arc<Tree>>,
    /// See [`Job::places`].
    pub places: Places,
    /// See [`Job::partition`].
    pub partition: Option<u32>,
    /// See [`Job::out`].
    pub out: PathBuf,
    /// See [`Job::resume`].
    pub resume: PathBuf,
    /// See [`Job::threads`].
    pub threads: usize,
    /// See [`Job::gpu`].
    pub gpu: Option<u32>,
}

impl Request {
    /// The parameters, and the job that a body takes.
    pub(crate) fn into_job(self, progress: Box<dyn JobProgress>, stop: Stop) -> (Value, Job) {
        let Self { kind: _, params, inputs, sources, places, partition, out, resume, threads, gpu } = self;
        let spare = Spare::default();
        (params, Job { inputs, sources, places, partition, out, resume, threads, spare, gpu, progress, stop })
    }
}

/// A worker program, and what it needs to be started well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// The executable.
    pub program: PathBuf,
    /// How to get it, for people.
    pub help: Option<String>,
    /// Variables of its environment: settings that its libraries read before its `main`. None of them may move a result.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl<P: Into<PathBuf>> From<P> for Worker {
    fn from(program: P) -> Self {
        Self { program: program.into(), ..Self::default() }
    }
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Message {
    /// See [`JobProgress::tick`].
    Tick {
        /// Units done.
        done: u64,
        /// Units in all; 0 when not known.
        total: u64,
        /// What is counted.
        unit: String,
        /// Free text.
        note: String,
    },
    /// See [`JobProgress::note`].
    Note {
        /// The line.
        line: String,
    },
    /// See [`JobProgress::fact`].
    Fact {
        /// Its name.
        name: String,
        /// Its value.
        value: Value,
    },
    /// The body ended well.
    Done,
    /// The body failed.
    Failed {
        /// What went wrong, outermost first.
        chain: Vec<String>,
        /// What the user can do.
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

/// Why a worker did not deliver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The executable could not be started.
    #[error("cannot start `{program}`")]
    Start {
        /// The executable.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It went away without a last word.
    #[error("the worker ended without a result: {how}")]
    Died {
        /// Exit code or signal.
        how: String,
    },
    /// The body reported an error.
    #[error("{message}")]
    Body {
        /// What went wrong.
        message: String,
        /// Its cause.
        #[source]
        source: Option<Box<Self>>,
    },
}

/// A stage kind with its body, as a worker program offers it.
pub struct Body {
    kind: &'static str,
    run: Box<RunJson>,
}

/// Runs a body on parameters that are still JSON.
type RunJson = dyn Fn(Value, &Job) -> Result<(), StageError>;

impl Body {
    /// Binds the body of stage `S`.
    pub fn of<S: Stage>(run: fn(&S, &Job) -> Result<(), StageError>) -> Self {
        Self {
            kind: S::KIND,
            run: Box::new(move |params, job| run(&serde_json::from_value(params).map_err(StageError::failed)?, job)),
        }
    }
}

/// Serves one request from standard input: the `main` of a worker program. `bodies` is every stage it can run.
pub fn serve(bodies: &[Body]) -> ExitCode {
    let mut lines = BufReader::new(io::stdin()).lines();
    let request = lines.next().and_then(Result::ok).map(|line| serde_json::from_str::<Request>(&line));
    let stop = Stop::default();
    let (message, code) = match request {
        None => (failed("no request on standard input"), ExitCode::from(2)),
        Some(Err(error)) => (failed(&format!("the request is not valid: {error}")), ExitCode::from(2)),
        Some(Ok(request)) => {
            let asked = stop.clone();
            std::thread::spawn(move || watch(lines, &asked));
            answer(bodies, request, stop)
        }
    };
    say(&message);
    code
}

/// Reads on until the client asks for a stop or goes away.
fn watch(lines: io::Lines<impl BufRead>, stop: &Stop) {
    for line in lines.map_while(Result::ok) {
        if line == "stop" {
            stop.request();
        }
    }
    std::process::exit(1);
}

fn answer(bodies: &[Body], request: Request, stop: Stop) -> (Message, ExitCode) {
    let Some(body) = bodies.iter().find(|body| body.kind == request.kind) else {
        return (
            failed(&format!("this worker has no stage kind `{}`: it may be of another version", request.kind)),
            ExitCode::from(2),
        );
    };
    let (params, job) = request.into_job(Box::new(Speaker), stop);
    match guarded(|| (body.run)(params, &job)) {
        Ok(()) => (Message::Done, ExitCode::SUCCESS),
        Err(StageError::Stopped) => (Message::Stopped, ExitCode::from(3)),
        Err(StageError::SourceChanged { path }) => (Message::SourceChanged { path }, ExitCode::FAILURE),
        Err(error) => {
            (Message::Failed { chain: chain(&error), hint: error.hint(), transient: error.is_transient() }, ExitCode::FAILURE)
        }
    }
}

fn failed(text: &str) -> Message {
    Message::Failed { chain: vec![text.to_owned()], hint: None, transient: false }
}

/// A body that panicked.
#[derive(Debug, thiserror::Error)]
#[error("the stage panicked: {0}")]
struct Panicked(String);

/// Calls a body; a panic is a failure like others.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, StageError>) -> Result<T, StageError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let error = StageError::failed(Panicked(text.unwrap_or_else(|| "without a message".to_owned())));
        Err(error.with_hint("this is a bug in the stage, please report it"))
    })
}

/// The messages of an error and its sources, outermost first. A message that only repeats its source's counts once.
pub(crate) fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = source.source();
    }
    texts
}

/// Writes one message. A client that is gone cannot be told anything, so a failure to write is not an error.
fn say(message: &Message) {
    let line = serde_json::to_string(message).expect("messages hold nothing that JSON cannot");
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Turns progress into messages.
#[derive(Debug)]
struct Speaker;

impl JobProgress for Speaker {
    fn tick(&self, done: u64, total: u64, unit: &str, note: &str) {
        say(&Message::Tick { done, total, unit: unit.to_owned(), note: note.to_owned() });
    }
    fn note(&self, line: &str) {
        say(&Message::Note { line: line.to_owned() });
    }
    fn fact(&self, name: &str, value: Value) {
        say(&Message::Fact { name: name.to_owned(), value });
    }
}
