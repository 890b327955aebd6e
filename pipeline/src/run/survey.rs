//! Survey of the sources: scans their trees and brings their nodes up to date, so that a plan knows what changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use petgraph::graph::NodeIndex;

use super::outcome::{Tried, failure, outcome_of};
use super::task::{End, Task, Trees, retries};
use super::{NO_RUN, Options, RunError, Runner, log_of, now_ms};
use crate::Digest;
use crate::event::{Event, Outcome, report_scan};
use crate::graph::Node;
use crate::plan::{SourceDigests, base_manifest};
use crate::protocol::InputRefs;
use crate::schedule::Grant;
use crate::source::{Listing, RecentScans, SourceNeed, Tree, TreeFile};
use crate::stage::{Places, StageError, chain};
use crate::store::Store;

/// State of the sources.
#[derive(Debug, Default)]
pub struct Survey {
    /// Their digests, for planning.
    pub digests: SourceDigests,
    pub(super) trees: HashMap<NodeIndex, Trees>,
    /// The source nodes that could not be looked through or brought up to date, and why; all that depends on them is blocked.
    pub errors: Vec<(NodeIndex, RunError)>,
    /// Outcomes of these nodes.
    pub(super) failures: HashMap<NodeIndex, Outcome>,
    /// Source nodes that ran, and how that went.
    pub(super) made: Vec<(NodeIndex, Tried)>,
}

impl Survey {
    /// The files that the sources read, by place. A place that several stages read in part has the files of all of them.
    pub fn files(&self) -> BTreeMap<String, Tree> {
        let mut all: BTreeMap<String, BTreeMap<String, TreeFile>> = BTreeMap::new();
        let mut roots: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut seen: HashSet<(&String, Digest)> = HashSet::new();
        let nodes: BTreeMap<NodeIndex, &Trees> = self.trees.iter().map(|(node, trees)| (*node, trees)).collect();
        for (place, listing) in nodes.into_values().flatten() {
            if !seen.insert((place, listing.digest())) {
                continue;
            }
            let tree = listing.tree();
            roots.insert(place.clone(), tree.root.clone());
            let files = tree.files.iter().map(|file| (file.path.clone(), file.clone()));
            all.entry(place.clone()).or_default().extend(files);
        }
        let tree = |(place, files): (String, BTreeMap<String, TreeFile>)| {
            let root = roots.remove(&place).unwrap_or_default();
            (place, Tree { root, files: files.into_values().collect() })
        };
        all.into_iter().map(tree).collect()
    }

    /// The first error, if there is one: for whoever needs to know of all sources.
    ///
    /// # Errors
    /// [`RunError`]
    pub fn complete(mut self) -> Result<Self, RunError> {
        if self.errors.is_empty() { Ok(self) } else { Err(self.errors.swap_remove(0).1) }
    }
}

/// Name under which the store keeps the stat cache of a source.
pub(super) fn scan_name(node: &Node, place: &str) -> String {
    format!("{place} {} {}", node.kind.name, node.placed.params())
}

impl Store {
    /// Removes the stat caches of a node's outside trees: the next scan reads every file.
    pub fn forget_scans(&self, node: &Node, places: &Places) {
        for need in node.placed.sources() {
            if let Some(root) = places.0.get(&need.place) {
                self.forget_stat_cache(&scan_name(node, &need.place), root);
            }
        }
    }
}

