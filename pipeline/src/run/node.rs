//! One attempt at one node, in three steps: prepare (lock the fingerprint, check the inputs), run the body, finish (check the
//! output, publish, record).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use super::reporter::Reporter;
use super::task::{End, Task, Trees, retries};
use super::{Runner, Timeouts, now_ms};
use crate::Digest;
use crate::executor::{Call, Executor, InProcess, WorkerProcess};
use crate::graph::{Node, part_folder};
use crate::manifest::Manifest;
use crate::protocol::Site;
use crate::records::{Provenance, ResultRecord};
use crate::schedule::Grant;
use crate::shared::Claim;
use crate::source::TreeFile;
use crate::stage::{StageError, asked_for_tool, catch_panic, chain};
use crate::store::{FULL, FingerprintLock, StoreError};

/// An artifact that a node reads is damaged each time it was made again.
#[derive(Debug, thiserror::Error)]
#[error("its input {digest} is damaged or gone, again and again")]
pub(super) struct DamagedInput {
    pub(super) digest: Digest,
}

/// A body that ended well without what its stage promises.
#[derive(Debug, thiserror::Error)]
enum OutputError {
    #[error("the stage reported success, but did not write `{output}`, which it always writes")]
    Missing { output: String },
    #[error("the stage reported success, but wrote no file")]
    Empty,
}

/// A failing disk may be better the next time. A full one ends the run.
pub(super) fn store_trouble(error: StoreError) -> StageError {
    if error.is_full() {
        return StageError::failed(error).with_hint(FULL);
    }
    let may_pass = matches!(error, StoreError::Io { .. });
    let error = StageError::failed(error);
    if may_pass { error.transient() } else { error }
}

/// An attempt that is under way.
pub(super) struct Attempt {
    /// Held until the result is recorded.
    _lock: FingerprintLock,
    /// Claim on the fingerprint among all machines.
    _claim: Claim,
    pub(super) fingerprint: Digest,
    /// Outside trees right before the body begins.
    sources: Trees,
    pub(super) reporter: Reporter,
    pub(super) facts: Arc<Mutex<BTreeMap<String, Value>>>,
}

/// Output of a body.
pub(super) enum Output<'a> {
    /// A folder of this machine.
    Here(&'a Path),
    /// A folder that a compute node has sealed, with its files; true if every byte is to be verified.
    Sealed(&'a Path, &'a [TreeFile], bool),
}

impl Output<'_> {
    fn folder(&self) -> &Path {
        match self {
            Self::Here(folder) | Self::Sealed(folder, ..) => folder,
        }
    }
}

