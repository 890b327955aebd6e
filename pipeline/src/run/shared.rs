//! Results of a shared cache in a run: taken over before anything runs, and once more when the turn of a node comes.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use petgraph::graph::NodeIndex;

use super::task::{End, Task};
use super::{Runner, Survey};
use crate::Digest;
use crate::event::Event;
use crate::graph::Node;
use crate::manifest::{Manifest, TOOL};
use crate::plan::{History, Question, Results, Verdict, plan};
use crate::records::Provenance;
use crate::shared::{Claim, Offer, SharedCache, SharedResult, Stock};
use crate::stage::Tool;
use crate::store::{Store, StoreError, StoreSnapshot, part_digest};

/// Number of results that are downloaded at the same time.
const DOWNLOADS: usize = 8;

/// Results of the store, and where it has none, those of a shared cache.
struct Both<'a> {
    store: &'a StoreSnapshot<'a>,
    cache: &'a dyn SharedCache,
    /// Results that only the cache has, by fingerprint.
    found: RefCell<HashMap<Digest, Arc<SharedResult>>>,
    by_artifact: RefCell<HashMap<Digest, Arc<SharedResult>>>,
}

impl Results for Both<'_> {
    type Error = StoreError;

    fn lookup(&self, fingerprints: &[Digest]) -> Result<Vec<Option<Digest>>, StoreError> {
        let mut answers = self.store.lookup(fingerprints)?;
        let places: Vec<usize> = (0..answers.len()).filter(|place| answers[*place].is_none()).collect();
        let missing: Vec<Digest> = places.iter().map(|place| fingerprints[*place]).collect();
        for ((place, fingerprint), found) in places.into_iter().zip(&missing).zip(self.cache.find(&missing)) {
            if let Some(found) = found.filter(|found| found.is_of(*fingerprint)) {
                answers[place] = Some(found.artifact);
                self.by_artifact.borrow_mut().insert(found.artifact, Arc::clone(&found));
                self.found.borrow_mut().insert(*fingerprint, found);
            }
        }
        Ok(answers)
    }

    fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Option<Digest>, StoreError> {
        match (part, self.by_artifact.borrow().get(&artifact)) {
            (Some(part), Some(found)) => Ok(part_digest(&found.files, part).ok()),
            _ => self.store.part_digest(artifact, part),
        }
    }
}

impl History for Both<'_> {
    fn knows_recipe(&self, recipe: Digest, partition: Option<u32>) -> Result<bool, StoreError> {
        self.store.knows_recipe(recipe, partition)
    }

    fn last_manifest(&self, node: &str) -> Result<Option<Manifest>, StoreError> {
        self.store.last_manifest(node)
    }
}

