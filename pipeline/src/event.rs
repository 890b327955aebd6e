//! What happens during a run, told to whoever listens. No listener is needed for a run to work.

use std::path::PathBuf;

use serde::Serialize;

use crate::source::ScanCost;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// An outside tree was looked through.
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
    /// The run begins, after planning.
    RunStarted {
        /// Its number in the record.
        run: i64,
        /// The workflow's name.
        workflow: String,
        /// Nodes that are reused.
        reuse: usize,
        /// Nodes that run.
        run_nodes: usize,
        /// Nodes that run if an input changes.
        maybe: usize,
        /// How long all of them would take, going by earlier executions.
        expected_secs: Option<f64>,
    },
    /// A node starts.
    NodeStarted {
        /// The node.
        node: String,
        /// How long it took last time.
        expected_secs: Option<f64>,
    },
    /// How far the run is; about once a second while something runs (see [`crate::run::Patience`]).
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
    /// See [`crate::JobProgress::tick`].
    Tick {
        /// The node.
        node: String,
        /// Units done.
        done: u64,
        /// Units in all; 0 when not known.
        total: u64,
        /// What is counted.
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
        /// Its number in the record.
        run: i64,
        /// Whether every wanted node is up to date now.
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
        /// Where the artifact lies.
        path: PathBuf,
    },
    /// Its inputs turned out as they were, or another run made it meanwhile.
    Reused,
    /// It failed.
    Failed {
        /// What went wrong, outermost first.
        chain: Vec<String>,
        /// What the user can do.
        hint: Option<String>,
        /// Its log.
        log: PathBuf,
        /// How the log ends.
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
