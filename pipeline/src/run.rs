//! Bringing a workflow up to date: scan the sources, plan, run what must run, publish and record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use petgraph::graph::NodeIndex;
use serde_json::Value;

use crate::Digest;
use crate::event::{Event, Outcome, Progress};
use crate::graph::{Node, Workflow};
use crate::manifest::Manifest;
use crate::plan::{Plan, SourceDigests, Verdict, add_inputs, base_manifest, plan};
use crate::schedule::{Grant, Pools, Schedule};
use crate::source::{Listing, ScanError, scan};
use crate::stage::{Input, Inputs, JobProgress, Places, StageError, Stop};
use crate::store::{Store, StoreError};
use crate::traces::{Record, Step, Trace};
use crate::worker::{self, Request, chain};

/// What this machine is and has; nothing of it enters a fingerprint.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where outside things are.
    pub places: Places,
    /// Slots and devices.
    pub pools: Pools,
    /// Its name, for the record.
    pub host: String,
}

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on with what does not depend on a failed node.
    pub keep_going: bool,
    /// Nodes to run whatever is remembered.
    pub forced: HashSet<NodeIndex>,
    /// What was asked for, for the record.
    pub request: String,
}

/// Why a workflow could not be planned or run at all. A node that fails is not such an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This machine's settings name no such place.
    #[error("`{node}` needs `{place}`, and no folder is set for it")]
    NoPlace {
        /// The source node.
        node: String,
        /// The place.
        place: String,
    },
    /// An outside tree cannot be read.
    #[error("`{node}` cannot read `{place}`")]
    Scan {
        /// The source node.
        node: String,
        /// The place.
        place: String,
        /// The cause.
        #[source]
        source: ScanError,
    },
    /// A source node failed while planning.
    #[error("`{node}` failed")]
    Source {
        /// The node.
        node: String,
        /// What went wrong, outermost first.
        chain: Vec<String>,
        /// What the user can do.
        hint: Option<String>,
    },
}

/// How a run went.
#[derive(Debug)]
pub struct Summary {
    /// Its number in the record.
    pub run: i64,
    /// Whether every wanted node is up to date.
    pub complete: bool,
    /// Whether it ended early because that was asked for.
    pub stopped: bool,
    /// How each node that did not stay as it was ended.
    pub steps: Vec<Step>,
    /// The artifacts that are up to date.
    pub artifacts: HashMap<NodeIndex, Digest>,
}

/// A workflow together with all it runs on.
pub struct Session<'a> {
    /// The workflow.
    pub workflow: &'a Workflow,
    /// The store.
    pub store: &'a Store,
    /// The machine.
    pub machine: &'a Machine,
    /// The listener.
    pub progress: Arc<dyn Progress>,
    /// The way to end early.
    pub stop: Stop,
}

/// What the sources are now.
#[derive(Debug, Default)]
pub struct Survey {
    /// Their digests, for planning.
    pub digests: SourceDigests,
    trees: HashMap<NodeIndex, BTreeMap<String, Arc<Listing>>>,
}

/// A node that must run, with all it needs.
struct Task {
    node: NodeIndex,
    manifest: Manifest,
    inputs: Inputs,
    sources: BTreeMap<String, Arc<Listing>>,
    log: PathBuf,
    forced: bool,
}

/// What came of a task.
enum End {
    Made(Digest),
    /// Another run or node made it meanwhile: the fingerprint and the artifact.
    Found(Digest, Digest),
    Failed(StageError),
}

