//! Results of a shared cache in a run: taken over before anything runs, and once more when the turn of a node comes. What nothing reads
//! is left in the cache (`store/away.rs`).

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use petgraph::graph::NodeIndex;

use super::task::{End, Task};
use super::{Runner, Survey};
use crate::Digest;
use crate::event::Event;
use crate::graph::Node;
use crate::manifest::Manifest;
use crate::plan::{History, Plan, Question, Results, Verdict, plan};
use crate::records::Provenance;
use crate::shared::{Claim, Offer, SharedCache, SharedResult, Stock};
use crate::stage::Tool;
use crate::store::{Store, StoreError, StoreSnapshot, part_digest};

/// Number of results that are downloaded at the same time.
const DOWNLOADS: usize = 8;

/// Results that only the cache has, by fingerprint.
type Found = HashMap<Digest, Arc<SharedResult>>;

/// Results of the store, and where it has none, those of a shared cache.
struct Both<'a> {
    store: &'a StoreSnapshot<'a>,
    cache: &'a dyn SharedCache,
    found: RefCell<Found>,
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

/// Results that a run gets from a shared cache.
#[derive(Debug, Default)]
pub struct Supply {
    /// Plan over the results of the store and of the cache together.
    pub plan: Plan,
    /// Nodes whose results the cache has and the store has not, with the bytes of each artifact.
    pub nodes: HashMap<NodeIndex, u64>,
    /// Those whose bytes are downloaded at once, since something reads them; the others are left in the cache.
    pub read: HashSet<NodeIndex>,
}

impl Runner<'_> {
    /// Plans a run with the results of the shared cache. Returns none without a cache, or if it has nothing. `read` names the nodes whose
    /// results the caller reads, see [`super::Options::read`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn supply(
        &self,
        survey: &Survey,
        forced: &HashSet<NodeIndex>,
        read: &HashSet<NodeIndex>,
    ) -> Result<Option<Supply>, StoreError> {
        let Some((plan, found)) = self.plan_with_cache(survey, forced)? else { return Ok(None) };
        let mut supply = Supply::default();
        for (node, verdict) in &plan.verdicts {
            let Verdict::Reuse { fingerprint, .. } = verdict else { continue };
            supply.nodes.extend(found.get(fingerprint).map(|result| (*node, result.bytes())));
        }
        supply.read = self.read_of(&plan, read).into_iter().filter(|node| supply.nodes.contains_key(node)).collect();
        supply.plan = plan;
        Ok(Some(supply))
    }

    /// Plans over the results of the store and of the cache together. Returns the plan with the results that only the cache has; none
    /// without a cache, or if it has nothing.
    fn plan_with_cache(&self, survey: &Survey, forced: &HashSet<NodeIndex>) -> Result<Option<(Plan, Found)>, StoreError> {
        let Some(cache) = self.machine.shared.as_deref() else { return Ok(None) };
        if cache.stock() == Stock::Nothing {
            return Ok(None);
        }
        let failed = survey.failures.keys().copied().collect();
        let (toolbox, matter) = (&self.machine.toolbox, self.tools_matter(cache));
        let tools = |tools: &[Tool]| if matter { toolbox.tools(tools) } else { toolbox.located(tools) };
        let question = Question { workflow: self.workflow, sources: &survey.digests, failed: &failed, forced, tools: &tools };
        self.store.snapshot(|store| {
            let both = Both { store, cache, found: RefCell::default(), by_artifact: RefCell::default() };
            let plan = plan(&question, &both)?;
            Ok(Some((plan, both.found.into_inner())))
        })
    }

    /// Takes over the results that a plan lacks and the shared cache has: records them, and leaves their bytes in the cache. Returns their
    /// number.
    pub(super) fn take_over(&self, survey: &Survey, forced: &HashSet<NodeIndex>) -> Result<usize, StoreError> {
        let Some((plan, mut found)) = self.plan_with_cache(survey, forced)? else { return Ok(0) };
        let mut taken = 0;
        for (_, verdict) in &plan.verdicts {
            let Verdict::Reuse { fingerprint, .. } = verdict else { continue };
            if let Some(result) = found.remove(fingerprint) {
                taken += usize::from(self.store.leave(&result)?);
            }
        }
        Ok(taken)
    }

    /// True if the result of a node is read after the run: nothing in the workflow depends on it, or the caller reads it.
    pub(super) fn is_end(&self, node: NodeIndex, read: &HashSet<NodeIndex>) -> bool {
        read.contains(&node) || self.workflow.graph.neighbors(node).next().is_none()
    }

    /// Nodes of a plan whose results are read: after the run, or as inputs of nodes that run for sure.
    fn read_of(&self, plan: &Plan, read: &HashSet<NodeIndex>) -> Vec<NodeIndex> {
        let graph = &self.workflow.graph;
        let runs: HashSet<NodeIndex> =
            plan.verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Run(_))).map(|(node, _)| *node).collect();
        let is_read = |node: &NodeIndex| self.is_end(*node, read) || graph.neighbors(*node).any(|user| runs.contains(&user));
        plan.verdicts.iter().map(|(node, _)| *node).filter(is_read).collect()
    }

    /// Downloads what a plan reads and is left in the shared cache. The other artifacts that are left there come when something reads
    /// them. Returns the bytes; none if something did not come, so that the plan does not hold.
    pub(super) fn bring_what_is_read(&self, plan: &Plan, read: &HashSet<NodeIndex>) -> Result<Option<u64>, StoreError> {
        if !self.store.counts_away() {
            return Ok(Some(0));
        }
        let artifacts: HashMap<NodeIndex, Digest> = plan
            .verdicts
            .iter()
            .filter_map(|(node, verdict)| match verdict {
                Verdict::Reuse { artifact, .. } => Some((*node, *artifact)),
                _ => None,
            })
            .collect();
        let read: BTreeSet<Digest> = self.read_of(plan, read).iter().filter_map(|node| artifacts.get(node)).copied().collect();
        let away: Vec<Digest> = read.into_iter().filter(|artifact| self.store.is_away(*artifact)).collect();
        let (next, bytes, all) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(true));
        let failed: Mutex<Option<StoreError>> = Mutex::default();
        let bring = |artifact: Digest| {
            if self.store.bring(artifact)? {
                let size = self.store.listing(artifact)?.iter().map(|file| file.size).sum();
                bytes.fetch_add(size, Ordering::Relaxed);
            } else {
                all.store(false, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..DOWNLOADS.min(away.len()) {
                scope.spawn(|| {
                    while let Some(artifact) = away.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.stop.requested() {
                            return all.store(false, Ordering::Relaxed);
                        }
                        if let Err(error) = bring(*artifact) {
                            *failed.lock().expect("no holder of this lock panics") = Some(error);
                            return;
                        }
                    }
                });
            }
        });
        match failed.into_inner().expect("no holder of this lock panics") {
            Some(error) => Err(error),
            None => Ok(all.into_inner().then_some(bytes.into_inner())),
        }
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
        if (!self.has(result.artifact) || !self.usable(result.artifact, None)?)
            && !self.download(cache, result.artifact, &result.files)?
        {
            return Ok(false);
        }
        self.record_shared(result)
    }
}
