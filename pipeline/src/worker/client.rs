//! The side that starts workers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{Message, Request, Worker, WorkerError};
use crate::stage::{JobProgress, StageError, Stop};

/// How often the client looks whether a stop was asked for.
const STOP_POLL: Duration = Duration::from_millis(50);

/// A longer line on a worker's standard output is taken in pieces, so that no worker can fill this process's memory.
const LONGEST_LINE: u64 = 16 << 20;

/// Runs a request in a new process of the worker program and passes its messages on. A worker that is asked to stop, or has
/// closed its output, is killed when it has not ended after `grace`.
///
/// # Errors
/// Whatever the body failed with; [`WorkerError`] as the source when the process could not be started or died.
pub fn call(
    worker: &Worker,
    request: &Request,
    log: &Path,
    progress: &dyn JobProgress,
    stop: &Stop,
    grace: Duration,
) -> Result<(), StageError> {
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
    let guard = Guard { group: Mutex::new(Some(Pid::from_child(&child))), ..Guard::default() };
    let request = serde_json::to_string(request).expect("requests hold nothing that JSON cannot");

    let (finished, over) = mpsc::channel::<()>();
    let (last, status) = std::thread::scope(|scope| {
        let guard = &guard;
        scope.spawn(move || guard.watch(&over, stop, grace));
        scope.spawn(move || guard.ask(stdin, &request)); // beside the relay: a worker may talk before it listens
        let last = relay(BufReader::new(stdout), progress);
        guard.let_go();
        let status = guard.reap(&mut child);
        drop(finished);
        (last, status)
    });
    let killed = guard.killed.load(Ordering::Relaxed) && matches!(&status, Ok(status) if status.signal() == Some(9));
    let died = |how: String| Err(StageError::failed(WorkerError::Died { how }).transient());
    match last {
        Some(Message::Done) if matches!(&status, Ok(status) if status.success()) => Ok(()),
        Some(Message::Stopped) => Err(StageError::Stopped),
        Some(Message::SourceChanged { path }) => Err(StageError::SourceChanged { path }),
        Some(Message::Failed { chain, hint, transient }) => {
            Err(StageError::Failed { source: Box::new(rebuild(chain)), hint, transient })
        }
        _ if killed && stop.requested() => Err(StageError::Stopped),
        _ if killed => died("it closed its output and then hung, so it was killed".to_owned()),
        _ => died(status.map_or_else(|error| error.to_string(), describe)),
    }
}

fn could_not_start(worker: &Worker, source: io::Error) -> StageError {
    let program = worker.program.display().to_string();
    let error = StageError::failed(WorkerError::Start { program, source }).transient();
    match &worker.help {
        Some(help) => error.with_hint(help),
        None => error,
    }
}

/// What the thread that listens and the thread that watches share.
#[derive(Default)]
struct Guard {
    /// Open from when the request is written until the worker's output ends.
    stdin: Mutex<Option<ChildStdin>>,
    /// The worker's process group; none once it has ended, when its number may belong to another.
    group: Mutex<Option<Pid>>,
    /// Whether its output has ended.
    silent: AtomicBool,
    /// Whether it was killed.
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

/// Passes messages on until the output ends; returns the last word.
fn relay(mut output: impl BufRead, progress: &dyn JobProgress) -> Option<Message> {
    let mut last = None;
    let mut bytes = vec![];
    while output.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let line = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes));
        match serde_json::from_str(&line) {
            Ok(Message::Tick { done, total, unit, note }) => progress.tick(done, total, &unit, &note),
            Ok(Message::Note { line }) => progress.note(&line),
            Ok(Message::Fact { name, value }) => progress.fact(&name, value),
            Ok(word) => last = Some(word),
            Err(_) => progress.note(&line), // a library that prints to standard output
        }
        bytes.clear();
    }
    last
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
