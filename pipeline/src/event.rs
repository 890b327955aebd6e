//! Events of a run, and the trait of their listeners. A run works without any listener.

use std::path::PathBuf;

use serde::Serialize;

use crate::source::ScanCost;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// An outside tree was scanned.
    Scanned {
        /// The source node.
        node: String,
        /// Files found.
        files: usize,
        /// Files that had to be read because their stats are new.
        read: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// Results were taken from the shared cache.
    FromCache {
        /// Number of results.
        results: usize,
        /// Bytes that were downloaded: of what is read, and not yet on this machine.
        bytes: u64,
        /// Duration, with the plans.
        secs: f64,
    },
    /// The run begins, after planning.
    RunStarted {
        /// Number of the run.
        run: i64,
        /// The workflow's name.
        workflow: String,
        /// Nodes that are reused.
        reuse: usize,
        /// Nodes that run.
        run_nodes: usize,
        /// Nodes that run if an input changes.
        maybe: usize,
        /// Expected time of the run, from earlier executions.
        expected_secs: Option<f64>,
    },
    /// A node starts.
    NodeStarted {
        /// The node.
        node: String,
        /// How long it took last time.
        expected_secs: Option<f64>,
    },
    /// How far the run is; about once a second while something runs (see [`crate::run::Timeouts`]).
    Progress {
        /// Nodes that are up to date by now, reused ones included.
        done: usize,
        /// Nodes that run.
        running: usize,
        /// Nodes that will run.
        to_run: usize,
        /// Nodes of which is not known yet whether they are needed.
        unsure: usize,
        /// How long the rest takes at most, going by earlier executions; none when nothing is known.
        secs_left: Option<f64>,
    },
    /// State of the jobs of this run, as a cluster reports it.
    Cluster {
        /// Elements that run.
        running: usize,
        /// Elements that wait.
        queued: usize,
        /// Sentence for people.
        line: String,
    },
    /// See [`crate::JobProgress::tick`].
    Tick {
        /// The node.
        node: String,
        /// Units done.
        done: u64,
        /// Units in all; 0 when not known.
        total: u64,
        /// Name of the unit.
        unit: String,
        /// Free text.
        note: String,
    },
    /// See [`crate::JobProgress::note`].
    Note {
        /// The node.
        node: String,
        /// The line.
        line: String,
    },
    /// A node ended.
    NodeFinished {
        /// The node.
        node: String,
        /// How.
        outcome: Outcome,
        /// How long it took.
        secs: f64,
    },
    /// The run ends.
    RunFinished {
        /// Number of the run.
        run: i64,
        /// True if every wanted node is up to date now.
        complete: bool,
        /// How long it took.
        secs: f64,
    },
}

/// How a node ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It ran and gave an artifact.
    Ran {
        /// Folder of the artifact.
        path: PathBuf,
        /// Folder of what it gave this time, where an earlier result of the same inputs had other bytes. The earlier one is kept.
        #[serde(skip_serializing_if = "Option::is_none")]
        dropped: Option<PathBuf>,
    },
    /// It did not have to run: its inputs are as before, or another run has made it.
    Reused,
    /// It failed.
    Failed {
        /// Messages of the error and its causes, outermost first.
        chain: Vec<String>,
        /// Hint for the user.
        hint: Option<String>,
        /// Log of the node.
        log: PathBuf,
        /// Last lines of the log.
        last_lines: Vec<String>,
    },
    /// It ended early, as asked, or was not started any more.
    Stopped,
    /// It could not run because another node failed.
    Blocked {
        /// That node.
        by: String,
    },
    /// It could not run because an artifact it needs is not up to date and the run was told to leave its producer alone.
    Held {
        /// The producer.
        by: String,
    },
}

/// A listener.
pub trait Progress: Send + Sync {
    /// Takes an event; called from several threads.
    fn event(&self, event: &Event);
}

/// Listens to nothing.
#[derive(Debug)]
pub struct Deaf;

impl Progress for Deaf {
    fn event(&self, _: &Event) {}
}

/// Reports the scan of the tree of a source node.
pub(crate) fn report_scan(progress: &dyn Progress, node: &str, cost: ScanCost) {
    let ScanCost { files, read, bytes, other_format } = cost;
    if other_format {
        let line = "the stat cache has another format: every file was read again".to_owned();
        progress.event(&Event::Note { node: node.to_owned(), line });
    }
    progress.event(&Event::Scanned { node: node.to_owned(), files, read, bytes });
}
