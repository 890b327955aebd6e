//! One attempt at one node: claim its fingerprint, run the body, check, publish, record.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use petgraph::graph::NodeIndex;
use serde_json::Value;

use super::survey::Trees;
use super::voice::Voice;
use super::{Patience, Session, now_ms};
use crate::Digest;
use crate::event::Event;
use crate::graph::Node;
use crate::manifest::Manifest;
use crate::records::{Provenance, ResultRecord};
use crate::schedule::Grant;
use crate::stage::{Inputs, Job, StageError, Stop};
use crate::store::{FULL, StoreError};
use crate::worker::{self, Request, guarded};

/// A node that must run, with all it needs.
pub(super) struct Task {
    pub(super) node: NodeIndex,
    pub(super) manifest: Manifest,
    pub(super) inputs: Inputs,
    /// The artifacts that the inputs are parts of, and these parts.
    pub(super) artifacts: Vec<(Digest, Option<Arc<str>>)>,
    pub(super) sources: Trees,
    /// Whether these were looked through right now, not when the run began.
    pub(super) just_looked: bool,
    pub(super) log: PathBuf,
    pub(super) forced: bool,
}

/// What came of an attempt.
pub(super) enum End {
    Made(Digest),
    /// Another run or node made it meanwhile: the fingerprint and the artifact.
    Found(Digest, Digest),
    /// This artifact, which it reads, is damaged or gone.
    Damaged(Digest),
    Failed(StageError),
}

/// How often a node is tried again.
pub(super) fn retries(node: &Node) -> u32 {
    node.limits.retries.unwrap_or_else(|| node.placed.retries())
}

/// An artifact that a node reads is damaged each time it was made again.
#[derive(Debug, thiserror::Error)]
#[error("its input {digest} is damaged or gone, again and again")]
pub(super) struct DamagedInput {
    pub(super) digest: Digest,
}

/// A failing disk may be better the next time. A full one ends the run.
fn store_trouble(error: StoreError) -> StageError {
    if error.is_full() {
        return StageError::failed(error).with_hint(FULL);
    }
    let may_pass = matches!(error, StoreError::Io { .. });
    let error = StageError::failed(error);
    if may_pass { error.transient() } else { error }
}

