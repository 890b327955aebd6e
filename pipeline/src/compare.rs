//! Comparison of two runs: the nodes that only one of them has, and for the others inputs and outputs that differ.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Digest;
use crate::explain::{FileChange, files_between, is_source};
use crate::manifest::{Change, INPUT, TOOL};
use crate::records::ResultId;
use crate::store::{Store, StoreError};

/// Differences between two runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Nodes that are as they were.
    pub same: usize,
    /// Nodes that only the older run has.
    pub gone: Vec<String>,
    /// Nodes that only the newer run has.
    pub new: Vec<String>,
    /// Nodes that both have and that were made from something else.
    pub differ: Vec<Difference>,
}

/// A node that was made from something else.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Id of the node.
    pub node: String,
    /// The kind of its stage.
    pub kind: String,
    /// Fields of its manifest that differ.
    pub changes: Vec<Change>,
    /// The outside files that differ, for a source.
    pub files: Vec<FileChange>,
    /// Artifact of the node in the older run.
    pub old: Digest,
    /// Artifact of the node in the newer run.
    pub now: Digest,
}

impl Difference {
    /// True if something of its own differs, not only the artifacts of other nodes.
    pub fn is_cause(&self) -> bool {
        let is_own = |change: &Change| !change.field.starts_with(INPUT) || change.field.starts_with(TOOL) || is_source(change);
        self.changes.iter().any(is_own)
    }
}

/// Compares what two runs ended with, node by node; the workflow's name does not count.
///
/// # Errors
/// [`StoreError`]
pub fn compare(store: &Store, older: i64, newer: i64) -> Result<Comparison, StoreError> {
    let mut old = members(store, older)?;
    let mut comparison = Comparison::default();
    for (node, now) in members(store, newer)? {
        match old.remove(&node) {
            None => comparison.new.push(node),
            Some(before) if before == now => comparison.same += 1,
            Some(before) => comparison.differ.extend(difference(store, node, before, now)?),
        }
    }
    comparison.gone = old.into_keys().collect();
    Ok(comparison)
}

fn difference(store: &Store, node: String, before: ResultId, now: ResultId) -> Result<Option<Difference>, StoreError> {
    let Some((old, new)) = store.result(before)?.zip(store.result(now)?) else { return Ok(None) }; // collected since
    let changes = new.manifest.since(&old.manifest);
    let files = if changes.iter().any(is_source) { files_between(now, before, store)? } else { vec![] };
    let kind = new.manifest.0.get("stage").cloned().unwrap_or_default();
    Ok(Some(Difference { node, kind, changes, files, old: old.artifact, now: new.artifact }))
}

fn members(store: &Store, run: i64) -> Result<BTreeMap<String, ResultId>, StoreError> {
    let id = |node: String| node.split_once(':').map(|(_, id)| id.to_owned()).unwrap_or(node);
    Ok(store.members(run)?.into_iter().map(|member| (id(member.node), member.result)).collect())
}
