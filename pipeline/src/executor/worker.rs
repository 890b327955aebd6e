//! Executor that runs a body in a process of its own, over pipes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{Call, Executor};
use crate::protocol::{Hello, Message, Mismatch, REBUILD, Request};
use crate::registry::WorkerProgram;
use crate::stage::{JobProgress, StageError, Stop};

/// Interval at which a client looks for a request to stop.
pub(super) const STOP_POLL: Duration = Duration::from_millis(50);

/// Longest line on a worker's standard output that is read at once; a longer one is read in pieces, so that no worker can fill the
/// memory of this process.
const LONGEST_LINE: u64 = 16 << 20;

/// Runs each body in a new process of a worker program. A worker that is asked to stop, or has closed its output, is killed when it
/// has not ended after [`Call::grace`].
#[derive(Debug, Clone, Copy)]
pub struct WorkerProcess<'a>(pub &'a WorkerProgram);

/// Reason why a worker gave no result.
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
    /// The process ended without a last message.
    #[error("the worker ended without a result: {how}")]
    Died {
        /// Exit code or signal.
        how: String,
    },
    /// The worker answered without naming its stage kinds and their versions first.
    #[error("the worker `{program}` does not name its stage kinds and their versions: it is of another build")]
    Unnamed {
        /// The executable.
        program: String,
    },
    /// The worker is of another version than the plan expects.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The body reported an error.
    #[error("{message}")]
    Body {
        /// Message of the error.
        message: String,
        /// Cause of the error.
        #[source]
        source: Option<Box<Self>>,
    },
}

impl WorkerProcess<'_> {
    /// Asks the program for its identity, by starting it without a request.
    ///
    /// # Errors
    /// [`WorkerError::Start`], [`WorkerError::Unnamed`]
    pub fn hello(&self) -> Result<Hello, StageError> {
        let output = command(self.0).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let output = output.map_err(|source| could_not_start(self.0, source))?;
        let first = output.stdout.split(|byte| *byte == b'\n').next().and_then(|line| serde_json::from_slice(line).ok());
        if let Some(Message::Hello(hello)) = first {
            return Ok(hello);
        }
        let program = self.0.path.display().to_string();
        Err(StageError::failed(WorkerError::Unnamed { program }).with_hint(REBUILD))
    }
}

impl Executor for WorkerProcess<'_> {
    fn execute(&self, call: Call<'_>) -> Result<(), StageError> {
        let request = call.request();
        let text = serde_json::to_string(&request).expect("requests contain nothing that JSON cannot express");
        let log = File::options().create(true).append(true).open(call.log).map_err(StageError::io("write", call.log))?;
        let mut child = command(self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0) // Ctrl-C on the terminal reaches this process only, which then asks for a clean stop
            .spawn()
            .map_err(|source| could_not_start(self.0, source))?;
        let stdin = child.stdin.take().expect("standard input is piped");
        let stdout = child.stdout.take().expect("standard output is piped");
        let guard = Guard { group: Mutex::new(Some(Pid::from_child(&child))), ..Guard::default() };
        let (finished, over) = mpsc::channel::<()>();
        let mut relay = Relay { request: &request, program: self.0, progress: &*call.progress, named: None, last: None };
        let status = std::thread::scope(|scope| {
            let guard = &guard;
            let stop = &call.stop;
            scope.spawn(move || guard.watch(&over, stop, call.grace));
            scope.spawn(move || guard.ask(stdin, &text)); // beside the relay: a worker may talk before it listens
            relay.until_the_end(BufReader::new(stdout), || guard.kill());
            guard.let_go();
            let status = guard.reap(&mut child);
            drop(finished);
            status
        });
        let killed = guard.killed.load(Ordering::Relaxed) && matches!(&status, Ok(status) if status.signal() == Some(9));
        let died = |how: String| Err(StageError::failed(WorkerError::Died { how }).transient());
        match relay.end()? {
            Some(Message::Done) if matches!(&status, Ok(status) if status.success()) => Ok(()),
            Some(last @ (Message::Stopped | Message::SourceChanged { .. } | Message::Failed { .. })) => result_of(last),
            _ if killed && call.stop.requested() => Err(StageError::Stopped),
            _ if killed => died("it closed its output and then hung, so it was killed".to_owned()),
            _ => died(status.map_or_else(|error| error.to_string(), describe)),
        }
    }
}

/// Returns the command that starts a worker program.
pub(super) fn command(program: &WorkerProgram) -> Command {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).envs(program.environment.iter().copied());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| SECRETS.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// Prefixes of environment variables that contain secrets of a shared cache. No body needs them.
const SECRETS: [&str; 4] = ["AWS_", "AZURE_", "GOOGLE_", "SURE_CACHE_"];

pub(super) fn could_not_start(worker: &WorkerProgram, source: io::Error) -> StageError {
    let program = worker.path.display().to_string();
    let error = StageError::failed(WorkerError::Start { program, source }).transient();
    match &worker.help {
        Some(help) => error.with_hint(help),
        None => error,
    }
}

