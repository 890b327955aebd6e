//! Plan of a run: which nodes would run, and why. Pure: a workflow and a [`History`] go in, a [`Plan`] comes out.
//!
//! Every node with verdict `Run` will run, and no node will run that has neither `Run` nor `RunIf`. One exception: when several
//! nodes of a run turn out to have the same fingerprint, one of them runs for all.
//!
//! Nodes are planned level by level (a node's level is the length of the longest path to it), so that the results of many nodes
//! are looked up with one question.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde::Serialize;

use crate::Digest;
use crate::graph::{Edge, Node, Workflow};
use crate::manifest::{Change, INPUT, Manifest, PARTITION, TOOL};
use crate::stage::{Tool, Tools};

/// Decision about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does not run: its artifact exists.
    Reuse {
        /// Fingerprint of the node.
        fingerprint: Digest,
        /// Digest of its artifact.
        artifact: Digest,
    },
    /// It runs.
    Run(Reason),
    /// It runs if one of these nodes gives other bytes than before.
    RunIf(Vec<NodeIndex>),
    /// It cannot run: this source (the node itself, or one that it depends on) cannot be scanned or brought up to date.
    Blocked {
        /// The source.
        by: NodeIndex,
    },
}

/// Reason why a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Reason {
    /// It never ran in this store.
    New,
    /// Something it depends on differs from what it last ran with.
    Changed {
        /// The fields that differ.
        changes: Vec<Change>,
    },
    /// It ran before, but its artifact is gone.
    Gone,
    /// `--force` names it.
    Forced,
}

/// Decisions about all nodes, in an order in which they could run.
#[derive(Debug, Default)]
pub struct Plan {
    /// The verdicts.
    pub verdicts: Vec<(NodeIndex, Verdict)>,
}

impl Plan {
    /// Number of nodes reused, run, and perhaps run.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Verdict) -> bool| self.verdicts.iter().filter(|(_, verdict)| wanted(verdict)).count();
        (
            count(|verdict| matches!(verdict, Verdict::Reuse { .. })),
            count(|verdict| matches!(verdict, Verdict::Run(_))),
            count(|verdict| matches!(verdict, Verdict::RunIf(_))),
        )
    }
    /// True if nothing would run.
    pub fn is_done(&self) -> bool {
        self.counts().0 == self.verdicts.len()
    }
}

/// Source of cached results: the store of this machine, or a cache that several machines share.
pub trait Results {
    /// Failure to answer at all. A missing result is no error.
    type Error;
    /// Returns the artifact of each fingerprint, in the order of the question; `None` where there is no result.
    fn lookup(&self, fingerprints: &[Digest]) -> Result<Vec<Option<Digest>>, Self::Error>;
    /// Returns the digest of a file or folder of an artifact (of the whole artifact without `part`); `None` when the artifact is
    /// unknown or has no such part.
    fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Option<Digest>, Self::Error>;
}

/// Results, and the record of earlier executions.
pub trait History: Results {
    /// True if a node with this recipe (a manifest without inputs and partition) has run before, for this partition.
    fn knows_recipe(&self, recipe: Digest, partition: Option<u32>) -> Result<bool, Self::Error>;
    /// Returns the manifest with which a node (`workflow:node`) last ran.
    fn last_manifest(&self, node: &str) -> Result<Option<Manifest>, Self::Error>;
}

/// Digests of the outside trees, by source node.
pub type SourceDigests = HashMap<NodeIndex, Vec<(String, Digest)>>;

/// Returns the part of a node's manifest that is known before any input, outside trees included.
pub fn base_manifest(node: &Node, sources: Option<&Vec<(String, Digest)>>) -> Manifest {
    let mut manifest = recipe_of(node);
    manifest.0.extend(particulars(node, sources).0);
    manifest
}

/// Returns the part of the manifest that all nodes of a stage with the same parameters share.
fn recipe_of(node: &Node) -> Manifest {
    Manifest::new(node.kind.name, node.kind.version, node.placed.params(), &node.placed.environment())
}

/// Returns the rest of the manifest that is known before any input.
fn particulars(node: &Node, sources: Option<&Vec<(String, Digest)>>) -> Manifest {
    let mut manifest = Manifest::default();
    if let Some(partition) = node.partition {
        manifest.field(PARTITION, &partition.to_string()); // a body sees it, so the output may depend on it
    }
    for (place, digest) in sources.into_iter().flatten() {
        manifest.input(&format!("source {place}"), *digest);
    }
    manifest
}

/// Question that a plan answers.
pub struct Question<'a> {
    /// The workflow.
    pub workflow: &'a Workflow,
    /// Digests of the outside trees.
    pub sources: &'a SourceDigests,
    /// Source nodes that failed; they block what depends on them.
    pub failed: &'a HashSet<NodeIndex>,
    /// Nodes that run even if their result is known.
    pub forced: &'a HashSet<NodeIndex>,
    /// Returns external programs with their versions on this machine.
    pub tools: &'a dyn Fn(&[Tool]) -> Tools,
}