impl Session<'_> {
    /// Makes one fingerprint. Attempts count from 1.
    pub(super) fn execute(&self, task: &Task, grant: &Grant, attempt: u32, patience: &Patience) -> End {
        let ended = guarded(|| self.try_execute(task, grant, attempt, patience));
        match ended {
            Err(StageError::Stopped) | Ok(_) => ended.unwrap_or_else(End::Failed),
            // A body whose input vanished is not to blame for its failure.
            Err(error) => match task.artifacts.iter().find(|(artifact, _)| !self.store.has(*artifact)) {
                Some((gone, _)) => End::Damaged(*gone),
                None => End::Failed(self.name_maker(task, error)),
            },
        }
    }

    /// Adds which node made the input that an error speaks of: a path in the store tells people nothing.
    fn name_maker(&self, task: &Task, error: StageError) -> StageError {
        let text = worker::chain(&error).join(": ");
        let spoken_of = |path: &Path| text.contains(&*path.to_string_lossy());
        let Some((slot, _)) = task.inputs.0.iter().find(|(_, list)| list.iter().any(|input| spoken_of(&input.path))) else {
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

    fn try_execute(&self, task: &Task, grant: &Grant, attempt: u32, patience: &Patience) -> Result<End, StageError> {
        let node = &self.workflow.graph[task.node];
        let fingerprint = task.manifest.fingerprint();
        let Some(_lock) = self.store.lock(fingerprint, &self.stop).map_err(store_trouble)? else {
            return Err(StageError::Stopped);
        };
        if !task.forced
            && let Some(artifact) = self.store.lookup(fingerprint).map_err(store_trouble)?
        {
            return Ok(End::Found(fingerprint, artifact)); // another run made it since the plan
        }
        for (artifact, part) in &task.artifacts {
            if !self.store.usable(*artifact, part.as_deref()).map_err(store_trouble)? {
                return Ok(End::Damaged(*artifact));
            }
        }
        let out = self.store.attempt().map_err(store_trouble)?;
        let cleaner = Cleaner(&out);
        let resume = self.store.resume_path(fingerprint);
        let facts = Arc::new(Mutex::new(BTreeMap::new()));
        let voice = Voice {
            node: node.id.clone(),
            progress: Arc::clone(&self.progress),
            facts: Arc::clone(&facts),
            log: task.log.clone(),
        };
        if attempt > 1 {
            voice.write(&format!("attempt {attempt} of {}", retries(node) + 1));
        }
        let sources = self.sources_before(task)?;
        let (started_ms, begun) = (now_ms(), Instant::now());
        self.call_in_time(task, grant, &out, resume, voice, patience)?;
        let secs = begun.elapsed().as_secs_f64();
        if !task.sources.is_empty() {
            self.check_sources(task, &sources)?;
        }
        let artifact = self.store.publish(&out).map_err(store_trouble)?;
        drop(cleaner);
        let mut facts = std::mem::take(&mut *facts.lock().expect("no holder of this lock panics"));
        if !task.sources.is_empty() {
            facts.insert("trees".to_owned(), self.keep_trees(&task.sources)?);
        }
        if attempt > 1 {
            facts.insert("attempt".to_owned(), attempt.into());
        }
        let provenance = Provenance {
            node: self.workflow.key(node),
            started_ms,
            secs,
            host: self.machine.host.clone(),
            threads: grant.threads,
            gpu: grant.gpu,
            facts,
        };
        let made = artifact;
        let artifact =
            self.store.commit(&ResultRecord { manifest: task.manifest.clone(), artifact, provenance }).map_err(store_trouble)?;
        if made != artifact {
            let (kept, other) = (self.store.path(artifact), self.store.path(made));
            let line = format!(
                "it gave other bytes than before: the earlier result is kept (`{}`), and nothing reads the new one (`{}`)",
                kept.display(),
                other.display()
            );
            self.progress.event(&Event::Note { node: node.id.clone(), line });
        }
        Ok(End::Made(artifact))
    }

    /// Runs the body within its time limit: at the limit it is asked to stop, and whatever it answers then, it was too slow.
    fn call_in_time(
        &self,
        task: &Task,
        grant: &Grant,
        out: &Path,
        resume: PathBuf,
        voice: Voice,
        patience: &Patience,
    ) -> Result<(), StageError> {
        let limit = self.workflow.graph[task.node].limits.time;
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let stop = deadline.map_or_else(|| self.stop.clone(), |deadline| self.stop.until(deadline));
        let ended = self.call(task, grant, out, resume, voice, patience, &stop);
        match limit {
            Some(limit) if stop.expired() && !self.stop.expired() => Err(StageError::TimedOut { limit }),
            _ => ended,
        }
    }

    /// Runs the body, here or in a worker.
    #[expect(clippy::too_many_arguments, reason = "all that a body sees comes together here, once")]
    fn call(
        &self,
        task: &Task,
        grant: &Grant,
        out: &Path,
        resume: PathBuf,
        voice: Voice,
        patience: &Patience,
        stop: &Stop,
    ) -> Result<(), StageError> {
        let node = &self.workflow.graph[task.node];
        let (out, partition, places) = (out.to_owned(), node.partition, self.machine.places.clone());
        let inputs = task.inputs.clone();
        let sources = task.sources.iter().map(|(place, found)| (place.clone(), found.tree())).collect();
        let (threads, gpu) = (grant.threads, grant.gpu);
        if let Some(worker) = &node.kind.worker {
            let (kind, params) = (node.kind.name.to_owned(), node.placed.params().clone());
            let request = Request { kind, params, inputs, sources, places, partition, out, resume, threads, gpu };
            return worker::call(worker, &request, &task.log, &voice, stop, patience.grace);
        }
        let (progress, stop) = (Box::new(voice), stop.clone());
        let spare = grant.spare.clone();
        let job = Job { inputs, sources, places, partition, out, resume, threads, spare, gpu, progress, stop };
        node.placed.run_here(&job).expect("a kind without a worker has its body here")
    }

    /// Keeps the lists of outside trees as artifacts, so that a later explanation can name the file that changed.
    fn keep_trees(&self, trees: &Trees) -> Result<Value, StageError> {
        let mut kept = serde_json::Map::new();
        for (place, tree) in trees {
            let folder = self.store.attempt().map_err(store_trouble)?;
            let cleaner = Cleaner(&folder);
            let path = folder.join("tree.txt");
            let lines: Vec<String> = tree.tree().files.iter().map(|file| format!("{} {}\n", file.digest, file.path)).collect();
            fs::write(&path, lines.concat()).map_err(StageError::io("write", &path))?;
            let digest = self.store.publish(&folder).map_err(store_trouble)?;
            drop(cleaner);
            kept.insert(place.clone(), Value::String(digest.to_string()));
        }
        Ok(Value::Object(kept))
    }
}

/// Removes an attempt's folder, whatever became of it.
struct Cleaner<'a>(&'a Path);

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0); // published ones are not there any more
    }
}
