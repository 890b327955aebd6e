//! What a run would do, and why. Pure: a workflow and what is remembered go in, a [`Plan`] comes out.
//!
//! The plan is honest: what then runs lies between the nodes of verdict `Run` and those of verdict `Run` or `RunIf`. Only when
//! several nodes of one run turn out to make the same does one of them run for all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde::Serialize;

use crate::Digest;
use crate::graph::{Node, Workflow};
use crate::manifest::{Change, INPUT, Manifest, PARTITION};
use crate::store::StoreError;

/// What happens to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the artifact is there.
    Reuse {
        /// What identifies the output.
        fingerprint: Digest,
        /// The artifact.
        artifact: Digest,
    },
    /// It runs.
    Run(Reason),
    /// It runs if one of these nodes gives other bytes than before.
    RunIf(Vec<NodeIndex>),
    /// It cannot run, since this source cannot be looked through or brought up to date: itself, or one that it depends on.
    Blocked {
        /// The source.
        by: NodeIndex,
    },
}

/// Why a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Reason {
    /// It never ran in this store.
    New,
    /// Something it depends on differs from what it last ran with.
    Changed {
        /// What differs.
        changes: Vec<Change>,
    },
    /// It ran before, but its artifact is gone.
    Gone,
    /// It was asked for by force.
    Forced,
}

/// What a run would do, node by node, in an order in which it could.
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
    /// Whether nothing would run.
    pub fn is_done(&self) -> bool {
        self.counts().0 == self.verdicts.len()
    }
}

/// What knows the content of artifacts.
pub trait Parts {
    /// The digest of a file or folder of an artifact, or of all of it.
    ///
    /// # Errors
    /// [`StoreError`]
    fn part_digest(&self, artifact: Digest, part: Option<&str>) -> Result<Digest, StoreError>;
}

/// What a plan needs to know of the past.
pub trait Memory: Parts {
    /// The artifact of a fingerprint, when it is there.
    fn lookup(&self, fingerprint: Digest) -> Result<Option<Digest>, StoreError>;
    /// Whether anything was ever made with this recipe, which is a manifest without inputs and partition, for this partition.
    fn knows_recipe(&self, recipe: Digest, partition: Option<u32>) -> Result<bool, StoreError>;
    /// What a node (`workflow:node`) last ran with.
    fn last_manifest(&self, node: &str) -> Result<Option<Manifest>, StoreError>;
}

/// Digests of the outside trees, by source node.
pub type SourceDigests = HashMap<NodeIndex, Vec<(String, Digest)>>;

/// The part of a node's manifest that is known before any input, outside trees included.
pub fn base_manifest(node: &Node, sources: Option<&Vec<(String, Digest)>>) -> Manifest {
    let mut manifest = recipe_of(node);
    manifest.0.extend(particulars(node, sources).0);
    manifest
}

/// What all nodes of the same stage with the same parameters share.
fn recipe_of(node: &Node) -> Manifest {
    Manifest::new(node.kind.name, node.kind.version, node.placed.params(), &node.placed.environment())
}

/// What else of a node's manifest is known before any input.
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

/// Plans a workflow. Nodes in `forced` run whatever is remembered; sources in `failed` block what depends on them.
///
/// # Errors
/// [`StoreError`] when what is remembered cannot be read.
#[expect(clippy::implicit_hasher, reason = "all callers use the default one")]
pub fn plan(
    workflow: &Workflow,
    sources: &SourceDigests,
    failed: &HashSet<NodeIndex>,
    forced: &HashSet<NodeIndex>,
    memory: &impl Memory,
) -> Result<Plan, StoreError> {
    let count = workflow.graph.node_count();
    let (artifacts, blocked) = (vec![None; count], vec![None; count]);
    let mut planning = Planning { workflow, memory, artifacts, blocked, coming: HashSet::new() };
    // Stages that are placed once serve many nodes, and writing down their parameters is the dearest part of a plan.
    let mut recipes: HashMap<*const (), (Manifest, Digest)> = HashMap::new();
    let mut verdicts = Vec::with_capacity(workflow.order.len());
    for index in &workflow.order {
        let node = &workflow.graph[*index];
        let recipe = recipes.entry(Arc::as_ptr(&node.placed).cast()).or_insert_with(|| {
            let recipe = recipe_of(node);
            let digest = recipe.fingerprint();
            (recipe, digest)
        });
        let by = if failed.contains(index) { Some(*index) } else { planning.blocked_by(node) };
        planning.blocked[index.index()] = by;
        let verdict = if let Some(by) = by {
            Verdict::Blocked { by }
        } else if forced.contains(index) {
            Verdict::Run(Reason::Forced)
        } else {
            planning.decide(node, recipe, particulars(node, sources.get(index)))?
        };
        if let Verdict::Reuse { artifact, .. } = verdict {
            planning.artifacts[index.index()] = Some(artifact);
        }
        verdicts.push((*index, verdict));
    }
    Ok(Plan { verdicts })
}