impl Runner<'_> {
    /// Looks through the outside trees and brings the source nodes up to date, so that a plan knows what changed. A run does
    /// this by itself. A source that fails is left to the plan, where it blocks what depends on it.
    ///
    /// # Errors
    /// [`RunError::Store`]
    pub fn survey(&self) -> Result<Survey, RunError> {
        self.survey_in_run(&Options { keep_going: true, ..Options::default() }, NO_RUN)
    }

    /// Looks through the outside trees without running anything. Returns none unless all that the sources need is in the store: their
    /// results, and scans of their trees as they are.
    ///
    /// # Errors
    /// [`RunError::Store`]
    pub fn survey_if_current(&self) -> Result<Option<Survey>, RunError> {
        let nothing = HashSet::from([NodeIndex::end()]);
        let survey = self.survey_in_run(&Options { keep_going: true, only: nothing, ..Options::default() }, NO_RUN)?;
        for index in self.sources().filter(|index| survey.digests.contains_key(index)) {
            let node = &self.workflow.graph[index];
            if node.inputs.is_empty() && self.lookup(node, &base_manifest(node, survey.digests.get(&index)))?.is_none() {
                return Ok(None);
            }
        }
        Ok(self.store.has_no_new_scan().then_some(survey))
    }

    /// Surveys the sources inside a run. A run that does not keep going ends at the first source that cannot be looked through, and looks no
    /// further after one that fails.
    pub(super) fn survey_in_run(&self, options: &Options, run: i64) -> Result<Survey, RunError> {
        let (mut survey, mut looked) = (Survey::default(), options.scans.clone());
        for index in self.sources() {
            let node = &self.workflow.graph[index];
            let log = log_of(self.store, run, node);
            match self.look_through(index, &mut survey, &mut looked) {
                Ok(()) => {}
                Err(error @ (RunError::NoPlace { .. } | RunError::Scan { .. })) if options.keep_going => {
                    survey.failures.insert(index, failure(chain(&error), None, &log));
                    survey.errors.push((index, error));
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !options.may_run(index) {
                continue;
            }
            let refreshed = self.refresh(index, &survey, run)?;
            if let Ok(Some(tried)) = refreshed {
                survey.made.push((index, tried));
            } else if let Err(error) = refreshed {
                if error.is_transient() && retries(node) > 0 {
                    continue; // it is tried again when its turn comes
                }
                survey.failures.insert(index, outcome_of(&error, &log));
                let source = RunError::Source { node: node.id.clone(), chain: chain(&error), hint: error.hint() };
                survey.errors.push((index, source));
                if !options.keep_going {
                    break;
                }
            }
        }
        Ok(survey)
    }

    fn sources(&self) -> impl Iterator<Item = NodeIndex> {
        self.workflow.order.iter().copied().filter(|index| !self.workflow.graph[*index].placed.sources().is_empty())
    }

    fn look_through(&self, index: NodeIndex, survey: &mut Survey, looked: &mut RecentScans) -> Result<(), RunError> {
        let node = &self.workflow.graph[index];
        let mut trees = BTreeMap::new();
        let mut digests = vec![];
        for need in node.placed.sources() {
            let tree = self.scan(node, &need, looked)?;
            digests.push((need.place.clone(), tree.digest()));
            trees.insert(need.place, tree);
        }
        survey.digests.insert(index, digests);
        survey.trees.insert(index, trees);
        Ok(())
    }

    pub(super) fn scan(&self, node: &Node, need: &SourceNeed, looked: &mut RecentScans) -> Result<Arc<Listing>, RunError> {
        let place = &need.place;
        let root = self.machine.places.0.get(place);
        let root = root.ok_or_else(|| RunError::NoPlace { node: node.id.clone(), place: place.clone() })?;
        let scanned = looked.scan(root, &need.wants, self.store.stat_cache(&scan_name(node, place), root));
        let (tree, cost) = scanned.map_err(|source| RunError::Scan { node: node.id.clone(), place: place.clone(), source })?;
        if let Some(cost) = cost {
            report_scan(&*self.progress, &node.id, cost);
        }
        Ok(tree)
    }

    /// Runs a source node now, unless its artifact is there or it waits for inputs, and tells how that went. The inner error is
    /// the node's own.
    fn refresh(&self, index: NodeIndex, survey: &Survey, run: i64) -> Result<Result<Option<Tried>, StageError>, RunError> {
        let node = &self.workflow.graph[index];
        if !node.inputs.is_empty() {
            return Ok(Ok(None));
        }
        let manifest = base_manifest(node, survey.digests.get(&index));
        if self.lookup(node, &manifest)?.is_some() {
            return Ok(Ok(None));
        }
        self.store.logs(run)?;
        let task = Task {
            node: index,
            manifest,
            inputs: InputRefs::default(),
            sources: survey.trees[&index].clone(),
            just_looked: true,
            log: log_of(self.store, run, node),
            forced: false,
            expected_secs: None,
        };
        let grant = Grant { threads: self.machine.pools.cpu.max(1), ..Grant::default() };
        self.progress.event(&Event::NodeStarted { node: node.id.clone(), expected_secs: None });
        let (started_ms, begun) = (now_ms(), Instant::now());
        let end = self.execute(&task, &grant, 1, &super::Timeouts::default());
        let secs = begun.elapsed().as_secs_f64();
        let finished = |outcome| self.progress.event(&Event::NodeFinished { node: node.id.clone(), outcome, secs });
        Ok(match end {
            End::Made(artifact, dropped) => {
                finished(Outcome::Ran {
                    path: self.store.path(artifact),
                    dropped: dropped.map(|dropped| self.store.path(dropped)),
                });
                let why = Some("sources changed".to_owned());
                Ok(Some(Tried { why, started_ms, secs, attempts: 1, threads: grant.threads, ..Tried::default() }))
            }
            End::Found(..) | End::Damaged(_) | End::Detached | End::Elsewhere | End::Here => {
                finished(Outcome::Reused);
                Ok(None)
            }
            End::Failed(error) => Err(error),
        })
    }
}