impl Session<'_> {
    /// Looks through the outside trees and brings the source nodes up to date, so that a plan knows what changed.
    ///
    /// # Errors
    /// [`RunError`]: a place without a folder, a folder that cannot be read, a source node that fails.
    pub fn survey(&self) -> Result<Survey, RunError> {
        let mut survey = Survey::default();
        for index in &self.workflow.order {
            let node = &self.workflow.graph[*index];
            let needs = node.placed.sources();
            if needs.is_empty() {
                continue;
            }
            let mut trees = BTreeMap::new();
            for need in needs {
                let tree = self.scan(node, &need.place, &need.wants)?;
                survey.digests.entry(*index).or_default().push((need.place.clone(), tree.digest()));
                trees.insert(need.place, Arc::new(tree));
            }
            if node.inputs.is_empty() {
                self.refresh(*index, &trees, &survey.digests)?;
            }
            survey.trees.insert(*index, trees);
        }
        Ok(survey)
    }

    fn scan(&self, node: &Node, place: &str, wants: &(dyn Fn(&str) -> bool + Send + Sync)) -> Result<Listing, RunError> {
        let root = self
            .machine
            .places
            .0
            .get(place)
            .ok_or_else(|| RunError::NoPlace { node: node.id.clone(), place: place.to_owned() })?;
        let what = format!("{place} {} {}", node.kind.name, node.placed.params());
        let scanned = scan(root, wants, &self.store.stat_cache(&what, root));
        let (tree, cost) = scanned.map_err(|source| RunError::Scan { node: node.id.clone(), place: place.to_owned(), source })?;
        let (files, read, bytes) = (cost.files, cost.read, cost.bytes);
        self.progress.event(&Event::Scanned { node: node.id.clone(), files, read, bytes });
        Ok(tree)
    }

    /// Runs a source node now unless its artifact is there.
    fn refresh(&self, index: NodeIndex, trees: &BTreeMap<String, Arc<Listing>>, digests: &SourceDigests) -> Result<(), RunError> {
        let node = &self.workflow.graph[index];
        let manifest = base_manifest(node, digests.get(&index));
        if self.store.lookup(manifest.fingerprint())?.is_some() {
            return Ok(());
        }
        let log = self.store.logs(0)?.join(log_name(node));
        let task = Task { node: index, manifest, inputs: Inputs::default(), sources: trees.clone(), log, forced: false };
        let grant = Grant { threads: self.machine.pools.cpu.max(1), gpu: None };
        match self.execute(&task, &grant) {
            End::Made(_) | End::Found(..) => Ok(()),
            End::Failed(error) => Err(RunError::Source { node: node.id.clone(), chain: chain(&error), hint: hint_of(&error) }),
        }
    }

    /// What a run would do.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn plan(&self, survey: &Survey, forced: &HashSet<NodeIndex>) -> Result<Plan, StoreError> {
        self.store.recall(|recall| plan(self.workflow, &survey.digests, forced, recall))
    }

    /// Runs what must run.
    ///
    /// # Errors
    /// [`RunError`] when the store fails; a failing node is part of the [`Summary`].
    pub fn run(&self, survey: &Survey, plan: &Plan, options: &Options) -> Result<Summary, RunError> {
        let begun = Instant::now();
        let run = self.store.begin_run(&self.workflow.name, &options.request, &self.machine.host, now_ms())?;
        let (reuse, run_nodes, maybe) = plan.counts();
        self.progress.event(&Event::RunStarted { run, workflow: self.workflow.name.clone(), reuse, run_nodes, maybe });
        let mut summary = Summary { run, complete: false, stopped: false, steps: vec![], artifacts: HashMap::new() };
        self.go_through(survey, plan, options, &mut summary)?;
        summary.complete = summary.artifacts.len() == self.workflow.order.len();
        summary.stopped = self.stop.requested() && !summary.complete;
        let outcome = if summary.complete {
            "done"
        } else if summary.stopped {
            "stopped"
        } else {
            "failed"
        };
        self.store.settle()?;
        self.store.end_run(run, outcome, &summary.steps, now_ms())?;
        self.progress.event(&Event::RunFinished { run, complete: summary.complete, secs: begun.elapsed().as_secs_f64() });
        Ok(summary)
    }

    fn go_through(&self, survey: &Survey, plan: &Plan, options: &Options, summary: &mut Summary) -> Result<(), RunError> {
        let known: HashMap<NodeIndex, (Digest, Digest)> = plan
            .verdicts
            .iter()
            .filter_map(|(node, verdict)| match verdict {
                Verdict::Reuse { fingerprint, artifact } => Some((*node, (*fingerprint, *artifact))),
                _ => None,
            })
            .collect();
        let times = if plan.is_done() { HashMap::new() } else { self.store.durations(&self.workflow.name)? };
        let secs = |node: NodeIndex| times.get(&self.workflow.key(&self.workflow.graph[node])).copied();
        let mut schedule = Schedule::new(self.workflow, self.machine.pools.clone(), secs);
        let mut tasks: HashMap<NodeIndex, Task> = HashMap::new();
        let mut reused = vec![];
        let (ended, ends) = mpsc::channel::<(NodeIndex, End, f64)>();
        let mut halted = false;
        std::thread::scope(|scope| -> Result<(), RunError> {
            loop {
                while let Some(node) = schedule.next_ready() {
                    if let Some((fingerprint, artifact)) = known.get(&node) {
                        summary.artifacts.insert(node, *artifact);
                        reused.push((self.workflow.key(&self.workflow.graph[node]), *fingerprint));
                        schedule.done(node);
                        continue;
                    }
                    match self.prepare(node, survey, summary, options)? {
                        Ready::Task(task) => {
                            tasks.insert(node, task);
                            schedule.queue(node);
                        }
                        Ready::Known(fingerprint, artifact) => {
                            summary.artifacts.insert(node, artifact);
                            reused.push((self.workflow.key(&self.workflow.graph[node]), fingerprint));
                            schedule.done(node);
                            self.finished(node, Outcome::Reused, 0.0, None, summary);
                        }
                        Ready::Broken(error) => {
                            schedule.failed(node);
                            halted |= !options.keep_going;
                            self.finished(node, Self::failure(&error, Path::new("")), 0.0, None, summary);
                        }
                    }
                }
                halted |= self.stop.requested();
                while !halted && let Some((node, grant)) = schedule.next_start() {
                    let task = tasks.remove(&node).expect("only prepared nodes are queued");
                    let expected_secs = secs(node);
                    self.progress.event(&Event::NodeStarted { node: self.workflow.graph[node].id.clone(), expected_secs });
                    let ended: Sender<_> = ended.clone();
                    scope.spawn(move || {
                        let begun = Instant::now();
                        let end = self.execute(&task, &grant);
                        let _ = ended.send((task.node, end, begun.elapsed().as_secs_f64()));
                    });
                }
                if schedule.running() == 0 {
                    return Ok(());
                }
                match ends.recv_timeout(Duration::from_millis(100)) {
                    Ok((node, end, secs)) => {
                        if let End::Found(fingerprint, _) = &end {
                            reused.push((self.workflow.key(&self.workflow.graph[node]), *fingerprint));
                        }
                        halted |= self.take_end(node, end, secs, &mut schedule, summary) && !options.keep_going;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => unreachable!("this thread holds a sender"),
                }
            }
        })?;
        for (node, by) in schedule.left_over() {
            let by = by.filter(|_| !self.stop.requested());
            let outcome = by.map_or(Outcome::Stopped, |by| Outcome::Blocked { by: self.workflow.graph[by].id.clone() });
            self.finished(node, outcome, 0.0, None, summary);
        }
        Ok(self.store.note_reused(&reused)?)
    }

    /// Takes over how a running node ended; true when it failed.
    fn take_end(&self, node: NodeIndex, end: End, secs: f64, schedule: &mut Schedule<'_>, summary: &mut Summary) -> bool {
        let log = self.store.root().join("logs").join(summary.run.to_string()).join(log_name(&self.workflow.graph[node]));
        match end {
            End::Made(artifact) | End::Found(_, artifact) => {
                let made = matches!(end, End::Made(_));
                summary.artifacts.insert(node, artifact);
                schedule.done(node);
                let outcome = if made { Outcome::Ran { path: self.store.path(artifact) } } else { Outcome::Reused };
                self.finished(node, outcome, secs, Some(log), summary);
                false
            }
            End::Failed(error) => {
                schedule.failed(node);
                let outcome = if matches!(error, StageError::Stopped) { Outcome::Stopped } else { Self::failure(&error, &log) };
                self.finished(node, outcome, secs, Some(log), summary);
                true
            }
        }
    }

    fn failure(error: &StageError, log: &Path) -> Outcome {
        Outcome::Failed { chain: chain(error), hint: hint_of(error), log: log.to_owned() }
    }

    fn finished(&self, node: NodeIndex, outcome: Outcome, secs: f64, log: Option<PathBuf>, summary: &mut Summary) {
        let node = &self.workflow.graph[node];
        let (state, message) = match &outcome {
            Outcome::Ran { .. } => ("ran", None),
            Outcome::Reused => ("reused", None),
            Outcome::Failed { chain, .. } => ("failed", Some(chain.join(": "))),
            Outcome::Stopped => ("stopped", None),
            Outcome::Blocked { by } => ("blocked", Some(format!("`{by}` failed"))),
        };
        summary.steps.push(Step {
            node: self.workflow.key(node),
            state: state.to_owned(),
            fingerprint: None,
            secs,
            log,
            message,
        });
        self.progress.event(&Event::NodeFinished { node: node.id.clone(), outcome, secs });
    }

    /// Decides about a node whose inputs are all there.
    fn prepare(&self, index: NodeIndex, survey: &Survey, summary: &Summary, options: &Options) -> Result<Ready, RunError> {
        let node = &self.workflow.graph[index];
        let mut manifest = base_manifest(node, survey.digests.get(&index));
        match add_inputs(&mut manifest, node, |from| summary.artifacts[&from], self.store) {
            Ok(()) => {}
            Err(error @ StoreError::NoPart { .. }) => return Ok(Ready::Broken(StageError::failed(error))),
            Err(error) => return Err(error.into()),
        }
        let fingerprint = manifest.fingerprint();
        if !options.forced.contains(&index)
            && let Some(artifact) = self.store.lookup(fingerprint)?
        {
            return Ok(Ready::Known(fingerprint, artifact));
        }
        let mut inputs = Inputs::default();
        for edge in &node.inputs {
            let folder = self.store.path(summary.artifacts[&edge.from]);
            let path = edge.part.as_ref().map_or_else(|| folder.clone(), |part| folder.join(&**part));
            let input = Input { path, point: edge.point.to_map(), partition: edge.partition };
            inputs.0.entry(edge.slot.to_string()).or_default().push(input);
        }
        let sources = survey.trees.get(&index).cloned().unwrap_or_default();
        let log = self.store.logs(summary.run)?.join(log_name(node));
        let forced = options.forced.contains(&index);
        Ok(Ready::Task(Task { node: index, manifest, inputs, sources, log, forced }))
    }

    /// Makes one fingerprint: claim, run, check, publish, record.
    fn execute(&self, task: &Task, grant: &Grant) -> End {
        match self.try_execute(task, grant) {
            Ok(end) => end,
            Err(error) => End::Failed(error),
        }
    }

    fn try_execute(&self, task: &Task, grant: &Grant) -> Result<End, StageError> {
        let node = &self.workflow.graph[task.node];
        let fingerprint = task.manifest.fingerprint();
        let Some(_claim) = self.store.claim(fingerprint, &self.stop).map_err(StageError::failed)? else {
            return Err(StageError::Stopped);
        };
        if !task.forced
            && let Some(artifact) = self.store.lookup(fingerprint).map_err(StageError::failed)?
        {
            return Ok(End::Found(fingerprint, artifact)); // another run made it since the plan
        }
        let out = self.store.attempt().map_err(StageError::failed)?;
        let cleaner = Cleaner(&out);
        let resume = self.store.resume(fingerprint).map_err(StageError::failed)?;
        let facts = Arc::new(Mutex::new(BTreeMap::new()));
        let voice = Voice {
            node: node.id.clone(),
            progress: Arc::clone(&self.progress),
            facts: Arc::clone(&facts),
            log: task.log.clone(),
        };
        let (started_ms, begun) = (now_ms(), Instant::now());
        self.call(task, node, grant, &out, &resume, voice)?;
        let secs = begun.elapsed().as_secs_f64();
        self.check_sources(task, node)?;
        let artifact = self.store.publish(&out).map_err(StageError::failed)?;
        drop(cleaner);
        let mut facts = std::mem::take(&mut *facts.lock().expect("no holder of this lock panics"));
        if !task.sources.is_empty() {
            facts.insert("trees".to_owned(), self.keep_trees(&task.sources)?);
        }
        let record = Record {
            node: self.workflow.key(node),
            started_ms,
            secs,
            host: self.machine.host.clone(),
            threads: grant.threads,
            gpu: grant.gpu,
            facts,
        };
        let artifact =
            self.store.commit(&Trace { manifest: task.manifest.clone(), artifact, record }).map_err(StageError::failed)?;
        Ok(End::Made(artifact))
    }

    /// Runs the body, here or in a worker.
    fn call(&self, task: &Task, node: &Node, grant: &Grant, out: &Path, resume: &Path, voice: Voice) -> Result<(), StageError> {
        let request = Request {
            kind: node.kind.name.to_owned(),
            params: node.placed.params().clone(),
            inputs: task.inputs.clone(),
            sources: task.sources.iter().map(|(place, found)| (place.clone(), found.tree())).collect(),
            places: self.machine.places.clone(),
            partition: node.partition,
            out: out.to_owned(),
            resume: resume.to_owned(),
            threads: grant.threads,
            gpu: grant.gpu,
        };
        if let Some(worker) = &node.kind.worker {
            return worker::call(worker, &request, &task.log, &voice, &self.stop);
        }
        let (_, job) = request.into_job(Box::new(voice), self.stop.clone());
        let ran = catch_unwind(AssertUnwindSafe(|| node.placed.run_here(&job)));
        let ran = ran.map_err(|panic| {
            StageError::failed(Panicked(text_of(&*panic))).with_hint("this is a bug in the stage, please report it")
        })?;
        ran.expect("a kind without a worker has its body here")
    }

    /// Notices an outside file that was edited while the stage ran.
    fn check_sources(&self, task: &Task, node: &Node) -> Result<(), StageError> {
        for need in node.placed.sources() {
            let after = self.scan(node, &need.place, &need.wants).map_err(StageError::failed)?;
            if let Some(path) = task.sources[&need.place].first_difference(&after) {
                return Err(StageError::SourceChanged { path });
            }
        }
        Ok(())
    }

    /// Keeps the lists of outside trees as artifacts, so that a later explanation can name the file that changed.
    fn keep_trees(&self, trees: &BTreeMap<String, Arc<Listing>>) -> Result<Value, StageError> {
        let mut kept = serde_json::Map::new();
        for (place, tree) in trees {
            let folder = self.store.attempt().map_err(StageError::failed)?;
            let cleaner = Cleaner(&folder);
            let path = folder.join("tree.txt");
            let lines: Vec<String> = tree.tree().files.iter().map(|file| format!("{} {}\n", file.digest, file.path)).collect();
            fs::write(&path, lines.concat()).map_err(StageError::io("write", &path))?;
            let digest = self.store.publish(&folder).map_err(StageError::failed)?;
            drop(cleaner);
            kept.insert(place.clone(), Value::String(digest.to_string()));
        }
        Ok(Value::Object(kept))
    }
}

