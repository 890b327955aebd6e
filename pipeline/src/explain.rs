//! Why a node runs, or ran: the difference of two records, followed upstream to the file or parameter that began it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use petgraph::graph::NodeIndex;
use serde::Serialize;

use crate::Digest;
use crate::graph::Workflow;
use crate::manifest::{Change, INPUT, Manifest};
use crate::plan::{Plan, Reason, Verdict};
use crate::records::{ResultId, RunRow};
use crate::store::{Store, StoreError};

/// Why a node is, was or will be run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The node.
    pub node: String,
    /// Next or last execution of the node.
    pub fate: Fate,
    /// Fields that differ from the time before; `causes` explains inputs.
    pub changes: Vec<Change>,
    /// The nodes that gave other bytes, each explained in turn.
    pub causes: Vec<Self>,
    /// The outside files that changed, for a source.
    pub files: Vec<FileChange>,
    /// The run that made its artifact, for a node that is up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_in: Option<i64>,
}

/// Subject of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It will run.
    Run(Reason),
    /// It will run if one of these changes.
    RunIf(Vec<String>),
    /// It cannot run, since this source failed: itself, or one that it depends on.
    Blocked {
        /// The source.
        by: String,
    },
    /// It is up to date, and last ran because of what follows.
    LastRan,
    /// It is up to date and ran only once.
    FirstRun,
    /// How it ended in an earlier run, because of what follows.
    InRun {
        /// The run's number.
        run: i64,
        /// See [`crate::records::Step::state`]; `reused` also for a node that simply stayed as it was.
        state: String,
        /// The error, or what kept it from running.
        message: Option<String>,
        /// Why it ran, in few words.
        why: Option<String>,
    },
}

/// An outside file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Relative to the root of its tree.
    pub path: String,
    /// Digest before; none when it is new.
    pub old: Option<String>,
    /// Digest now; none when it is gone.
    pub new: Option<String>,
}

/// How far upstream an explanation goes.
const DEPTH: usize = 100;

/// Explains a node of a plan. A node that is a cause at several places is explained in full at the first one only.
///
/// # Errors
/// [`StoreError`]
pub fn explain(workflow: &Workflow, plan: &Plan, node: NodeIndex, store: &Store) -> Result<Explanation, StoreError> {
    let verdicts = plan.verdicts.iter().map(|(node, verdict)| (*node, verdict)).collect();
    let reused = plan.verdicts.iter().filter_map(|(node, verdict)| match verdict {
        Verdict::Reuse { fingerprint, .. } => Some((workflow.key(&workflow.graph[*node]), *fingerprint)),
        _ => None,
    });
    let past = Latest { store, reused: reused.collect() };
    Walk { workflow, verdicts, store, past: &past, seen: HashSet::new() }.explain(node, DEPTH)
}

/// Explains what became of a node in an earlier run, by the difference to the run before in which it was another. None when
/// that run knows nothing of the node.
///
/// # Errors
/// [`StoreError`]
pub fn explain_past(
    workflow: &Workflow,
    run: &RunRow,
    node: NodeIndex,
    store: &Store,
) -> Result<Option<Explanation>, StoreError> {
    let key = workflow.key(&workflow.graph[node]);
    let past = Past::new(store, run)?;
    let step = store.steps(run.id)?.into_iter().find(|step| step.node == key);
    let pair = past.pair(&key)?;
    if step.is_none() && pair.is_none() {
        return Ok(None);
    }
    let mut explanation = match pair {
        Some(_) => Walk { workflow, verdicts: HashMap::new(), store, past: &past, seen: HashSet::new() }.last_run(node, DEPTH)?,
        None => bare(workflow, node),
    };
    let (state, message, why) =
        step.map_or_else(|| ("reused".to_owned(), None, None), |step| (step.state, step.message, step.why));
    explanation.fate = Fate::InRun { run: run.id, state, message, why };
    Ok(Some(explanation))
}

/// Results of a node: the one it has, and the one it had before that was made.
trait Traced {
    /// Number of the run that made the result, where that is to be told.
    fn made_in(&self, _node: &str) -> Result<Option<i64>, StoreError> {
        Ok(None)
    }
    fn pair(&self, node: &str) -> Result<Option<(ResultId, Option<ResultId>)>, StoreError>;
}