/// Returns the end of a body that a last message reports.
pub(super) fn result_of(last: Message) -> Result<(), StageError> {
    match last {
        Message::Stopped => Err(StageError::Stopped),
        Message::SourceChanged { path } => Err(StageError::SourceChanged { path }),
        Message::Failed { chain, hint, transient } => Err(result_of_failure(chain, hint, transient)),
        Message::Done | Message::Hello(_) | Message::Tick { .. } | Message::Note { .. } | Message::Fact { .. } => Ok(()),
    }
}

/// Returns the failure of a body in another process.
pub(crate) fn result_of_failure(chain: Vec<String>, hint: Option<String>, transient: bool) -> StageError {
    StageError::Failed { source: Box::new(rebuild(chain)), hint, transient }
}

/// Reads the messages of a worker: passes progress on, checks the first one, keeps the last one.
pub(super) struct Relay<'a> {
    pub(super) request: &'a Request,
    pub(super) program: &'a WorkerProgram,
    pub(super) progress: &'a dyn JobProgress,
    /// Outcome of the check of the first message.
    pub(super) named: Option<Result<(), Mismatch>>,
    pub(super) last: Option<Message>,
}

impl Relay<'_> {
    /// Reads until the output ends; `kill` ends a worker of another version.
    fn until_the_end(&mut self, mut output: impl BufRead, kill: impl Fn()) {
        let mut bytes = vec![];
        while output.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            self.take(&bytes);
            if matches!(self.named, Some(Err(_))) {
                kill();
            }
            bytes.clear();
        }
    }

    /// Takes one line.
    pub(super) fn take(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        match serde_json::from_str(&line) {
            Ok(Message::Hello(hello)) => {
                let Request { kind, version, environment, .. } = self.request;
                self.named = Some(hello.check(kind, *version, environment));
            }
            Ok(Message::Tick { done, total, unit, note }) => self.progress.tick(done, total, &unit, &note),
            Ok(Message::Note { line }) => self.progress.note(&line),
            Ok(Message::Fact { name, value }) => self.progress.fact(&name, value),
            Ok(last) => self.last = Some(last),
            Err(_) => self.progress.note(&line), // a library that prints to standard output
        }
    }

    /// Returns the last message, if there was one, of a worker whose versions are those of the plan.
    pub(super) fn end(self) -> Result<Option<Message>, StageError> {
        let error = match (self.named, &self.last) {
            (Some(Err(mismatch)), _) => mismatch.into(),
            (None, Some(_)) => WorkerError::Unnamed { program: self.program.path.display().to_string() },
            (Some(Ok(())), _) | (None, None) => return Ok(self.last),
        };
        Err(StageError::failed(error).with_hint(REBUILD))
    }
}

/// State that the listening and the watching thread share.
#[derive(Default)]
struct Guard {
    /// Open from when the request is written until the worker's output ends.
    stdin: Mutex<Option<ChildStdin>>,
    /// The worker's process group; none once it has ended, when its number may belong to another.
    group: Mutex<Option<Pid>>,
    /// True once its output has ended.
    silent: AtomicBool,
    /// True once it was killed.
    killed: AtomicBool,
}

impl Guard {
    /// Writes the request.
    fn ask(&self, mut stdin: ChildStdin, request: &str) {
        let _ = writeln!(stdin, "{request}"); // a worker that is gone is noticed when its output ends
        let mut open = self.stdin.lock().expect("no holder of this lock panics");
        if !self.silent.load(Ordering::Relaxed) {
            *open = Some(stdin);
        }
    }

    /// Asks the worker to stop; false when it has not got its request yet.
    fn ask_to_stop(&self) -> bool {
        let mut open = self.stdin.lock().expect("no holder of this lock panics");
        open.as_mut().map(|pipe| writeln!(pipe, "stop")).is_some()
    }

    /// Passes a request to stop on, and kills what does not end in time after it or after the end of its output.
    fn watch(&self, over: &Receiver<()>, stop: &Stop, grace: Duration) {
        let mut asked = false;
        let mut last_call: Option<Instant> = None;
        while over.recv_timeout(STOP_POLL) == Err(RecvTimeoutError::Timeout) {
            asked = asked || stop.requested() && self.ask_to_stop();
            // One that has ended may have left a process behind that holds its output open.
            if stop.requested() || self.silent.load(Ordering::Relaxed) || self.has_ended() {
                let last_call = last_call.get_or_insert_with(Instant::now);
                if last_call.elapsed() >= grace {
                    self.kill();
                }
            }
        }
    }

    fn kill(&self) {
        if let Some(group) = *self.group.lock().expect("no holder of this lock panics") {
            self.killed.store(true, Ordering::Relaxed);
            let _ = kill_process_group(group, Signal::KILL); // of a process that just ended: nothing to do
        }
    }

    fn has_ended(&self) -> bool {
        let group = self.group.lock().expect("no holder of this lock panics");
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        group.is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))))
    }

    /// The worker has closed its output; closing its input makes sure that it goes.
    fn let_go(&self) {
        let mut open = self.stdin.lock().expect("no holder of this lock panics");
        self.silent.store(true, Ordering::Relaxed);
        open.take();
    }

    /// Waits for the end.
    fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        // First without giving its number back, so that nobody kills another process that got the same one.
        let pid = Pid::from_child(child);
        while matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT), Err(Errno::INTR)) {}
        self.group.lock().expect("no holder of this lock panics").take();
        child.wait()
    }
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