impl Runner<'_> {
    /// Downloads the results that a plan lacks and the shared cache has. Returns true if the store has got any.
    pub(super) fn take_over(&self, survey: &Survey, forced: &HashSet<NodeIndex>) -> Result<bool, StoreError> {
        let Some(cache) = self.machine.shared.as_deref() else { return Ok(false) };
        if cache.stock() == Stock::Nothing {
            return Ok(false);
        }
        let failed = survey.failures.keys().copied().collect();
        let (toolbox, matter) = (&self.machine.toolbox, self.tools_matter(cache));
        let tools = |tools: &[Tool]| if matter { toolbox.tools(tools) } else { toolbox.located(tools) };
        let question = Question { workflow: self.workflow, sources: &survey.digests, failed: &failed, forced, tools: &tools };
        let wanted = self.store.snapshot(|store| {
            let both = Both { store, cache, found: RefCell::default(), by_artifact: RefCell::default() };
            let plan = plan(&question, &both)?;
            let found = both.found.borrow();
            let fingerprint = |verdict: &Verdict| match verdict {
                Verdict::Reuse { fingerprint, .. } => Some(*fingerprint),
                _ => None,
            };
            let all = plan.verdicts.iter().filter_map(|(_, verdict)| fingerprint(verdict));
            let mut seen = HashSet::new();
            Ok(all.filter(|fingerprint| seen.insert(*fingerprint)).filter_map(|one| found.get(&one).cloned()).collect::<Vec<_>>())
        })?;
        if wanted.is_empty() {
            return Ok(false);
        }
        let begun = Instant::now();
        let (next, taken) = (AtomicUsize::new(0), Mutex::new((0_usize, 0_u64)));
        let failed: Mutex<Option<StoreError>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..DOWNLOADS.min(wanted.len()) {
                scope.spawn(|| {
                    while let Some(result) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.stop.requested() {
                            return;
                        }
                        match self.store.take_over(cache, result) {
                            Ok(true) => {
                                let mut taken = taken.lock().expect("no holder of this lock panics");
                                *taken = (taken.0 + 1, taken.1 + result.bytes());
                            }
                            Ok(false) => {}
                            Err(error) => {
                                *failed.lock().expect("no holder of this lock panics") = Some(error);
                                return;
                            }
                        }
                    }
                });
            }
        });
        if let Some(error) = failed.into_inner().expect("no holder of this lock panics") {
            return Err(error);
        }
        let (results, bytes) = taken.into_inner().expect("no holder of this lock panics");
        if results > 0 {
            self.progress.event(&Event::FromCache { results, bytes, secs: begun.elapsed().as_secs_f64() });
        }
        Ok(results > 0)
    }

    /// Takes the result of a node whose turn has come from the shared cache; else claims the node. The inner error is an end without an
    /// attempt.
    pub(super) fn ask_or_claim(&self, cache: &dyn SharedCache, task: &Task) -> Result<Result<Claim, End>, StoreError> {
        let node = &self.workflow.graph[task.node];
        if task.forced {
            return Ok(Ok(Claim::Free));
        }
        // Nobody knows how long a worker takes that never ran here, but programs of their own are for long work.
        let expected = task.expected_secs.or_else(|| node.kind.worker.is_some().then_some(f64::INFINITY));
        if let Some((fingerprint, artifact)) = self.ask_cache(cache, node, &task.manifest, expected)? {
            return Ok(Err(End::Found(fingerprint, artifact)));
        }
        match cache.claim(task.manifest.fingerprint(), expected) {
            Claim::Elsewhere => Ok(Err(End::Elsewhere)),
            // The other machine may have uploaded its result and ended its claim between the two questions.
            Claim::Mine(claim) => Ok(match self.ask_cache(cache, node, &task.manifest, expected)? {
                Some((fingerprint, artifact)) => Err(End::Found(fingerprint, artifact)),
                None => Ok(Claim::Mine(claim)),
            }),
            Claim::Free => Ok(Ok(Claim::Free)),
        }
    }

    /// Asks the shared cache for a result, and takes it over. Returns its fingerprint and artifact.
    fn ask_cache(
        &self,
        cache: &dyn SharedCache,
        node: &Node,
        manifest: &Manifest,
        expected_secs: Option<f64>,
    ) -> Result<Option<(Digest, Digest)>, StoreError> {
        let mut fingerprints = vec![manifest.fingerprint()];
        if !node.kind.tools.is_empty() && self.tools_matter(cache) {
            fingerprints.push(self.with_tools(node, manifest).fingerprint());
        }
        for fingerprint in fingerprints {
            if let Some(result) = cache.ask(fingerprint, expected_secs).filter(|result| result.is_of(fingerprint))
                && self.store.take_over(cache, &result)?
            {
                let line = format!("taken from the shared cache ({:.1} MB)", result.bytes() as f64 / 1e6);
                self.progress.event(&Event::Note { node: node.id.clone(), line });
                return Ok(Some((fingerprint, result.artifact)));
            }
        }
        Ok(None)
    }

    /// True if a result may depend on the version of an external program. To ask a program for its version takes long.
    fn tools_matter(&self, cache: &dyn SharedCache) -> bool {
        self.store.has_results_of_tools() || cache.stock() == Stock::WithTools
    }

    /// Offers a new result to the shared cache.
    pub(super) fn offer(&self, manifest: Manifest, artifact: Digest, provenance: Provenance) {
        let Some(cache) = &self.machine.shared else { return };
        let Ok(files) = self.store.listing(artifact) else { return };
        let fingerprint = manifest.fingerprint();
        cache.offer(Offer { fingerprint, result: SharedResult { manifest, artifact, files, provenance } });
    }
}

impl Store {
    /// Downloads a result of a shared cache and records it. Returns false if the cache cannot give it.
    fn take_over(&self, cache: &dyn SharedCache, result: &SharedResult) -> Result<bool, StoreError> {
        if !self.has(result.artifact) || !self.usable(result.artifact, None)? {
            let folder = self.attempt()?;
            let published = if cache.download(result, &folder) { Some(self.publish(&folder)) } else { None };
            let _ = std::fs::remove_dir_all(&folder); // when it was published, it is not there any more
            match published.transpose()? {
                Some(artifact) if artifact == result.artifact => {}
                _ => return Ok(false),
            }
        }
        if result.manifest.0.keys().any(|name| name.starts_with(TOOL)) {
            self.note_results_of_tools()?;
        }
        Ok(self.commit(&result.record())? == result.artifact)
    }
}
