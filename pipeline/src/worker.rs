//! Running the body of a stage in a process of its own: the protocol, its server and its client.
//!
//! The client writes one [`Request`] as a JSON line to the worker's standard input and reads [`Message`]s, one JSON line each,
//! from its standard output; standard error goes to the node's log. Standard input stays open: the line `stop` asks for an
//! early end, and its closing means that the client is gone, at which the worker exits at once.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source::Tree;
use crate::stage::{Inputs, Job, JobProgress, Places, Stage, StageError, Stop};

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
        (params, Job { inputs, sources, places, partition, out, resume, threads, gpu, progress, stop })
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
    match (body.run)(params, &job) {
        Ok(()) => (Message::Done, ExitCode::SUCCESS),
        Err(StageError::Stopped) => (Message::Stopped, ExitCode::from(3)),
        Err(StageError::SourceChanged { path }) => (Message::SourceChanged { path }, ExitCode::FAILURE),
        Err(error) => {
            let hint = if let StageError::Failed { hint, .. } = &error { hint.clone() } else { None };
            (Message::Failed { chain: chain(&error), hint }, ExitCode::FAILURE)
        }
    }
}

fn failed(text: &str) -> Message {
    Message::Failed { chain: vec![text.to_owned()], hint: None }
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

/// How often the client looks whether a stop was asked for.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Runs a request in a new process of the worker program and passes its messages on.
///
/// # Errors
/// Whatever the body failed with; [`WorkerError`] as the source when the process could not be started or died.
pub fn call(worker: &Worker, request: &Request, log: &Path, progress: &dyn JobProgress, stop: &Stop) -> Result<(), StageError> {
    let log = File::options().create(true).append(true).open(log).map_err(StageError::io("write", log))?;
    let mut child = Command::new(&worker.program)
        .arg("run")
        .envs(worker.environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0) // Ctrl-C on the terminal reaches this process only, which then asks for a clean stop
        .spawn()
        .map_err(|source| could_not_start(worker, source))?;
    let stdin = child.stdin.take().expect("standard input is piped");
    let stdout = child.stdout.take().expect("standard output is piped");
    let stdin = Arc::new(Mutex::new(Some(stdin)));
    send(&stdin, &serde_json::to_string(request).map_err(StageError::failed)?);

    let (finished, waiting) = std::sync::mpsc::channel::<()>();
    let last = std::thread::scope(|scope| {
        scope.spawn(|| {
            let waiting = waiting; // moved in, so that only this thread holds it
            loop {
                match waiting.recv_timeout(STOP_POLL) {
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) if stop.requested() => return send(&stdin, "stop"),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        let last = relay(BufReader::new(stdout), progress);
        drop(finished);
        last
    });
    let status = reap(&mut child, &stdin);
    match last {
        Some(Message::Done) if matches!(&status, Ok(status) if status.success()) => Ok(()),
        Some(Message::Stopped) => Err(StageError::Stopped),
        Some(Message::SourceChanged { path }) => Err(StageError::SourceChanged { path }),
        Some(Message::Failed { chain, hint }) => Err(StageError::Failed { source: Box::new(rebuild(chain)), hint }),
        _ => Err(StageError::failed(WorkerError::Died { how: status.map_or_else(|error| error.to_string(), describe) })),
    }
}

fn could_not_start(worker: &Worker, source: io::Error) -> StageError {
    let error = StageError::failed(WorkerError::Start { program: worker.program.display().to_string(), source });
    match &worker.help {
        Some(help) => error.with_hint(help),
        None => error,
    }
}

fn send(stdin: &Mutex<Option<ChildStdin>>, line: &str) {
    if let Some(pipe) = stdin.lock().expect("no holder of this lock panics").as_mut() {
        let _ = writeln!(pipe, "{line}"); // a worker that is gone is noticed when its output ends
    }
}

/// Passes messages on until the output ends; returns the last word.
fn relay(output: impl BufRead, progress: &dyn JobProgress) -> Option<Message> {
    let mut last = None;
    for line in output.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        match serde_json::from_str(&line) {
            Ok(Message::Tick { done, total, unit, note }) => progress.tick(done, total, &unit, &note),
            Ok(Message::Note { line }) => progress.note(&line),
            Ok(Message::Fact { name, value }) => progress.fact(&name, value),
            Ok(word) => last = Some(word),
            Err(_) => progress.note(&line), // a library that prints to standard output
        }
    }
    last
}

/// Waits for the end. The worker has closed its output; closing its input makes sure that it goes.
fn reap(child: &mut Child, stdin: &Mutex<Option<ChildStdin>>) -> io::Result<ExitStatus> {
    stdin.lock().expect("no holder of this lock panics").take();
    child.wait()
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed (signal 9), perhaps because memory ran out".to_owned(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn rebuild(chain: Vec<String>) -> WorkerError {
    let mut error = None;
    for message in chain.into_iter().rev() {
        error = Some(Box::new(WorkerError::Body { message, source: error }));
    }
    error.map_or_else(|| WorkerError::Died { how: "an empty error".to_owned() }, |error| *error)
}
