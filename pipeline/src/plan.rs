//! What a run would do, and why. Pure: a workflow and what is remembered go in, a [`Plan`] comes out.
//!
//! The plan is honest: what then runs lies between the nodes of verdict `Run` and those of verdict `Run` or `RunIf`. Only when
//! several nodes of one run turn out to make the same does one of them run for all.

use std::collections::{HashMap, HashSet};

use petgraph::graph::NodeIndex;
use serde::Serialize;

use crate::Digest;
use crate::graph::{Node, Workflow};
use crate::manifest::{Change, Manifest};
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
    /// Whether anything was ever made with this recipe (see [`Manifest::recipe`]).
    fn knows_recipe(&self, recipe: Digest) -> Result<bool, StoreError>;
    /// What a node (`workflow:node`) last ran with.
    fn last_manifest(&self, node: &str) -> Result<Option<Manifest>, StoreError>;
}

/// Digests of the outside trees, by source node.
pub type SourceDigests = HashMap<NodeIndex, Vec<(String, Digest)>>;

/// The part of a node's manifest that is known before any input, outside trees included.
pub fn base_manifest(node: &Node, sources: Option<&Vec<(String, Digest)>>) -> Manifest {
    let mut manifest = Manifest::new(node.kind.name, node.kind.version, node.placed.params(), &node.placed.environment());
    if let Some(partition) = node.partition {
        manifest.field("partition", &partition.to_string()); // a body sees it, so the output may depend on it
    }
    for (place, digest) in sources.into_iter().flatten() {
        manifest.input(&format!("source {place}"), *digest);
    }
    manifest
}

/// Plans a workflow. Nodes in `forced` run whatever is remembered.
///
/// # Errors
/// [`StoreError`] when what is remembered cannot be read.
#[expect(clippy::implicit_hasher, reason = "all callers use the default one")]
pub fn plan(
    workflow: &Workflow,
    sources: &SourceDigests,
    forced: &HashSet<NodeIndex>,
    memory: &impl Memory,
) -> Result<Plan, StoreError> {
    let mut artifacts: HashMap<NodeIndex, Digest> = HashMap::new();
    let mut coming: HashSet<Digest> = HashSet::new();
    let mut plan = Plan::default();
    for index in &workflow.order {
        let node = &workflow.graph[*index];
        let base = base_manifest(node, sources.get(index));
        let open: Vec<NodeIndex> = workflow.open_inputs(*index, &artifacts);
        let verdict = if forced.contains(index) {
            Verdict::Run(Reason::Forced)
        } else if open.is_empty() {
            match with_inputs(base, node, &artifacts, memory) {
                Ok(manifest) => settle(workflow, node, &manifest, &mut coming, memory)?,
                // The part it wants is not there: running it says so.
                Err(StoreError::NoPart { .. } | StoreError::Gone { .. }) => Verdict::Run(Reason::New),
                Err(error) => return Err(error),
            }
        } else if memory.knows_recipe(base.recipe())? {
            Verdict::RunIf(open)
        } else {
            Verdict::Run(reason(workflow, node, &base, Inputs::Open, memory)?)
        };
        if let Verdict::Reuse { artifact, .. } = verdict {
            artifacts.insert(*index, artifact);
        }
        plan.verdicts.push((*index, verdict));
    }
    Ok(plan)
}

impl Workflow {
    /// The producers of a node's inputs whose artifacts are not known yet.
    fn open_inputs(&self, index: NodeIndex, artifacts: &HashMap<NodeIndex, Digest>) -> Vec<NodeIndex> {
        let mut open: Vec<NodeIndex> =
            self.graph[index].inputs.iter().map(|edge| edge.from).filter(|from| !artifacts.contains_key(from)).collect();
        open.sort();
        open.dedup();
        open
    }
}

/// Adds the digests of a node's inputs to its manifest.
///
/// # Errors
/// [`StoreError::NoPart`] when an artifact lacks the part that is meant.
#[expect(clippy::implicit_hasher, reason = "all callers use the default one")]
pub fn with_inputs(
    mut manifest: Manifest,
    node: &Node,
    artifacts: &HashMap<NodeIndex, Digest>,
    parts: &impl Parts,
) -> Result<Manifest, StoreError> {
    for (number, edge) in node.inputs.iter().enumerate() {
        let mut name = edge.field();
        if manifest.0.contains_key(&format!("{}{name}", crate::manifest::INPUT)) {
            name = format!("{name} ({number})");
        }
        manifest.input(&name, parts.part_digest(artifacts[&edge.from], edge.part.as_deref())?);
    }
    Ok(manifest)
}

fn settle(
    workflow: &Workflow,
    node: &Node,
    manifest: &Manifest,
    coming: &mut HashSet<Digest>,
    memory: &impl Memory,
) -> Result<Verdict, StoreError> {
    let fingerprint = manifest.fingerprint();
    if let Some(artifact) = memory.lookup(fingerprint)? {
        return Ok(Verdict::Reuse { fingerprint, artifact });
    }
    if !coming.insert(fingerprint) {
        return Ok(Verdict::RunIf(vec![])); // another node of this plan makes the same
    }
    Ok(Verdict::Run(reason(workflow, node, manifest, Inputs::Known, memory)?))
}

/// Whether a manifest holds the digests of the node's inputs already.
#[derive(Clone, Copy, PartialEq)]
enum Inputs {
    Known,
    Open,
}

/// Compares with what the node last ran with. A manifest without its inputs is compared without them.
fn reason(
    workflow: &Workflow,
    node: &Node,
    manifest: &Manifest,
    inputs: Inputs,
    memory: &impl Memory,
) -> Result<Reason, StoreError> {
    let Some(last) = memory.last_manifest(&workflow.key(node))? else { return Ok(Reason::New) };
    let mut changes = manifest.since(&last);
    if inputs == Inputs::Open {
        changes.retain(|change| change.new.is_some() || !change.field.starts_with(crate::manifest::INPUT));
    }
    Ok(if changes.is_empty() { Reason::Gone } else { Reason::Changed { changes } })
}

impl Workflow {
    /// The name of a node across workflows.
    pub fn key(&self, node: &Node) -> String {
        format!("{}:{}", self.name, node.id)
    }
}
