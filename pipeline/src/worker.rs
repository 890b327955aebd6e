//! Worker program: the side of [`crate::protocol`] that runs bodies.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::protocol::{FORMAT, Hello, LOCK_FILE, MESSAGES_FILE, Message, REQUEST_FILE, Request, STOP_FILE};
use crate::registry::Registry;
use crate::stage::{JobProgress, Spare, StageError, Stop, catch_panic};

/// Interval at which a worker with files looks for a request to stop.
const STOP_POLL: Duration = Duration::from_millis(200);

/// Worker program with the stage kinds that it can run.
pub struct Worker<'a> {
    /// Name and version of the program.
    pub program: &'a str,
    /// Stage kinds; those whose bodies are in this process can be run.
    pub registry: &'a Registry,
    /// Libraries that results depend on, with their versions.
    pub environment: Vec<(&'static str, String)>,
}

/// A request that cannot be run.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("no request on standard input")]
    Absent,
    #[error("cannot read the request")]
    Unreadable(#[source] io::Error),
    #[error("the request is not valid: {0}")]
    Invalid(serde_json::Error),
    #[error("the parameters of the request are not valid: {0}")]
    Params(String),
}

impl Worker<'_> {
    /// Serves one request: from standard input, or from the folder that an argument names.
    pub fn serve(&self, folder: Option<&Path>) -> ExitCode {
        folder.map_or_else(|| self.serve_pipes(), |folder| self.serve_files(folder))
    }

    fn serve_pipes(&self) -> ExitCode {
        let out = Output::new(io::stdout());
        out.say(&Message::Hello(self.hello()));
        let mut lines = BufReader::new(io::stdin()).lines();
        let request = match lines.next() {
            None => Err(RequestError::Absent),
            Some(line) => line.map_err(RequestError::Unreadable).and_then(|line| read(&line)),
        };
        self.answer(request, &out, move |stop| {
            for line in lines.map_while(Result::ok) {
                if line == "stop" {
                    stop.request();
                }
            }
            std::process::exit(1); // the client is gone
        })
    }

    fn serve_files(&self, folder: &Path) -> ExitCode {
        // A session of its own: the end of the client's terminal does not reach this process. Fails for the leader of a process
        // group, which has one already.
        let _ = rustix::process::setsid();
        let lock = File::create(folder.join(LOCK_FILE)).and_then(|file| file.lock().map(|()| file));
        let messages = File::options().create(true).append(true).open(folder.join(MESSAGES_FILE));
        let (_lock, messages) = match lock.and_then(|lock| messages.map(|messages| (lock, messages))) {
            Ok(both) => both,
            Err(error) => {
                let _ = writeln!(io::stderr(), "error: cannot write in `{}`: {error}", folder.display());
                return ExitCode::from(2);
            }
        };
        let out = Output::new(messages);
        out.say(&Message::Hello(self.hello()));
        let request = std::fs::read_to_string(folder.join(REQUEST_FILE)).map_err(RequestError::Unreadable);
        let file = folder.join(STOP_FILE);
        self.answer(request.and_then(|text| read(&text)), &out, move |stop| {
            while !file.exists() {
                std::thread::sleep(STOP_POLL);
            }
            stop.request();
        })
    }

    /// Returns the identity of this worker.
    fn hello(&self) -> Hello {
        let here = self.registry.kinds().filter(|kind| kind.worker.is_none());
        Hello {
            format: FORMAT,
            program: self.program.to_owned(),
            kinds: here.map(|kind| (kind.name.to_owned(), kind.version)).collect(),
            environment: self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    /// Runs the body and writes the last message. While the body runs, another thread watches for a request to stop: an answer to a
    /// request that is refused does not depend on whether the client still listens.
    fn answer(
        &self,
        request: Result<Request, RequestError>,
        out: &Output,
        watch: impl FnOnce(&Stop) + Send + 'static,
    ) -> ExitCode {
        let bad_request = |error: StageError| (Message::of_end(Err(error)), ExitCode::from(2));
        let (message, code) = match request {
            Err(error) => bad_request(StageError::failed(error)),
            Ok(request) => match self.hello().check(&request.kind, request.version, &request.environment) {
                Err(mismatch) => bad_request(StageError::failed(mismatch).with_hint(crate::protocol::REBUILD)),
                Ok(()) => {
                    let stop = Stop::default();
                    let asked = stop.clone();
                    std::thread::spawn(move || watch(&asked));
                    let end = self.run(request, out, stop);
                    let code = match &end {
                        Ok(()) => ExitCode::SUCCESS,
                        Err(StageError::Stopped) => ExitCode::from(3),
                        Err(_) => ExitCode::FAILURE,
                    };
                    (Message::of_end(end), code)
                }
            },
        };
        out.say(&message);
        code
    }

    fn run(&self, request: Request, out: &Output, stop: Stop) -> Result<(), StageError> {
        let Request { kind, params, inputs, sources, partition, site, .. } = request;
        let kind = self.registry.get(&kind).expect("its version was just compared");
        let placed = kind.read(params).map_err(|mistakes| {
            let texts: Vec<String> = mistakes.into_iter().map(|mistake| mistake.message).collect();
            StageError::failed(RequestError::Params(texts.join("; ")))
        })?;
        let progress = Box::new(out.clone());
        let job = site.into_job(&inputs, sources, partition, Spare::default(), progress, stop);
        catch_panic(|| placed.run_here(&job).expect("only kinds with a body in this process are named"))
    }
}

fn read(text: &str) -> Result<Request, RequestError> {
    serde_json::from_str(text).map_err(RequestError::Invalid)
}

/// Writer of messages.
#[derive(Clone)]
struct Output(Arc<Mutex<dyn Write + Send>>);

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }

    /// Writes one message. A failure is no error: without a client nobody needs the message.
    fn say(&self, message: &Message) {
        let line = serde_json::to_string(message).expect("messages contain nothing that JSON cannot express");
        let mut out = self.0.lock().expect("no holder of this lock panics");
        let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
    }
}

/// Turns progress into messages.
impl JobProgress for Output {
    fn tick(&self, done: u64, total: u64, unit: &str, note: &str) {
        self.say(&Message::Tick { done, total, unit: unit.to_owned(), note: note.to_owned() });
    }
    fn note(&self, line: &str) {
        self.say(&Message::Note { line: line.to_owned() });
    }
    fn fact(&self, name: &str, value: Value) {
        self.say(&Message::Fact { name: name.to_owned(), value });
    }
}
