//! Calls of a cluster's programs, with a time limit.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::cluster::ClusterError;

/// Output of a program.
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) out: String,
    pub(super) err: String,
}

/// Interval at which the end of a program is looked for.
const POLL: Duration = Duration::from_millis(10);

/// Runs a program to its end, or kills it at the limit.
pub(super) fn call(mut command: Command, limit: Duration) -> Result<Answer, ClusterError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |problem: String| ClusterError { command: name.clone(), problem };
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| failed(format!("does not start: {error}")))?;
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < limit => std::thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill(); // it may have ended just now
                let _ = child.wait();
                return Err(failed(format!("did not answer within {} s", limit.as_secs())));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    };
    // A process that it left behind may hold the pipes open: what came until then counts.
    let text = |from: mpsc::Receiver<Vec<u8>>| {
        let bytes = from.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Answer { status, out: text(out), err: text(err) })
}

/// Reads a pipe to its end on a thread of its own.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes); // what was read before an error counts
        }
        let _ = sender.send(bytes); // nobody listens after a timeout
    });
    receiver
}

impl Answer {
    /// Returns the standard output of a program that succeeded.
    pub(super) fn success(self, command: &str) -> Result<String, ClusterError> {
        if self.status.success() {
            return Ok(self.out);
        }
        let said = self.err.lines().chain(self.out.lines()).find(|line| !line.trim().is_empty()).unwrap_or_default();
        let code = self.status.code().map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        Err(ClusterError { command: command.to_owned(), problem: format!("failed with {code}: {}", said.trim()) })
    }
}
