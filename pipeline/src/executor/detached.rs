//! Worker that outlives its client: its request and its messages are files in a folder.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::worker::{Relay, STOP_POLL, WorkerError, command, could_not_start, result_of};
use crate::protocol::{LOCK_FILE, MESSAGES_FILE, REQUEST_FILE, Request, STOP_FILE};
use crate::registry::WorkerProgram;
use crate::stage::{JobProgress, StageError, Stop};

/// Worker in a folder of its own. Any process of this machine may follow it, also after the one that started it has ended.
#[derive(Debug)]
pub struct Detached<'a> {
    program: &'a WorkerProgram,
    folder: PathBuf,
}

/// Time that a worker has to lock its folder once it was started.
const START: Duration = Duration::from_secs(60);

impl<'a> Detached<'a> {
    /// Starts a worker in `folder`, which must be empty or absent.
    ///
    /// # Errors
    /// [`StageError`] when the folder cannot be written or the program cannot be started.
    pub fn start(program: &'a WorkerProgram, request: &Request, folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(REQUEST_FILE);
        let text = serde_json::to_vec(request).expect("requests contain nothing that JSON cannot express");
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).map_err(StageError::io("write", &path))?;
        let log = folder.join("log");
        let log = File::create(&log).map_err(StageError::io("create", &log))?;
        let mut child = command(program)
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|source| could_not_start(program, source))?;
        std::thread::spawn(move || child.wait()); // so that it leaves no zombie while this process lives
        Ok(Self::of(program, folder))
    }

    /// Returns the worker that was started in `folder`.
    pub fn of(program: &'a WorkerProgram, folder: &Path) -> Self {
        Self { program, folder: folder.to_owned() }
    }

    /// Reads the messages of the worker, from the first one on, until it has ended. Passes a request to stop on.
    ///
    /// # Errors
    /// That of the body; [`WorkerError`] as the source when the worker died or is of another version.
    pub fn follow(&self, progress: &dyn JobProgress, stop: &Stop) -> Result<(), StageError> {
        let path = self.folder.join(REQUEST_FILE);
        let text = fs::read(&path).map_err(StageError::io("read", &path))?;
        let request: Request = serde_json::from_slice(&text).map_err(StageError::failed)?;
        let mut relay = Relay { request: &request, program: self.program, progress, named: None, last: None };
        let begun = Instant::now();
        let mut messages: Option<BufReader<File>> = None;
        let mut line = vec![];
        loop {
            let ended = self.has_ended(begun); // before reading: what it wrote until then is read below
            messages = messages.or_else(|| File::open(self.folder.join(MESSAGES_FILE)).ok().map(BufReader::new));
            while let Some(messages) = &mut messages
                && messages.read_until(b'\n', &mut line).is_ok_and(|count| count > 0)
                && line.ends_with(b"\n")
            {
                relay.take(&line);
                line.clear(); // a line without its end stays, and is read on
            }
            if ended || relay.last.is_some() {
                break;
            }
            if stop.requested() {
                let path = self.folder.join(STOP_FILE);
                File::create(&path).map_err(StageError::io("create", &path))?;
            }
            std::thread::sleep(STOP_POLL);
        }
        let died = || StageError::failed(WorkerError::Died { how: self.last_words() }).transient();
        result_of(relay.end()?.ok_or_else(died)?)
    }

    /// True once the worker holds its lock no more, or has not locked it in time.
    fn has_ended(&self, begun: Instant) -> bool {
        let begins = begun.elapsed() < START && !self.folder.join(MESSAGES_FILE).exists();
        let lock = File::open(self.folder.join(LOCK_FILE));
        let held = lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
        !held && !begins
    }

    /// Returns the end of the worker's log.
    fn last_words(&self) -> String {
        let mut text = String::new();
        let log = File::open(self.folder.join("log"));
        let _ = log.and_then(|log| log.take(1 << 20).read_to_string(&mut text)); // without a log there is nothing to say
        text.lines().last().filter(|line| !line.is_empty()).map_or_else(|| "it left no message".to_owned(), str::to_owned)
    }
}