/// As of now.
struct Latest<'a> {
    store: &'a Store,
    /// Fingerprints of nodes that are up to date. Another project or other settings may have made other results since.
    reused: HashMap<String, Digest>,
}

impl Latest<'_> {
    fn reused(&self, node: &str) -> Result<Option<ResultId>, StoreError> {
        self.reused.get(node).map_or(Ok(None), |fingerprint| self.store.result_of(*fingerprint))
    }
}

impl Traced for Latest<'_> {
    fn pair(&self, node: &str) -> Result<Option<(ResultId, Option<ResultId>)>, StoreError> {
        let Some((last, before)) = self.store.latest(node)? else { return Ok(None) };
        let now = self.reused(node)?.unwrap_or(last);
        // A node that went back to an older result is explained by the run that made it.
        let is_older = now != last || before.is_some_and(|before| before > now);
        let before = if is_older { self.store.result_before(node, now)? } else { before };
        Ok(Some((now, before)))
    }

    fn made_in(&self, node: &str) -> Result<Option<i64>, StoreError> {
        let Some((last, _)) = self.store.latest(node)? else { return Ok(None) };
        self.store.run_of(self.reused(node)?.unwrap_or(last))
    }
}

/// As of an earlier run: what its nodes were made by, and those of the runs before it, which are looked at as they are needed.
struct Past<'a> {
    store: &'a Store,
    now: HashMap<String, ResultId>,
    /// The runs before of the same workflow, newest first.
    earlier: Vec<i64>,
    looked_at: RefCell<Vec<HashMap<String, ResultId>>>,
}

impl<'a> Past<'a> {
    fn new(store: &'a Store, run: &RunRow) -> Result<Self, StoreError> {
        let all = store.runs(usize::MAX >> 1)?.into_iter();
        let earlier = all.filter(|row| row.id < run.id && row.workflow == run.workflow).map(|row| row.id).collect();
        Ok(Self { store, now: members(store, run.id)?, earlier, looked_at: RefCell::default() })
    }
}

fn members(store: &Store, run: i64) -> Result<HashMap<String, ResultId>, StoreError> {
    Ok(store.members(run)?.into_iter().map(|member| (member.node, member.result)).collect())
}

impl Traced for Past<'_> {
    fn pair(&self, node: &str) -> Result<Option<(ResultId, Option<ResultId>)>, StoreError> {
        let Some(now) = self.now.get(node).copied() else { return Ok(None) };
        let mut looked_at = self.looked_at.borrow_mut();
        for (number, run) in self.earlier.iter().enumerate() {
            if number == looked_at.len() {
                looked_at.push(members(self.store, *run)?);
            }
            if let Some(before) = looked_at[number].get(node).filter(|before| **before != now) {
                return Ok(Some((now, Some(*before))));
            }
        }
        Ok(Some((now, None)))
    }
}

/// The way upstream.
struct Walk<'a> {
    workflow: &'a Workflow,
    verdicts: HashMap<NodeIndex, &'a Verdict>,
    store: &'a Store,
    past: &'a dyn Traced,
    /// Nodes explained already: without this, every diamond of the graph would double the explanation.
    seen: HashSet<NodeIndex>,
}