enum Ready {
    Task(Task),
    Known(Digest, Digest),
    Broken(StageError),
}

/// A body that panicked.
#[derive(Debug, thiserror::Error)]
#[error("the stage panicked: {0}")]
struct Panicked(String);

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "without a message".to_owned())
}

/// Removes an attempt's folder, whatever became of it.
struct Cleaner<'a>(&'a Path);

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0); // published ones are not there any more
    }
}

/// Passes on the progress of one node.
#[derive(Clone)]
struct Voice {
    node: String,
    progress: Arc<dyn Progress>,
    facts: Arc<Mutex<BTreeMap<String, Value>>>,
    log: PathBuf,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.node)
    }
}

impl JobProgress for Voice {
    fn tick(&self, done: u64, total: u64, unit: &str, note: &str) {
        let (unit, note) = (unit.to_owned(), note.to_owned());
        self.progress.event(&Event::Tick { node: self.node.clone(), done, total, unit, note });
    }
    fn note(&self, line: &str) {
        let log = File::options().create(true).append(true).open(&self.log);
        let _ = log.and_then(|mut log| writeln!(log, "{line}")); // the log is a courtesy
        self.progress.event(&Event::Note { node: self.node.clone(), line: line.to_owned() });
    }
    fn fact(&self, name: &str, value: Value) {
        self.facts.lock().expect("no holder of this lock panics").insert(name.to_owned(), value);
    }
}

fn hint_of(error: &StageError) -> Option<String> {
    match error {
        StageError::Failed { hint, .. } => hint.clone(),
        StageError::SourceChanged { .. } => Some("nothing was recorded; run again when the file has settled".to_owned()),
        _ => None,
    }
}

/// The file name of a node's log.
pub fn log_name(node: &Node) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.,=#[]".contains(c) { c } else { '_' };
    let mut name: String = node.id.chars().map(plain).collect();
    if name.len() > 180 {
        name = format!("{}-{}", &name[..160], Digest::of(node.id.as_bytes()).short());
    }
    name + ".log"
}

#[expect(clippy::disallowed_methods, reason = "the time of a run goes into the record, never into an output")]
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
