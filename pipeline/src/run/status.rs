//! Status of a run for other processes: `runs/<number>/status.json` in the store.
//!
//! Written about every second and removed at the end. The run holds a kernel lock beside it as long as it lives, so what a
//! killed run left behind is known for that.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use petgraph::Direction;
use petgraph::graph::NodeIndex;
use serde::{Deserialize, Serialize};

use super::Runner;
use crate::graph::Workflow;
use crate::schedule::{Schedule, Wait};
use crate::store::Store;

/// Run that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Number of the run.
    pub run: i64,
    /// The workflow's name.
    pub workflow: String,
    /// Process of the run.
    pub pid: u32,
    /// The nodes that run.
    pub running: Vec<Running>,
    /// The nodes that could run and wait for something, the most urgent first: their ids, and what for. Not more than
    /// a thousand.
    pub queued: Vec<(String, Wait<String>)>,
    /// How many such nodes there are in all.
    pub num_queued: usize,
}

/// A node that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Id of the node.
    pub node: String,
    /// Start, in milliseconds since 1970.
    pub started_ms: i64,
    /// Expected time, from earlier executions.
    pub expected_secs: Option<f64>,
    /// Threads it was given.
    pub threads: usize,
    /// GPU it was given.
    pub gpu: Option<u32>,
    /// Further GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_gpus: Vec<u32>,
    /// Memory it was given, in MiB.
    pub memory_mib: u64,
    /// Host of a node that runs on a cluster.
    #[serde(default)]
    pub host: Option<String>,
}

/// A node on a cluster.
pub(super) struct Away {
    /// Host that runs it.
    pub(super) host: Option<String>,
    /// What it waits for, when no host runs it.
    pub(super) wait: Wait,
}

impl RunStatus {
    /// Why a node of this run does not run: what it waits for in its queue, or the nodes before it that run or are queued. None
    /// for a node that runs, and for one that has nothing unfinished before it.
    pub fn waits(&self, workflow: &Workflow, node: NodeIndex) -> Option<Wait<String>> {
        let is_running = |id: &str| self.running.iter().any(|running| running.node == id);
        let queued = |id: &str| self.queued.iter().find(|(queued, _)| queued == id);
        let id = &workflow.graph[node].id;
        if is_running(id) {
            return None;
        }
        if let Some((_, wait)) = queued(id) {
            return Some(wait.clone());
        }
        let mut found = vec![];
        let mut seen = vec![false; workflow.graph.node_count()];
        let mut todo = vec![node];
        while let Some(at) = todo.pop() {
            for from in workflow.graph.neighbors_directed(at, Direction::Incoming) {
                let id = &workflow.graph[from].id;
                if std::mem::replace(&mut seen[from.index()], true) {
                    continue;
                }
                if is_running(id) || queued(id).is_some() {
                    found.push(id.clone());
                } else {
                    todo.push(from);
                }
            }
        }
        found.sort();
        (!found.is_empty()).then_some(Wait::For { nodes: found })
    }
}

/// The runs that go on in a store. What killed runs left behind is removed, unless the store may only be read.
pub fn status(store: &Store) -> Vec<RunStatus> {
    let folders = fs::read_dir(store.root().join("runs")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<RunStatus> = folders.filter_map(|folder| read(&folder, store.is_view())).collect();
    found.sort_by_key(|status| status.run);
    found
}

fn read(folder: &Path, is_view: bool) -> Option<RunStatus> {
    let lock = File::open(folder.join(LOCK)).ok()?;
    if lock.try_lock().is_ok() {
        if !is_view {
            let _ = fs::remove_dir_all(folder); // nobody holds it: that run is gone
        }
        return None;
    }
    serde_json::from_slice(&fs::read(folder.join(STATUS)).ok()?).ok()
}

const STATUS: &str = "status.json";
const LOCK: &str = "lock";

/// Nodes in a queue that are written down.
const QUEUED: usize = 1_000;

/// The status file of one run. Failing to write it harms nobody, so errors end here.
pub(super) struct StatusFile<'a> {
    runner: &'a Runner<'a>,
    run: i64,
    folder: PathBuf,
    lock: Option<File>,
    written: Instant,
}

impl<'a> StatusFile<'a> {
    pub(super) fn new(runner: &'a Runner<'a>, run: i64) -> Self {
        let folder = runner.store.root().join("runs").join(run.to_string());
        Self { runner, run, folder, lock: None, written: Instant::now() }
    }

    /// Writes what goes on, unless that was done less than `pause` ago. `times` tells when a node started and how long it takes.
    pub(super) fn write_when_due(
        &mut self,
        pause: Duration,
        schedule: &Schedule<'_>,
        times: impl Fn(NodeIndex) -> (i64, Option<f64>),
        away: impl Fn(NodeIndex) -> Option<Away>,
    ) {
        if self.written.elapsed() < pause {
            return;
        }
        self.written = Instant::now();
        if self.lock.is_none() {
            self.lock = self.begin();
        }
        let graph = &self.runner.workflow.graph;
        let name = |node: NodeIndex| graph[node].id.clone();
        let (mut running, mut elsewhere) = (vec![], vec![]);
        for (node, grant) in schedule.running_nodes() {
            let host = match away(node) {
                Some(Away { host: None, wait }) => {
                    elsewhere.push((name(node), wait.map(name)));
                    continue;
                }
                Some(Away { host, .. }) => host,
                None => None,
            };
            let ((started_ms, expected_secs), node) = (times(node), name(node));
            let (threads, gpu, other_gpus, memory_mib) = (grant.threads, grant.gpu, grant.other_gpus(), grant.memory_mib);
            running.push(Running { node, started_ms, expected_secs, threads, gpu, other_gpus, memory_mib, host });
        }
        let num_queued = schedule.queued() + elsewhere.len();
        let queued = schedule.next_in_line(QUEUED).into_iter();
        let queued = queued.filter_map(|node| Some((name(node), schedule.waits(node)?.map(name))));
        let queued = queued.chain(elsewhere).take(QUEUED);
        let status = RunStatus {
            run: self.run,
            workflow: self.runner.workflow.name.clone(),
            pid: std::process::id(),
            running,
            queued: queued.collect(),
            num_queued,
        };
        let text = serde_json::to_vec(&status).expect("plain data");
        let aside = self.folder.join("status.new");
        if fs::write(&aside, text).and_then(|()| fs::rename(aside, self.folder.join(STATUS))).is_err() {
            self.lock = None; // another process took the folder for a dead run's before it was locked: next time again
        }
    }

    fn begin(&self) -> Option<File> {
        fs::create_dir_all(&self.folder).ok()?;
        let lock = File::create(self.folder.join(LOCK)).ok()?;
        lock.try_lock().ok()?;
        Some(lock)
    }
}

impl Drop for StatusFile<'_> {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
