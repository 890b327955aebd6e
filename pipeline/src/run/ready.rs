//! The decision about a node whose inputs are all there.

use petgraph::graph::NodeIndex;

use super::node::Task;
use super::report::Ledger;
use super::survey::Survey;
use super::{Options, RunError, Session, log_name};
use crate::Digest;
use crate::plan::{Verdict, add_inputs, base_manifest};
use crate::stage::{Input, Inputs, StageError};
use crate::store::StoreError;

/// What becomes of it.
pub(super) enum Ready {
    /// It runs.
    Run(Task),
    /// It is up to date: its fingerprint and artifact.
    Known(Digest, Digest),
    /// It would have to run, and this run leaves it alone.
    LeftAlone,
    /// An artifact that it reads is not there any more.
    Damaged(Digest),
    /// It cannot run.
    Broken(StageError),
}

impl Session<'_> {
    /// `verdict` is the plan's.
    pub(super) fn prepare(
        &self,
        index: NodeIndex,
        verdict: Option<&Verdict>,
        survey: &Survey,
        options: &Options,
        ledger: &mut Ledger<'_>,
    ) -> Result<Ready, RunError> {
        let node = &self.workflow.graph[index];
        let mut manifest = base_manifest(node, survey.digests.get(&index));
        match add_inputs(&mut manifest, node, |from| ledger.summary.artifacts[&from], self.store) {
            Ok(()) => {}
            Err(StoreError::Gone { digest }) => return Ok(Ready::Damaged(digest)),
            Err(error @ StoreError::NoPart { .. }) => return Ok(Ready::Broken(StageError::failed(error))),
            Err(error) => return Err(error.into()),
        }
        let fingerprint = manifest.fingerprint();
        let forced = options.forced.contains(&index) && !ledger.made.contains(&index);
        let may_run = options.may_run(index);
        // What surely runs is looked up once more anyway, when its turn comes.
        if (!may_run || !forced && !matches!(verdict, Some(Verdict::Run(_))))
            && let Some(artifact) = self.store.lookup(fingerprint)?
        {
            return Ok(Ready::Known(fingerprint, artifact));
        }
        if !may_run {
            return Ok(Ready::LeftAlone);
        }
        let mut inputs = Inputs::default();
        let mut artifacts = Vec::with_capacity(node.inputs.len());
        for edge in &node.inputs {
            let artifact = ledger.summary.artifacts[&edge.from];
            let folder = self.store.path(artifact);
            let path = if let Some(part) = &edge.part { folder.join(&**part) } else { folder };
            let input = Input { path, point: edge.point.to_map(), partition: edge.partition };
            inputs.0.entry(edge.slot.to_string()).or_default().push(input);
            artifacts.push((artifact, edge.part.clone()));
        }
        artifacts.sort_unstable();
        artifacts.dedup();
        let sources = survey.trees.get(&index).cloned().unwrap_or_default();
        let log = ledger.log_folder()?.join(log_name(&node.id));
        Ok(Ready::Run(Task { node: index, manifest, inputs, artifacts, sources, just_looked: false, log, forced }))
    }
}