impl Runner<'_> {
    /// Makes one fingerprint. Attempts count from 1.
    pub(super) fn execute(&self, task: &Task, grant: &Grant, attempt: u32, timeouts: &Timeouts) -> End {
        self.end_of(task, catch_panic(|| self.try_execute(task, grant, attempt, timeouts)))
    }

    /// Turns the result of an attempt into its end: a body whose input vanished is not to blame for its failure.
    pub(super) fn end_of(&self, task: &Task, ended: Result<End, StageError>) -> End {
        match ended {
            Err(StageError::Stopped) | Ok(_) => ended.unwrap_or_else(End::Failed),
            Err(error) => match task.inputs.artifacts().into_iter().find(|(artifact, _)| !self.store.has(*artifact)) {
                Some((gone, _)) => End::Damaged(gone),
                None => End::Failed(self.name_maker(task, error)),
            },
        }
    }

    /// Looks a result up: first as one that used no external program, then as one that used those of this machine. Returns its
    /// fingerprint and artifact.
    pub(super) fn lookup(&self, node: &Node, manifest: &Manifest) -> Result<Option<(Digest, Digest)>, StoreError> {
        let find = |fingerprint: Digest| Ok(self.store.lookup(fingerprint)?.map(|artifact| (fingerprint, artifact)));
        match find(manifest.fingerprint())? {
            None if !node.kind.tools.is_empty() && self.store.has_results_of_tools() => {
                find(self.with_tools(node, manifest).fingerprint())
            }
            found => Ok(found),
        }
    }

    pub(super) fn with_tools(&self, node: &Node, manifest: &Manifest) -> Manifest {
        manifest.with_tools(&self.machine.toolbox.tools(&node.kind.tools))
    }

    /// Adds to the hint which node made the input that an error names: a path in the store tells people nothing.
    fn name_maker(&self, task: &Task, error: StageError) -> StageError {
        let text = chain(&error).join(": ");
        let inputs = task.inputs.resolve(&self.store.objects());
        let named = |path: &Path| text.contains(&*path.to_string_lossy());
        let Some((slot, _)) = inputs.0.iter().find(|(_, list)| list.iter().any(|input| named(&input.path))) else {
            return error;
        };
        let graph = &self.workflow.graph;
        let mut makers = graph[task.node].inputs.iter().filter(|edge| *edge.slot == **slot).map(|edge| &graph[edge.from]);
        let maker = match (makers.next(), makers.next()) {
            (Some(only), None) => &only.id,
            (Some(one), Some(_)) => &*one.stage,
            (None, _) => return error,
        };
        let before = error.hint().map(|hint| format!("{hint}; ")).unwrap_or_default();
        error.with_hint(format!("{before}the path is that of input `{slot}`, made by `{maker}`"))
    }

    fn try_execute(&self, task: &Task, grant: &Grant, number: u32, timeouts: &Timeouts) -> Result<End, StageError> {
        let lock = self.store.lock(task.manifest.fingerprint(), &self.stop).map_err(store_trouble)?;
        let attempt = match self.begin(task, number, lock.ok_or(StageError::Stopped)?)? {
            Ok(attempt) => attempt,
            Err(end) => return Ok(end),
        };
        let out = ScratchFolder(self.store.attempt().map_err(store_trouble)?);
        let (started_ms, begun) = (now_ms(), Instant::now());
        self.call_in_time(task, grant, &attempt, &out.0, timeouts)?;
        if !grant.others.is_empty() {
            let devices: Vec<_> = std::iter::once(grant.gpu).chain(grant.others.iter().copied()).collect();
            attempt.facts.lock().expect("no holder of this lock panics").insert("devices".to_owned(), devices.into());
        }
        let provenance = Provenance {
            node: self.workflow.key(&self.workflow.graph[task.node]),
            started_ms,
            secs: begun.elapsed().as_secs_f64(),
            host: self.machine.host.clone(),
            threads: grant.threads,
            gpu: grant.gpu,
            facts: BTreeMap::new(),
        };
        self.finish(task, &attempt, Output::Here(&out.0), number, provenance)
    }

    /// Begins an attempt once its fingerprint is locked: checks that it has still to be made, and its inputs. The inner error is an end
    /// without an attempt.
    pub(super) fn begin(&self, task: &Task, number: u32, lock: FingerprintLock) -> Result<Result<Attempt, End>, StageError> {
        let node = &self.workflow.graph[task.node];
        let fingerprint = task.manifest.fingerprint();
        if !task.forced
            && let Some((fingerprint, artifact)) = self.lookup(node, &task.manifest).map_err(store_trouble)?
            && (!self.store.is_away(artifact) || self.store.usable(artifact, None).map_err(store_trouble)?)
        {
            return Ok(Err(End::Found(fingerprint, artifact))); // another run made it since the plan
        }
        let mut claim = Claim::Free;
        if let Some(cache) = self.machine.shared.as_deref().filter(|_| task.sources.is_empty()) {
            match self.ask_or_claim(cache, task).map_err(store_trouble)? {
                Ok(granted) => claim = granted,
                Err(end) => return Ok(Err(end)),
            }
        }
        let mut damaged = None;
        for (artifact, part) in task.inputs.artifacts() {
            // All are looked at: those that the shared cache does not give are made again in one round.
            if !self.store.usable(artifact, part.as_deref()).map_err(store_trouble)? {
                damaged = damaged.or(Some(artifact));
            }
        }
        if let Some(artifact) = damaged {
            return Ok(Err(End::Damaged(artifact)));
        }
        let facts = Arc::new(Mutex::new(BTreeMap::new()));
        let reporter = Reporter {
            node: node.id.clone(),
            progress: Arc::clone(&self.progress),
            facts: Arc::clone(&facts),
            log: task.log.clone(),
        };
        if number > 1 {
            reporter.write(&format!("attempt {number} of {}", retries(node) + 1));
        }
        let sources = self.sources_before(task)?;
        Ok(Ok(Attempt { _lock: lock, _claim: claim, fingerprint, sources, reporter, facts }))
    }

    /// Checks the output, publishes it and records the result.
    pub(super) fn finish(
        &self,
        task: &Task,
        attempt: &Attempt,
        out: Output<'_>,
        number: u32,
        mut provenance: Provenance,
    ) -> Result<End, StageError> {
        let node = &self.workflow.graph[task.node];
        if out.folder().is_dir() {
            check_output(node, out.folder())?; // else it was taken over before
        }
        if !task.sources.is_empty() {
            self.check_sources(task, &attempt.sources)?;
        }
        let artifact = match out {
            Output::Here(folder) => self.store.publish(folder),
            Output::Sealed(folder, files, verify_all) => self.store.adopt(folder, files, verify_all),
        };
        let artifact = artifact.map_err(store_trouble)?;
        provenance.facts = std::mem::take(&mut *attempt.facts.lock().expect("no holder of this lock panics"));
        let asked = node.kind.tools.iter().any(|tool| asked_for_tool(&provenance.facts, tool.name));
        let manifest = if asked {
            self.store.note_results_of_tools().map_err(store_trouble)?;
            self.with_tools(node, &task.manifest)
        } else {
            task.manifest.clone()
        };
        if !self.machine.program.is_empty() {
            provenance.facts.insert("program".to_owned(), self.machine.program.clone().into());
        }
        if !task.sources.is_empty() {
            provenance.facts.insert("trees".to_owned(), self.keep_trees(&task.sources)?);
        }
        if number > 1 {
            provenance.facts.insert("attempt".to_owned(), number.into());
        }
        let made = artifact;
        let result = ResultRecord { manifest, artifact, provenance };
        let artifact = self.store.commit(&result).map_err(store_trouble)?;
        if made == artifact && task.sources.is_empty() {
            self.offer(result.manifest, artifact, result.provenance);
        }
        if asked {
            let _ = fs::remove_dir_all(self.store.resume_path(attempt.fingerprint)); // of the other fingerprint; only takes room
        }
        Ok(End::Made(artifact, (made != artifact).then_some(made)))
    }

    /// Runs the body within its time limit: at the limit it is asked to stop, and whatever it answers then, it was too slow.
    fn call_in_time(
        &self,
        task: &Task,
        grant: &Grant,
        attempt: &Attempt,
        out: &Path,
        timeouts: &Timeouts,
    ) -> Result<(), StageError> {
        let node = &self.workflow.graph[task.node];
        let limit = node.limits.time;
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let stop = deadline.map_or_else(|| self.stop.clone(), |deadline| self.stop.until(deadline));
        let site = Site {
            objects: self.store.objects(),
            places: self.machine.places.clone(),
            tools: self.machine.toolbox.located(&node.kind.tools),
            out: out.to_owned(),
            resume: self.store.resume_path(attempt.fingerprint),
            threads: grant.threads_per_device(),
            gpu: grant.gpu,
            others: grant.others.clone(),
        };
        let call = Call {
            kind: &node.kind,
            placed: &*node.placed,
            inputs: &task.inputs,
            sources: task.sources.iter().map(|(place, found)| (place.clone(), found.tree())).collect(),
            partition: node.partition,
            site,
            spare: grant.spare.clone(),
            progress: Box::new(attempt.reporter.clone()),
            stop: stop.clone(),
            log: &task.log,
            grace: timeouts.grace,
        };
        let ended = match node.kind.worker.as_ref().or(self.machine.own_worker.as_ref()) {
            Some(program) => WorkerProcess(program).execute(call),
            None => InProcess.execute(call),
        };
        match limit {
            Some(limit) if stop.expired() && !self.stop.expired() => Err(StageError::TimedOut { limit }),
            _ => ended,
        }
    }

    /// Keeps the lists of outside trees as artifacts, so that a later explanation can name the file that changed.
    fn keep_trees(&self, trees: &Trees) -> Result<Value, StageError> {
        let mut kept = serde_json::Map::new();
        for (place, tree) in trees {
            let folder = ScratchFolder(self.store.attempt().map_err(store_trouble)?);
            let path = folder.0.join("tree.txt");
            let lines: Vec<String> = tree.tree().files.iter().map(|file| format!("{} {}\n", file.digest, file.path)).collect();
            fs::write(&path, lines.concat()).map_err(StageError::io("write", &path))?;
            let digest = self.store.publish(&folder.0).map_err(store_trouble)?;
            kept.insert(place.clone(), Value::String(digest.to_string()));
        }
        Ok(Value::Object(kept))
    }
}

/// Fails when a body has not written what its stage promises.
fn check_output(node: &Node, out: &Path) -> Result<(), StageError> {
    let failed =
        |error: OutputError| Err(StageError::failed(error).with_hint("this is a bug in the stage or in its worker program"));
    let parts = (0..node.placed.partitions().unwrap_or(0)).map(part_folder);
    let mut promised = node.placed.outputs().into_iter().chain(parts);
    if let Some(output) = promised.find(|output| out.join(output).symlink_metadata().is_err()) {
        return failed(OutputError::Missing { output });
    }
    if fs::read_dir(out).map_err(StageError::io("list", out))?.next().is_none() {
        return failed(OutputError::Empty);
    }
    Ok(())
}

/// Folder of one attempt; removed when it goes out of use, unless it was published.
struct ScratchFolder(PathBuf);

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // published ones are not there any more
    }
}
