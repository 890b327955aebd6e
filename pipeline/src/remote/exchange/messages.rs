//! Messages between controller and elements: the JSON of the files in the exchange folder.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::protocol::Request;
use crate::remote::cluster::Class;
use crate::source::TreeFile;

/// Format number of all files in the exchange folder.
pub const FORMAT: u32 = 1;

/// Intent of a wave: an array of elements, each with some of the tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wave {
    /// [`FORMAT`]
    pub format: u32,
    /// Id of the store.
    pub store: String,
    /// Unique name, also that of the array.
    pub name: String,
    /// Time of the intent, in milliseconds since 1970.
    pub created_ms: i64,
    /// Claims of each element.
    pub class: Class,
    /// Hosts on which it must not run.
    pub exclude: Vec<String>,
    /// The first task of each element; an element ends where the next begins.
    pub elements: Vec<u32>,
    /// The tasks.
    pub tasks: Vec<WaveTask>,
}

/// A task of a wave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WaveTask {
    /// Id of the node.
    pub node: String,
    /// Fingerprint of the result.
    pub fingerprint: Digest,
    /// Number of the attempt at this fingerprint, over all waves.
    pub attempt: u32,
    /// True if it runs though the store has a result.
    #[serde(default)]
    pub forced: bool,
}

impl Wave {
    /// Returns the tasks of an element.
    pub(crate) fn tasks_of(&self, element: u32) -> Range<u32> {
        let first = |element: usize| self.elements.get(element).map_or(self.tasks.len() as u32, |first| *first);
        first(element as usize)..first(element as usize + 1)
    }

    /// Returns the element that a task belongs to.
    pub(crate) fn element_of(&self, task: u32) -> u32 {
        self.elements.partition_point(|first| *first <= task).saturating_sub(1) as u32
    }
}

/// Request to an element.
#[derive(Debug, Serialize, Deserialize)]
pub struct ElementRequest {
    /// [`FORMAT`]
    pub format: u32,
    /// Claims of each task.
    pub class: Class,
    /// True if every body runs in a process of its own.
    pub isolate: bool,
    /// Time from a request to stop until a body is killed, in seconds.
    pub grace_secs: f64,
    /// Longest time until a file of another machine is seen, in seconds.
    pub delay_secs: f64,
    /// The tasks.
    pub tasks: Vec<TaskRequest>,
}

/// Request for a task.
#[derive(Debug, Serialize, Deserialize)]
pub struct TaskRequest {
    /// Number of the task in its wave.
    pub task: u32,
    /// See [`WaveTask::attempt`].
    pub attempt: u32,
    /// Fingerprint of the result.
    pub fingerprint: Digest,
    /// Longest time of the attempt, in seconds.
    pub limit_secs: Option<f64>,
    /// Digests of the parts of artifacts that it reads, to be verified.
    pub inputs: Vec<(Digest, Option<Arc<str>>, Digest)>,
    /// The request proper. Output folder, state folder, tools and GPU are filled in by the element.
    pub request: Request,
}

/// State of an element, as it tells it every 30 s.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Alive {
    /// Host.
    pub host: String,
    /// Job of the element, for people.
    pub job: String,
    /// Number of times it has told.
    pub beat: u64,
    /// Tasks that run: their last progress.
    pub running: BTreeMap<u32, Progress>,
}

/// Progress of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 when not known.
    pub total: u64,
    /// Name of the unit.
    pub unit: String,
    /// Free text.
    pub note: String,
}

/// Interval at which an element tells its state.
pub const BEAT: Duration = Duration::from_secs(30);

/// Result of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// [`FORMAT`]
    pub format: u32,
    /// Fingerprint of the result, made or not.
    pub fingerprint: Digest,
    /// How it ended.
    pub end: DoneEnd,
    /// Name of its folder in `out/`.
    pub out: String,
    /// Start, in milliseconds since 1970.
    pub started_ms: i64,
    /// Time it took, in seconds.
    pub secs: f64,
    /// Host.
    pub host: String,
    /// Job, for people.
    pub job: String,
    /// Threads it had.
    pub threads: usize,
    /// GPU it had.
    pub gpu: Option<u32>,
    /// See [`crate::JobProgress::fact`].
    pub facts: BTreeMap<String, Value>,
    /// Lines that the body wanted to be shown.
    pub notes: Vec<String>,
    /// Versions of the external programs that it asked for.
    pub tools: BTreeMap<String, String>,
}

/// End of an attempt on a compute node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum DoneEnd {
    /// It gave an artifact, which is in `out/`.
    Ok {
        /// Files of the artifact.
        listing: Vec<TreeFile>,
    },
    /// The body failed.
    Failed {
        /// Messages of the error and its causes, outermost first.
        chain: Vec<String>,
        /// Hint for the user.
        hint: Option<String>,
        /// See [`crate::StageError::is_transient`].
        transient: bool,
        /// True if it was not done within the time that the workflow file allows.
        timed_out: bool,
    },
    /// A file outside the store is not the one that the plan saw.
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// An artifact that it reads is not there as it should be, seen from the compute node.
    BadInput {
        /// Digest of the artifact.
        artifact: Digest,
        /// Problem with it, for people.
        problem: String,
    },
    /// It was asked to stop.
    Stopped {
        /// True if the element's time was over; false if a person or the cluster ended the element.
        at_limit: bool,
        /// True if its body had begun.
        begun: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_finds_its_tasks() {
        let task = || WaveTask { node: "n".to_owned(), fingerprint: Digest::of(b""), attempt: 1, forced: false };
        let class = Class { threads: 1, gpu: false, memory_mib: 1 };
        let (format, store, name) = (FORMAT, String::new(), String::new());
        let tasks = (0..10).map(|_| task()).collect();
        let wave = Wave { format, store, name, created_ms: 0, class, exclude: vec![], elements: vec![0, 4, 8], tasks };
        assert_eq!([0, 3, 4, 7, 8, 9].map(|task| wave.element_of(task)), [0, 0, 1, 1, 2, 2]);
        assert_eq!([0, 1, 2].map(|element| wave.tasks_of(element)), [0..4, 4..8, 8..10]);
    }
}