impl Walk<'_> {
    fn explain(&mut self, node: NodeIndex, depth: usize) -> Result<Explanation, StoreError> {
        let verdict = self.verdicts.get(&node).copied();
        let fate = match verdict {
            Some(Verdict::Run(reason)) => Fate::Run(reason.clone()),
            Some(Verdict::RunIf(open)) => Fate::RunIf(open.iter().map(|from| self.workflow.graph[*from].id.clone()).collect()),
            Some(Verdict::Blocked { by }) => Fate::Blocked { by: self.workflow.graph[*by].id.clone() },
            Some(Verdict::Reuse { .. }) | None => return self.last_run(node, depth),
        };
        let mut explanation = Explanation { fate, ..bare(self.workflow, node) };
        if depth == 0 || !self.seen.insert(node) {
            return Ok(explanation);
        }
        match verdict {
            Some(Verdict::Run(Reason::Changed { changes })) => {
                explanation.changes.clone_from(changes);
                explanation.causes = self.causes(node, changes, depth)?;
                explanation.files = self.files(node, changes)?;
            }
            Some(Verdict::RunIf(open)) => {
                explanation.causes = open.iter().map(|from| self.explain(*from, depth - 1)).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(explanation)
    }

    /// Why an up-to-date node ran the last time.
    fn last_run(&mut self, node: NodeIndex, depth: usize) -> Result<Explanation, StoreError> {
        let made_in = self.past.made_in(&self.workflow.key(&self.workflow.graph[node]))?;
        let Some((now, before)) = manifests(self.workflow, node, self.store, self.past)? else {
            return Ok(Explanation { made_in, ..bare(self.workflow, node) });
        };
        let mut explanation = Explanation { fate: Fate::LastRan, made_in, ..bare(self.workflow, node) };
        if depth > 0 && self.seen.insert(node) {
            explanation.changes = now.since(&before);
            explanation.causes = self.causes(node, &explanation.changes, depth)?;
            explanation.files = self.files(node, &explanation.changes)?;
        }
        Ok(explanation)
    }

    /// Explains the producers of the inputs that differ.
    fn causes(&mut self, node: NodeIndex, changes: &[Change], depth: usize) -> Result<Vec<Explanation>, StoreError> {
        let mut found: BTreeMap<NodeIndex, Explanation> = BTreeMap::new();
        for edge in &self.workflow.graph[node].inputs {
            let field = format!("{INPUT}{}", edge.field());
            let differs = |change: &&Change| change.field == field || change.field.starts_with(&format!("{field} ("));
            if changes.iter().find(differs).is_some_and(|change| change.old.is_some()) && !found.contains_key(&edge.from) {
                found.insert(edge.from, self.last_run(edge.from, depth - 1)?);
            }
        }
        Ok(found.into_values().collect())
    }

    fn files(&self, node: NodeIndex, changes: &[Change]) -> Result<Vec<FileChange>, StoreError> {
        if changes.iter().any(is_source) { source_files(self.workflow, node, self.store, self.past) } else { Ok(vec![]) }
    }
}

/// An explanation that says no more than that a node ran once.
fn bare(workflow: &Workflow, node: NodeIndex) -> Explanation {
    let node = workflow.graph[node].id.clone();
    Explanation { node, fate: Fate::FirstRun, changes: vec![], causes: vec![], files: vec![], made_in: None }
}

/// The manifests a node had last and before.
fn manifests(
    workflow: &Workflow,
    node: NodeIndex,
    store: &Store,
    past: &dyn Traced,
) -> Result<Option<(Manifest, Manifest)>, StoreError> {
    let key = workflow.key(&workflow.graph[node]);
    let Some((now, Some(before))) = past.pair(&key)? else { return Ok(None) };
    Ok(store.result(now)?.zip(store.result(before)?).map(|(now, before)| (now.manifest, before.manifest)))
}

pub(crate) fn is_source(change: &Change) -> bool {
    change.field.starts_with("input.source ")
}

/// The files that differ between the trees a source node saw last and before.
fn source_files(workflow: &Workflow, node: NodeIndex, store: &Store, past: &dyn Traced) -> Result<Vec<FileChange>, StoreError> {
    let key = workflow.key(&workflow.graph[node]);
    let Some((now, Some(before))) = past.pair(&key)? else { return Ok(vec![]) };
    files_between(now, before, store)
}

/// The outside files that differ between what two executions saw.
pub(crate) fn files_between(now: ResultId, before: ResultId, store: &Store) -> Result<Vec<FileChange>, StoreError> {
    let (new, old) = (kept_files(now, store)?, kept_files(before, store)?);
    let names: std::collections::BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let change = |path: &String| FileChange { path: path.clone(), old: old.get(path).cloned(), new: new.get(path).cloned() };
    Ok(names.into_iter().map(change).filter(|change| change.old != change.new).collect())
}

/// The outside files that an execution saw, with their digests.
fn kept_files(trace: ResultId, store: &Store) -> Result<BTreeMap<String, String>, StoreError> {
    let mut files = BTreeMap::new();
    let trace = store.result(trace)?;
    let trees = trace.as_ref().and_then(|trace| trace.provenance.facts.get("trees")).and_then(|trees| trees.as_object());
    for digest in trees.into_iter().flatten().filter_map(|(_, digest)| digest.as_str().and_then(Digest::parse)) {
        let text = fs::read_to_string(store.path(digest).join("tree.txt")).unwrap_or_default(); // gone: nothing to name
        files.extend(
            text.lines().filter_map(|line| line.split_once(' ')).map(|(digest, path)| (path.to_owned(), digest.to_owned())),
        );
    }
    Ok(files)
}