/// Plans a workflow.
///
/// # Errors
/// The error of `history` when it cannot answer.
pub fn plan<M: History>(question: &Question<'_>, history: &M) -> Result<Plan, M::Error> {
    let workflow = question.workflow;
    let count = workflow.graph.node_count();
    let mut planning = Planning {
        question,
        history,
        recipes: HashMap::new(),
        artifacts: vec![None; count],
        blocked: vec![None; count],
        verdicts: vec![None; count],
        planned: HashSet::new(),
    };
    for level in levels(workflow) {
        for batch in level.chunks(BATCH) {
            planning.decide(batch)?;
        }
    }
    let mut verdict = |index: &NodeIndex| (*index, planning.verdicts[index.index()].take().expect("every node has a level"));
    Ok(Plan { verdicts: workflow.order.iter().map(&mut verdict).collect() })
}

/// Nodes whose results are looked up with one question; bounds the memory that their manifests take.
const BATCH: usize = 1024;

/// Returns the nodes grouped by the length of the longest path to them; each group in the order of the workflow.
fn levels(workflow: &Workflow) -> Vec<Vec<NodeIndex>> {
    let mut level_of = vec![0_usize; workflow.graph.node_count()];
    let mut levels: Vec<Vec<NodeIndex>> = vec![];
    for index in &workflow.order {
        let level = workflow.graph[*index].inputs.iter().map(|edge| level_of[edge.from.index()] + 1).max().unwrap_or(0);
        level_of[index.index()] = level;
        if level == levels.len() {
            levels.push(vec![]);
        }
        levels[level].push(*index);
    }
    levels
}

/// Manifest that nodes share, with its fingerprint.
type Recipe = (Manifest, Digest);

/// State of a plan that is being made.
struct Planning<'a, M> {
    question: &'a Question<'a>,
    history: &'a M,
    /// Recipes by stage: one stage serves many nodes, and writing down its parameters is the dearest part of a plan.
    recipes: HashMap<*const (), Rc<Recipe>>,
    /// Known artifacts, by index of the node.
    artifacts: Vec<Option<Digest>>,
    /// The source that blocks a node, by index of the node.
    blocked: Vec<Option<NodeIndex>>,
    /// Decisions so far, by index of the node.
    verdicts: Vec<Option<Verdict>>,
    /// Fingerprints of nodes that run.
    planned: HashSet<Digest>,
}

/// First decision about a node, before its result is looked up.
enum Step {
    Decided(Verdict),
    /// The fingerprint is known: `more` is the manifest without the recipe.
    LookUp {
        recipe: Rc<Recipe>,
        more: Manifest,
    },
}

