//! Attempts at nodes as data: what one needs, and how it ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use petgraph::graph::NodeIndex;

use crate::Digest;
use crate::graph::Node;
use crate::manifest::Manifest;
use crate::protocol::InputRefs;
use crate::source::Listing;
use crate::stage::StageError;

/// Outside trees of a node, by place.
pub(super) type Trees = BTreeMap<String, Arc<Listing>>;

/// A node that must run, with all that an attempt at it needs.
pub(super) struct Task {
    pub(super) node: NodeIndex,
    pub(super) manifest: Manifest,
    pub(super) inputs: InputRefs,
    pub(super) sources: Trees,
    /// True if these were scanned right now, not when the run began.
    pub(super) just_looked: bool,
    pub(super) log: PathBuf,
    pub(super) forced: bool,
    /// How long it took last time.
    pub(super) expected_secs: Option<f64>,
}

/// End of an attempt.
pub(super) enum End {
    /// The artifact, and what it gave this time where an earlier result had other bytes.
    Made(Digest, Option<Digest>),
    /// Another run or node has made it since the plan: the fingerprint and the artifact.
    Found(Digest, Digest),
    /// Another machine makes it at this moment.
    Elsewhere,
    /// This artifact, which the node reads, is damaged or gone.
    Damaged(Digest),
    Failed(StageError),
    /// It goes on elsewhere, and another run takes it over.
    Detached,
    /// It is not under way on the cluster, and short enough to run here.
    Here,
}

/// Number of further attempts after a failure that may pass.
pub(super) fn retries(node: &Node) -> u32 {
    node.limits.retries.unwrap_or_else(|| node.placed.retries())
}