/// A plan in the making.
struct Planning<'a, M> {
    workflow: &'a Workflow,
    memory: &'a M,
    /// What is known to be there, by node.
    artifacts: Vec<Option<Digest>>,
    /// The source that blocks a node, by node.
    blocked: Vec<Option<NodeIndex>>,
    /// What this plan makes already.
    coming: HashSet<Digest>,
}

impl<M: Memory> Planning<'_, M> {
    /// The fate of one node: `recipe`, given with its digest, and `more` are the parts of its manifest.
    fn decide(&mut self, node: &Node, (recipe, digest): &(Manifest, Digest), mut more: Manifest) -> Result<Verdict, StoreError> {
        let open = self.open_inputs(node);
        if !open.is_empty() {
            return Ok(if self.memory.knows_recipe(*digest, node.partition)? {
                Verdict::RunIf(open)
            } else {
                Verdict::Run(self.reason(node, &join(recipe, &more), Inputs::Open)?)
            });
        }
        let artifact = |from: NodeIndex| self.artifacts[from.index()].expect("no input is open");
        match add_inputs(&mut more, node, artifact, self.memory) {
            Ok(()) => {}
            // The part it wants is not there: running it says so.
            Err(StoreError::NoPart { .. } | StoreError::Gone { .. }) => return Ok(Verdict::Run(Reason::New)),
            Err(error) => return Err(error),
        }
        let fingerprint = recipe.fingerprint_with(&more);
        if let Some(artifact) = self.memory.lookup(fingerprint)? {
            return Ok(Verdict::Reuse { fingerprint, artifact });
        }
        if !self.coming.insert(fingerprint) {
            return Ok(Verdict::RunIf(vec![])); // another node of this plan makes the same
        }
        Ok(Verdict::Run(self.reason(node, &join(recipe, &more), Inputs::Known)?))
    }

    fn blocked_by(&self, node: &Node) -> Option<NodeIndex> {
        node.inputs.iter().find_map(|edge| self.blocked[edge.from.index()])
    }

    /// The producers of a node's inputs whose artifacts are not known yet.
    fn open_inputs(&self, node: &Node) -> Vec<NodeIndex> {
        let from = node.inputs.iter().map(|edge| edge.from);
        let mut open: Vec<NodeIndex> = from.filter(|from| self.artifacts[from.index()].is_none()).collect();
        open.sort();
        open.dedup();
        open
    }

    /// Compares with what the node last ran with. A manifest without its inputs is compared without them.
    fn reason(&self, node: &Node, manifest: &Manifest, inputs: Inputs) -> Result<Reason, StoreError> {
        let Some(last) = self.memory.last_manifest(&self.workflow.key(node))? else { return Ok(Reason::New) };
        let mut changes = manifest.since(&last);
        if inputs == Inputs::Open {
            changes.retain(|change| change.new.is_some() || !change.field.starts_with(INPUT));
        }
        Ok(if changes.is_empty() { Reason::Gone } else { Reason::Changed { changes } })
    }
}

fn join(one: &Manifest, other: &Manifest) -> Manifest {
    Manifest(one.0.iter().chain(&other.0).map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Adds the digests of a node's inputs to its manifest; `artifact` tells what a producer has made.
///
/// # Errors
/// [`StoreError::NoPart`] when an artifact lacks the part that is meant.
pub fn add_inputs(
    manifest: &mut Manifest,
    node: &Node,
    artifact: impl Fn(NodeIndex) -> Digest,
    parts: &impl Parts,
) -> Result<(), StoreError> {
    for (number, edge) in node.inputs.iter().enumerate() {
        let digest = parts.part_digest(artifact(edge.from), edge.part.as_deref())?;
        let name = format!("{INPUT}{}", edge.field());
        let name = if manifest.0.contains_key(&name) { format!("{name} ({number})") } else { name };
        manifest.field(&name, &digest.to_string());
    }
    Ok(())
}

/// Whether a manifest holds the digests of the node's inputs already.
#[derive(Clone, Copy, PartialEq)]
enum Inputs {
    Known,
    Open,
}

impl Workflow {
    /// The name of a node across workflows.
    pub fn key(&self, node: &Node) -> String {
        format!("{}:{}", self.name, node.id)
    }
}