impl<M: History> Planning<'_, M> {
    /// Decides about nodes of one level.
    fn decide(&mut self, batch: &[NodeIndex]) -> Result<(), M::Error> {
        let mut open = vec![];
        let mut fingerprints = vec![];
        for index in batch {
            match self.first_step(*index)? {
                Step::Decided(verdict) => self.verdicts[index.index()] = Some(verdict),
                Step::LookUp { recipe, more } => {
                    fingerprints.push(recipe.0.fingerprint_with(&more));
                    open.push((*index, recipe, more));
                }
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let mut found = self.history.lookup(&fingerprints)?;
        self.look_up_with_tools(&open, &mut fingerprints, &mut found)?;
        for (((index, recipe, more), fingerprint), found) in open.into_iter().zip(fingerprints).zip(found) {
            self.artifacts[index.index()] = found;
            let verdict = match found {
                Some(artifact) => Verdict::Reuse { fingerprint, artifact },
                None if !self.planned.insert(fingerprint) => Verdict::RunIf(vec![]), // another node of this plan makes the same
                None => Verdict::Run(self.reason(index, &join(&recipe.0, &more), Inputs::Known)?),
            };
            self.verdicts[index.index()] = Some(verdict);
        }
        Ok(())
    }

    /// Looks up what was not found once more, as results that used external programs of the versions that are here.
    fn look_up_with_tools(
        &self,
        open: &[(NodeIndex, Rc<Recipe>, Manifest)],
        fingerprints: &mut [Digest],
        found: &mut [Option<Digest>],
    ) -> Result<(), M::Error> {
        let (mut places, mut with_tools) = (vec![], vec![]);
        for (place, (index, recipe, more)) in open.iter().enumerate().filter(|(place, _)| found[*place].is_none()) {
            let tools = &self.question.workflow.graph[*index].kind.tools;
            if !tools.is_empty() {
                places.push(place);
                with_tools.push(recipe.0.fingerprint_with(&more.with_tools(&(self.question.tools)(tools))));
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let answers = self.history.lookup(&with_tools)?;
        for ((place, fingerprint), answer) in places.into_iter().zip(with_tools).zip(answers) {
            if answer.is_some() {
                (fingerprints[place], found[place]) = (fingerprint, answer);
            }
        }
        Ok(())
    }

    fn first_step(&mut self, index: NodeIndex) -> Result<Step, M::Error> {
        let node = &self.question.workflow.graph[index];
        let by = if self.question.failed.contains(&index) { Some(index) } else { self.blocked_by(node) };
        self.blocked[index.index()] = by;
        if let Some(by) = by {
            return Ok(Step::Decided(Verdict::Blocked { by }));
        }
        if self.question.forced.contains(&index) {
            return Ok(Step::Decided(Verdict::Run(Reason::Forced)));
        }
        let recipe = self.recipe(node);
        let mut more = particulars(node, self.question.sources.get(&index));
        let open = self.open_inputs(node);
        if !open.is_empty() {
            return Ok(Step::Decided(if self.history.knows_recipe(recipe.1, node.partition)? {
                Verdict::RunIf(open)
            } else {
                Verdict::Run(self.reason(index, &join(&recipe.0, &more), Inputs::Open)?)
            }));
        }
        let digest = |edge: &Edge| {
            let artifact = self.artifacts[edge.from.index()].expect("no input is open");
            self.history.part_digest(artifact, edge.part.as_deref()).map_err(Some)?.ok_or(None)
        };
        match add_inputs(&mut more, node, digest) {
            Ok(()) => Ok(Step::LookUp { recipe, more }),
            Err(None) => Ok(Step::Decided(Verdict::Run(Reason::New))), // an artifact lacks the part: running the node reports it
            Err(Some(error)) => Err(error),
        }
    }

    fn recipe(&mut self, node: &Node) -> Rc<Recipe> {
        let recipe = self.recipes.entry(Arc::as_ptr(&node.placed).cast()).or_insert_with(|| {
            let recipe = recipe_of(node);
            let digest = recipe.fingerprint();
            Rc::new((recipe, digest))
        });
        Rc::clone(recipe)
    }

    fn blocked_by(&self, node: &Node) -> Option<NodeIndex> {
        node.inputs.iter().find_map(|edge| self.blocked[edge.from.index()])
    }

    /// Returns the producers of a node's inputs whose artifacts are not known yet.
    fn open_inputs(&self, node: &Node) -> Vec<NodeIndex> {
        let from = node.inputs.iter().map(|edge| edge.from);
        let mut open: Vec<NodeIndex> = from.filter(|from| self.artifacts[from.index()].is_none()).collect();
        open.sort();
        open.dedup();
        open
    }

    /// Compares a manifest with that of the node's last execution; one without its inputs is compared without them.
    fn reason(&self, index: NodeIndex, manifest: &Manifest, inputs: Inputs) -> Result<Reason, M::Error> {
        let node = &self.question.workflow.graph[index];
        let Some(last) = self.history.last_manifest(&self.question.workflow.key(node))? else { return Ok(Reason::New) };
        let used_tools = !node.kind.tools.is_empty() && last.0.keys().any(|name| name.starts_with(TOOL));
        let mut changes = if used_tools {
            manifest.with_tools(&(self.question.tools)(&node.kind.tools)).since(&last)
        } else {
            manifest.since(&last)
        };
        if inputs == Inputs::Open {
            changes.retain(|change| change.new.is_some() || !change.field.starts_with(INPUT));
        }
        Ok(if changes.is_empty() { Reason::Gone } else { Reason::Changed { changes } })
    }
}

fn join(one: &Manifest, other: &Manifest) -> Manifest {
    Manifest(one.0.iter().chain(&other.0).map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Adds the digests of a node's inputs to its manifest; `digest` returns that of one input.
///
/// # Errors
/// The first error of `digest`.
pub(crate) fn add_inputs<E>(manifest: &mut Manifest, node: &Node, digest: impl Fn(&Edge) -> Result<Digest, E>) -> Result<(), E> {
    for (number, edge) in node.inputs.iter().enumerate() {
        let digest = digest(edge)?;
        let name = format!("{INPUT}{}", edge.field());
        let name = if manifest.0.contains_key(&name) { format!("{name} ({number})") } else { name };
        manifest.field(&name, &digest.to_string());
    }
    Ok(())
}

/// State of the inputs in a manifest: their digests are in it, or not yet known.
#[derive(Clone, Copy, PartialEq)]
enum Inputs {
    Known,
    Open,
}

impl Workflow {
    /// Name of a node across workflows: `workflow:node`.
    pub fn key(&self, node: &Node) -> String {
        format!("{}:{}", self.name, node.id)
    }
}
